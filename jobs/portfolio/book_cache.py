"""Books as they were read, each anew only where something that moves it is new: most looks change none.

What a book is at an instant hangs on its bars until then, its fills, and what is known of units, splits and voids.
Where all books stand is told by one question each (`News`); what is equal was not moved. News is read before the rows:
what comes meanwhile is seen at the next look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

import pandas as pd

from jobs.books import VIRTUAL
from jobs.context import Context
from jobs.portfolio import book_inputs, restatement, twins, unbooked_fills
from jobs.portfolio.confirmed_prices import Prices
from jobs.portfolio.foreign_currency import Foreign, foreign
from mlops.books.book import Step
from mlops.books.rows import restored
from mlops.books.virtual import with_splits
from mlops.experiment import Book, Fill
from mlops.io.ledger import BookKey, Ledger
from mlops.io.ledger import Mark as Tip
from mlops.risk.prices import FILL, Mark, Observation

MOMENT, LAST = timedelta(microseconds=1), datetime.max.replace(tzinfo=UTC)
Of = TypeVar("Of")


@dataclass(frozen=True, slots=True)
class News:
    """Where everything stands that moves books.

    `splits`: numbers of the newest split and void. `tips`: of books, by their bars until an instant. `fills` and
    `balances`: the newest of each (model, book).
    """

    splits: tuple[int, int]
    tips: Mapping[BookKey, Tip] = field(default_factory=dict)
    fills: Mapping[tuple[str, str], int] = field(default_factory=dict)
    balances: Mapping[tuple[str, str], datetime] = field(default_factory=dict)

    @classmethod
    def read(cls, ledger: Ledger, splits: tuple[int, int], as_of: datetime) -> News:
        """Read the state of now, of bars and balances until `as_of`."""
        return cls(
            splits, ledger.books.all_marks(as_of=as_of), ledger.books.last_fills(), ledger.balances.last(as_of=as_of)
        )

    def books(self, model: str) -> list[str]:
        """The books that bots traded for a model; a twin is none."""
        return [book for name, book in self.fills if name == model and not book.startswith(twins.TWIN)]


@dataclass(frozen=True, slots=True)
class BookReading:
    """A book after its last bar and all `fills` since, and what it saw of the price of each of its units.

    `foreign`: the part of it that is in other currencies than the books. `due`: when the next of its fills happens that
    was told ahead of the clock.
    """

    key: BookKey
    book: Book
    prices: Mapping[str, Prices]
    refused: tuple[book_inputs.Refused, ...] = ()
    fills: tuple[tuple[str, Fill], ...] = ()
    foreign: Foreign = field(default_factory=Foreign)
    due: datetime | None = None


@dataclass
class Memo(Generic[Of]):
    """What was computed of each book, with the stamp of all that it hangs on."""

    of: dict[BookKey, tuple[object, Of]] = field(default_factory=dict)

    def get(self, key: BookKey, stamp: object, compute: Callable[[], Of]) -> Of:
        """The same as before where the stamp is equal."""
        known = self.of.get(key)
        if known is None or known[0] != stamp:
            known = self.of[key] = stamp, compute()
        return known[1]


class Readings:
    """The books that are held, from look to look.

    All are read anew, and `generation` counts on, where units, splits or voids are not what they were, where an instant
    is `due` at which something counts that was told ahead, and where the clock goes back.
    """

    def __init__(self, context: Context) -> None:
        self._context, self._as_of = context, datetime.min.replace(tzinfo=UTC)
        self._common: object = None
        self._kept = Memo[tuple[BookReading, ...]]()
        self.due, self.generation = LAST, 0

    def all(
        self, news: News, units: book_inputs.Units, as_of: datetime, unread: MutableMapping[BookKey, str]
    ) -> list[BookReading]:
        """Every book once its new fills are in it; those that cannot be read are added to `unread`, with the reason."""
        context, books, common = self._context, list[BookReading](), (news.splits, units)
        if as_of < self._as_of or as_of >= self.due or common != self._common:
            self._kept, self.generation = Memo(), self.generation + 1
        self._as_of, self._common = as_of, common
        for model in sorted({*context.ledger.registry.models(), *(model for model, _ in news.fills)}):
            for key in (key for key in _keys(context, model, news) if key not in unread):
                stamp, read = (news.tips.get(key), news.fills.get(key[:2])), partial(_read, context, key, as_of, units)
                with unbooked_fills.apart(key, unread):
                    books += self._kept.get(key, stamp, read)
        instants = [at for s in units.splits for at in (s.at, units.told_at.get(s.number)) if at is not None]
        ahead = [*instants, *(book.due for book in books if book.due is not None)]
        self.due = min((at for at in ahead if at > as_of), default=LAST)
        return books


def _keys(context: Context, model: str, news: News) -> Iterator[BookKey]:
    """The books that bots trade for a model; the champion's virtual one where no bot tells of any."""
    names = news.books(model)
    yield from (BookKey(model, name) for name in names)
    champion = None if names else context.ledger.registry.champion(model)
    if champion is not None:
        yield BookKey(model, VIRTUAL, champion)


def restated(context: Context, units: book_inputs.Units, unread: MutableMapping[BookKey, str]) -> None:
    """Make books anew that still count what a person took back."""
    for key in context.ledger.voids.books_with_voids():
        with unbooked_fills.apart(key, unread):
            restatement.restate(context, key, units)


def _read(context: Context, key: BookKey, as_of: datetime, units: book_inputs.Units) -> tuple[BookReading, ...]:
    """A book once its new fills are in it; none where a virtual one has no bar yet."""
    if key.book != VIRTUAL or not key.version:
        return (own(context, key, as_of, units),)
    row = context.ledger.books.state(key, before=_just_after(as_of))
    if row is None:
        return ()
    book, part = restored(row), foreign(context.ledger, key, (), units.foreign, as_of)
    due = with_splits(book, [], units.known(row["event_time"], as_of))
    after = book.after(Step(as_of, fills=due)) if due else book
    return (BookReading(key, after, _barred(context, key, book, row["event_time"]), foreign=part),)


def own(context: Context, key: BookKey, as_of: datetime, units: book_inputs.Units) -> BookReading:
    """A bot's own book."""
    row = context.ledger.books.state(key, before=_just_after(as_of))
    if row is not None and restatement.outdated(restored(row), units) and restatement.restate(context, key, units):
        row = context.ledger.books.state(key, before=_just_after(as_of))
    book = Book.opened(context.settings.books.cash) if row is None else restored(row)
    prices = {} if row is None else _barred(context, key, book, row["event_time"])
    until = None if row is None else row["event_time"]
    unbooked = context.ledger.books.unbooked_fills(key.model, key.book, as_of=LAST, until=until)
    since, ahead = unbooked[unbooked["event_time"] <= as_of], unbooked["event_time"][unbooked["event_time"] > as_of]
    filled, refused = book_inputs.filled(since, units, until)
    fills = [fill for fill, _ in filled]
    paid = defaultdict[str, list[Observation]](list)
    for fill in fills:
        if fill.at is not None:
            paid[fill.unit].append(Observation(fill.at, fill.price, fill.price, FILL))
    prices |= {unit: prices.get(unit, Prices()).merged(Prices(fills=tuple(each))) for unit, each in paid.items()}
    due = with_splits(book, fills, units.known(until, as_of))
    after = book.after(Step(as_of, fills=tuple(due))) if due else book
    names = dict(zip(since["id"].tolist(), since["fill_id"].tolist(), strict=True))
    named = tuple((names[fill.number], fill) for fill in fills)
    part = foreign(context.ledger, key, fills, units.foreign, as_of)
    following = None if ahead.empty else pd.Timestamp(ahead.min()).to_pydatetime()
    return BookReading(key, after, prices, tuple(refused), named, part, following)


def _barred(context: Context, key: BookKey, book: Book, at: datetime) -> dict[str, Prices]:
    """What the bar at `at` said of each unit; a unit that it did not price is at what it was worth before.

    In a bot's own book a unit that was only filled may have the fill's price for a bar's.
    """
    events = context.ledger.books.events(key, start=at, end=_just_after(at))
    priced = {event.unit for event in events if event.kind == "mark" or (event.kind == "fill" and key.version)}
    marks = {unit: Mark(position.mark, at) for unit, position in book.positions.items()}
    return {unit: Prices(bar=mark) if unit in priced else Prices(carried=mark) for unit, mark in marks.items()}


def _just_after(as_of: datetime) -> datetime:
    return as_of + MOMENT
