"""Closed hours as checksummed Parquet: one file for a table and an hour, readable by DuckDB, pandas or anything else.

Archiving copies; only `prune` takes rows out of the ledger, and only those that a verified file holds. A file is never
changed: its name carries its sha256, a late row makes a new file, and the manifest (table `archives`, on disk at
commit) says which one counts. A crash at any point leaves at worst a file that the manifest does not name; the next run
takes it away.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import BigInteger, Connection, Table, and_, delete, func, select, type_coerce

from mlops.errors import CorruptionError
from mlops.io import private_files
from mlops.io.ledger.registry import added
from mlops.io.storage.arrow import KEYS, copied
from mlops.io.storage.database import Tables
from mlops.io.storage.row_counts import HOUR_US, SCOPES
from mlops.io.storage.schema import (
    archives,
    fills,
    metadata,
    outcomes,
    predictions,
    quotes,
    scorings,
    tallies,
)
from mlops.io.storage.utc_time import EPOCH, MICROSECOND
from mlops.io.storage.windows import microseconds

if TYPE_CHECKING:
    import pandas as pd

HOUR = timedelta(hours=1)
ARCHIVED = (predictions, outcomes, quotes, scorings, fills)
PRUNED = (predictions, outcomes, quotes, scorings)  # fills stay in the ledger for ever: positions are their sum
LOT = 100  # files a commit of the manifest
STRAY_S = 3600.0  # a file without an entry is younger than this while another process is about to enter it
Hours = dict[int, dict[str, int]]  # rows by hour (microseconds) and first column of the key
RESTORE = "Restore it from the backup of the archive folder; until then these hours are not read."


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of a file."""

    table: str
    hour: datetime
    path: str
    sha256: str
    rows: int


class Archive(Tables):
    """Archiving, reading of what was archived, retention."""

    def copy_closed(self, folder: Path, *, before: datetime, at: datetime) -> dict[str, int]:
        """Copy all hours that ended by `before` and are not archived yet, or have rows that came late.

        Returns
        -------
        dict of str to int
            Rows that were added to files, by table.
        """
        self._sweep(folder)
        return {str(table.name): sum(self._hours(folder, table, before, at)) for table in ARCHIVED}

    def read(self, folder: Path, table: str, *, start: datetime, end: datetime) -> pd.DataFrame:
        """Archived rows with `start <= event_time < end`, verified, sorted by time and key.

        Raises
        ------
        CorruptionError
            A file is missing or not as it was written.
        """
        import pandas as pd

        entries = [e for e in self.manifest(table) if start - HOUR < e.hour < end]
        parts = [_read(folder, entry) for entry in entries]
        if not parts:
            return pd.DataFrame()
        rows: pd.DataFrame = pa.concat_tables(parts).sort_by([(name, "ascending") for name in KEYS[table]]).to_pandas()
        return rows[(rows["event_time"] >= start) & (rows["event_time"] < end)].reset_index(drop=True)

    def manifest(self, table: str | None = None) -> list[Entry]:
        """The files that count, by table and hour."""
        c = archives.c
        query = select(c.table_name, c.hour, c.path, c.sha256, c.rows).order_by(c.table_name, c.hour)
        if table is not None:
            query = query.where(c.table_name == table)
        with self._reading() as connection:
            return [Entry(*row) for row in connection.execute(query)]

    def prune(self, folder: Path, *, before: datetime, at: datetime) -> dict[str, int]:
        """Retention: archive, then delete whole hours before `before` from the ledger; rows deleted, by table.

        What is deleted was found in a verified file a moment before. Fills stay, and so do all logs.

        Raises
        ------
        CorruptionError
            A row or a file is damaged; the hours before it are done, it and what follows is left alone.
        """
        self.copy_closed(folder, before=before, at=at)
        return {str(table.name): sum(self._pruned(folder, table, before, at)) for table in PRUNED}

    def verify(self, folder: Path) -> list[str]:
        """List what is wrong with the archive, a sentence each; empty when every file is as it was written."""
        problems = []
        for entry in self.manifest():
            try:
                _read(folder, entry)
            except CorruptionError as error:
                problems.append(str(error))
        return problems

    def _hours(self, folder: Path, table: Table, before: datetime, at: datetime) -> Iterator[int]:
        due = self._due(table, before)
        while lot := list(islice(due, LOT)):
            copies = [self._copy(folder, table, hour, leads, entry) for hour, leads, entry in lot]
            yield self._enter(folder, [copy for copy in copies if copy is not None], at)

    def _due(self, table: Table, before: datetime) -> Iterator[tuple[int, dict[str, int], Entry | None]]:
        """Closed hours that have other rows than their file, as far as the number tells."""
        for hour, leads, entry in self._closed(table, before):
            if entry is None or entry.rows != sum(leads.values()):
                yield hour, leads, entry

    def _closed(self, table: Table, before: datetime) -> list[tuple[int, dict[str, int], Entry | None]]:
        known = {microseconds(entry.hour): entry for entry in self.manifest(table.name)}
        with self._reading() as connection:
            hours = filled(connection, table, before)
        return [(hour, leads, known.get(hour)) for hour, leads in hours.items()]

    def _copy(
        self, folder: Path, table: Table, hour: int, leads: dict[str, int], entry: Entry | None
    ) -> tuple[Entry, Entry | None] | None:
        """Write the rows of an hour beside those that the archive has already; what to enter, if there is anything."""
        with self._reading() as connection:
            rows = copied(connection, table, hour, leads)
        if entry is not None:
            rows = _united(table.name, _read(folder, entry), rows)
            if rows.num_rows == entry.rows:
                return None
        name, digest = _written(folder, table.name, hour, rows)
        return Entry(table.name, EPOCH + hour * MICROSECOND, name, digest, rows.num_rows), entry

    def _enter(self, folder: Path, copies: list[tuple[Entry, Entry | None]], at: datetime) -> int:
        """Put files that are there into the manifest, in one commit; the number of rows that were added."""
        if not copies:
            return 0
        for place in sorted({p for new, _ in copies for p in (folder / new.path).parents if folder in (p, *p.parents)}):
            _sync(place)
        rows = 0
        with self._writing(lock="archive") as connection:
            entered = [copy for copy in copies if _entered(connection, *copy, at)]
        for new, old in entered:
            rows += new.rows - (old.rows if old else 0)
            if old is not None:
                (folder / old.path).unlink(missing_ok=True)
        return rows

    def _pruned(self, folder: Path, table: Table, before: datetime, at: datetime) -> Iterator[int]:
        for hour, leads, entry in self._closed(table, before):
            if entry is not None:
                yield self._delete(folder, table, hour, leads, entry, at)

    def _delete(self, folder: Path, table: Table, hour: int, leads: dict[str, int], entry: Entry, at: datetime) -> int:
        with self._reading() as connection:
            rows = copied(connection, table, hour, leads)
        file = _read(folder, entry)
        if not file.equals(rows) and _united(table.name, file, rows).num_rows != entry.rows:
            copy = self._copy(folder, table, hour, leads, entry)  # as many rows as the file has, but others
            self._enter(folder, [copy] if copy else [], at)
            return 0
        c, gone = table.c, 0
        with self._writing() as connection:  # on disk, so that it is let through when the disk is full
            for lead in leads:
                this = and_(c[SCOPES[table.name][0]] == lead, _within(table, hour))
                gone += connection.execute(delete(table).where(this)).rowcount
            if gone != rows.num_rows:  # a row came in between
                connection.rollback()
                return 0
            counted = and_(tallies.c.table_name == table.name, tallies.c.hour == hour)
            connection.execute(delete(tallies).where(counted))
        return gone

    def _sweep(self, folder: Path) -> None:
        """Take away what a crash left: half-written files, and files that never were entered."""
        named = {folder / entry.path for entry in self.manifest()}
        for path in [*folder.glob("*/*/*.parquet"), *folder.glob("*/*/*.part")]:
            if path not in named and time.time() - path.stat().st_mtime > STRAY_S:
                path.unlink(missing_ok=True)


def _entered(connection: Connection, new: Entry, old: Entry | None, at: datetime) -> bool:
    """False where another process archived the hour meanwhile; what is missing there comes with the next run."""
    row = {"table_name": new.table, "hour": new.hour, "path": new.path, "sha256": new.sha256, "rows": new.rows}
    row |= {"written_at": at}
    if old is None:
        return added(connection, archives, row)
    c = archives.c
    query = archives.update().where(c.table_name == old.table, c.hour == old.hour, c.sha256 == old.sha256)
    return connection.execute(query.values(row)).rowcount == 1


def filled(connection: Connection, table: Table, before: datetime) -> Hours:
    """How many rows each closed hour has, by the first column of the key."""
    at, lead = type_coerce(table.c.event_time, BigInteger), table.c[SCOPES[table.name][0]]
    hour = (at - at % HOUR_US).label("hour")
    end = microseconds(before) // HOUR_US * HOUR_US
    query = select(hour, lead, func.count()).where(at < end, at >= 0).group_by(hour, lead).order_by(hour)
    hours: Hours = {}
    for start, name, n in connection.execute(query):
        hours.setdefault(int(start), {})[name] = n
    return hours


def _within(table: Table, hour: int) -> Any:
    at = type_coerce(table.c.event_time, BigInteger)
    return and_(at >= hour, at < hour + HOUR_US)


def _united(table: str, old: pa.Table, new: pa.Table) -> pa.Table:
    """Both, without the rows of `new` whose key `old` has."""
    import pandas as pd

    keys = pd.MultiIndex.from_frame(old.select(KEYS[table]).to_pandas())
    fresh = ~pd.MultiIndex.from_frame(new.select(KEYS[table]).to_pandas()).isin(keys)
    return pa.concat_tables([old, new.filter(pa.array(fresh))])


def _written(folder: Path, table: str, hour: int, rows: pa.Table) -> tuple[str, str]:
    """Put a file in its place, whole or not at all; its path within the folder, and its sha256."""
    start = EPOCH + hour * MICROSECOND
    place = folder / table / f"{start:%Y-%m-%d}"
    private_files.folder(place)
    part = place / f"{start:%H}-{os.getpid()}-{time.monotonic_ns()}.part"
    with private_files.file(part).open("wb") as file:
        pq.write_table(rows, file, compression="zstd", write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    final = place / f"{start:%Y-%m-%dT%H}-{digest[:16]}.parquet"
    part.replace(final)
    return str(final.relative_to(folder)), digest


def _sync(folder: Path) -> None:
    """A name is on disk when its folder is."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _read(folder: Path, entry: Entry) -> pa.Table:
    path = folder / entry.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptionError(f"archive file {path} must be there, got {error}. {RESTORE}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise CorruptionError(f"archive file {path} must have sha256 {entry.sha256}, got {digest}. {RESTORE}")
    rows = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    if rows.num_rows != entry.rows or entry.table not in metadata.tables:
        raise CorruptionError(f"archive file {path} must hold {entry.rows} rows, got {rows.num_rows}. {RESTORE}")
    return rows
