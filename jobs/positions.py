"""What is held now, in every book that a bot trades, at the newest prices that were known.

A model whose bot tells of no fills is looked at through the virtual book of its champion; its name says so. A unit is
worth its newest quote's middle, or else the last price that its book saw; how old that is stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd

from jobs import tape, twins
from jobs.books import VIRTUAL
from jobs.house import House
from mlops.experiment import Book
from mlops.experiment.book import SCALE, Step
from mlops.experiment.entries import restored
from mlops.io.ledger import BookKey
from mlops.types import INSTRUMENT_COLUMNS, POSITION_COLUMNS, Kind

DEFAULTS = {"kind": Kind.SPOT.value, "sector": "", "multiplier": 1.0, "underlying": "", "american": False}


class Price(NamedTuple):
    """A last good price, and when it was good."""

    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """A book after its last bar and all fills since, and when each of its units was priced last."""

    key: BookKey
    book: Book
    priced: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class Held:
    """Positions at an instant.

    `frame` has POSITION_COLUMNS, a row a book and unit. `cash` is by book; `prices` also has the underlyings of
    options. `equity` is in the one currency of the books.
    """

    as_of: datetime
    frame: pd.DataFrame
    books: Mapping[BookKey, Book]
    cash: Mapping[BookKey, float]
    prices: Mapping[str, Price]

    @property
    def value(self) -> pd.Series[float]:
        """Of each position, signed."""
        return self.frame["quantity"] * self.frame["price"] * self.frame["multiplier"]

    @property
    def equity(self) -> float:
        return sum(self.cash.values()) + float(self.value.sum())

    def equities(self) -> dict[BookKey, float]:
        """The equity of each book."""
        worth = self.value.groupby([self.frame["strategy"], self.frame["book"]]).sum()
        return {key: cash + float(worth.get((key.model, book_name(key)), 0.0)) for key, cash in self.cash.items()}


def positions(house: House, as_of: datetime) -> Held:
    """All positions known at `as_of`, at the prices known then."""
    return Holdings(house).at(as_of)


@dataclass(frozen=True, slots=True)
class Booked:
    """Positions without prices, as they were read: what does not change until somebody trades."""

    kept: tuple[Kept, ...]
    frame: pd.DataFrame
    units: tuple[str, ...]
    marks: Mapping[str, Price]
    last_fill: int
    read_at: datetime


class Holdings:
    """What is held, from instant to instant: only prices are read anew while nobody trades.

    Books and instruments are read again when a fill has come, and every `fresh` of the clock that is passed in.
    """

    def __init__(self, house: House, fresh: timedelta = timedelta(seconds=10)) -> None:
        self._house, self._fresh = house, fresh
        self._booked: Booked | None = None

    def at(self, as_of: datetime) -> Held:
        """Positions known at `as_of`, which comes in order."""
        last, booked = self._house.ledger.last_fill(), self._booked
        if booked is None or booked.last_fill != last or not timedelta(0) <= as_of - booked.read_at < self._fresh:
            booked = self._booked = _booked(self._house, last, as_of)
        return _priced(self._house, booked, as_of)


def _booked(house: House, last_fill: int, as_of: datetime) -> Booked:
    kept = tuple(one for model in _models(house) for one in _kept(house, model, as_of))
    known = house.ledger.instruments().set_index("unit")
    held = sorted({unit for one in kept for unit in one.book.positions})
    under = {unit for unit in known["underlying"].reindex(held).dropna() if unit}
    rows = [row for one in kept for row in _rows(one)]
    frame = pd.DataFrame(rows, columns=["strategy", "book", "unit", "quantity", "cost"])
    about = known.reindex(frame["unit"]).reset_index(drop=True)
    for name in INSTRUMENT_COLUMNS[1:]:
        default = house.settings.risk.currency if name == "currency" else DEFAULTS.get(name)
        frame[name] = about[name] if default is None else about[name].where(about[name].notna(), default)
    frame = frame.astype({"multiplier": float, "american": bool, "quantity": float, "cost": float})
    return Booked(kept, frame, tuple(sorted({*held, *under})), _marks(kept), last_fill, as_of)


def _priced(house: House, booked: Booked, as_of: datetime) -> Held:
    """Positions at the newest of quotes and of what books saw."""
    prices = dict(booked.marks)
    quotes = house.ledger.latest_quotes(booked.units, as_of=as_of)
    middle = (quotes["bid"] + quotes["ask"]) / 2
    for unit, price, at in zip(quotes["unit"], middle, quotes["event_time"], strict=True):
        if unit not in prices or prices[unit].at <= at:
            prices[unit] = Price(float(price), at.to_pydatetime())
    each = [prices[unit] for unit in booked.frame["unit"]]
    price = np.array([one.value for one in each], dtype=np.float64)
    frame = booked.frame.assign(price=price, priced_at=pd.DatetimeIndex([one.at for one in each], tz="UTC"))
    cash = {one.key: one.book.cash / SCALE for one in booked.kept}
    return Held(as_of, frame[list(POSITION_COLUMNS)], {one.key: one.book for one in booked.kept}, cash, prices)


def _models(house: House) -> list[str]:
    return sorted({*house.ledger.models(), *house.ledger.traded_models()})


def _kept(house: House, model: str, as_of: datetime) -> Iterator[Kept]:
    """Each book of a model, once its new fills are in it; the champion's virtual one where no bot tells of any."""
    names = twins.traded(house, model)
    for name in names:
        yield _own(house, BookKey(model, name), as_of)
    champion = None if names else house.ledger.champion(model)
    if champion is not None:
        key = BookKey(model, VIRTUAL, champion)
        row = house.ledger.book_state(key, before=_just_after(as_of))
        if row is not None:
            yield Kept(key, restored(row), dict.fromkeys(row["positions"], row["event_time"]))


def _own(house: House, key: BookKey, as_of: datetime) -> Kept:
    row = house.ledger.book_state(key, before=_just_after(as_of))
    book = Book.opened(house.settings.books.cash) if row is None else restored(row)
    times = {} if row is None else dict.fromkeys(book.positions, row["event_time"])
    fills = [fill for fill, _ in tape.filled(house.ledger.unbooked_fills(key.model, key.book, as_of=as_of))]
    times |= {fill.unit: fill.at for fill in fills if fill.at is not None}
    return Kept(key, book.after(Step(as_of, fills=tuple(fills))) if fills else book, times)


def _marks(kept: Iterable[Kept]) -> dict[str, Price]:
    """The newest price that a book saw of each unit."""
    found: dict[str, Price] = {}
    for one in kept:
        for unit, position in one.book.positions.items():
            at = one.priced[unit]
            if unit not in found or found[unit].at < at:
                found[unit] = Price(position.mark, at)
    return found


def _rows(one: Kept) -> Iterator[tuple[object, ...]]:
    for unit, position in one.book.positions.items():
        yield one.key.model, book_name(one.key), unit, position.quantity / SCALE, position.cost / SCALE


def book_name(key: BookKey) -> str:
    """`virtual v3` for a version's virtual book."""
    return f"{key.book} v{key.version}" if key.version else key.book


def _just_after(as_of: datetime) -> datetime:
    return as_of + pd.Timedelta(microseconds=1).to_pytimedelta()
