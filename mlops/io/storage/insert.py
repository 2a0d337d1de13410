"""Rows on their way into a table: checked, summed, in batches, idempotent by key, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import NULLTYPE

from mlops.errors import DataError
from mlops.io.storage.checksum import checksums, matrix_sums, stored, text_image
from mlops.io.storage.risk_schema import balances
from mlops.io.storage.row_counts import count_in
from mlops.io.storage.schema import fills, metadata, outcomes, predictions, quotes, scorings
from mlops.io.storage.validation import storable, validated_columns
from mlops.io.storage.windows import STORED_FLOAT
from mlops.types import FILL_COLUMNS, OUTCOME_COLUMNS, PREDICTION_COLUMNS, RESERVED, SCORING_COLUMNS, reserved

if TYPE_CHECKING:
    import pandas as pd

QUOTE_COLUMNS = ("unit", "event_time", "known_at", "bid", "ask", "bid_size", "ask_size")
BALANCE_COLUMNS = ("model", "book", "event_time", "known_at", "amount", "flow", "source")
Columns = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Checked rows of one table, by column, as they are stored. `names`: of the features, where there are any.

    `durable`: on disk when the call returns.
    """

    table: Table
    columns: Columns
    durable: bool = False
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def batches(self, size: int) -> Iterator[Rows]:
        """The same rows, at most `size` at a time."""
        for i in range(0, len(self), size):
            yield replace(self, columns={name: values[i : i + size] for name, values in self.columns.items()})


def prediction_rows(
    frame: pd.DataFrame, features: NDArray[np.float32], names: Sequence[str], correlation_id: str = ""
) -> Rows:
    """Predictions and the features they were made of; see `Telemetry.add_predictions`.

    Raises
    ------
    DataError
        A row or the features break their contract.
    """
    columns = validated_columns(frame, PREDICTION_COLUMNS, "predictions")
    for text in (correlation_id, *names):
        if not storable(text):
            raise DataError(f"names and correlation_id of predictions must be valid text, got {text!r}. Shorten it.")
    n, names = len(frame), tuple(names)
    blobs = _blobs(features, n, names)
    sums = checksums("predictions", columns, n)
    scored = np.ascontiguousarray(features, dtype=STORED_FLOAT)
    whole = sums + feature_sums(scored, names_text(names))
    columns |= {"features": blobs, "correlation_id": [correlation_id] * n}
    columns |= {"checksum": stored(sums), "features_checksum": stored(whole)}
    return Rows(predictions, columns, names=names)


def outcome_rows(frame: pd.DataFrame) -> Rows:
    """What came true; raises DataError."""
    return _summed(outcomes, frame, OUTCOME_COLUMNS)


def fill_rows(frame: pd.DataFrame) -> Rows:
    """Trades; raises DataError."""
    _not_reserved(frame)
    return _summed(fills, frame, FILL_COLUMNS, durable=True)


def quote_rows(frame: pd.DataFrame) -> Rows:
    """Best bid and ask of a unit; raises DataError."""
    return _summed(quotes, frame, QUOTE_COLUMNS)


def balance_rows(frame: pd.DataFrame, source: str = "api") -> Rows:
    """What accounts were worth; `source` where the frame does not say; raises DataError."""
    _not_reserved(frame)
    named = frame if "source" in frame else frame.assign(source=source)
    return _summed(balances, named, BALANCE_COLUMNS, durable=True)


def _not_reserved(frame: pd.DataFrame) -> None:
    """Books of virtual trades are ours: a trade in a book of such a name would be in no position."""
    for book in frame["book"].unique() if "book" in frame else ():
        if isinstance(book, str) and reserved(book):
            rule = f"book must not begin with {' or '.join(RESERVED)}, got {book[:60]!r}"
            raise DataError(f"{rule}. Those are the platform's own; rename it.")


def scoring_rows(frame: pd.DataFrame) -> Rows:
    """How arms were asked; raises DataError."""
    return _summed(scorings, frame, SCORING_COLUMNS)


def feature_sums(features: NDArray[np.float32], names: str) -> NDArray[np.uint64]:
    """What features and their names add to the checksum of the row that they belong to."""
    return matrix_sums(features) + np.uint64(text_image(names))


def names_text(names: Sequence[str]) -> str:
    """Feature names as they are stored."""
    return orjson.dumps(list(names)).decode()


def put(connection: Connection, many: Sequence[Rows]) -> list[int]:
    """Insert within the transaction of `connection`, leaving alone what is there; the new rows of each lot.

    Lots of one table go in at once; only where some of their rows are there already is each looked at.
    """
    new = [0] * len(many)
    tables = {rows.table.name: rows.table for rows in many if len(rows)}
    for name in tables:
        lots = [i for i, rows in enumerate(many) if rows.table.name == name and len(rows)]
        for i, count in zip(lots, _put_table(connection, [many[i] for i in lots]), strict=True):
            new[i] = count
    return new


def _put_table(connection: Connection, many: Sequence[Rows]) -> list[int]:
    if connection.dialect.name == "sqlite":
        new = _put_sqlite(connection, _merged(many))
        ends = np.cumsum([len(rows) for rows in many])
        return [int(part.sum()) for part in np.split(new, ends[:-1])]
    if len(many) > 1:
        with connection.begin_nested() as comparison:
            merged = _merged(many)
            if _put_postgresql(connection, merged) == len(merged):
                return [len(rows) for rows in many]
            comparison.rollback()
    return [_put_postgresql(connection, rows) for rows in many]


def _merged(many: Sequence[Rows]) -> Rows:
    columns = {name: list(chain.from_iterable(rows.columns[name] for rows in many)) for name in many[0].columns}
    return many[0] if len(many) == 1 else replace(many[0], columns=columns)


def _summed(table: Table, frame: pd.DataFrame, names: Sequence[str], *, durable: bool = False) -> Rows:
    columns = validated_columns(frame, names, table.name)
    sums = checksums(table.name, columns, len(frame))
    return Rows(table, columns | {"checksum": stored(sums)}, durable)


def _blobs(features: NDArray[np.float32], n: int, names: Sequence[str]) -> list[bytes]:
    """One string of bytes a row."""
    shape = (n, len(names))
    if features.dtype != np.float32 or features.shape != shape:
        got = f"{features.dtype} of shape {features.shape}"
        raise DataError(f"features must be float32 of shape {shape}, got {got}. Store exactly what was scored.")
    data, width = features.astype(STORED_FLOAT, copy=False).tobytes(), STORED_FLOAT.itemsize * len(names)
    return [data[i : i + width] for i in range(0, len(data), width)] if width else [b""] * n


@lru_cache
def _statement(table: str, names: tuple[str, ...]) -> tuple[str, list[str]]:
    """The INSERT of SQLite, and the order of its parameters."""
    insert = sqlite.insert(metadata.tables[table]).on_conflict_do_nothing()
    compiled = insert.compile(dialect=sqlite.dialect(), column_keys=list(names))
    return str(compiled), list(compiled.positiontup or [])


def _put_sqlite(connection: Connection, rows: Rows) -> NDArray[np.bool_]:
    """All at once; where some were there already, one by one, because the tally must know which were new."""
    statement, order = _statement(rows.table.name, tuple(rows.columns))
    values = list(zip(*(rows.columns[name] for name in order), strict=True))
    cursor: Any = connection.connection.cursor()
    cursor.execute("SAVEPOINT rows")
    cursor.executemany(statement, values)
    new = np.ones(len(values), dtype=bool)
    if cursor.rowcount < len(values):
        cursor.execute("ROLLBACK TO rows")
        new = np.fromiter((cursor.execute(statement, row).rowcount for row in values), dtype=bool, count=len(values))
    cursor.execute("RELEASE rows")
    count_in(connection, rows.table, rows.columns, new)
    return new


def _put_postgresql(connection: Connection, rows: Rows) -> int:
    """One statement a batch: arrays, unnested there, in the order of the key so that two writers cannot deadlock."""
    from mlops.io.storage.pg_arrays import (
        packed,  # the driver: a tenth of a second that a set-up on SQLite does not need
    )

    table, columns = rows.table, rows.columns
    keys = [c.name for c in table.primary_key if c.name in columns] or list(columns)[:1]
    arrays = {
        name: bindparam(name, packed(table.c[name].type, values), type_=NULLTYPE) for name, values in columns.items()
    }
    given = select(*(func.unnest(array).label(name) for name, array in arrays.items())).subquery()
    ordered = select(given).order_by(*(given.c[name] for name in keys))
    statement = postgresql.insert(table).from_select(list(columns), ordered).on_conflict_do_nothing()
    return connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount
