"""The ledger: every prediction, outcome and fill, and the logs that someone relies on. SQLite, or PostgreSQL by URL.

Telemetry is idempotent by key: saying a row again changes nothing, a row that contradicts a stored one never overwrites
it, and late or out-of-order rows are normal. What a reader at `as_of` gets is what was known by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import (
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
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite

from mlops.errors import DataError
from mlops.io import database
from mlops.io.journal import BundleRow, Delivery, Experiment, JobRun, Journal, Promotion
from mlops.io.schema import EPOCH, MICROSECOND, TELEMETRY, UtcTime, feature_sets, fills, outcomes, predictions
from mlops.types import FILL_COLUMNS, OUTCOME_COLUMNS, PREDICTION_COLUMNS

__all__ = ["BundleRow", "Delivery", "Experiment", "JobRun", "Ledger", "Promotion"]
STORED_FLOAT = np.dtype("<f4")  # the same bytes on every machine
PREDICTED = ("version", "unit", "event_time", "known_at", "matures_at", "role", "probability")
MATURED = ("version", "unit", "event_time", "role", "probability", "label", "value", "known_at")


class Ledger(Journal):
    """One ledger; a context manager, usable from several threads and processes.

    Parameters
    ----------
    url : str
        SQLAlchemy URL: `sqlite:///path` or `postgresql+psycopg://...`. The schema is brought up to date at opening.
    """

    def __init__(self, url: str) -> None:
        super().__init__(database.connect(url, durable=True))
        database.migrate(self._durable)
        self._quick = database.connect(url, durable=False)
        self._feature_sets: dict[tuple[str, ...], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._durable.dispose()
        self._quick.dispose()

    # writing

    def add_predictions(
        self, frame: pd.DataFrame, features: NDArray[np.float32], names: Sequence[str], correlation_id: str = ""
    ) -> int:
        """Keep predictions with the features that they were made from; the number of rows that were new.

        Parameters
        ----------
        frame : DataFrame with PREDICTION_COLUMNS
            Key: model, version, unit, event_time.
        features : float32 ndarray of shape (len(frame), len(names))

        Raises
        ------
        DataError
            A column is missing, an instant is naive, a number is not finite, or the shapes differ.
        """
        _check(frame, PREDICTION_COLUMNS, "predictions", ("probability",))
        if features.shape != (len(frame), len(names)):
            want = (len(frame), len(names))
            raise DataError(f"features must have shape {want}, got {features.shape}. Give one row a prediction.")
        rows = _rows(frame, PREDICTION_COLUMNS)
        extra = {"feature_set_id": self._feature_set(tuple(names)), "correlation_id": correlation_id}
        for row, vector in zip(rows, np.ascontiguousarray(features, dtype=STORED_FLOAT), strict=True):
            row.update(extra, features=vector.tobytes())
        return self._add(predictions, rows)

    def add_outcomes(self, frame: pd.DataFrame) -> int:
        """Keep outcomes (OUTCOME_COLUMNS; key: model, unit, event_time); the number of rows that were new."""
        _check(frame, OUTCOME_COLUMNS, "outcomes", ("label", "value"))
        return self._add(outcomes, _rows(frame, OUTCOME_COLUMNS))

    def add_fills(self, frame: pd.DataFrame) -> int:
        """Keep fills (FILL_COLUMNS; key: fill_id); the number of rows that were new. They wait for the disk."""
        _check(frame, FILL_COLUMNS, "fills", ("quantity", "price", "fee"))
        return self._add(fills, _rows(frame, FILL_COLUMNS), durable=True)

    def prune(self, *, before: datetime) -> dict[str, int]:
        """Retention: delete telemetry with event_time < before; rows deleted, by table."""
        with database.writing(self._durable) as connection:
            return {t.name: connection.execute(delete(t).where(t.c.event_time < before)).rowcount for t in TELEMETRY}

    # reading

    def predictions(
        self, model: str, *, start: datetime, end: datetime, as_of: datetime, version: int | None = None
    ) -> tuple[pd.DataFrame, NDArray[np.float32], tuple[str, ...]]:
        """Predictions known at `as_of` with start <= event_time < end, by event_time, version, unit.

        Returns
        -------
        frame : DataFrame
            version, unit, event_time, known_at, matures_at, role, probability.
        features : float32 ndarray of shape (len(frame), k)
        names : the k feature names

        Raises
        ------
        DataError
            The rows have different feature sets. Ask for one version.
        """
        c = predictions.c
        columns = [c[name] for name in PREDICTED]
        query = select(*map(_plain, columns), c.feature_set_id, c.features).where(
            _span(predictions, model, start, end, version), c.known_at <= as_of
        )
        query = query.order_by(c.event_time, c.version, c.unit)
        with self._quick.connect() as connection:
            *rows, sets, blobs = _columns(connection, query, len(PREDICTED) + 2)
            names = self._names(connection, set(sets))
        features = np.frombuffer(b"".join(blobs), dtype=STORED_FLOAT).reshape(len(sets), len(names))
        return _frame(PREDICTED, rows), features, names

    def matured(
        self, model: str, *, start: datetime, end: datetime, as_of: datetime, version: int | None = None
    ) -> pd.DataFrame:
        """Predictions joined with outcomes that were known at `as_of`; columns `MATURED`, `known_at` the outcome's."""
        p, o = predictions.c, outcomes.c
        key = and_(p.model == o.model, p.event_time == o.event_time, p.unit == o.unit)
        columns = (p.version, p.unit, p.event_time, p.role, p.probability, o.label, o.value, o.known_at)
        query = (
            select(*map(_plain, columns))
            .join_from(predictions, outcomes, key)
            .where(_span(predictions, model, start, end, version), p.known_at <= as_of, o.known_at <= as_of)
            .order_by(p.event_time, p.version, p.unit)
        )
        with self._quick.connect() as connection:
            return _frame(MATURED, _columns(connection, query, len(MATURED)))

    def pending(self, model: str, *, as_of: datetime, version: int | None = None) -> int:
        """Predictions known at `as_of` whose outcome was not."""
        p, o = predictions.c, outcomes.c
        key = and_(p.model == o.model, p.event_time == o.event_time, p.unit == o.unit, o.known_at <= as_of)
        query = (
            select(func.count())
            .select_from(predictions.outerjoin(outcomes, key))
            .where(p.model == model, p.known_at <= as_of, o.id.is_(None))
        )
        query = query if version is None else query.where(p.version == version)
        with self._quick.connect() as connection:
            return int(connection.scalar(query) or 0)

    def latest_event_time(self, model: str) -> datetime | None:
        """Of the newest prediction."""
        query = select(func.max(predictions.c.event_time)).where(predictions.c.model == model)
        with self._quick.connect() as connection:
            return connection.scalar(query)

    def positions(self, model: str, book: str) -> pd.DataFrame:
        """What the fills of a book add up to: unit, quantity (signed), cash_flow (received minus paid, fees included)."""
        c = fills.c
        cash = func.sum(-c.quantity * c.price - c.fee)
        query = select(c.unit, func.sum(c.quantity), cash).where(c.model == model, c.book == book)
        with self._quick.connect() as connection:
            rows = connection.execute(query.group_by(c.unit).order_by(c.unit)).all()
        return pd.DataFrame([tuple(row) for row in rows], columns=["unit", "quantity", "cash_flow"])

    def _add(self, table: Table, rows: list[dict[str, Any]], *, durable: bool = False) -> int:
        if not rows:
            return 0
        engine = self._durable if durable else self._quick
        insert = (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(table)
        values = {name: bindparam(name, type_=_plain_type(table.c[name])) for name in rows[0]}
        with database.writing(engine) as connection:
            return connection.execute(insert.values(values).on_conflict_do_nothing(), rows).rowcount

    def _feature_set(self, names: tuple[str, ...]) -> int:
        if names not in self._feature_sets:
            text = orjson.dumps(names).decode()
            self._add(feature_sets, [{"names": text}], durable=True)
            with self._durable.connect() as connection:
                found = connection.scalar(select(feature_sets.c.id).where(feature_sets.c.names == text))
            self._feature_sets[names] = int(found)
        return self._feature_sets[names]

    def _names(self, connection: Connection, sets: set[int]) -> tuple[str, ...]:
        if len(sets) > 1:
            raise DataError(f"predictions must share one feature set, got {len(sets)}. Ask for one version.")
        if not sets:
            return ()
        text = connection.scalar(select(feature_sets.c.names).where(feature_sets.c.id == sets.pop()))
        return tuple(orjson.loads(str(text)))


def _span(table: Table, model: str, start: datetime, end: datetime, version: int | None) -> ColumnElement[bool]:
    mine = and_(table.c.model == model, table.c.event_time >= start, table.c.event_time < end)
    return mine if version is None else and_(mine, table.c.version == version)


def _plain_type(column: Any) -> Any:
    """Instants travel as the integers that they are stored as: a million of them need no Python object each."""
    return BigInteger() if isinstance(column.type, UtcTime) else column.type


def _plain(column: Any) -> ColumnElement[Any]:
    return type_coerce(column, _plain_type(column))


def _columns(connection: Connection, query: Select[Any], width: int) -> list[tuple[Any, ...]]:
    """The result by column, straight from the driver: no row objects in between."""
    rows = connection.execute(query).cursor.fetchall()  # type: ignore[union-attr]
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _frame(names: Sequence[str], columns: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame({name: _series(name, values) for name, values in zip(names, columns, strict=True)})


def _series(name: str, values: tuple[Any, ...]) -> Any:
    if name in ("event_time", "known_at", "matures_at"):
        return pd.DatetimeIndex(np.array(values, dtype="int64").view("M8[us]"), tz="UTC")
    kind = {"version": np.int64, "probability": np.float64, "label": np.float64, "value": np.float64}.get(name, object)
    return np.array(values, dtype=kind)


def _check(frame: pd.DataFrame, columns: Sequence[str], what: str, numbers: Sequence[str]) -> None:
    missing = [name for name in columns if name not in frame]
    if missing:
        raise DataError(f"{what} must have the columns {list(columns)}, got none of {missing}. Add them.")
    for name in columns:
        if name in ("event_time", "known_at", "matures_at") and not isinstance(frame[name].dtype, pd.DatetimeTZDtype):
            raise DataError(f"{name} of {what} must carry its time zone, got {frame[name].dtype}. Localise it to UTC.")
    bad = ~np.isfinite(frame[list(numbers)].to_numpy(dtype=np.float64))
    if bad.any():
        row, column = (int(i[0]) for i in np.nonzero(bad))
        raise DataError(f"{numbers[column]} of {what} must be finite, got NaN or infinity in row {row}. Leave it out.")


def _rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    table = {name: _storable(frame[name]) for name in columns}
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


def _storable(series: pd.Series) -> list[Any]:
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return ((series - EPOCH) // MICROSECOND).tolist()
    return series.tolist()
