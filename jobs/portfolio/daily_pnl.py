"""Profit and loss since the last close, by position: what it is worth now, less what it was and what was paid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import numpy as np

from jobs.context import Context
from jobs.portfolio import book_inputs, restatement
from jobs.portfolio.valuation import Held, book_name
from mlops.books.book import SCALE, worth
from mlops.books.rows import FILL, FUNDING, restored
from mlops.experiment import Book
from mlops.io.ledger import BookKey
from mlops.risk.measures import Floats

MOMENT = timedelta(microseconds=1)
Paid = dict[str, float]  # unit -> what it was worth at the close, and what was paid and what trading cost since


class Today:
    """What went into each position since the last close; read anew when something moved its book.

    Any trade does: a book counts the value of all its trades.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._paid: dict[BookKey, tuple[Book, datetime, Paid]] = {}

    def gains(self, held: Held, since: Mapping[BookKey, datetime]) -> Floats:
        """Gain of each row of `held.frame`, in money."""
        paid = {
            (key.model, book_name(key)): self._of(key, book, since[key], held.as_of) for key, book in held.books.items()
        }
        rows = zip(held.frame["strategy"], held.frame["book"], held.frame["unit"], strict=True)
        each = np.array([paid[strategy, book].get(unit, 0.0) for strategy, book, unit in rows], dtype=np.float64)
        gains: Floats = np.asarray(held.value, dtype=np.float64) - each
        return gains

    def _of(self, key: BookKey, book: Book, since: datetime, as_of: datetime) -> Paid:
        known = self._paid.get(key)
        if known is None or known[0] != book or known[1] != since:
            known = self._paid[key] = (book, since, self._read(key, since, as_of))
        return known[2]

    def _read(self, key: BookKey, since: datetime, as_of: datetime) -> Paid:
        row = self._context.ledger.books.state(key, before=since + MOMENT)
        amounts: dict[str, float] = defaultdict(float)
        if row is not None:
            for unit, position in restored(row).positions.items():
                amounts[unit] += position.value / SCALE
        start = since + MOMENT if row is None else row["event_time"] + MOMENT
        for unit, paid in self._traded(key, start, as_of):
            amounts[unit] += paid
        return amounts

    def _traded(self, key: BookKey, start: datetime, as_of: datetime) -> Iterator[tuple[str, float]]:
        """What each trade took and cost from `start` on, and funding: in bars that were booked, and since."""
        ledger = self._context.ledger
        for event in ledger.books.events(key, start=start, end=as_of + MOMENT):
            if event.kind in (FILL, FUNDING):
                moved = worth(event.quantity, event.price, event.multiplier) if event.kind == FILL else 0
                yield event.unit, (moved + event.fee + event.slippage + event.funding) / SCALE
        if not key.version:
            rows = ledger.books.unbooked_fills(key.model, key.book, as_of=as_of)
            for fill, _ in book_inputs.filled(rows, restatement.units(self._context))[0]:
                yield fill.unit, (fill.value + fill.fee + fill.slippage) / SCALE
