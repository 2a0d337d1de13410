"""Copying a set-up that is running, in the order that leaves nothing pointing to what is not in the copy."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, inspect, make_url, text

from mlops.errors import CorruptionError, SettingsError, StorageError
from mlops.settings import Settings

DUMP = "ledger.pgdump"
LEFT_OUT = ("bundles", "logs", "run", "ballast")
NOT_KEPT = ("-wal", "-shm", "-journal", ".part", ".lock", ".turns")  # endings of names
SQLITE = b"SQLite format 3\x00"  # SQLite, "Database File Format", 1.3
TRIES = 10  # a transition takes well under a second
MARKS = {  # what must not change between the snapshots of ledger and MLflow
    "promotions": "SELECT model, seq, state FROM promotions ORDER BY 1, 2",
    "bundles": "SELECT model, version FROM bundles ORDER BY 1, 2",
    "archives": "SELECT path FROM archives ORDER BY 1",
}


def copy_all(settings: Settings, stage: Path) -> None:
    state = settings.state.absolute()
    for _ in range(TRIES):
        for old in stage.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        _copy_tree(state / "spool", stage / "spool")
        before = mark(settings)
        _copy_ledger(settings, stage)
        _copy_databases(state, stage)
        if before != mark(settings):
            continue
        _copy_tree(state, stage)
        if all((stage / "archive" / row[0]).exists() for row in before.get("archives", ())):
            return
    raise StorageError(f"registry must rest while it is copied, got a change at each of {TRIES} tries. Try later.")


def mark(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """What the ledger says of transitions, bundles and archived hours. Read without migrating anything."""
    place = make_url(settings.ledger)
    if place.get_backend_name() == "sqlite" and not Path(str(place.database)).exists():
        return {}
    engine = create_engine(place)
    try:
        with engine.connect() as connection:
            known = inspect(connection).get_table_names()
            return {
                table: [tuple(row) for row in connection.execute(text(query))]
                for table, query in MARKS.items()
                if table in known
            }
    finally:
        engine.dispose()


def _copy_ledger(settings: Settings, stage: Path) -> None:
    place = make_url(settings.ledger)
    if place.get_backend_name() == "postgresql":
        name, secret = libpq(place)
        call("pg_dump", ["--format=custom", "--no-owner", f"--file={stage / DUMP}", f"--dbname={name}"], secret)
        (stage / DUMP).chmod(0o600)
        return
    file, state = Path(str(place.database)).absolute(), settings.state.absolute()
    if not file.is_relative_to(state):
        raise SettingsError(f"ledger must lie in the state folder {state}, got {file}. Copy it by `sqlite3 .backup`.")
    if file.exists():
        _copy_database(file, stage / file.relative_to(state))


def _copy_databases(state: Path, stage: Path) -> None:
    for file in files(state):
        target = stage / file.relative_to(state)
        if _kept(file.relative_to(state)) and not target.exists() and _is_database(file):
            _copy_database(file, target)


def _copy_database(file: Path, to: Path) -> None:
    """SQLite's online backup: one moment of the database, whoever writes to it meanwhile."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=60)) as source, closing(sqlite3.connect(to)) as target:
        try:
            source.backup(target)
            answer = target.execute("PRAGMA quick_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            answer = str(error)
    if answer != "ok":
        raise CorruptionError(f"{file} must be sound to be backed up, got: {answer}. Restore an earlier backup.")
    to.chmod(0o600)


def _copy_tree(folder: Path, to: Path) -> None:
    """Every file that is kept and not there yet. What vanishes meanwhile was not needed any more."""
    for file in files(folder):
        name = file.relative_to(folder)
        target = to / name
        if not _kept(name) or target.exists() or _is_database(file):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy2(file, target)


def _kept(name: Path) -> bool:
    return name.parts[0] not in LEFT_OUT and not any(part.endswith(NOT_KEPT) for part in name.parts)


def _is_database(file: Path) -> bool:
    with suppress(FileNotFoundError), file.open("rb") as opened:
        return opened.read(len(SQLITE)) == SQLITE
    return False


def files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if path.is_file() and not path.is_symlink():
                yield path


def libpq(place: URL) -> tuple[str, dict[str, str]]:
    """The database as PostgreSQL's own programs name it, and its password, which must not be seen among processes."""
    bare = URL.create("postgresql", place.username, None, place.host, place.port, place.database, place.query)
    return bare.render_as_string(), {"PGPASSWORD": place.password} if place.password else {}


def call(program: str, arguments: list[str], secret: Mapping[str, str]) -> None:
    path = shutil.which(program)
    if path is None:
        remedy = "Install PostgreSQL's client programs, or copy that database by your own means and the rest as it is"
        raise SettingsError(f"{program} must be on PATH for a ledger on PostgreSQL, got none. {remedy}.")
    done = subprocess.run([path, *arguments], env={**os.environ, **secret}, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise StorageError(f"{program} must succeed, got status {done.returncode}: {done.stderr.strip()[-1000:]}")
