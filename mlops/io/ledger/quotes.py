"""Quotes: best bid and ask of a unit, as they came; idempotent by (unit, event_time)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import BigInteger, Column, ColumnElement, func, select, tuple_, type_coerce

from mlops.io.ledger.telemetry import Telemetry
from mlops.io.storage.database import Database, Tables
from mlops.io.storage.insert import QUOTE_COLUMNS, Rows, quote_rows
from mlops.io.storage.schema import quotes
from mlops.io.storage.utc_time import UtcTime
from mlops.io.storage.validation import to_frame
from mlops.io.storage.windows import Span, known, microseconds, verify, window

if TYPE_CHECKING:
    import pandas as pd

ASKED = 500  # keys in one question
BEFORE = 3  # quotes of a slow feed that are read together


class Quotes(Tables):
    """Quotes, and which rows contradict what is stored."""

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        super().__init__(database)
        self._telemetry = telemetry

    def add(self, frame: pd.DataFrame) -> int:
        """Keep quotes, in a frame with QUOTE_COLUMNS; the number of rows that were new. A size of 0 was not told."""
        return self._telemetry.store(quote_rows(frame))

    def between(self, unit: str, *, start: datetime, end: datetime, as_of: datetime) -> pd.DataFrame:
        """Quotes of a unit with `start <= event_time < end` that were known at `as_of`, by time; QUOTE_COLUMNS."""
        span = Span(quotes, {"unit": unit}, microseconds(start), microseconds(end))
        read = [name for name in QUOTE_COLUMNS if name != "unit"]
        with self._reading() as connection:
            columns = window(connection, span, read, ["event_time"])
        stored = columns.pop("checksum")
        verify("quotes", {**columns, "unit": unit}, stored, ["unit", "event_time"])
        rows = known(columns, as_of)
        frame = to_frame(read, [rows[name] for name in read])
        frame.insert(0, "unit", np.full(len(frame), unit, dtype=object))
        return frame

    def last(
        self, unit: str, *, after: datetime, until: datetime, span: timedelta, as_of: datetime
    ) -> list[tuple[datetime, float, float]]:
        """Quotes in the last `span` until an instant and the BEFORE before it: (event_time, bid, ask), by time.

        Only those after `after` that were known at `as_of`. For a look: they are not held against checksums.
        """
        at, c = type_coerce(quotes.c.event_time, BigInteger), quotes.c
        known = type_coerce(c.known_at, BigInteger) <= microseconds(as_of)
        rules, end = (c.unit == unit, at > microseconds(after), known), microseconds(until)
        begun = select(at).where(*rules, at <= microseconds(until - span)).order_by(at.desc()).limit(BEFORE)
        with self._reading() as connection:
            start = min(connection.scalars(begun), default=microseconds(after))
            query = select(c.event_time, c.bid, c.ask).where(*rules, at >= start, at <= end).order_by(at)
            return [(row.event_time, row.bid, row.ask) for row in connection.execute(query)]

    def latest_times(self) -> dict[str, datetime]:
        """When each unit was last quoted."""
        query = select(quotes.c.unit, func.max(quotes.c.event_time)).group_by(quotes.c.unit)
        with self._reading() as connection:
            return {row.unit: row[1] for row in connection.execute(query)}

    def contradictions(self, rows: Rows) -> list[int]:
        """Which of `rows` (positions) differ from the stored row of the same key, told by their checksums."""
        table, columns = rows.table, rows.columns
        key = ["fill_id"] if table.name == "fills" else [column.name for column in table.primary_key]
        sums = [name for name in ("checksum", "features_checksum") if name in columns]
        where = [_raw(table.c[name]) for name in key]
        query = select(*where, *(table.c[name] for name in sums))
        keys = list(zip(*(columns[name] for name in key), strict=True))
        there: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        with self._reading() as connection:
            for i in range(0, len(keys), ASKED):
                for row in connection.execute(query.where(tuple_(*where).in_(keys[i : i + ASKED]))):
                    there[tuple(row[: len(key)])] = tuple(row[len(key) :])
        given = zip(*(columns[name] for name in sums), strict=True)
        both = ((there.get(key_, ()), sums_) for key_, sums_ in zip(keys, given, strict=True))
        return [i for i, (a, b) in enumerate(both) if any(x is not None and x != y for x, y in zip(a, b, strict=False))]


def _raw(column: Column[Any]) -> ColumnElement[Any]:
    """A column compared with what is stored: instants are in microseconds here."""
    return type_coerce(column, BigInteger) if isinstance(column.type, UtcTime) else column
