"""What a person does from the command line about alerts, and about bits that rot."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from jobs.command import app
from mlops.errors import DataError
from mlops.io.ledger import BundleRow, Ledger
from mlops.types import Alert, Priority

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A ledger with an alert and a model, and an MLflow that nobody started."""
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("COLUMNS", "200")
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.add_alert(Alert("rollback:m:7", Priority.HIGH, "m", "m rolled back", NOW))
        ledger.add_bundle(BundleRow("m", 1, "d" * 64, "run", "id", NOW, NOW, 5, NOW))
    return tmp_path / "ledger.db"


def say(*words):
    found = CliRunner().invoke(app, words)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.output


def test_an_alert_is_listed_and_closed_by_its_key(place):
    assert "rollback:m:7" in say("alert", "list")[1]

    assert 0 == say("alert", "close", "rollback:m:7", "--reason", "mended")[0]

    assert "rollback:m:7" not in say("alert", "list")[1]
    assert "rollback:m:7" in say("alert", "list", "--all")[1]
    with pytest.raises(DataError, match="must be an open one"):
        say("alert", "close", "rollback:m:7", "--reason", "again")


def test_status_tells_of_models_and_alerts_while_mlflow_is_away(place):
    status, said = say("status")

    assert 0 == status
    assert "m rolled back" in said
    assert "none" in said  # the champion of m


def test_verify_names_what_is_damaged(place):
    assert (0, True) == (say("verify")[0], "0 problems" in say("verify")[1])
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("UPDATE bundles SET digest = 'other'")
        connection.commit()

    status, said = say("verify")
    assert 1 == status
    assert "bundles" in said
