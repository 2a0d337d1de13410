"""What a set-up writes is its owner's alone, whatever umask the person has who starts it."""

import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import httpx
import pandas as pd
import pytest

from jobs.doctor import Setup, command
from jobs.stack import up
from jobs.stack.servers import free_port, mlflow_server
from jobs.stack.status_board import Board
from mlops.io import logs, private_files
from mlops.io.ledger import Ledger
from mlops.io.spool import Spool
from mlops.io.storage.disk import Disk
from mlops.settings import Settings
from mlops.types import Level

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
OUTCOME = {"model": "m", "unit": "A", "event_time": NOW, "known_at": NOW, "label": 1.0, "value": 0.1}


@pytest.fixture
def usual():
    """The umask that most systems give."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def _open(folder):
    return {str(path.relative_to(folder)): oct(mode) for path, mode in private_files.open_to_others(folder)}


def test_ledger_archive_spool_logs_locks_and_ballast_are_private_at_umask_022(tmp_path, usual):
    state = tmp_path / "parent" / "live"
    settings = Settings(state=state)
    logs.configure(state / "logs" / "jobs" / "a.jsonl")
    Spool(state / "spool", 2**20).append(b"a score")
    up._lock(state)
    Board(state / "run" / "up.json", ["service"])
    with Ledger(settings.ledger, Disk(state, ballast_mib=1)) as ledger:
        ledger.telemetry.add_outcomes(pd.DataFrame([OUTCOME]))
        ledger.degraded()
        ledger.archive.copy_closed(state / "archive", before=NOW.replace(day=9), at=NOW)
        with ledger.locks.turn("m"):
            assert {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ballast"} <= {p.name for p in state.iterdir()}
            assert {} == _open(tmp_path / "parent")


@pytest.mark.slow
def test_what_mlflow_writes_is_private_at_umask_022(tmp_path, usual):
    with mlflow_server(tmp_path / "live", free_port(), auth=True) as address:
        password = (tmp_path / "live" / "secrets" / "mlflow-admin").read_text()
        given = {"url": f"{address}/api/2.0/mlflow/experiments/create", "json": {"name": "a"}}
        assert 200 == httpx.post(**given, auth=("admin", password)).status_code
        path = f"{address}/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/model.txt"
        assert 200 == httpx.put(path, content=b"trees", auth=("admin", password)).status_code

        assert list((tmp_path / "live" / "artifacts").rglob("model.txt"))
        assert {} == _open(tmp_path / "live")


def test_what_an_earlier_release_left_open_is_named_by_the_doctor_and_closed_by_the_supervisor(tmp_path, usual):
    settings = Settings(state=tmp_path / "live")
    with Ledger(settings.ledger):
        pass
    for name in ("mlflow.db", "artifacts/1/model.txt"):
        (settings.state / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.state / name).write_text("x")
    (settings.state / "away").symlink_to("/etc")
    with closing(socket.socket(socket.AF_UNIX)) as door:
        door.bind(str(settings.state / "s"))
    setup = Setup(settings)

    (found,) = command.examine(setup, ["modes"])
    assert Level.ALERT is found.level
    assert "others have rights to 5 files and folders" in found.what  # two files, two folders, the socket

    up._closed(settings.state)
    (found,) = command.examine(setup, ["modes"])
    assert Level.OK is found.level
    assert 0o755 == os.stat("/etc").st_mode & 0o777


def test_a_ledger_elsewhere_is_looked_at_too(tmp_path, usual):
    with closing(sqlite3.connect(tmp_path / "away.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    (tmp_path / "live").mkdir(mode=0o700)
    settings = Settings(state=tmp_path / "live", ledger_url=f"sqlite:///{tmp_path / 'away.db'}")

    (found,) = command.examine(Setup(settings), ["modes"])
    assert "away.db (mode 644)" in found.what


def test_a_process_of_ours_makes_private_files_whatever_it_is_started_with(tmp_path):
    code = f"from jobs.context import settings_for\nsettings_for('x')\nopen({str(tmp_path / 'a')!r}, 'w').close()"
    subprocess.run([sys.executable, "-c", code], check=True, umask=0o022)

    assert 0o600 == (tmp_path / "a").stat().st_mode & 0o777
