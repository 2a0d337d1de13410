"""`trader-mlops hook`, in process: what a person sees, and what sending again does."""

import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from jobs.cli import hooks
from mlops import settings as settings_room
from mlops.io.ledger import Ledger
from registry_hooks.webhooks.outgoing import Sender

SECRET = "whsec_" + "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"


class Answering(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def receiver():
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        server.status = 500
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ledger(receiver, tmp_path, monkeypatch):
    """A ledger with one dead letter, and the environment in which the command finds both."""
    hook = f'[{{"name": "bot", "url": "http://127.0.0.1:{receiver.server_port}/", "secret": "{SECRET}"}}]'
    for name, value in {
        "MLOPS_STATE": str(tmp_path),
        "MLOPS_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLOPS_OUTGOING__HOOKS": hook,
        "MLOPS_OUTGOING__ALLOW_HOSTS": '["127.0.0.1"]',
        "MLOPS_OUTGOING__MAX_ATTEMPTS": "1",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    settings = settings_room.read()
    with Ledger(settings.ledger) as ledger:
        sender = Sender(ledger, settings.outgoing, lambda: datetime.now(UTC))
        ledger.trading.set("halted", "ada", "storm", datetime.now(UTC) - timedelta(hours=1))
        sender.once()
        yield ledger


def _say(*words, code=0):
    said = CliRunner().invoke(hooks.app, words)
    assert code == said.exit_code, said.output
    return said.output


def test_a_person_sees_who_is_told_and_what_was_given_up(ledger):
    assert "bot" in _say("list")
    assert "closed" in _say("list")
    assert "500" in _say("dead")
    assert "500" not in _say("dead", "another")


def test_dead_letters_are_sent_again_one_or_all(ledger, receiver):
    assert "1 to be sent to bot again" in _say("resend", "bot", "1")
    assert ["pending"] == [d.state for d in ledger.dispatches.all("bot") if d.seq == 1]
    assert "1 to be sent" in _say("resend", "bot", "--all"), "the alert about the first, which was given up too"
    _say("resend", "bot", code=1)
    _say("resend", "bot", "99", code=1)

    receiver.status = 204
    Sender(ledger, settings_room.read().outgoing, lambda: datetime.now(UTC)).once()
    assert {"delivered"} == {d.state for d in ledger.dispatches.all("bot")}


def test_an_endpoint_is_tried_on_the_spot(ledger, receiver):
    assert "bot: 500" in _say("test", "bot", code=1)
    receiver.status = 204
    assert "bot: 204" in _say("test", "bot")
