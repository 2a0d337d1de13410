"""What several tests of this room share lies beside them (`receivers.py`, `trap.py`), and here: trained versions."""

import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from jobs import train
from jobs.context import opened
from mlops.io import bar_feed
from mlops.io.ledger import BundleRow, Ledger
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef
from registry_hooks import apply, bundle
from registry_hooks.aliases import Registry
from registry_hooks.apply import Act

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def factory(tmp_path_factory):
    """Three versions of `volatility`, trained once; not to be written to."""
    state = tmp_path_factory.mktemp("factory")
    settings = Settings(
        state=state, tracking_uri=f"sqlite:///{state}/mlflow.db", train=TrainSettings(trials=1, folds=2, min_bars=50)
    )
    bars = bar_feed.load_bars(
        "sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=datetime(2008, 1, 1, tzinfo=UTC)
    ).frame
    bars = bars[bars.symbol.isin(["AAPL", "GE", "XOM"])]
    with opened(settings) as context:
        for year in (2006, 2007, 2008):
            train.train(context, STRATEGIES["volatility"], bars, as_of=datetime(year, 1, 1, tzinfo=UTC), start=None)
    return state


@pytest.fixture
def live(factory, tmp_path):
    """A copy of the set-up, with v1 of `volatility` as champion."""
    state = tmp_path / "state"
    shutil.copytree(factory, state)
    uri = f"sqlite:///{state}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    with Ledger(f"sqlite:///{state}/ledger.db") as ledger:
        registry = Registry(MlflowClient(uri, registry_uri=uri), ledger, state / "bundles")
        act = Act("test", datetime(2008, 1, 4, 22, tzinfo=UTC), split=0.5)
        apply.promote(registry, ModelRef("volatility", 1), "first", act, expected=None)
        yield registry


@pytest.fixture
def add_trap(live, tmp_path):
    """Registers a version that proves well and misbehaves in the way it is told to; its number."""

    def add(how):
        source, folder = live.cache / "volatility" / "1" / "artifacts", tmp_path / how
        folder.mkdir()
        meta = json.loads((source / "meta.json").read_text()) | {"trap": how}
        (folder / "meta.json").write_text(json.dumps(meta))
        kept = {"meta": str(folder / "meta.json"), "probe": str(source / "probe.parquet")}
        with mlflow.start_run() as run:
            info = mlflow.pyfunc.log_model(
                name=how, python_model=str(HERE / "trap.py"), artifacts=kept, pip_requirements=["mlflow"]
            )
        version = int(mlflow.register_model(info.model_uri, "volatility").version)
        digest = bundle.digest(bundle.fetch(live.client, ModelRef("volatility", version), live.cache))
        at = datetime(2008, 1, 1, tzinfo=UTC)
        live.ledger.registry.add_bundle(
            BundleRow("volatility", version, digest, run.info.run_id, info.model_id, at, at, 5, at)
        )
        return version

    return add


@pytest.fixture
def eventually():
    """Waits until something holds; fails where it does not within a minute."""

    def wait(holds):
        deadline = time.monotonic() + 60
        while not (found := holds()):
            assert time.monotonic() < deadline, "it did not come to hold within a minute"
            time.sleep(0.02)
        return found

    return wait
