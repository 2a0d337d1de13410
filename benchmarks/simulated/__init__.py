"""Simulated years for `benchmarks.decisions`: a market of labels and forecasts, and the platform that decides."""
