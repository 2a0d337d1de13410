"""Which fills a book can take and which quotes can be prices: asked at every door, so that no other is accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import Connection, select

from mlops.io.ledger.instruments import MOST_MULTIPLIER
from mlops.io.storage.insert import Rows
from mlops.io.storage.newest import newest
from mlops.io.storage.risk_schema import instruments
from mlops.io.storage.schema import fills, quotes
from mlops.io.storage.utc_time import EPOCH, MICROSECOND
from mlops.io.storage.windows import microseconds
from mlops.types import LARGEST, OPTIONS, Kind

CLOCKS = timedelta(days=1)  # how far a bot's clock may go ahead of ours
ASKED = 500  # units in one question
UNTOLD = (Kind.SPOT.value, 1.0)  # kind and multiplier of a unit that nothing is known of


def unbookable(
    connection: Connection, rows: Rows, now: datetime | None = None, most: tuple[int, int] | None = None
) -> dict[int, str]:
    """Find the checked fills and quotes that no book can take: by place in `rows`, and why.

    A price below 0 is one of a future, one of 0 of a future or an option: whatever else trades is worth something.
    Whether a bid of 0 beside a positive ask is a price is said where it is used. The value counts the multiplier. Where
    `now` is given, a fill of a day after it is refused: no book would take it before that day. `most`: books of a
    model, and of all models; a fill that would open one more is refused.
    """
    if rows.table is quotes:
        return _unpriced(connection, rows, below_zero(rows))
    return too_many(connection, rows, most) | not_yet(rows, now) | _worthless_or_huge(connection, rows)


def last_fills(connection: Connection, model: str | None = None) -> dict[tuple[str, str], int]:
    """Number of the newest fill of each model (or of one) and book, in order: one question."""
    rows = newest(connection, fills, ("model", "book"), "id", model=model)
    return {(row.model, row.book): row.id for row in rows}


def too_many(connection: Connection, rows: Rows, most: tuple[int, int] | None) -> dict[int, str]:
    """Fills that would open a book past `most` (of a model, of all models), by their place, and why."""
    if most is None:
        return {}
    pairs = list(zip(rows.columns["model"], rows.columns["book"], strict=True))
    new = [pair for pair in dict.fromkeys(pairs) if not _traded(connection, *pair)]
    if not new:
        return {}
    books = Counter(model for model, _ in last_fills(connection))
    total, refused = books.total(), dict[tuple[str, str], str]()
    for model, book in new:
        of_model, of_all = (most[0], books[model], model), (most[1], total, "all models")
        limit, n, which = min(of_model, of_all, key=_room)
        if n >= limit:
            rule = f"books of {which} must be at most {limit}, got one more: {book[:60]!r}"
            refused[model, book] = (
                f"{rule}. Use one that is there, or raise `service.max_books` and `service.max_books_all`."
            )
        else:
            books[model], total = books[model] + 1, total + 1
    return {i: refused[pair] for i, pair in enumerate(pairs) if pair in refused}


def _room(about: tuple[int, int, str]) -> int:
    return about[0] - about[1]


def _traded(connection: Connection, model: str, book: str) -> bool:
    query = select(fills.c.id).where(fills.c.model == model, fills.c.book == book).limit(1)
    return connection.scalar(query) is not None


def not_yet(rows: Rows, now: datetime | None) -> dict[int, str]:
    """Rows of more than a day after `now`, by their place, and why."""
    if now is None:
        return {}
    last = microseconds(now + CLOCKS)
    row = rows.table.name.removesuffix("s")
    why = f"event_time of a {row} must lie before {now + CLOCKS:%Y-%m-%d %H:%M} UTC, got {{}}. Correct the clock."
    times = enumerate(rows.columns["event_time"])
    return {i: why.format((EPOCH + at * MICROSECOND).isoformat()) for i, at in times if at > last}


def below_zero(rows: Rows) -> list[int]:
    """The places of quotes that are prices of a future alone."""
    pairs = zip(rows.columns["bid"], rows.columns["ask"], strict=True)
    return [i for i, (bid, ask) in enumerate(pairs) if bid < 0 or ask <= 0]


def _unpriced(connection: Connection, rows: Rows, doubtful: Sequence[int]) -> dict[int, str]:
    """Quotes at or below zero of what cannot be worth that, by their place, and why."""
    units, bids, asks = (rows.columns[name] for name in ("unit", "bid", "ask"))
    known, reasons = dict(_known(connection, sorted({units[i] for i in doubtful}))), dict[int, str]()
    for i in doubtful:
        kind, _ = known.get(units[i], UNTOLD)
        if kind != Kind.FUTURE:
            name, rule, got = ("bid", "0 or more", bids[i]) if bids[i] < 0 else ("ask", "positive", asks[i])
            reasons[i] = _wrong_sign(name, units[i], f"{rule} (less only of a future)", got, "quote")
    return reasons


def _wrong_sign(name: str, unit: str, rule: str, got: float, row: str) -> str:
    remedy = f"If it is one, load it with `trader-mlops instrument load`, then send the {row} again"
    return f"{name} of {unit} must be {rule}, got {got}. {remedy}."


def _worthless_or_huge(connection: Connection, rows: Rows) -> dict[int, str]:
    columns = rows.columns
    price = np.asarray(columns["price"], dtype=np.float64)
    value = np.abs(np.asarray(columns["quantity"], dtype=np.float64)) * price
    doubtful = np.flatnonzero(~((value > 0) & (value < LARGEST / MOST_MULTIPLIER))).tolist()
    known = dict(_known(connection, sorted({columns["unit"][i] for i in doubtful})))
    reasons = {}
    for i in doubtful:
        unit, quantity, price = (columns[name][i] for name in ("unit", "quantity", "price"))
        kind, multiplier = known.get(unit, UNTOLD)
        if price <= 0 and kind != Kind.FUTURE and (price < 0 or kind not in OPTIONS):
            rule = "positive (0 only of an option or a future, less only of a future)"
            reasons[i] = _wrong_sign("price", unit, rule, price, "fill")
        elif not abs(quantity * price) * multiplier < LARGEST:
            value = quantity * price * multiplier
            reasons[i] = f"value of a fill of {unit} must be under {LARGEST:g}, got {value:g}. Correct it."
    return reasons


def _known(connection: Connection, units: Sequence[str]) -> Iterator[tuple[str, tuple[str, float]]]:
    c = instruments.c
    for i in range(0, len(units), ASKED):
        query = select(c.unit, c.kind, c.multiplier).where(c.unit.in_(units[i : i + ASKED]))
        yield from ((row.unit, (row.kind, row.multiplier)) for row in connection.execute(query))
