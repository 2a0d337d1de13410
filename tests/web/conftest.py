"""A bot at the door: rows of each kind, and a client with a key."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from mlops.settings import ServiceSettings, Settings
from mlops.types import Role
from mlops.web import app
from registry_hooks.aliases import Registry
from registry_hooks.bot.client import Scored

sys.path.insert(0, str(Path(__file__).parent))  # what several tests share lies beside them: `serving.py`
T0 = datetime(2026, 3, 2, 21, tzinfo=UTC)
AT = T0.isoformat()


def _prediction(unit="AAPL", **changes):
    row = {"model": "m", "version": 1, "unit": unit, "event_time": AT, "known_at": AT, "matures_at": AT}
    return row | {"role": "champion", "probability": 0.6, "features": {"a": 1.0, "b": None}} | changes


ROWS = {
    "predictions": _prediction(),
    "outcomes": {"model": "m", "unit": "A", "event_time": AT, "known_at": AT, "label": 1, "value": 0.01},
    "fills": {
        "fill_id": "f1", "model": "m", "version": 1, "book": "b", "unit": "A", "event_time": AT,
        "quantity": -3.0, "price": 10, "fee": 0.1,
    },
    "quotes": {"unit": "A", "event_time": AT, "known_at": AT, "bid": 9.9, "ask": 10.1},
    "balances": {"model": "m", "book": "b", "event_time": AT, "known_at": AT, "amount": 1000.0},
}  # fmt: skip


class Doubler:
    """A scorer whose probability is its first feature."""

    names = ("a", "b")

    def score(self, units, values, *, event_time, known_at, matures_at, keys=None):
        n = len(units)
        return Scored(tuple(units), values[:, 0].astype(float), np.full(n, 7), {}, {7: Role.CHAMPION})


def _opened(registry, clock=lambda: datetime.now(UTC), hub=None, **service):
    settings = Settings(service=ServiceSettings(**service))
    scorers = {"m": Doubler()}.get
    with TestClient(app.build(registry, settings, clock, scorers, hub)) as client:
        token = registry.ledger.api_keys.add("test", ["admin"], T0)
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def _post(client, kind, rows, **kwargs):
    return client.post(f"/v1/{kind}", content=json.dumps(rows), headers={"content-type": "application/json"}, **kwargs)


@pytest.fixture
def bot():
    """What a bot sends, and how: `row` of a kind, `prediction` of a unit, `post` of many, `opened` settings."""
    return SimpleNamespace(
        T0=T0,
        at=lambda day: T0 + timedelta(day),
        row=ROWS.__getitem__,
        prediction=_prediction,
        post=_post,
        opened=_opened,
    )


@pytest.fixture(scope="session")
def mlflow_client(tmp_path_factory):
    """MLflow's tables take seconds to make: one set for all tests here."""
    return MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")


@pytest.fixture
def registry(ledger, mlflow_client, tmp_path):
    """A registry on each back end."""
    return Registry(mlflow_client, ledger, tmp_path)


@pytest.fixture
def client(registry):
    """A client with a key for everything."""
    yield from _opened(registry)


@pytest.fixture
def lone(sqlite_ledger, mlflow_client, tmp_path):
    """The same for what does not depend on the back end."""
    yield from _opened(Registry(mlflow_client, sqlite_ledger, tmp_path))
