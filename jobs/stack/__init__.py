"""Keeps MLflow, the service and the scheduler running, and copies a set-up."""
