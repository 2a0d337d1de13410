"""MLflow that is down, frozen, or takes connections and says nothing: the ledger goes on, and nobody waits for minutes."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlops.types import ModelRef, Role
from registry_hooks import aliases, apply
from registry_hooks.apply import Act
from registry_hooks.bot.client import Bot
from registry_hooks.reconcile import reconcile

ROOT = Path(__file__).parents[2]
MODEL, AT = "volatility", datetime(2008, 1, 5, 22, tzinfo=UTC)
ACT = Act("on call", AT, "evidence")


@pytest.fixture(params=["down", "frozen", "mute"])
def nowhere(request):
    """Address of an MLflow that never answers. Frozen: as after SIGSTOP, the kernel still takes connections."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        if request.param == "down":
            listener.close()
        if request.param == "mute":
            held = []

            def accept():
                with contextlib.suppress(OSError):
                    while True:
                        held.append(stack.enter_context(listener.accept()[0]))

            threading.Thread(target=accept, daemon=True).start()
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def cut(live, nowhere, monkeypatch):
    """The registry with v2 as champion, v1 before it, as a process sees it that cannot reach MLflow."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    apply.promote(live, ModelRef(MODEL, 2), "better", ACT, expected=1)
    return replace(live, client=MlflowClient(nowhere, registry_uri=nowhere))


def test_a_rollback_is_in_the_log_at_once_a_bot_takes_it_up_and_the_alias_follows(live, cut):
    with Bot(MODEL, live, background=False) as running:
        assert 2 == running.champion
        running._registry = running._prover._registry = cut

        entry = apply.rollback(cut, MODEL, "fills look wrong", ACT)

        assert ("pending", 2, 1) == (entry.state, entry.from_version, entry.to_version)
        assert 1 == running.refresh(AT) == running.champion == live.ledger.registry.champion(MODEL)
    with Bot(MODEL, cut, background=False) as fresh:
        assert {1: Role.CHAMPION} == fresh.lineup.roles
    assert [f"rollback:{MODEL}:3"] == [alert.key for alert in live.ledger.alerts.newest()]
    assert [] == live.ledger.registry.open_comparisons(MODEL)
    assert 2 == aliases.read(live.client, MODEL)["champion"]

    assert "finished" == reconcile(live, MODEL, AT)

    assert {"champion": 1} == aliases.read(live.client, MODEL)
    assert "applied" == live.ledger.registry.promotions(MODEL)[-1].state
    assert "agreed" == reconcile(live, MODEL, AT)


def _transitions(live, after):
    told = [(e.seq, e.body) for e in live.ledger.outbox.events(after) if e.kind == "transition"]
    return [(body["kind"], body["from_version"], body["to_version"], body["seq"]) for _, body in told]


def test_receivers_hear_of_a_rollback_by_the_log_at_once_and_once(live, cut):
    before = live.ledger.outbox.events(0)[-1].seq
    entry = apply.rollback(cut, MODEL, "fills look wrong", ACT)
    assert [("rollback", 2, 1, entry.seq)] == _transitions(live, before)

    assert "finished" == reconcile(live, MODEL, AT)

    assert [("rollback", 2, 1, entry.seq)] == _transitions(live, before)


def test_receivers_hear_that_a_rollback_by_the_log_was_undone(live, cut):
    before = live.ledger.outbox.events(0)[-1].seq
    entry = apply.rollback(cut, MODEL, "fills look wrong", ACT)
    live.ledger.registry.settle_promotion(entry.id, "undone", AT)
    live.ledger.registry.settle_promotion(entry.id, "undone", AT)

    assert [("rollback", 2, 1, entry.seq), ("undone", 1, 2, entry.seq)] == _transitions(live, before)
    assert 2 == live.ledger.registry.champion(MODEL)


def test_a_rollback_by_the_log_goes_to_no_bundle_that_is_not_here_or_was_altered(live, cut):
    (live.cache / MODEL / "1" / "gbm.py").write_text("raise SystemExit")
    with pytest.raises(apply.RegistryError, match="must have a previous champion"):
        apply.rollback(cut, MODEL, "fills look wrong", ACT)
    assert 2 == live.ledger.registry.champion(MODEL)


def test_a_promotion_waits_for_mlflow_and_changes_nothing(live, cut):
    with pytest.raises(apply.RegistryAway, match="Nothing was changed"):
        apply.promote(cut, ModelRef(MODEL, 3), "newer", ACT, expected=2)
    assert 2 == live.ledger.registry.champion(MODEL)


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["explain", MODEL], 0, "MLflow does not answer within 8 s"),
        (["status"], 0, "v2"),
        (["promote", MODEL, "3", "--reason", "x"], 1, "MLflow must answer in time"),
        (["promote", MODEL, "99", "--reason", "x"], 1, "must be known to the ledger"),
        (["promote", "volatilty", "1", "--reason", "x"], 1, "model must be one that was trained here (volatility)"),
        (["weights", MODEL], 1, "must"),
        (["rollback", MODEL, "--reason", "x"], 0, "champion is v1 again"),
    ],
)
def test_no_command_waits_for_longer_than_it_says(live, cut, nowhere, command, status, says):
    own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    environment = {**own, "MLOPS_STATE": str(live.cache.parent), "MLOPS_TRACKING_URI": nowhere, "COLUMNS": "300"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli.main", *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    took = time.monotonic() - began

    assert (status, True) == (done.returncode, says in done.stdout + done.stderr), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert took < 150  # a start of Python on a machine as busy as may be, and one wait; it hung for ten minutes
