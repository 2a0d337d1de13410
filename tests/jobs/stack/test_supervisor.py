"""Parts that die, hang or leave children behind, each a real process with a real port."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from jobs.doctor import part_health
from jobs.stack import process_alerts
from jobs.stack.processes import Part
from jobs.stack.servers import alive, free_port
from jobs.stack.supervisor import Board, Patience, supervise
from mlops.io.ledger import Ledger

QUICK = Patience(start_s=20, hang_s=1.5, first_wait_s=0.1, longest_wait_s=0.5, settle_s=0.2, look_s=0.05, check_s=0.2)
# A leader whose child serves and holds the port, as MLflow's does.
SERVER = """
import http.server, os, signal, subprocess, sys
port = int(sys.argv[1])
if len(sys.argv) == 2:
    child = subprocess.Popen([sys.executable, __file__, str(port), "serve"])
    signal.signal(signal.SIGTERM, lambda *_: (child.terminate(), sys.exit(0)))
    sys.exit(child.wait())
class Say(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Say).serve_forever()
"""
IDLE = "import time; time.sleep(3600)"


@pytest.fixture
def server(tmp_path):
    """A part that serves on a port, from a child of its leader."""
    port, script = free_port(), tmp_path / "server.py"
    script.write_text(SERVER)
    command = (sys.executable, str(script), str(port))
    return Part("server", command, dict(os.environ), f"http://127.0.0.1:{port}/", port=port)


@contextmanager
def _supervised(tmp_path, *parts, beside=None, patience=None):
    board, stop = Board(tmp_path / "up.json", [part.name for part in parts]), threading.Event()
    beside = beside(board) if beside else None
    arguments = (parts, board, tmp_path / "logs", stop, patience or QUICK, beside)
    thread = threading.Thread(target=supervise, args=arguments)
    thread.start()
    try:
        yield board
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def _eventually(holds, limit_s=40):
    deadline = time.monotonic() + limit_s
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def _up(board, name, *, restarts=0):
    _eventually(lambda: board[name].state == "up" and board[name].restarts >= restarts)
    return board[name]


def _group(pid):
    return [p for p in psutil.process_iter() if alive(p) and _pgid(p.pid) == pid]


def _pgid(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _idle(name):
    return Part(name, (sys.executable, "-c", IDLE), dict(os.environ))


def test_a_part_whose_leader_alone_is_killed_comes_back_and_the_rest_keeps_its_pid(tmp_path, server):
    with _supervised(tmp_path, server, _idle("other")) as board:
        first, other = _up(board, "server"), _up(board, "other")
        os.kill(first.pid, signal.SIGKILL)  # its child goes on serving and holds the port
        second = _up(board, "server", restarts=1)

        assert first.pid != second.pid
        assert [] == _group(first.pid)
        assert other.pid == board["other"].pid


def test_a_part_that_lives_but_gives_no_answer_is_ended_and_started_again(tmp_path, server, monkeypatch):
    monkeypatch.setattr("jobs.stack.servers.STOP_LIMIT_S", 1.0)
    with _supervised(tmp_path, server) as board:
        first = _up(board, "server")
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.health + "hang", timeout=0.3)
        second = _up(board, "server", restarts=1)

        assert first.pid != second.pid
        assert [] == _group(first.pid)


def test_a_part_that_hangs_beside_a_peer_that_answers_is_killed_soon_but_not_while_both_are_silent(
    tmp_path, server, monkeypatch
):
    """Callers of a stopped service waited for 84 s beside one that stood by: 60 for its answer, 20 for its end."""
    monkeypatch.setattr(sys.modules[__name__], "QUICK", replace(QUICK, hang_s=3600.0, beside_s=2.0, quick_s=0.5))
    port = free_port()
    other = replace(server, name="other", port=port, peer="server", health=f"http://127.0.0.1:{port}/")
    other = replace(other, command=(*server.command[:2], str(port)))
    with _supervised(tmp_path, replace(server, peer="other"), other) as board:
        first, peer = _up(board, "server"), _up(board, "other")
        for process in _group(first.pid):  # the leader, too: it would hear no SIGTERM
            process.suspend()
        began = time.monotonic()
        second = _up(board, "server", restarts=1)
        assert time.monotonic() - began < 15.0, "it was not asked to end first, which would take 20 s"
        assert (True, peer.pid) == (first.pid != second.pid, board["other"].pid)

        for process in (*_group(second.pid), *_group(peer.pid)):
            process.suspend()
        time.sleep(5)
        assert (second.pid, peer.pid) == (board["server"].pid, board["other"].pid), "a machine that stands still"
        for process in (*_group(second.pid), *_group(peer.pid)):
            process.resume()


def test_a_part_with_a_peer_that_is_killed_again_and_again_never_waits_long_for_its_next_start(tmp_path, server):
    """After nine kills within ten minutes a service waited 60 s to be started, and nobody answered beside a killed one."""
    slow = replace(QUICK, first_wait_s=0.1, longest_wait_s=3600.0)
    other = replace(_idle("other"), peer="server")
    with _supervised(tmp_path, replace(server, peer="other"), other, patience=slow) as board:
        for kills in range(12):  # the wait would double to seven minutes
            pid = _up(board, "server", restarts=kills).pid
            time.sleep(QUICK.settle_s)
            os.kill(pid, signal.SIGKILL)
        _up(board, "server", restarts=12)
        assert "up" == board["other"].state


def test_a_part_with_a_peer_that_never_gets_well_waits_seconds_at_the_most(tmp_path):
    broken = Part("broken", (sys.executable, "-c", "raise SystemExit(3)"), dict(os.environ), peer="other")
    eager = replace(QUICK, first_wait_s=0.1, longest_wait_s=3600.0, beside_wait_s=0.2)
    with _supervised(tmp_path, broken, patience=eager) as board:
        _eventually(lambda: board["broken"].failures >= 14)


def test_a_part_that_cannot_live_is_tried_for_ever_and_the_rest_goes_on(tmp_path, server):
    broken = Part("broken", (sys.executable, "-c", "raise SystemExit(3)"), dict(os.environ))
    with _supervised(tmp_path, broken, server) as board:
        pid = _up(board, "server").pid
        _eventually(lambda: board["broken"].failures >= 6)

        assert "ended by itself with status 3" == board["broken"].why
        assert pid == board["server"].pid


def test_a_command_that_does_not_exist_is_a_part_that_is_down(tmp_path):
    with _supervised(tmp_path, Part("absent", ("/nowhere/absent",), {})) as board:
        _eventually(lambda: board["absent"].failures >= 2)

        assert "cannot be started" in board["absent"].why


def test_nothing_is_left_of_any_group_after_the_end(tmp_path, server):
    with _supervised(tmp_path, server, _idle("other")) as board:
        pids = [_up(board, name).pid for name in ("server", "other")]
        assert 2 == len(_group(pids[0]))

    assert [[], []] == [_group(pid) for pid in pids]
    assert {"stopped"} == {standing.state for standing in board.all()}


def test_a_part_waits_for_what_it_needs(tmp_path, server):
    late = Part("late", (sys.executable, "-c", IDLE), dict(os.environ), needs=("server",))
    with _supervised(tmp_path, late, server) as board:
        _up(board, "late")

        assert "up" == board["server"].state


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends them")
def test_parts_end_when_their_supervisor_is_killed(tmp_path, server):
    code = (
        "import os, threading\nfrom pathlib import Path\nfrom jobs.stack.processes import Part\n"
        "from jobs.stack.supervisor import Board, supervise\n"
        f"part, at = Part('server', {server.command!r}, dict(os.environ), {server.health!r}), Path({str(tmp_path)!r})\n"
        "supervise([part], Board(at / 'up.json', ['server']), at, threading.Event())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    try:
        parts = psutil.Process(child.pid).children  # an import may start a program of its own for a moment
        part = _eventually(lambda: next((p for p in parts() if len(_group(p.pid)) == 2), None))
    finally:
        child.kill()
        child.wait()

    _eventually(lambda: not _group(part.pid))


def test_the_ledger_has_an_alert_while_a_part_is_down_and_it_is_resolved_when_it_is_back(tmp_path):
    flag = tmp_path / "well"
    code = f"import os, time\nif not os.path.exists({str(flag)!r}): raise SystemExit(1)\ntime.sleep(3600)"
    part = Part("fragile", (sys.executable, "-c", code), dict(os.environ))
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with (
        Ledger(url) as ledger,
        _supervised(tmp_path, part, beside=lambda board: process_alerts.PartAlerts(url, board).run) as board,
    ):
        critical = _eventually(
            lambda: next((a for a in ledger.alerts.newest() if a.priority.value == "critical"), None)
        )
        flag.touch()
        _up(board, "fragile")

        assert critical.key.startswith("part_down:fragile:")
        assert "keeps ending" in critical.title
        assert 1 == len(ledger.alerts.newest())  # the one of the first failure gave way to it
        board.put("fragile", failures=0, trouble="")  # as after a steady minute
        _eventually(lambda: not ledger.alerts.newest())


def test_alerts_that_an_earlier_supervisor_left_are_resolved(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    board = Board(tmp_path / "old.json", ["idle"])
    board.put("idle", state="down", failures=1, why="was ended by SIGKILL")
    with (
        Ledger(url) as ledger,
        _supervised(tmp_path, _idle("idle"), beside=lambda board: process_alerts.PartAlerts(url, board).run),
    ):
        ledger.alerts.add(process_alerts.about(board["idle"]))
        _eventually(lambda: not ledger.alerts.newest())


def test_a_log_that_grew_large_is_put_aside_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.stack.supervisor.LOG_BYTES", 10)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "idle.log").write_text("what was said before")
    with _supervised(tmp_path, _idle("idle")) as board:
        _up(board, "idle")

    assert "what was said before" == (tmp_path / "logs" / "idle.log.1").read_text()


def test_a_part_whose_port_is_taken_is_down_and_says_by_whom_however_well_the_other_program_answers(tmp_path, server):
    other = subprocess.Popen(server.command)
    try:
        _eventually(lambda: part_health.answers(server.port))
        with _supervised(tmp_path, server) as board:
            seen = _eventually(lambda: board["server"].failures > 1 and board["server"])
            assert "down" == seen.state
            assert f"status 1: port {server.port} is taken by" in seen.why
    finally:
        other.terminate()
        other.wait()
