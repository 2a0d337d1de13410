"""A ledger on PostgreSQL out of its dump: tables as our migrations make them, and rows. No SQL of the dump runs.

A dump is a program: `pg_restore` runs what stands in it, with all rights of its account. Here `pg_restore` only
writes it out as text; of that text nothing but the rows between `COPY` and `\\.` is read. Tables that are not a
ledger's are left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL, Connection, create_engine, inspect, text

from mlops.errors import CorruptionError, SettingsError
from mlops.io.storage.database import migrate, revisions
from mlops.io.storage.schema import metadata

HEAD = re.compile(rb'COPY (?:public\.)?"?([a-z_]+)"? \(([a-z0-9_", ]+)\) FROM stdin;\n')
END = b"\\.\n"
VERSION = "alembic_version"
PROGRAM = "pg_restore"
REMEDY = "Nothing was changed; take another backup"


def load(place: URL, dump: Path) -> None:
    """Replace the ledger at `place` by that of a dump, in one transaction.

    Raises
    ------
    CorruptionError
        The dump is not one of a ledger. Nothing was changed.
    SettingsError
        It is of a newer release, or PostgreSQL's programs are not there.
    """
    revision, engine = _revision(dump), create_engine(place)
    try:
        with engine.begin() as connection:
            for name in (*metadata.tables, VERSION):
                connection.execute(text(f'DROP TABLE IF EXISTS "{name}" CASCADE'))
            migrate(connection, revision)
            _fill(connection, dump)
    finally:
        engine.dispose()


def _fill(connection: Connection, dump: Path) -> None:
    inspector = inspect(connection)
    columns = {name: [column["name"] for column in inspector.get_columns(name)] for name in inspector.get_table_names()}
    left = {name for name in metadata.tables if name in columns}
    raw: Any = connection.connection.driver_connection
    for table, names, rows in _tables(dump):
        if table == VERSION or table not in metadata.tables:  # as the migrations wrote it; somebody else's
            _skip(rows)
            continue
        if table not in left or not set(names) <= set(columns[table]):
            raise CorruptionError(f"{dump.name} must hold each table once and as it is, got {table}. {REMEDY}.")
        left.remove(table)
        connection.execute(text(f'DELETE FROM "{table}"'))  # noqa: S608 (a name of ours)
        listed = ", ".join(f'"{name}"' for name in names)
        with raw.cursor() as cursor, cursor.copy(f'COPY "{table}" ({listed}) FROM STDIN') as target:
            for row in rows:
                target.write(row)
        _count_on(connection, table, columns[table])
    if left:
        rule = f"{dump.name} must hold all tables of a ledger"
        raise CorruptionError(f"{rule}, got none of the name {', '.join(sorted(left))}. {REMEDY}.")


def _count_on(connection: Connection, table: str, columns: list[str]) -> None:
    """Numbers of new rows follow the highest that is there."""
    for name in columns:
        sequence = connection.scalar(
            text("SELECT pg_get_serial_sequence(:table, :name)"), {"table": f'"{table}"', "name": name}
        )
        if sequence is not None:
            highest = f'(SELECT max("{name}") FROM "{table}")'  # noqa: S608 (names of ours)
            query = f"SELECT setval(:sequence, coalesce({highest}, 1), {highest} IS NOT NULL)"
            connection.execute(text(query), {"sequence": sequence})


def _revision(dump: Path) -> str:
    """The schema of a dump."""
    script = revisions()[1]
    known = {step.revision for step in script.walk_revisions()}
    schemas = [row.strip().decode() for table, _, rows in _tables(dump, f"--table={VERSION}") for row in rows]
    if len(schemas) != 1:
        raise CorruptionError(f"{dump.name} must name its schema once, got {len(schemas)} names. {REMEDY}.")
    if schemas[0] not in known:
        raise SettingsError(
            f"schema of {dump.name} must be known, got {schemas[0][:40]!r}. Use the release that wrote it."
        )
    return schemas[0]


def _tables(dump: Path, *arguments: str) -> Iterator[tuple[str, list[str], Iterator[bytes]]]:
    """Each table of a dump: its name, its columns, and its rows, which must be read before the next one."""
    with _text(dump, arguments) as lines:
        for line in lines:
            if (head := HEAD.fullmatch(line)) is not None:
                names = [name.strip().strip('"') for name in head[2].decode().split(",")]
                yield head[1].decode(), names, _rows(lines, dump)


def _rows(lines: IO[bytes], dump: Path) -> Iterator[bytes]:
    for line in lines:
        if line == END:
            return
        yield line
    raise CorruptionError(f"{dump.name} must end each of its tables, got an end within one. {REMEDY}.")


def _skip(rows: Iterator[bytes]) -> None:
    for _ in rows:
        pass


@contextmanager
def _text(dump: Path, arguments: tuple[str, ...]) -> Iterator[IO[bytes]]:
    """The dump as text."""
    if (program := shutil.which(PROGRAM)) is None:
        remedy = "Install PostgreSQL's client programs"
        raise SettingsError(f"{PROGRAM} must be on PATH for a ledger on PostgreSQL, got none. {remedy}.")
    command = [program, "--data-only", "--no-owner", *arguments, "--file=-", str(dump)]
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
        lines = child.stdout
        if lines is None:
            raise CorruptionError(f"{PROGRAM} must write, got no pipe. {REMEDY}.")
        try:
            yield lines
            lines.read()
        finally:
            lines.close()
            status = child.wait()
        if status:
            errors.seek(0)
            why = errors.read()[-500:].decode(errors="replace").strip()
            raise CorruptionError(f"{dump.name} must be a dump that {PROGRAM} can read, got: {why}. {REMEDY}.")
