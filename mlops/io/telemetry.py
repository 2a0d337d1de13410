"""Predictions, outcomes and fills: written in batches, idempotent by key, read into arrays.

A row that is said again, late or out of order changes nothing; a row that contradicts a stored one never overwrites it.
What a reader gets was known at its `as_of`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from mlops.errors import DataError
from mlops.io.columns import dtype, put_together, taken_apart
from mlops.io.database import Database
from mlops.io.journal import added
from mlops.io.schema import TELEMETRY, UtcTime, feature_sets, fills, outcomes, predictions
from mlops.types import FILL_COLUMNS, OUTCOME_COLUMNS, PREDICTION_COLUMNS

STORED_FLOAT = np.dtype("<f4")  # the same bytes on every machine
BATCH = 20_000  # rows a commit: large enough to be fast, small enough that other writers need not wait long
CHUNK = 500  # rows taken from the driver at once: they become arrays while in the processor's cache (20,000: 1.5 x)
MATURED_COLUMNS = ("version", "unit", "event_time", "role", "probability", "label", "value", "known_at")
Columns = dict[str, list[Any]]


class Telemetry(Database):
    """Predictions with their features, outcomes, fills."""

    def add_predictions(
        self, frame: pd.DataFrame, features: NDArray[np.float32], names: Sequence[str], correlation_id: str = ""
    ) -> int:
        """Keep predictions and the features they were made of; the number of rows that were new.

        Parameters
        ----------
        frame : DataFrame of n rows with PREDICTION_COLUMNS
            Key: model, version, unit, event_time. `probability` is P(label = 1).
        features : float32 ndarray of shape (n, k)
            As scored, row by row; NaN is kept as it is.
        names : sequence of str, length k

        Raises
        ------
        DataError
            A row or the features break their contract. Nothing was stored then.
        """
        columns = taken_apart(frame, PREDICTION_COLUMNS, "predictions")
        blobs = _blobs(features, len(frame), names)
        if not blobs:
            return 0
        n = len(blobs)
        columns |= {"feature_set_id": [self._feature_set(tuple(names))] * n, "features": blobs}
        return self._store(predictions, columns | {"correlation_id": [correlation_id] * n}, durable=False)

    def add_outcomes(self, frame: pd.DataFrame) -> int:
        """Keep what came true, in a frame with OUTCOME_COLUMNS; the number of rows that were new.

        Key: model, unit, event_time (of the prediction). `known_at` is when the label could be known.
        """
        return self._store(outcomes, taken_apart(frame, OUTCOME_COLUMNS, "outcomes"), durable=False)

    def add_fills(self, frame: pd.DataFrame) -> int:
        """Keep trades, in a frame with FILL_COLUMNS; the number of rows that were new. `quantity` > 0 was bought."""
        return self._store(fills, taken_apart(frame, FILL_COLUMNS, "fills"), durable=True)

    def positions(self, model: str, book: str) -> pd.DataFrame:
        """What the fills of a book add up to: columns unit, quantity, cash_flow (received less paid less fees)."""
        c = fills.c
        sums = func.sum(c.quantity), func.sum(-c.quantity * c.price - c.fee)
        query = select(c.unit, *sums).where(c.model == model, c.book == book).group_by(c.unit).order_by(c.unit)
        with self._reading() as connection:
            rows = [tuple(row) for row in connection.execute(query)]
        found = pd.DataFrame(rows, columns=["unit", "quantity", "cash_flow"])
        return found.astype({"quantity": np.float64, "cash_flow": np.float64})

    def predictions(
        self, model: str, *, start: datetime, end: datetime, as_of: datetime, version: int | None = None
    ) -> tuple[pd.DataFrame, NDArray[np.float32], tuple[str, ...]]:
        """Predictions with `start <= event_time < end` that were known at `as_of`.

        Returns
        -------
        frame : DataFrame of n rows with PREDICTION_COLUMNS, sorted by event_time, version, unit
        features : float32 ndarray of shape (n, k), read-only
        names : the k feature names

        Raises
        ------
        DataError
            The rows have different feature sets, which do not fit into one matrix.
        """
        c = predictions.c
        read = [name for name in PREDICTION_COLUMNS if name != "model"]
        query = select(*(c[name] for name in read), c.feature_set_id, c.features)
        query = query.where(_window(model, start, end, as_of, version)).order_by(c.event_time, c.version, c.unit)
        with self._reading() as connection:
            *columns, sets, blobs = _arrays(connection, query, [*(dtype(name) for name in read), np.int64, bytes])
            names = _names(connection, set(np.unique(sets).tolist()), model)
        features = np.frombuffer(blobs, dtype=STORED_FLOAT).reshape(len(sets), len(names))
        frame = put_together(read, columns)
        frame.insert(0, "model", np.full(len(frame), model, dtype=object))
        return frame, features, names

    def matured(
        self, model: str, *, start: datetime, end: datetime, as_of: datetime, version: int | None = None
    ) -> pd.DataFrame:
        """Predictions joined with their outcomes, both known at `as_of`; `known_at` is the outcome's.

        Returns
        -------
        DataFrame with MATURED_COLUMNS, sorted by event_time, version, unit
        """
        p, o = predictions.c, outcomes.c
        query = select(p.version, p.unit, p.event_time, p.role, p.probability, o.label, o.value, o.known_at)
        query = query.join_from(predictions, outcomes, _pairs(as_of))
        query = query.where(_window(model, start, end, as_of, version)).order_by(p.event_time, p.version, p.unit)
        with self._reading() as connection:
            columns = _arrays(connection, query, [dtype(name) for name in MATURED_COLUMNS])
        return put_together(MATURED_COLUMNS, columns)

    def pending(self, model: str, *, as_of: datetime, version: int | None = None) -> int:
        """How many predictions known at `as_of` had no outcome known at `as_of`."""
        c = predictions.c
        query = select(func.count()).where(c.model == model, c.known_at <= as_of)
        query = query.where(~select(outcomes.c.model).where(_pairs(as_of)).exists())
        if version is not None:
            query = query.where(c.version == version)
        with self._reading() as connection:
            return int(connection.scalar(query) or 0)

    def latest_event_time(self, model: str) -> datetime | None:
        """The last time at which anything was predicted."""
        query = select(func.max(predictions.c.event_time)).where(predictions.c.model == model)
        with self._reading() as connection:
            newest: datetime | None = connection.scalar(query)
        return newest

    def prune(self, *, before: datetime) -> dict[str, int]:
        """Retention: delete predictions and outcomes with event_time < `before`; rows deleted, by table.

        Fills stay, because positions are their sum; so do all logs.
        """
        with self._writing(durable=False) as connection:
            return {t.name: connection.execute(delete(t).where(t.c.event_time < before)).rowcount for t in TELEMETRY}

    def _store(self, table: Table, columns: Columns, *, durable: bool) -> int:
        new = 0
        for batch in _batches(columns):
            with self._writing(durable=durable) as connection:
                new += STORE[connection.dialect.name](connection, table, batch)
        return new

    def _feature_set(self, names: tuple[str, ...]) -> int:
        text = orjson.dumps(names).decode()
        key = hashlib.sha256(text.encode()).hexdigest()
        mine = select(feature_sets.c.id).where(feature_sets.c.digest == key)
        with self._reading() as connection:
            known = connection.scalar(mine)
        if known is None:
            with self._writing() as connection:
                added(connection, feature_sets, {"names": text, "digest": key})
                known = connection.execute(mine).scalar_one()
        return int(known)


def _window(model: str, start: datetime, end: datetime, as_of: datetime, version: int | None) -> ColumnElement[bool]:
    c = predictions.c
    mine = and_(c.model == model, c.event_time >= start, c.event_time < end, c.known_at <= as_of)
    return mine if version is None else and_(mine, c.version == version)


def _pairs(as_of: datetime) -> ColumnElement[bool]:
    p, o = predictions.c, outcomes.c
    return and_(o.model == p.model, o.event_time == p.event_time, o.unit == p.unit, o.known_at <= as_of)


def _blobs(features: NDArray[np.float32], n: int, names: Sequence[str]) -> list[bytes]:
    """One string of bytes a row."""
    shape = (n, len(names))
    if features.dtype != np.float32 or features.shape != shape:
        got = f"{features.dtype} of shape {features.shape}"
        raise DataError(f"features must be float32 of shape {shape}, got {got}. Store exactly what was scored.")
    data, width = features.astype(STORED_FLOAT, copy=False).tobytes(), STORED_FLOAT.itemsize * len(names)
    return [data[i : i + width] for i in range(0, len(data), width)] if width else [b""] * n


def _names(connection: Connection, found: set[int], model: str) -> tuple[str, ...]:
    if len(found) > 1:
        raise DataError(f"predictions of {model} must share one feature set, got {len(found)}. Name one version.")
    if not found:
        return ()
    text = connection.scalar(select(feature_sets.c.names).where(feature_sets.c.id == found.pop()))
    return tuple(orjson.loads(str(text)))


def _arrays(connection: Connection, query: Select[Any], kinds: Sequence[Any]) -> list[Any]:
    """The result by column: an array each, joined bytes for kind `bytes`.

    Rows come straight from the driver, because a million row objects would take longer than the query itself.
    """
    parts: list[list[Any]] = [[] for _ in kinds]
    cursor: Any = connection.execute(query).cursor  # not streamed: a buffered result would keep the first row
    while rows := cursor.fetchmany(CHUNK):
        for part, kind, values in zip(parts, kinds, zip(*rows, strict=True), strict=True):
            part.append(_array(values, kind))
    return [
        b"".join(part) if kind is bytes else np.concatenate([np.empty(0, dtype=kind), *part])
        for part, kind in zip(parts, kinds, strict=True)
    ]


def _array(values: tuple[Any, ...], kind: Any) -> Any:
    if kind is bytes:
        return b"".join(values)
    # A million rows name few units: one string each instead of a million.
    return np.array([*map(sys.intern, values)] if kind is object else values, dtype=kind)


def _batches(columns: Columns) -> Iterator[Columns]:
    n = len(next(iter(columns.values())))
    for i in range(0, n, BATCH):
        yield {name: values[i : i + BATCH] for name, values in columns.items()}


def _store_sqlite(connection: Connection, table: Table, columns: Columns) -> int:
    statement = sqlite.insert(table).on_conflict_do_nothing()
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(columns))
    order = compiled.positiontup or []
    cursor: Any = connection.connection.cursor()
    cursor.executemany(str(compiled), zip(*(columns[name] for name in order), strict=True))
    return int(cursor.rowcount)


def _store_postgresql(connection: Connection, table: Table, columns: Columns) -> int:
    """One statement a batch: arrays, unnested there, in the order of the key so that two writers cannot deadlock."""
    keys = [c.name for c in table.primary_key if c.name in columns] or list(columns)[:1]
    arrays = {name: bindparam(name, values, type_=ARRAY(_plain(table.c[name]))) for name, values in columns.items()}
    rows = select(*(func.unnest(array).label(name) for name, array in arrays.items())).subquery()
    ordered = select(rows).order_by(*(rows.c[name] for name in keys))
    statement = postgresql.insert(table).from_select(list(columns), ordered).on_conflict_do_nothing()
    return connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount


def _plain(column: Any) -> Any:
    return BigInteger() if isinstance(column.type, UtcTime) else column.type


STORE = {"sqlite": _store_sqlite, "postgresql": _store_postgresql}
