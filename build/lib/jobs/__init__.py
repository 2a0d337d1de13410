"""The stairs between the rooms: load, compute, log, act. One file a job; nobody imports jobs."""
