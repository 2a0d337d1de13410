"""Positions of every book that a bot trades, at the newest prices that were known.

A model whose bot tells of no fills is looked at through the virtual book of its champion; its name says so. A unit is
worth its last confirmed price (`jobs.portfolio.confirmed_prices`); how old that is, and what jumped away from it, stand
beside it. What is in another currency than the books is not known: it has no value, and equity is without all that it
moved.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import cast

import numpy as np
import pandas as pd

from jobs.accounts.anchors import Anchors, Valued, Worth
from jobs.accounts.doubtful_fills import Doubts
from jobs.accounts.equity import Account, account
from jobs.context import Context
from jobs.live.fields import row_key
from jobs.portfolio import book_inputs, restatement, twins, unbooked_fills
from jobs.portfolio.book_cache import BookReading, Memo, News, Readings, own, restated
from jobs.portfolio.confirmed_prices import Marks, Prices
from jobs.portfolio.expired_options import expired, traded_at
from jobs.portfolio.foreign_currency import uncovered
from jobs.portfolio.valuation import Held, book_name
from mlops.books.book import SCALE, Step
from mlops.books.virtual import with_splits
from mlops.experiment import Book, Fill
from mlops.io.ledger import BookKey
from mlops.risk.prices import Mark
from mlops.types import INSTRUMENT_COLUMNS, POSITION_COLUMNS, Kind

DEFAULTS = {"kind": Kind.SPOT.value, "sector": "", "underlying": "", "american": False}
NO_PRICE = Mark(math.nan, cast(datetime, pd.NaT))  # of a position none of whose fills could be booked


def positions(context: Context, as_of: datetime) -> Held:
    """All positions known at `as_of`, at the prices known then."""
    return Holdings(context).at(as_of)


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Positions without prices, as they were read: what does not change until somebody trades.

    `kinds`: what each unit is whose price is wanted. `prices`: what books saw of them. `flat`: the instruments among
    them that no book holds any more. `foreign`: units in another currency.
    """

    books: tuple[BookReading, ...]
    frame: pd.DataFrame
    flat: pd.DataFrame
    kinds: Mapping[str, str]
    prices: Mapping[str, Prices]
    unknown: Mapping[str, str]
    unread: tuple[BookKey, ...]
    read_at: datetime
    accounts: Mapping[BookKey, Account | None] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
    news: News | None = None


class Holdings:
    """Positions from instant to instant: only prices are read anew while nobody trades.

    A book is read again when one of its rows is new, or a person told of a split, a void or an instrument. Instruments,
    champions, and balances that were told late are looked for when a row of any book is new, and every `fresh` of the
    clock that is passed in.
    """

    def __init__(self, context: Context, fresh: timedelta = timedelta(seconds=10)) -> None:
        self._context, self._fresh = context, fresh
        self._booked: Unpriced | None = None
        self._readings, self._accounts = Readings(context), Memo[Account | None]()
        self._counts: Mapping[tuple[str, str], int] = {}
        self._counted_at: datetime | None = None
        self.marks, self.doubts = (
            Marks(context.ledger, context.settings.risk),
            Doubts(context.ledger, context.settings.risk.fill_most_times_equity),
        )
        self.anchors = Anchors(context.ledger)

    def at(self, as_of: datetime) -> Held:
        """Positions known at `as_of`, which comes in order."""
        as_of, news = self._context.ledger.splits.after_splits(as_of)
        held = self._at(as_of, news)
        while (
            again := self._context.ledger.books.split_news()
        ) != news:  # else some of it may be before a split, some after
            held, news = self._at(as_of, again), again
        return held

    def supposed(self, key: BookKey, as_of: datetime, wrong: Collection[datetime]) -> Account | None:
        """The account of a bot's book as if the balances of these instants had never been told."""
        units = restatement.units(self._context)
        book, valued = own(self._context, key, as_of, units).book, _valued(self._context, key, units, self.doubts)
        return account(self._context, key, book, as_of, valued, self.anchors, self._standing, wrong)

    def _at(self, as_of: datetime, splits: tuple[int, int]) -> Held:
        news = News.read(self._context.ledger, splits, as_of)
        if (raw := self._booked) is None or not self._stands(raw, news, as_of):
            raw = self._booked = self._read(news, as_of)
        held = _priced(raw, self.marks, as_of)
        trust = {unit: self.marks.trust(unit, kind) for unit, kind in raw.kinds.items()}
        fills = [
            (book.key, *fill) for book in raw.books for fill in book.fills if fill[1].unit not in raw.foreign
        ]  # what is in another currency gains nothing here anyway
        mark_of = traded_at(pd.concat([raw.frame, raw.flat]), self.marks.of, held.prices)
        if self.doubts.follow(fills, mark_of, trust, partial(self._worth, held), as_of):
            raw = self._booked = self._read(news, as_of)
            held = _priced(raw, self.marks, as_of)
        units = {*held.frame["unit"], *held.frame["underlying"]}
        cash = {key: cash - self.doubts.of(key, held.prices) for key, cash in held.cash.items()}
        jumps = {unit: jump for unit, jump in held.jumps.items() if unit in units}
        unusable = {unit: quote for unit, quote in held.unusable.items() if unit in units}
        prices = {unit: mark for unit, mark in held.prices.items() if unit in units}
        doubts = tuple(self.doubts.open.values())
        return replace(held, cash=cash, prices=prices, jumps=jumps, unusable=unusable, doubts=doubts)

    def _worth(self, held: Held, key: BookKey) -> float:
        """The equity of a book, or what its account began with where that is more; NaN where nobody knows its account.

        What is doubtful already is not in it.
        """
        if held.accounts.get(key) is None:
            return math.nan
        return max(held.equities()[key] - self.doubts.of(key, held.prices), held.opened(key))

    def _stands(self, raw: Unpriced, news: News, as_of: datetime) -> bool:
        """Whether nothing is new of what was read."""
        same = raw.news == news and as_of < self._readings.due
        return same and timedelta(0) <= as_of - raw.read_at < self._fresh

    def _read(self, news: News, as_of: datetime) -> Unpriced:
        """Positions and accounts, those anew that something moved."""
        context, units, unread = self._context, restatement.units(self._context), dict[BookKey, str]()
        if news.splits[1]:
            restated(context, units, unread)
        if self._counted_at is None or not timedelta(0) <= as_of - self._counted_at < self._fresh:
            self._counts, self._counted_at = context.ledger.balances.count(as_of=as_of), as_of
        books = self._readings.all(news, units, as_of, unread)
        for model in sorted({model for model, book in news.fills if book.startswith(twins.TWIN)}):
            unread |= twins.hidden(context, model, as_of)
        accounts = {book.key: self._account(book, news, units, as_of) for book in books if not book.key.version}
        self.anchors.of |= {
            key: account.known for key, account in accounts.items() if account is not None and account.known.last
        }
        more = self.doubts.units(fill for book in books for _, fill in book.fills)
        return replace(_framed(context, books, unread, units, as_of, more), accounts=accounts, news=news)

    def _account(self, book: BookReading, news: News, units: book_inputs.Units, as_of: datetime) -> Account | None:
        key = book.key
        counts = news.balances.get(key[:2]), self._counts.get(key[:2])
        doubts = [doubt for doubt in self.doubts.open.values() if doubt.key == key]
        known = self.anchors.known(key, as_of)
        waits = None if known.last is None or not known.last.jumps else self._standing(known.last.jumped)
        stamp = book, counts, doubts, known, waits, self._readings.generation
        valued, about = _valued(self._context, key, units, self.doubts), (self._context, key, book.book, as_of)
        return self._accounts.get(key, stamp, lambda: account(*about, valued, self.anchors, self._standing))

    def _standing(self, units: Collection[str]) -> Mapping[str, float] | None:
        """What units are marked at, once no price of them waits to be confirmed."""
        if any(unit in self.marks.jumps or unit not in self.marks.of for unit in units):
            return None
        return {unit: self.marks.of[unit].value for unit in units}


def _valued(context: Context, key: BookKey, units: book_inputs.Units, doubts: Doubts) -> Valued:
    """What a bot's own book was worth by its own trades, at the prices known then, and by the splits known now."""
    units = replace(units, told_at={})

    def valued(at: datetime, prices: Mapping[str, float]) -> Worth:
        raw = _framed(context, [own(context, key, at, units)], {}, units, at)
        marks = Marks.standing(context.ledger, context.settings.risk, prices, at)
        marks.at(raw.kinds, raw.prices, at)
        known = {unit: marks.of[unit].value for unit in raw.kinds if unit in marks.of}
        for split in context.ledger.splits.all():
            if split.event_time <= at < split.created_at:
                marks.split(split.unit, float(split.ratio), split.price, at)
        held = _priced(raw, marks, at)
        gain = doubts.of(key, held.prices, at)
        each = [each_held.equity - gain for each_held in (held, *held.alternatives())]
        return Worth(each[0], min(each), max(each), known, tuple(held.jumps))

    return valued


def of_fills(context: Context, key: BookKey, fills: Sequence[Fill], splits: Sequence[Fill], at: datetime) -> Unpriced:
    """What these fills alone leave in a book, by `splits` since."""
    empty = Book(0, 0, 0)
    book = empty.after(Step(at, fills=with_splits(empty, fills, splits)))
    return _framed(context, [BookReading(key, book, {})], {}, restatement.units(context), at)


def worth_of(context: Context, raw: Unpriced, prices: Mapping[str, Prices], at: datetime) -> tuple[float, float]:
    """What it was worth at an instant by the prices that were told then, and at the least."""
    held = _priced(replace(raw, prices=prices, read_at=at), Marks(context.ledger, context.settings.risk), at)
    return held.equity, min(part.equity for part in (held, *held.alternatives()))


def _framed(
    context: Context,
    books: Sequence[BookReading],
    unread: Mapping[BookKey, str],
    units: book_inputs.Units,
    as_of: datetime,
    more: Collection[str] = (),
) -> Unpriced:
    """Positions, and the units whose prices are wanted: theirs, those of their underlyings, and `more`."""
    known = context.ledger.instruments.frame().set_index("unit")
    rows = [row for book in books for row in _rows(book)]
    frame = pd.DataFrame(rows, columns=["strategy", "book", "unit", "quantity", "cost", "multiplier"])
    held = sorted(set(frame["unit"]))
    flat = known[known.index.isin(set(more) - set(held))].reset_index()
    under = {unit for unit in [*known["underlying"].reindex(held).dropna(), *flat["underlying"]] if unit}
    about = known.reindex(frame["unit"]).reset_index(drop=True)
    for name in INSTRUMENT_COLUMNS[1:]:
        default = context.settings.risk.currency if name == "currency" else DEFAULTS.get(name)
        if name != "multiplier":  # it is that by which the position was booked
            frame[name] = about[name] if default is None else about[name].where(about[name].notna(), default)
    frame = frame.astype({"multiplier": float, "american": bool, "quantity": float, "cost": float})
    unknown = {f"{key.model}/{book_name(key)}": why for key, why in unread.items()}
    for reading in books:
        unknown |= unbooked_fills.of_books(reading.key.model, {reading.key.book: reading.refused})
        lost = units.unusable.keys() & reading.book.positions.keys()
        unknown |= {row_key(reading.key.model, book_name(reading.key), unit): units.unusable[unit] for unit in lost}
    kinds = dict(zip(known.index, known["kind"], strict=True))
    wanted = {unit: str(kinds.get(unit, Kind.SPOT.value)) for unit in sorted({*held, *under, *more})}
    prices = _seen(books)
    return Unpriced(tuple(books), frame, flat, wanted, prices, unknown, tuple(unread), as_of, foreign=units.foreign)


def _priced(raw: Unpriced, marks: Marks, as_of: datetime) -> Held:
    """Positions at the marks of their units, and options past their expiry at what they pay."""
    prices = marks.at(raw.kinds, raw.prices, as_of)
    over, settled = expired(raw.frame, prices, as_of), expired(raw.flat.assign(quantity=0.0), prices, as_of)
    pays, unpriced = {**settled.marks, **over.marks}, {*settled.unknown, *over.unknown}
    prices = {unit: mark for unit, mark in {**prices, **pays}.items() if unit not in unpriced}
    each = [prices.get(unit, NO_PRICE) for unit in raw.frame["unit"]]
    price = np.array([mark.value for mark in each], dtype=np.float64)
    frame = raw.frame.assign(price=price, priced_at=pd.DatetimeIndex([mark.at for mark in each], tz="UTC"))
    beside = {key: 0.0 if known is None else known.offset for key, known in raw.accounts.items()}
    cash = {book.key: book.book.cash / SCALE - book.foreign.cash + beside.get(book.key, 0.0) for book in raw.books}
    cash |= dict.fromkeys(raw.unread, math.nan)
    currency = marks.settings.currency
    frame, unsure = _without(frame[list(POSITION_COLUMNS)], raw, over.worst.where(frame["currency"] == currency))
    books = {book.key: book.book for book in raw.books}
    return Held(
        as_of,
        frame,
        books,
        cash,
        prices,
        raw.unknown,
        unsure,
        currency,
        jumps={unit: jump for unit, jump in marks.jumps.items() if unit not in over.notes},
        unusable={unit: quote for unit, quote in marks.unusable.items() if unit not in over.notes},
        accounts=raw.accounts,
        expired=over.notes,
        unsettled=over.unknown,
        abroad=_abroad(raw),
        levels={unit: marks.level(unit) for unit, kind in raw.kinds.items() if kind == Kind.FUTURE},
        last_fill=0 if raw.news is None else max(raw.news.fills.values(), default=0),
    )


def _abroad(raw: Unpriced) -> dict[BookKey, dict[str, str]]:
    """The units in other currencies whose part in each book's equity is not known; books without any left out."""
    missing = dict[BookKey, dict[str, str]]()
    for book in raw.books:
        known = raw.accounts.get(book.key)
        missing[book.key] = uncovered(book.foreign, book.book, raw.foreign, None if known is None else known.covers)
    return {key: units for key, units in missing.items() if units}


def _without(frame: pd.DataFrame, raw: Unpriced, worst: pd.Series[float]) -> tuple[pd.DataFrame, dict[BookKey, float]]:
    """Positions that are not known without their price, and what of each book they count for.

    That is what could be booked, and `worst` (by row) of an option that has expired and whose payoff is not known.
    """
    if not raw.unknown and worst.empty:
        return frame, {}
    rows = [row_key(*row) for row in zip(frame["strategy"], frame["book"], frame["unit"], strict=True)]
    lost = np.array([row in raw.unknown for row in rows], dtype=bool)
    value = (frame["quantity"] * frame["price"] * frame["multiplier"]).where(lost)
    value = value.fillna(worst.reindex(frame.index)).fillna(0.0)
    worth = value.groupby([frame["strategy"], frame["book"]]).sum()
    unsure = {book.key: float(worth.get((book.key.model, book_name(book.key)), 0.0)) for book in raw.books}
    return frame.assign(price=frame["price"].mask(lost)), unsure


def _seen(books: Iterable[BookReading]) -> dict[str, Prices]:
    """What all books saw of each unit."""
    prices: dict[str, Prices] = {}
    for book in books:
        for unit, price in book.prices.items():
            prices[unit] = prices.get(unit, Prices()).merged(price)
    return prices


def _rows(book: BookReading) -> Iterator[tuple[object, ...]]:
    about = book.key.model, book_name(book.key)
    for unit, position in book.book.positions.items():
        yield *about, unit, position.quantity / SCALE, position.cost / SCALE, position.multiplier
    for unit in sorted({fill.unit for fill in book.refused} - book.book.positions.keys()):
        yield *about, unit, math.nan, math.nan, 1.0
