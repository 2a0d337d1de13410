"""Predictions, outcomes, fills and quotes: written in batches, idempotent by key, read into arrays.

A row that is said again, late or out of order changes nothing; a row that contradicts a stored one never overwrites it.
What a reader gets was known at its `as_of`, and is what was written: a row that a disk changed is a `CorruptionError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from mlops.errors import DataError
from mlops.io.ledger.bookable import below_zero, unbookable
from mlops.io.ledger.registry import added
from mlops.io.storage.book_schema import voids
from mlops.io.storage.checksum import checksums
from mlops.io.storage.database import Database, Tables
from mlops.io.storage.insert import (
    Rows,
    feature_sums,
    fill_rows,
    names_text,
    outcome_rows,
    prediction_rows,
    put,
)
from mlops.io.storage.row_counts import must_be, newest_is
from mlops.io.storage.schema import feature_sets, fills, outcomes, predictions, quotes
from mlops.io.storage.validation import to_frame
from mlops.io.storage.windows import (
    FIRST_US,
    UNSUMMED,
    Arrays,
    Span,
    arrays,
    feature_names,
    held,
    kind,
    known,
    matches,
    matrix,
    microseconds,
    unique,
    verify,
    window,
)
from mlops.types import FILL_COLUMNS, OUTCOME_COLUMNS, PREDICTION_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

BATCH = 20_000  # rows a commit: large enough to be fast, small enough that other writers need not wait long
MATURED_COLUMNS = ("version", "unit", "event_time", "role", "probability", "label", "value", "known_at")
PREDICTED = tuple(name for name in PREDICTION_COLUMNS if name != "model")
PREDICTION_KEY = ("event_time", "version", "unit")
OUTCOME_KEY = ("event_time", "unit")
LAST = datetime.max.replace(tzinfo=UTC)


class Telemetry(Tables):
    """Predictions with their features, outcomes, fills."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.most_books: tuple[int, int] | None = None  # of a model, of all: a fill that would open one more is refused
        self._sets: dict[str, int] = {}  # feature names that are stored, and their id

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
        return self.store(prediction_rows(frame, features, names, correlation_id))

    def add_outcomes(self, frame: pd.DataFrame) -> int:
        """Keep what came true, in a frame with OUTCOME_COLUMNS; the number of rows that were new.

        Key: model, unit, event_time (of the prediction). `known_at` is when the label could be known.
        """
        return self.store(outcome_rows(frame))

    def add_fills(self, frame: pd.DataFrame) -> int:
        """Keep trades, in a frame with FILL_COLUMNS; the number of rows that were new. `quantity` > 0 was bought.

        Raises
        ------
        DataError
            A row breaks its contract, lies a day ahead or more, or no book can take it. Nothing was stored then.
        """
        return self.store(fill_rows(frame))

    def store(self, rows: Rows) -> int:
        """Keep checked rows, a commit for every BATCH of them; the number that were new."""
        return sum(self.store_together([batch])[0] for batch in rows.batches(BATCH))

    def unbookable(
        self, rows: Rows, now: datetime | None = None, most: tuple[int, int] | None = None
    ) -> dict[int, str]:
        """Find the checked rows that cannot be counted: by place, and why (`mlops.io.ledger.bookable`).

        Only fills and quotes may be such.
        """
        if rows.table is not fills and not (rows.table is quotes and below_zero(rows)):
            return {}
        with self._reading() as connection:
            return unbookable(connection, rows, now, most)

    def store_together(self, many: Sequence[Rows]) -> list[int]:
        """Keep several lots in one commit (on disk if one of them is durable); the new rows of each.

        Raises
        ------
        DataError
            A fill or a quote is one that no book can take. Nothing was stored then.
        """
        now, most = datetime.now(UTC), self.most_books
        for why in (why for rows in many for why in self.unbookable(rows, now, most).values()):
            raise DataError(why)
        ready = [self._identified(rows) for rows in many]
        with self._writing(durable=any(rows.durable for rows in many)) as connection:
            return put(connection, ready)

    def positions(self, model: str, book: str) -> pd.DataFrame:
        """What the fills of a book add up to: columns unit, quantity, cash_flow (received less paid less fees).

        Without those that a person voided, and before multipliers.
        """
        import pandas as pd

        c = fills.c
        read = [*FILL_COLUMNS, "checksum"]
        query = select(*(c[name] for name in read)).where(c.model == model, c.book == book).order_by(c.id)
        with self._reading() as connection:
            columns = dict(zip(read, arrays(connection, query, [kind(name) for name in read]), strict=True))
            stored = columns.pop("checksum")
            verify("fills", columns, stored, ["fill_id"])
            unique("fills", columns["fill_id"])
            must_be(connection, "fills", {"model": model, "book": book}, int((stored != UNSUMMED).sum()))
            void = list(connection.scalars(select(voids.c.fill_id)))
        counts = ~np.isin(columns["fill_id"].astype(str), void) if void else slice(None)
        frame = pd.DataFrame({name: columns[name][counts] for name in ("unit", "quantity", "price", "fee")})
        frame["cash_flow"] = -frame["quantity"] * frame["price"] - frame["fee"]
        return frame.groupby("unit", sort=True)[["quantity", "cash_flow"]].sum().reset_index()

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
        CorruptionError
            What was read is not what was written.
        """
        span = _span(predictions, model, start, end, as_of, version)
        with self._reading() as connection:
            read = [*PREDICTED, "feature_set_id", "features"]
            columns = window(connection, span, read, PREDICTION_KEY, by="features_checksum")
            sets = _sets(connection, np.unique(columns["feature_set_id"]).tolist(), model)
        n, names = len(columns["event_time"]), next(iter(sets.values()))[0]
        features, own = _aligned(matrix(columns["features"], n, len(names)), columns["feature_set_id"], sets, names)
        sums = checksums("predictions", _summed(columns, model), n) + own
        held("predictions", columns, sums, columns["features_checksum"], PREDICTION_KEY)
        heard = columns["known_at"] <= microseconds(as_of)
        frame = to_frame(PREDICTED, [columns[name] for name in PREDICTED])
        frame.insert(0, "model", np.full(len(frame), model, dtype=object))
        if heard.all():
            return frame, features, names
        return frame[heard].reset_index(drop=True), features[heard], names if heard.any() else ()

    def matured(
        self, model: str, *, start: datetime, end: datetime, as_of: datetime, version: int | None = None
    ) -> pd.DataFrame:
        """Predictions joined with their outcomes, both known at `as_of`; `known_at` is the outcome's.

        Returns
        -------
        DataFrame with MATURED_COLUMNS, sorted by event_time, version, unit

        Raises
        ------
        CorruptionError
            What was read is not what was written.
        """
        made, came, pair = self._pairs(model, start, end, as_of, version)
        both = pair >= 0
        columns = {name: made[name][both] for name in ("version", "unit", "event_time", "role", "probability")}
        columns |= {name: came[name][pair[both]] for name in ("label", "value", "known_at")}
        return to_frame(MATURED_COLUMNS, [columns[name] for name in MATURED_COLUMNS])

    def pending(self, model: str, *, as_of: datetime, version: int | None = None) -> int:
        """How many predictions known at `as_of` had no outcome known at `as_of`."""
        return int((self._pairs(model, None, LAST, as_of, version)[2] < 0).sum())

    def awaited(self, model: str, *, as_of: datetime, version: int, start: datetime | None = None) -> pd.DataFrame:
        """Predictions of a version from `start` on that were known at `as_of`, and whether their outcome was.

        Columns: event_time, unit, matures_at, labelled (bool).
        """
        made, _, pair = self._pairs(model, start, LAST, as_of, version)
        names = ("event_time", "unit", "matures_at")
        return to_frame(names, [made[name] for name in names]).assign(labelled=pair >= 0)

    def latest_event_time(self, model: str) -> datetime | None:
        """The last time at which anything was predicted."""
        newest = select(func.max(predictions.c.event_time)).where(predictions.c.model == model)
        with self._reading() as connection:
            at: datetime | None = connection.scalar(newest)
            newest_is(connection, "predictions", {"model": model}, at)
        return at

    def _pairs(
        self, model: str, start: datetime | None, end: datetime, as_of: datetime, version: int | None
    ) -> tuple[Arrays, Arrays, NDArray[np.int64]]:
        """Predictions, outcomes, and the row of the outcome of each prediction, -1 where none was known yet."""
        span = _span(predictions, model, start, end, as_of, version)
        ends = _span(outcomes, model, start, end, as_of)
        with self._reading() as connection:
            made = window(connection, span, PREDICTED, PREDICTION_KEY)
            came = window(connection, ends, [name for name in OUTCOME_COLUMNS if name != "model"], OUTCOME_KEY)
        verify("predictions", _summed(made, model), made["checksum"], PREDICTION_KEY)
        verify("outcomes", _summed(came, model), came["checksum"], OUTCOME_KEY)
        made, came = known(made, as_of), known(came, as_of)
        return made, came, matches(made, came)

    def _identified(self, rows: Rows) -> Rows:
        """Predictions with the id of their feature set."""
        if rows.table is not predictions or not len(rows):
            return rows
        columns = rows.columns | {"feature_set_id": [self._feature_set(rows.names)] * len(rows)}
        return Rows(rows.table, columns, rows.durable, rows.names)

    def _feature_set(self, names: tuple[str, ...]) -> int:
        text = names_text(names)
        if text in self._sets:
            return self._sets[text]
        key = hashlib.sha256(text.encode()).hexdigest()
        query = select(feature_sets.c.id).where(feature_sets.c.digest == key)
        with self._reading() as connection:
            known = connection.scalar(query)
        if known is None:
            with self._writing() as connection:
                added(connection, feature_sets, {"names": text, "digest": key})
                known = connection.execute(query).scalar_one()
        self._sets[text] = int(known)
        return self._sets[text]


def _span(
    table: Any, model: str, start: datetime | None, end: datetime, as_of: datetime, version: int | None = None
) -> Span:
    """Nothing is known before it happens: what happened after `as_of` need not be read."""
    scope: dict[str, Any] = {"model": model} | ({} if version is None else {"version": version})
    first = FIRST_US if start is None else microseconds(start)
    return Span(table, scope, first, max(first, min(microseconds(end), microseconds(as_of) + 1)))


def _summed(columns: Arrays, model: str) -> Arrays:
    """The columns that a checksum is of."""
    skip = ("checksum", "features_checksum", "features", "feature_set_id")
    return {name: values for name, values in columns.items() if name not in skip} | {"model": model}


Sets = dict[int, tuple[tuple[str, ...], str]]  # id -> names, and the text that they are stored as


def _sets(connection: Connection, numbers: list[int], model: str) -> Sets:
    """The feature sets of a window; they must be one set of names, in whatever order."""
    sets = {number: feature_names(connection, number) for number in numbers} or {0: ((), names_text(()))}
    if len({frozenset(names) for names, _ in sets.values()}) > 1:
        raise DataError(f"predictions of {model} must share one feature set, got {len(sets)}. Name one version.")
    return sets


def _aligned(
    features: NDArray[np.float32], numbers: NDArray[np.int64], sets: Sets, names: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Features with their columns as `names`, and what they add to each row's checksum as they were stored."""
    if len(sets) == 1:
        return features, feature_sums(features, next(iter(sets.values()))[1])
    ordered, own = np.empty_like(features), np.empty(len(features), dtype=np.uint64)
    for number, (these, text) in sets.items():
        rows = numbers == number
        own[rows] = feature_sums(features[rows], text)
        ordered[rows] = features[rows][:, [these.index(name) for name in names]]
    return ordered, own
