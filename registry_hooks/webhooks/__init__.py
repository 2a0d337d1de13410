"""Hooks in and out: MLflow's registry events, freqtrade's messages, our own to others."""
