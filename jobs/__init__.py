"""Entry points: load, compute, log, act. One file a job; nobody imports jobs."""

import mlops.errors  # noqa: F401 - its package finds modules by their former names
