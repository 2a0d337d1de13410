"""The part of a book that is in other currencies than the books: it is in no equity, for no rate to it is known.

A book counts every trade at its number, whatever currency that is in. It is the sum of its units, so what those in
another currency made of it, cash and worth, is a book of its own: one that took their events only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pandas as pd

from mlops.books.book import SCALE, Step
from mlops.books.rows import FILL, FUNDING, steps
from mlops.experiment import Book, Fill
from mlops.io.ledger import BookKey, Ledger

MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Foreign:
    """What trades in other currencies moved: `cash`, each at its own number, and when each unit was `traded` last."""

    cash: float = 0.0
    traded: Mapping[str, datetime] = field(default_factory=dict)


def foreign(ledger: Ledger, key: BookKey, fills: Iterable[Fill], units: Collection[str], as_of: datetime) -> Foreign:
    """The part of a book and of the `fills` that it has not taken yet which is in `units`."""
    if not units:
        return Foreign()
    events = ledger.books.unit_events(key, units, end=as_of + MOMENT)
    new = [fill for fill in fills if fill.unit in units]
    traded = {event.unit: event.happened_at for event in events if event.kind in (FILL, FUNDING)}
    traded |= {fill.unit: fill.at or as_of for fill in new}
    book = Book(0, 0, 0)
    for step in (*steps(events), Step(as_of, fills=tuple(new))):
        book = book.after(step)
    return Foreign(book.cash / SCALE, traded)


def uncovered(part: Foreign, book: Book, units: Mapping[str, str], told_at: datetime | None) -> dict[str, str]:
    """The units whose part in the book's equity nobody knows, and their currency.

    Those that are held, and those traded after the account's worth was told last (`told_at`), which had all before.
    """
    later = {unit for unit, at in part.traded.items() if told_at is None or at > told_at}
    return {unit: units[unit] for unit in sorted(later | (units.keys() & book.positions.keys()))}


def without(curve: pd.Series[float], ledger: Ledger, key: BookKey, units: Collection[str]) -> pd.Series[float]:
    """The equity of a book at its bars without what is in `units`."""
    if not units or not len(curve):
        return curve
    book, worth = Book(0, 0, 0), dict[datetime, float]()
    for step in steps(ledger.books.unit_events(key, units, end=pd.Timestamp(curve.index[-1]).to_pydatetime() + MOMENT)):
        book = book.after(step)
        worth[step.at] = book.equity / SCALE
    if not worth:
        return curve
    part = pd.Series(worth).reindex(pd.DatetimeIndex(curve.index).union(pd.DatetimeIndex(list(worth)))).ffill()
    return curve - part.reindex(curve.index).fillna(0.0)
