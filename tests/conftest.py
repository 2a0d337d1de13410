"""What every test shares: an isolated set-up in a temporary folder, and quiet logs."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import structlog

from mlops.io import logs


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No test reads the settings, the tracking server or the run of whoever started pytest."""
    for name in list(os.environ):
        if name.startswith(("MLOPS_", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _quiet_logs():
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    logs.close()
