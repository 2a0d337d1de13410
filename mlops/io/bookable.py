"""Which fills a book can take: asked at every door, so that nothing is accepted that could not be booked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from mlops.io.instants import EPOCH, MICROSECOND
from mlops.io.instruments import MOST_MULTIPLIER
from mlops.io.reading import microseconds
from mlops.io.risk_tables import instruments
from mlops.io.store import Rows
from mlops.types import LARGEST, OPTIONS, Kind

CLOCKS = timedelta(days=1)  # how far a bot's clock may go ahead of ours
ASKED = 500  # units in one question


def unbookable(connection: Connection, rows: Rows, now: datetime | None = None) -> dict[int, str]:
    """Of checked fills, those that no book can take, by their place, and why.

    A price of 0 is one of an option: whatever else trades is worth something. The value counts the multiplier. Where
    `now` is given, a fill of a day after it is refused: no book would take it before that day.
    """
    return _not_yet(rows, now) | _worthless_or_huge(connection, rows)


def _not_yet(rows: Rows, now: datetime | None) -> dict[int, str]:
    if now is None:
        return {}
    last = microseconds(now + CLOCKS)
    why = f"event_time of a fill must lie before {now + CLOCKS:%Y-%m-%d %H:%M} UTC, got {{}}. Correct the clock."
    times = enumerate(rows.columns["event_time"])
    return {i: why.format((EPOCH + at * MICROSECOND).isoformat()) for i, at in times if at > last}


def _worthless_or_huge(connection: Connection, rows: Rows) -> dict[int, str]:
    columns = rows.columns
    each = list(zip(columns["unit"], columns["quantity"], columns["price"], strict=True))
    doubtful = {i for i, (_, size, price) in enumerate(each) if not 0 < abs(size * price) < LARGEST / MOST_MULTIPLIER}
    known = dict(_known(connection, sorted({each[i][0] for i in doubtful})))
    found = {}
    for i in sorted(doubtful):
        unit, quantity, price = each[i]
        kind, multiplier = known.get(unit, (Kind.SPOT.value, 1.0))
        if price == 0 and kind not in OPTIONS:
            remedy = "If it is an option, load it with `trader-mlops instrument load`, then send the fill again"
            found[i] = f"price of {unit} must be positive (0 only of an option), got 0.0. {remedy}."
        elif not abs(quantity * price) * multiplier < LARGEST:
            value = quantity * price * multiplier
            found[i] = f"value of a fill of {unit} must be under {LARGEST:g}, got {value:g}. Correct it."
    return found


def _known(connection: Connection, units: Sequence[str]) -> Iterator[tuple[str, tuple[str, float]]]:
    c = instruments.c
    for i in range(0, len(units), ASKED):
        query = select(c.unit, c.kind, c.multiplier).where(c.unit.in_(units[i : i + ASKED]))
        yield from ((row.unit, (row.kind, row.multiplier)) for row in connection.execute(query))
