"""Windows of the ledger as arrays, every row held against its checksum and every window against its tally.

A window is read as the table has it, and only then reduced to what was known at `as_of`: a tally counts whole hours of
a table, so that nothing can be missing unnoticed, however the question is put.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import BigInteger, ColumnElement, Connection, Select, Table, and_, func, or_, select, type_coerce

from mlops.errors import CorruptionError
from mlops.io.storage.checksum import Values, checksums
from mlops.io.storage.row_counts import CHANGED, HOUR_US, WHOLE, must_be
from mlops.io.storage.schema import feature_sets
from mlops.io.storage.utc_time import UtcTime
from mlops.io.storage.validation import dtype

if TYPE_CHECKING:
    pass

CHUNK = 500  # rows taken from the driver at once: they become arrays while in the processor's cache (20,000: 1.5 x)
FIRST_US = -(2**61)  # before anything that a timestamp can say
STORED_FLOAT = np.dtype("<f4")  # the same bytes on every machine
UNSUMMED = -(2**63)  # in memory, for NULL: a row of a release that had no checksums
Arrays = dict[str, Any]
SUMS = frozenset({"checksum", "features_checksum"})


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of `scope` (columns and their values) with `start <= event_time < end`, in microseconds."""

    table: Table
    scope: Mapping[str, Any]
    start: int
    end: int

    def where(self) -> ColumnElement[bool]:
        """The condition of the window."""
        return and_(self._mine(), _between(self.table, self.start, self.end))

    def edges(self) -> ColumnElement[bool]:
        """What the whole hours around the window hold beside it."""
        floor, ceiling = self.hours()
        before, after = _between(self.table, floor, self.start), _between(self.table, self.end, ceiling)
        return and_(self._mine(), or_(before, after), self.table.c.checksum.is_not(None))

    def hours(self) -> tuple[int, int]:
        """The whole hours around the window."""
        return self.start - self.start % HOUR_US, self.end + -self.end % HOUR_US

    def _mine(self) -> ColumnElement[bool]:
        return and_(*(self.table.c[name] == value for name, value in self.scope.items()))


def window(
    connection: Connection, span: Span, names: Sequence[str], order: Sequence[str], by: str = "checksum"
) -> Arrays:
    """The columns `names` and `by` (the checksum) of a window, in key order; all rows, whenever they became known.

    Raises
    ------
    CorruptionError
        Rows are missing, or in the wrong place.
    """
    c = span.table.c
    read = [*names, by]
    query = select(*(c[name] for name in read)).where(span.where()).order_by(*(c[name] for name in order))
    columns: Arrays = dict(zip(read, arrays(connection, query, [kind(name) for name in read]), strict=True))
    if connection.dialect.name == "sqlite":
        _in_order(span.table, [columns[name] for name in order])
        floor, ceiling = span.hours()
        summed = int((columns[by] != UNSUMMED).sum())
        if (floor, ceiling) != (span.start, span.end):
            summed += int(connection.scalar(select(func.count()).where(span.edges())) or 0)
        if span.table.name not in WHOLE:
            must_be(connection, span.table.name, span.scope, summed, hours=(floor, ceiling))
    return columns


def verify(table: str, rows: Mapping[str, Values], stored: NDArray[np.int64], key: Sequence[str]) -> NDArray[np.uint64]:
    """The checksums of `rows`, after they were held against the stored ones.

    Raises
    ------
    CorruptionError
        A row is not what was written; the first such row is named by `key`.
    """
    sums = checksums(table, rows, len(stored))
    held(table, rows, sums, stored, key)
    return sums


def held(
    table: str,
    rows: Mapping[str, Values],
    sums: NDArray[np.uint64],
    stored: NDArray[np.int64],
    key: Sequence[str],
) -> None:
    """Compare checksums with the stored ones; raises CorruptionError."""
    wrong = (sums.view(np.int64) != stored) & (stored != UNSUMMED)
    if wrong.any():
        row = int(np.argmax(wrong))
        named = {name: rows[name] if isinstance(rows[name], str) else rows[name][row] for name in key}
        raise CorruptionError(CHANGED.format(table=table, key=", ".join(f"{k}={v}" for k, v in named.items())))


def unique(table: str, key: NDArray[Any]) -> None:
    """A damaged index lets a key in twice, which a checksum cannot tell; raises CorruptionError."""
    import pandas as pd

    twice = pd.Series(key).duplicated()
    if twice.any():
        raise CorruptionError(CHANGED.format(table=table, key=f"{key[int(np.argmax(twice))]} (there twice)"))


def known(rows: Arrays, as_of: datetime) -> Arrays:
    """Rows that were known at `as_of`."""
    mask = rows["known_at"] <= microseconds(as_of)
    return rows if mask.all() else {name: values[mask] for name, values in rows.items()}


def matches(made: Arrays, came: Arrays) -> NDArray[np.int64]:
    """For each prediction the row of its outcome (same event_time and unit), -1 where there is none."""
    import pandas as pd

    n = len(came["unit"])
    if n == 0:
        return np.full(len(made["unit"]), -1, dtype=np.int64)
    units, names = pd.factorize(np.concatenate([came["unit"], made["unit"]]), sort=True)
    times = came["event_time"][np.flatnonzero(np.diff(came["event_time"], prepend=FIRST_US - 1))]
    keys = np.searchsorted(times, came["event_time"]) * len(names) + units[:n]
    at = np.searchsorted(times, made["event_time"])
    asked = np.where(times[np.minimum(at, len(times) - 1)] == made["event_time"], at * len(names) + units[n:], -1)
    order = np.argsort(keys, kind="stable")  # PostgreSQL may sort units in another way
    place = np.minimum(np.searchsorted(keys, asked, sorter=order), n - 1)
    return np.where(keys[order[place]] == asked, order[place], -1)


def microseconds(instant: datetime) -> int:
    """Microseconds of an instant, as it is stored; raises InstantError for one without a time zone."""
    return int(UtcTime().process_bind_param(instant, None) or 0)  # type: ignore[arg-type]


def kind(name: str) -> Any:
    """How a column is held in memory."""
    if name == "feature_set_id":
        return np.int64
    return bytes if name == "features" else "sum" if name in SUMS else dtype(name)


def feature_names(connection: Connection, number: int) -> tuple[tuple[str, ...], str]:
    """The names of a feature set, and the text that they are stored as; raises CorruptionError."""
    c = feature_sets.c
    row = connection.execute(select(c.names, c.digest).where(c.id == number)).one_or_none()
    if row is None or hashlib.sha256(row.names.encode()).hexdigest() != row.digest:
        raise CorruptionError(CHANGED.format(table="feature_sets", key=f"id={number}"))
    return tuple(orjson.loads(row.names)), row.names


def matrix(blobs: bytes, n: int, k: int) -> NDArray[np.float32]:
    """Features as they were scored, read-only; raises CorruptionError."""
    if len(blobs) != n * k * STORED_FLOAT.itemsize:
        raise CorruptionError(CHANGED.format(table="predictions", key=f"{n} x {k} features: {len(blobs)} bytes"))
    return np.frombuffer(blobs, dtype=STORED_FLOAT).reshape(n, k)


def arrays(connection: Connection, query: Select[Any], kinds: Sequence[Any]) -> list[Any]:
    """The result by column: an array each, joined bytes for kind `bytes`.

    Rows come straight from the driver, because a million row objects would take longer than the query itself.
    """
    parts: list[list[Any]] = [[] for _ in kinds]
    cursor: Any = connection.execute(query).cursor  # not streamed: a buffered result would keep the first row
    while rows := cursor.fetchmany(CHUNK):
        for part, kind, values in zip(parts, kinds, zip(*rows, strict=True), strict=True):
            part.append(_array(values, kind))
    return [_joined(part, kind) for part, kind in zip(parts, kinds, strict=True)]


def _joined(part: list[Any], kind: Any) -> Any:
    if kind is bytes:
        return b"".join(part)
    return np.concatenate([np.empty(0, dtype=np.int64 if kind == "sum" else kind), *part])


def _array(values: tuple[Any, ...], kind: Any) -> Any:
    """A column of a chunk. What the driver hands over in another type than was written is damage."""
    try:
        if kind is bytes:
            return b"".join(values)
        if kind == "sum":
            return _sums(values)
        # A million rows name few units: one string each instead of a million.
        return np.array([*map(sys.intern, values)] if kind is object else values, dtype=kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise CorruptionError(
            f"column read must hold {kind}, got {error}. The database file is damaged: restore the last backup."
        ) from error


def _sums(values: tuple[Any, ...]) -> NDArray[np.int64]:
    try:
        return np.array(values, dtype=np.int64)
    except TypeError:
        return np.array([UNSUMMED if value is None else value for value in values], dtype=np.int64)


def _between(table: Table, start: int, end: int) -> ColumnElement[bool]:
    at = type_coerce(table.c.event_time, BigInteger)
    return and_(at >= start, at < end)


def _in_order(table: Table, keys: Sequence[Any]) -> None:
    """Rows of a table come in the order of their key, each once; where they do not, pages are in the wrong place."""
    tied = np.ones(max(len(keys[0]) - 1, 0), dtype=bool)
    for key in keys:
        before, after = key[:-1], key[1:]
        if (tied & (after < before)).any():
            break
        tied &= after == before
    else:
        if not tied.any():
            return
    raise CorruptionError(
        f"rows of {table.name} must be in the order of their key, got some twice or misplaced. The database file is "
        "damaged: restore the last backup, then the archived hours."
    )
