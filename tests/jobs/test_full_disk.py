"""A real disk without room for one byte more: parts are restarted, a person is told, `present` says what is so."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from jobs.stack import supervisor, up
from jobs.stack.process_alerts import PartAlerts
from jobs.stack.processes import Part
from jobs.stack.status_board import Board
from jobs.stack.supervisor import Keeper, Patience, supervise
from jobs.worker import Worker
from mlops.io import logs
from mlops.io.ledger import Ledger
from mlops.io.storage.disk import Disk
from mlops.settings import JobSettings

QUICK = Patience(first_wait_s=0.1, longest_wait_s=0.5, settle_s=0.2, look_s=0.05)
IDLE = Part("idle", (sys.executable, "-c", "import time; time.sleep(3600)"), dict(os.environ))


@pytest.fixture
def small(tmp_path):
    """A file system of four megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _fill(folder):
    with suppress(OSError), (folder / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@contextmanager
def _supervised(folder, part, beside=None):
    (folder / "run").mkdir(exist_ok=True)
    lock, stop = up._lock(folder), threading.Event()
    lock.acquire(timeout=0)
    board = Board(folder / "run" / "up.json", [part.name])
    beside = beside(board).run if beside else None
    thread = threading.Thread(target=supervise, args=([part], board, folder / "logs", stop, QUICK, beside))
    thread.start()
    try:
        yield board
    finally:
        stop.set()
        thread.join(30)
        lock.release()
    assert not thread.is_alive()


def _eventually(holds, limit_s=20):
    deadline = time.monotonic() + limit_s
    while not (seen := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return seen


def _seen(folder):
    present = up.present(folder)
    return present.parts[0] if present.running and present.parts else None


def test_a_part_that_dies_on_a_full_disk_is_restarted_and_the_file_says_so(small):
    with _supervised(small, IDLE) as board:
        first = _eventually(lambda: board["idle"].state == "up" and board["idle"].pid)
        _fill(small)
        for restarts in (1, 2):
            os.kill(board["idle"].pid, signal.SIGKILL)
            _eventually(lambda n=restarts: board["idle"].restarts >= n and board["idle"].state == "up")

        assert first != board["idle"].pid
        seen = _eventually(lambda: _seen(small))
        assert ("up", board["idle"].pid, 2) == (seen.state, seen.pid, seen.restarts)


def test_a_full_disk_and_a_dead_part_are_told_in_the_ledger_by_its_ballast(small):
    url, disk = f"sqlite:///{small / 'ledger.db'}", Disk(small, ballast_mib=1, min_free_mib=1)
    with Ledger(url, disk) as ledger:
        ledger.degraded()
        broken = Part("broken", (sys.executable, "-c", "raise SystemExit(3)"), dict(os.environ))
        _fill(small)
        with _supervised(small, broken, lambda board: PartAlerts(url, board, disk)):
            keys = _eventually(
                lambda: (k := [alert.key for alert in ledger.alerts.newest()]) and len(k) == 2 and sorted(k)
            )
            assert ["disk_low", "part_down"] == [key.partition(":")[0] for key in keys]
            (small / "filler").unlink()
            _eventually(lambda: "disk_low" not in str([alert.key for alert in ledger.alerts.newest()]))


def test_what_no_ledger_takes_is_told_on_standard_error(small, capfdbinary):
    logs.configure(small / "logs" / "supervisor.jsonl")
    board = Board(small / "up.json", ["idle"])
    board.put("idle", state="down", failures=1, why="was ended by SIGKILL")
    _fill(small)
    stop = threading.Event()
    teller = PartAlerts(f"sqlite:///{small / 'ledger.db'}", board)
    threading.Thread(target=teller.run, args=(stop,), daemon=True).start()
    scores_by_bar, began = [], time.monotonic()
    try:
        _eventually(
            lambda: scores_by_bar.append(capfdbinary.readouterr().err) or b"idle was ended" in b"".join(scores_by_bar)
        )
    finally:
        stop.set()
    assert time.monotonic() - began < 5


def test_a_file_that_is_older_than_the_truth_is_not_believed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    (tmp_path / "run").mkdir()
    Board(tmp_path / "run" / "up.json", ["idle"]).put("idle", state="up", pid=child.pid)
    lock = up._lock(tmp_path)
    with lock:
        assert ("down", f"process {child.pid} is gone") == (_seen(tmp_path).state, _seen(tmp_path).why)
    assert up.present(tmp_path).died


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [ValueError("a fault of ours"), SystemExit(1)], ids=["error", "end of the thread"])
def test_a_keeper_that_fails_keeps_its_part_all_the_same(tmp_path, monkeypatch, error):
    faults, whole = [error], Keeper._watched

    def watched(keeper, child):
        if faults:
            raise faults.pop()
        return whole(keeper, child)

    monkeypatch.setattr(Keeper, "_watched", watched)
    with _supervised(tmp_path, IDLE) as board:
        _eventually(lambda: board["idle"].restarts == 1 and board["idle"].state == "up")


def test_what_runs_beside_the_parts_is_started_again_when_it_fails(tmp_path):
    calls = []

    class Failing:
        def run(self, stop):
            calls.append(1)
            if len(calls) < 3:
                raise ValueError("a fault of ours")
            stop.wait()

    with _supervised(tmp_path, IDLE, lambda board: Failing()):
        _eventually(lambda: len(calls) == 3)


def test_a_scheduler_runs_jobs_whose_output_it_cannot_keep_and_hands_back_what_it_cannot_start(
    sqlite_ledger, tmp_path, monkeypatch
):
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    nowhere = tmp_path / "file" / "job.log"
    (tmp_path / "file").write_text("not a folder")
    sqlite_ledger.job_runs.plan("monitor:a", datetime(2026, 3, 2, tzinfo=UTC))
    worker = Worker(
        sqlite_ledger,
        JobSettings(max_attempts=1),
        models=list,
        launch=lambda claim: (command, nowhere),
        schedule=(),
    )
    with monkeypatch.context() as patch:
        patch.setattr(supervisor.subprocess, "Popen", lambda *a, **k: (_ for _ in ()).throw(OSError("no process")))
        worker.tick()
    assert [("due", 0)] == [(run.state, run.attempts) for run in sqlite_ledger.job_runs.all()]

    worker.tick()
    _eventually(lambda: worker.tick() or [run.state for run in sqlite_ledger.job_runs.all()] == ["dead"])
