"""Backups of real folders and databases, taken while they are written to."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from filelock import FileLock
from sqlalchemy import create_engine, text

from jobs.stack.backup import backup, restore
from jobs.stack.live_copy import DUMP
from jobs.stack.servers import own_secret
from jobs.stack.supervisor import Board
from mlops.errors import CorruptionError, SettingsError, StorageError
from mlops.io.ledger import Ledger
from mlops.settings import Settings
from mlops.types import Alert, Priority

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    """A state folder with something of everything in it."""
    state = tmp_path / "live"
    found = Settings(state=state)
    own_secret(state, "webhook")
    with Ledger(found.ledger) as ledger:
        ledger.alerts.add(Alert("rollback:one", Priority.LOW, "", "something", NOW))
    with closing(sqlite3.connect(state / "mlflow.db")) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE versions (name TEXT)")
    for name in ("artifacts/1/model.txt", "archive/fills/a.parquet", "spool/a", "studies/s.jsonl"):
        _write(state / name, name)
    for name in ("bundles/volatility/1/model.txt", "logs/serve.log", "run/up.lock", "ballast", "ledger.db.turns/x"):
        _write(state / name, "fetched or made again")
    return found


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _elsewhere(settings, tmp_path):
    return settings.model_copy(update={"state": tmp_path / "elsewhere" / "live"})


@pytest.mark.parametrize("name", ["copy", "copy.tar.zst", "copy.tar.gz"])
def test_what_was_backed_up_is_there_after_restoring_elsewhere(settings, tmp_path, name):
    backup(settings, tmp_path / name, NOW)
    shutil.rmtree(settings.state)
    new = _elsewhere(settings, tmp_path)
    manifest = restore(new, tmp_path / name, NOW)

    with Ledger(new.ledger) as ledger:
        assert ["rollback:one"] == [alert.key for alert in ledger.alerts.newest()]
    assert "artifacts/1/model.txt" == (new.state / "artifacts/1/model.txt").read_text()
    assert {"archive", "artifacts", "ledger.db", "mlflow.db", "secrets", "spool", "studies"} == {
        path.name for path in new.state.iterdir() if not path.name.startswith(("ledger.db-", "mlflow.db-"))
    }
    assert 0o600 == (new.state / "secrets" / "webhook").stat().st_mode & 0o777
    assert "2026-01-05T12:00:00+00:00" == manifest["made_at"]


def test_a_backup_can_be_read_by_its_owner_alone(settings, tmp_path):
    for name in ("copy", "copy.tar.zst"):
        backup(settings, tmp_path / name, NOW)

    assert 0o700 == (tmp_path / "copy").stat().st_mode & 0o777
    assert 0o600 == (tmp_path / "copy.tar.zst").stat().st_mode & 0o777


@pytest.mark.parametrize("name", ["ledger.db", "mlflow.db", "artifacts/1/model.txt", "secrets/webhook", "spool/a"])
def test_a_flipped_byte_is_refused_by_name_and_nothing_is_touched(settings, tmp_path, name):
    backup(settings, tmp_path / "copy", NOW)
    content = bytearray((tmp_path / "copy" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "copy" / name).write_bytes(content)
    new = _elsewhere(settings, tmp_path)

    with pytest.raises(CorruptionError, match=name):
        restore(new, tmp_path / "copy", NOW)

    assert not new.state.exists()
    assert [] == list(new.state.parent.iterdir())


def test_a_flipped_byte_in_an_archive_is_refused(settings, tmp_path):
    backup(settings, tmp_path / "copy.tar.gz", NOW)
    content = bytearray((tmp_path / "copy.tar.gz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "copy.tar.gz").write_bytes(content)

    with pytest.raises(CorruptionError):
        restore(_elsewhere(settings, tmp_path), tmp_path / "copy.tar.gz", NOW)


def test_a_cut_archive_is_refused(settings, tmp_path):
    backup(settings, tmp_path / "copy.tar.zst", NOW)
    os.truncate(tmp_path / "copy.tar.zst", (tmp_path / "copy.tar.zst").stat().st_size // 2)

    with pytest.raises(CorruptionError):
        restore(_elsewhere(settings, tmp_path), tmp_path / "copy.tar.zst", NOW)


def test_a_file_too_few_or_too_many_is_refused_by_name(settings, tmp_path):
    backup(settings, tmp_path / "copy", NOW)
    _write(tmp_path / "copy" / "secrets" / "planted", "x")
    with pytest.raises(CorruptionError, match="secrets/planted"):
        restore(_elsewhere(settings, tmp_path), tmp_path / "copy", NOW)

    (tmp_path / "copy" / "secrets" / "planted").unlink()
    (tmp_path / "copy" / "secrets" / "webhook").unlink()
    with pytest.raises(CorruptionError, match=r"secrets/webhook .* no such file"):
        restore(_elsewhere(settings, tmp_path), tmp_path / "copy", NOW)


def test_an_archive_that_would_write_outside_is_refused(settings, tmp_path):
    (tmp_path / "evil").write_text("x")
    with (
        pa.CompressedOutputStream(str(tmp_path / "bad.tar.gz"), "gzip") as stream,
        tarfile.open(fileobj=stream, mode="w|") as tar,
    ):
        tar.add(tmp_path / "evil", arcname="../../evil")

    with pytest.raises(CorruptionError, match="evil"):
        restore(_elsewhere(settings, tmp_path), tmp_path / "bad.tar.gz", NOW)


def test_a_folder_with_something_in_it_is_not_overwritten_but_put_aside_when_asked(settings, tmp_path):
    backup(settings, tmp_path / "copy", NOW)
    (settings.state / "mine").write_text("thesis")
    with pytest.raises(SettingsError, match="--force"):
        restore(settings, tmp_path / "copy", NOW)
    assert "thesis" == (settings.state / "mine").read_text()

    restore(settings, tmp_path / "copy", NOW, force=True)

    assert not (settings.state / "mine").exists()
    assert "thesis" == (tmp_path / "live.before-20260105T120000" / "mine").read_text()


def test_nothing_is_restored_into_a_set_up_that_is_up(settings, tmp_path):
    backup(settings, tmp_path / "copy", NOW)
    Board(settings.state / "run" / "up.json", ["service"])
    with FileLock(settings.state / "run" / "up.lock"), pytest.raises(SettingsError, match="make down"):
        restore(settings, tmp_path / "copy", NOW, force=True)


def test_a_backup_is_never_overwritten(settings, tmp_path):
    backup(settings, tmp_path / "copy", NOW)

    with pytest.raises(SettingsError, match="new place"):
        backup(settings, tmp_path / "copy", NOW)


def test_a_failed_backup_leaves_nothing_behind(settings, tmp_path):
    content = bytearray((settings.state / "ledger.db").read_bytes())
    content[16384:40000] = os.urandom(40000 - 16384)
    (settings.state / "ledger.db").write_bytes(content)

    with pytest.raises((CorruptionError, StorageError), match=r"ledger|sound"):
        backup(settings, tmp_path / "out" / "copy.tar.zst", NOW)

    assert [] == list((tmp_path / "out").iterdir())


def test_every_version_in_a_backup_has_its_files_while_versions_are_registered(settings, tmp_path):
    """Files are written before the row that names them, as MLflow does; the copy goes the other way round."""
    stop, state = threading.Event(), settings.state

    def register():
        with closing(sqlite3.connect(state / "mlflow.db", timeout=30)) as connection:
            number = 0
            while not stop.is_set():
                number += 1
                _write(state / "artifacts" / f"v{number}" / "model.txt", "x" * 1000)
                with connection:
                    connection.execute("INSERT INTO versions VALUES (?)", (f"v{number}",))

    thread = threading.Thread(target=register)
    thread.start()
    try:
        for copy in range(5):
            backup(settings, tmp_path / f"copy{copy}", NOW)
    finally:
        stop.set()
        thread.join()

    for copy in range(5):
        with closing(sqlite3.connect(tmp_path / f"copy{copy}" / "mlflow.db")) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM versions")]
        assert all((tmp_path / f"copy{copy}" / "artifacts" / name / "model.txt").exists() for name in names)
    assert names


def test_a_ledger_outside_the_folder_is_refused(settings, tmp_path):
    away = settings.model_copy(update={"ledger_url": f"sqlite:///{tmp_path / 'away.db'}"})

    with pytest.raises(SettingsError, match="must lie in the state folder"):
        backup(away, tmp_path / "copy", NOW)


@pytest.fixture
def on_postgresql(settings, url):
    if not url.startswith("postgresql"):
        pytest.skip("SQLite is in the folder")
    return settings.model_copy(update={"ledger_url": url})


def test_a_ledger_on_postgresql_comes_back(on_postgresql, tmp_path):
    with Ledger(on_postgresql.ledger) as ledger:
        ledger.alerts.add(Alert("rollback:kept", Priority.LOW, "", "x", NOW))
    backup(on_postgresql, tmp_path / "copy.tar.zst", NOW)
    with Ledger(on_postgresql.ledger) as ledger:
        ledger.alerts.add(Alert("rollback:later", Priority.LOW, "", "x", NOW))
    new = _elsewhere(on_postgresql, tmp_path)
    with pytest.raises(SettingsError, match="--force"):
        restore(new, tmp_path / "copy.tar.zst", NOW)
    restore(new, tmp_path / "copy.tar.zst", NOW, force=True)

    with Ledger(new.ledger) as ledger:
        assert ["rollback:kept"] == [alert.key for alert in ledger.alerts.newest()]


def _crafted(folder, change):
    """A backup that somebody else made whole: its dump is another one, and the manifest says so."""
    dump = folder / DUMP
    dump.write_bytes(change(dump.read_bytes()))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][DUMP] |= {"sha256": hashlib.sha256(dump.read_bytes()).hexdigest(), "size": dump.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_no_sql_of_a_crafted_dump_runs(on_postgresql, tmp_path):
    marker = Path(tempfile.mkdtemp(dir="/tmp")) / "ran"
    marker.parent.chmod(0o777)
    with Ledger(on_postgresql.ledger) as ledger:
        ledger.alerts.add(Alert("rollback:kept", Priority.LOW, "", "x", NOW))
    backup(on_postgresql, tmp_path / "copy", NOW)

    def program(content):
        (told,) = re.findall(rb"COPY public\.alerts \([^)]*\) FROM stdin;\n", content)
        evil = f"COPY public.alerts FROM PROGRAM 'touch {marker}'; --".encode()
        assert len(evil) < len(told)
        return content.replace(told, evil.ljust(len(told) - 1) + b"\n")

    _crafted(tmp_path / "copy", program)
    with pytest.raises(CorruptionError, match="must hold all tables of a ledger, got none of the name alerts"):
        restore(_elsewhere(on_postgresql, tmp_path), tmp_path / "copy", NOW, force=True)

    assert not marker.exists()
    with Ledger(on_postgresql.ledger) as ledger:
        assert ["rollback:kept"] == [alert.key for alert in ledger.alerts.newest()]


def test_functions_triggers_and_tables_of_others_are_not_restored_and_numbers_go_on(on_postgresql, tmp_path):
    title = "text with \t, \n, \\\\. and ü"
    with Ledger(on_postgresql.ledger) as ledger:
        ledger.alerts.add(Alert("rollback:kept", Priority.LOW, "", title, NOW))
    engine = create_engine(on_postgresql.ledger)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE theirs AS SELECT 1 AS id"))
        connection.execute(text("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$"))
        connection.execute(text("CREATE TRIGGER t BEFORE INSERT ON alerts EXECUTE FUNCTION f()"))
    backup(on_postgresql, tmp_path / "copy", NOW)
    with engine.begin() as connection:
        for thing in ("TABLE theirs", "TRIGGER t ON alerts", "FUNCTION f"):
            connection.execute(text(f"DROP {thing}"))

    restore(_elsewhere(on_postgresql, tmp_path), tmp_path / "copy", NOW, force=True)

    with engine.connect() as connection:
        assert 0 == connection.scalar(text("SELECT count(*) FROM pg_trigger WHERE tgname = 't'"))
        assert 0 == connection.scalar(text("SELECT count(*) FROM pg_proc WHERE proname = 'f'"))
        assert connection.scalar(text("SELECT to_regclass('theirs')")) is None
    engine.dispose()
    with Ledger(on_postgresql.ledger) as ledger:
        assert ledger.alerts.add(Alert("rollback:next", Priority.LOW, "", "y", NOW))
        assert {"rollback:kept", "rollback:next"} == {alert.key for alert in ledger.alerts.newest()}
        assert title == ledger.alerts.get("rollback:kept").title


def test_a_backup_that_was_made_anew_has_another_fingerprint(settings, tmp_path):
    made = backup(settings, tmp_path / "copy", NOW)["fingerprint"]
    with Ledger(settings.ledger) as ledger:
        ledger.alerts.add(Alert("rollback:theirs", Priority.LOW, "", "x", NOW))
    backup(settings, tmp_path / "forged", NOW)
    new = _elsewhere(settings, tmp_path)

    with pytest.raises(CorruptionError, match=f"must have the fingerprint {made}"):
        restore(new, tmp_path / "forged", NOW, fingerprint=made)
    assert not new.state.exists()
    restore(new, tmp_path / "copy", NOW, fingerprint=made.upper())


def test_without_the_programs_of_postgresql_it_is_said_what_to_do(on_postgresql, tmp_path, monkeypatch):
    with Ledger(on_postgresql.ledger):
        pass
    monkeypatch.setenv("PATH", str(Path("/nowhere")))

    with pytest.raises(SettingsError, match=r"pg_dump must be on PATH.*Install"):
        backup(on_postgresql, tmp_path / "copy", NOW)


def test_a_backup_of_one_kind_of_ledger_is_not_restored_into_the_other(on_postgresql, settings, tmp_path):
    backup(settings, tmp_path / "copy", NOW)

    with pytest.raises(SettingsError, match="MLOPS_LEDGER_URL"):
        restore(_elsewhere(on_postgresql, tmp_path), tmp_path / "copy", NOW)
