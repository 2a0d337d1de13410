"""What `up`, `status` and `doctor` say of a set-up that runs, of which a part is not well: the same, and what is so."""

import http.server
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from jobs.cli import main
from jobs.doctor import Setup, part_health
from jobs.doctor.command import examine
from jobs.stack import up
from jobs.stack.servers import free_port
from jobs.stack.status_board import Board
from mlops.errors import SettingsError
from mlops.io.ledger import Ledger
from mlops.settings import Settings

SINCE = "2026-01-05T10:09:00+00:00"


@contextmanager
def _stranger(port):
    """Another program with the port, which answers 200 to whatever it is asked."""

    class Say(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Say) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Of a set-up whose supervisor runs; tests say on its board what it saw last."""
    found = Settings(state=tmp_path / "live", tracking_uri=f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLOPS_STATE", str(found.state))
    monkeypatch.setenv("MLOPS_TRACKING_URI", found.tracking_uri)
    with Ledger(found.ledger):
        pass
    (found.state / "run").mkdir()
    with up._lock(found.state):
        yield found


@pytest.fixture
def child():
    """A part's process, in a group of its own."""
    found = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield found
    found.kill()
    found.wait()


def _board(settings, **part):
    Board(settings.state / "run" / "up.json", ["mlflow"]).put("mlflow", **part)


def _status():
    return " ".join(CliRunner().invoke(main.app, ["status"]).output.split())


def _doctor(settings):
    setup = Setup(settings, environment={})
    try:
        return next(line for line in examine(setup, ("ledger", "parts")) if line.check == "parts")
    finally:
        setup.close()


def test_up_refuses_to_call_up_what_lost_its_port_to_another_program_and_names_it(settings):
    _board(settings, state="down", since=SINCE, why="ended by itself with status 1", failures=7)
    port = int(settings.tracking_uri.rpartition(":")[2])
    with _stranger(port):
        result = CliRunner().invoke(main.app, ["up"])
        status, seen = _status(), _doctor(settings)

    taken = f"port {port} is taken by {part_health.name(os.getpid())}, process {os.getpid()}"
    assert isinstance(result.exception, SettingsError)
    for said in (str(result.exception), status, seen.what):
        assert f"mlflow is down since {SINCE}: ended by itself with status 1; {taken}" in said
    for said in (str(result.exception), seen.remedy):
        assert "Stop that program" in said
        assert "docs/runbook.md, `part_down`" in said


def test_a_frozen_mlflow_is_not_up_to_any_of_the_three(settings, child):
    _board(settings, state="up", since=SINCE, pid=child.pid)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)

    with pytest.raises(SettingsError, match=f"mlflow is frozen.*kill -CONT {child.pid}"):
        up.already(settings, up.present(settings.state))
    assert "mlflow is frozen" in _status()
    assert "mlflow is frozen" in _doctor(settings).what
    assert f"kill -CONT {child.pid}" in _doctor(settings).remedy


def test_a_program_at_mlflows_port_that_answers_well_is_not_taken_for_mlflow(settings, child):
    _board(settings, state="up", since=SINCE, pid=child.pid)

    with _stranger(int(settings.tracking_uri.rpartition(":")[2])):
        assert "is taken by" in _doctor(settings).what
