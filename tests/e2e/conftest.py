"""A real set-up: MLflow's server, the platform's service, a small piece of real history."""

import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what several tests of this room share lies beside them
from place import Place

from jobs import demo
from jobs.stack.servers import free_port
from mlops.io import bar_feed
from mlops.settings import TrainSettings

SYMBOLS = ("AAPL", "BAC", "GE", "JNJ", "WMT", "XOM")
SMALL = {"trials": 2, "folds": 2, "min_bars": 100}


@pytest.fixture(scope="session")
def bars():
    """Six symbols, five and a half years."""
    frame = bar_feed.load_bars(
        "sp500", start=datetime(2003, 1, 1, tzinfo=UTC), end=datetime(2008, 7, 1, tzinfo=UTC)
    ).frame
    return frame[frame.symbol.isin(SYMBOLS)].reset_index(drop=True)


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    """(context, uri): both servers up, everything in a temporary folder."""
    before = dict(os.environ)
    with demo.stage(tmp_path_factory.mktemp("platform"), free_port(), free_port()) as (context, uri):
        settings = context.settings.model_copy(update={"train": TrainSettings(**SMALL)})
        yield replace(context, settings=settings), uri
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def environment(platform):
    """What a user's shell would have."""
    context, uri = platform
    service = context.settings.service
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": uri,
        "MLOPS_STATE": str(context.settings.state.absolute()),
        "MLOPS_SERVICE__WEBHOOK_SECRET": service.webhook_secret.get_secret_value(),
        **{f"MLOPS_TRAIN__{name.upper()}": str(value) for name, value in SMALL.items()},
    }


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path / "live")
    yield found
    found.call("down")
