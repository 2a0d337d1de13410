"""What a person does from the command line about alerts, weights, and bits that rot."""

import json
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from jobs.cli.main import app
from mlops.errors import DataError, RegistryError
from mlops.io.ledger import BundleRow, Ledger
from mlops.io.ledger.assignments import Assignment
from mlops.types import Alert, Priority

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A ledger with an alert and a model, and an MLflow that nobody started."""
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("COLUMNS", "200")
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.alerts.add(Alert("rollback:m:7", Priority.HIGH, "m", "m rolled back", NOW))
        ledger.registry.add_bundle(BundleRow("m", 1, "d" * 64, "run", "id", NOW, NOW, 5, NOW))
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


def test_no_key_and_no_time_is_cut_on_a_narrow_terminal(place, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    key = "risk_limit:gross:all:hard:1234567890123"
    with Ledger(f"sqlite:///{place}") as ledger:
        ledger.alerts.add(Alert(key, Priority.HIGH, "", "gross is 9.10, at or over its hard line", NOW))
        ledger.job_runs.plan("train-recent:volatility", NOW)

    alerts, jobs, status = (say(*words.split())[1] for words in ("alert list", "job list", "status"))

    assert "…" not in alerts + jobs
    assert key in status
    assert "train-recent:volatility" in jobs
    assert NOW.isoformat() in jobs


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


@pytest.fixture
def assignment(place):
    """v1 is champion of m, v2 nominated, v3 waits."""
    why = {"kind": "promote", "actor": "a", "reason": "", "evidence_run": "", "correlation_id": "", "at": NOW}
    with Ledger(f"sqlite:///{place}") as ledger:
        ledger.registry.append_promotion("m", expected=None, to=1, **why)
        ledger.registry.open_comparison("m", champion=1, challenger=2, kind="compare", salt="s", split=0.9, at=NOW)
        ledger.registry.open_comparison("m", champion=1, challenger=3, kind="shadow", salt="", split=1.0, at=NOW)
        ledger.assignments.add("m", "s", [Assignment("AAPL", 1, 0, NOW), Assignment("GE", 2, 0, NOW)])
    return place


def test_weights_are_shown_with_what_was_assigned_by_them_and_changed_with_a_reason(assignment):
    status, said = say("weights", "m")
    assert 0 == status
    assert [["v1", "0.9", "1"], ["v2", "0.1", "1"]] == [
        [cell.strip() for cell in line.split("│")[2:5]] for line in said.splitlines() if "│ v" in line
    ]

    status, said = say("weights", "m", "v3=0.05", "2=0.15", "--reason", "slowly", "--actor", "risk")

    assert 0 == status
    assert all(word in said for word in ("slowly", "risk", "0.15", "0.05", "0.8"))
    with Ledger(f"sqlite:///{assignment}") as ledger:
        (comparison,) = ledger.registry.open_comparisons("m", "compare")
        assert {1: pytest.approx(0.8), 2: 0.15, 3: 0.05} == ledger.assignments.epochs(comparison)[-1].weights


@pytest.mark.parametrize(
    ("words", "error", "rule"),
    [
        (("3=0.05",), DataError, "reason of other weights must be given"),
        (("3:0.05", "--reason", "x"), DataError, "must be written as version=share, got '3:0.05'. Write 7=0.05"),
        (("3=", "--reason", "x"), DataError, "must be written as version=share"),
        (("3=0.9", "--reason", "x"), DataError, "must sum to less than 1"),
        (("9=0.1", "--reason", "x"), RegistryError, r"compared \(v2, v3\), got v9"),
    ],
)
def test_weights_that_cannot_be_are_refused_and_change_nothing(assignment, words, error, rule):
    with pytest.raises(error, match=rule):
        say("weights", "m", *words)
    with Ledger(f"sqlite:///{assignment}") as ledger:
        assert 1 == len(ledger.assignments.epochs(ledger.registry.open_comparisons("m", "compare")[0]))


def test_where_nobody_is_nominated_there_are_no_weights(place):
    with pytest.raises(RegistryError, match="must have a nominated challenger"):
        say("weights", "m")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, {"ledger": "ok", "risk": "ok"}, "service ready"),
        (
            503,
            {"ledger": "ok", "risk": "ValueError", "poll": "not looked at yet"},
            "NOT READY: risk (ValueError), poll",
        ),
        (200, ["no service"], "readiness unknown"),
        (None, None, "readiness unknown"),
    ],
)
def test_status_says_whether_the_service_can_do_its_work_and_why_not(place, monkeypatch, status, body, says):
    class Service(BaseHTTPRequestHandler):
        def do_GET(self):
            content = json.dumps(body).encode()
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        monkeypatch.setenv("MLOPS_SERVICE__PORT", str(server.server_port if status else 1))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        said = " ".join(say("status")[1].split())
        server.shutdown()
        thread.join()

    assert says in said
