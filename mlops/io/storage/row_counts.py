"""How many rows there must be: counted when they are written, so that rows which vanish from a table are missed.

A row's checksum cannot tell that the row is gone. SQLite has no checksums of pages, so a flipped bit in a page's head
can drop a branch of a table without an error; the tally tells. PostgreSQL checks its pages itself (`initdb
--data-checksums`, the default since 18) and keeps no tally: many writers would wait for each other at the same counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import compress
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Table, func, select

from mlops.errors import CorruptionError
from mlops.io.storage.schema import tallies
from mlops.io.storage.utc_time import EPOCH, MICROSECOND

LAST_CHARACTER = chr(0x10FFFF)
ONE = np.ones(1, dtype=bool)
HOUR_US = 3_600_000_000
SCOPES: Mapping[str, tuple[str, ...]] = {  # whose rows are counted together: what a reading is of
    "predictions": ("model", "version"),
    "outcomes": ("model",),
    "fills": ("model", "book"),
    "quotes": ("unit",),
    "scorings": ("model",),
    "balances": ("model", "book"),
    "promotions": ("model",),
    "bundles": ("model",),
    "book_events": ("model", "book", "version"),
    "book_states": ("model", "book", "version"),
}
COUNT = (
    'INSERT INTO tallies (table_name, scope, hour, "rows") VALUES (?, ?, ?, ?) '
    'ON CONFLICT (table_name, scope, hour) DO UPDATE SET "rows" = "rows" + excluded."rows"'
)
WHOLE = frozenset({"fills", "promotions", "bundles"})  # read as a whole: one count instead of one an hour
GONE = (
    "rows of {table} with {scope} must be {expected}, got {found}. The database file is damaged: restore the last "
    "backup, then the archived hours."
)
CHANGED = (
    "row of {table} with {key} must be as it was written, got another (its checksum is wrong). The database file is "
    "damaged: restore the last backup, then the archived hours."
)


def count_in(
    connection: Connection,
    table: Table,
    columns: Mapping[str, Sequence[Any]],
    new: NDArray[np.bool_] = ONE,
) -> None:
    """Add rows that were just inserted to their counts. `new`: which of them."""
    if connection.dialect.name != "sqlite" or not new.any():
        return
    counted = _groups(table.name, columns, new)
    cursor: Any = connection.connection.cursor()
    cursor.executemany(COUNT, [(table.name, scope, hour, n) for (scope, hour), n in counted.items()])


def must_be(
    connection: Connection, table: str, scope: Mapping[str, Any], n: int, hours: tuple[int, int] = (0, 1)
) -> None:
    """Compare the rows that were read of a scope, from whole hour to whole hour (microseconds), with their count.

    Parameters
    ----------
    scope : mapping
        The columns of SCOPES, or only the first ones: then all that begin so.
    n : int
        Rows that have a checksum; those of older releases were never counted.

    Raises
    ------
    CorruptionError
        Rows are missing, or there are too many.
    """
    if connection.dialect.name != "sqlite":
        return
    rules = (*_mine(table, scope), tallies.c.hour >= hours[0], tallies.c.hour < hours[1])
    expected = int(connection.scalar(select(func.coalesce(func.sum(tallies.c.rows), 0)).where(*rules)) or 0)
    if expected != n:
        where = ", ".join(f"{name}={value}" for name, value in scope.items())
        raise CorruptionError(GONE.format(table=table, scope=where, expected=expected, found=n))


def newest_is(connection: Connection, table: str, scope: Mapping[str, Any], at: datetime | None) -> None:
    """Compare the last event_time that was read of a scope with the last hour that was counted."""
    if connection.dialect.name != "sqlite":
        return
    last = connection.scalar(select(func.max(tallies.c.hour)).where(*_mine(table, scope)))
    if last is not None and (at is None or at < EPOCH + last * MICROSECOND):
        where = ", ".join(f"{name}={value}" for name, value in scope.items())
        raise CorruptionError(GONE.format(table=table, scope=where, expected="there", found=f"none after {at}"))


def _mine(table: str, scope: Mapping[str, Any]) -> tuple[ColumnElement[bool], ...]:
    text, c = orjson.dumps(list(scope.values())).decode(), tallies.c
    if len(scope) == len(SCOPES[table]):
        return c.table_name == table, c.scope == text
    head = text[:-1] + ","
    return c.table_name == table, c.scope >= head, c.scope < head + LAST_CHARACTER


def _groups(table: str, columns: Mapping[str, Sequence[Any]], new: NDArray[np.bool_]) -> dict[tuple[str, int], int]:
    """Rows by scope and hour."""
    n = len(new)
    hours = np.zeros(n, dtype=np.int64) if table in WHOLE else np.asarray(columns["event_time"], dtype=np.int64)
    hours = hours - hours % HOUR_US
    keys = zip(*(columns[name] for name in SCOPES[table]), hours.tolist(), strict=True)
    counts = Counter(compress(keys, new.tolist()))
    return {(orjson.dumps(key[:-1]).decode(), key[-1]): count for key, count in counts.items()}
