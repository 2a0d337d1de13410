"""Entry points: load, compute, log, act. One file a job; nobody imports jobs."""
