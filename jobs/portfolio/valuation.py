"""Positions at an instant, what they are worth, and the equity of the books that hold them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd

from jobs.accounts.doubtful_fills import Doubt
from jobs.accounts.equity import Account
from jobs.portfolio.expired_options import OPTIONS, equivalents, expired
from mlops.books.book import SCALE
from mlops.experiment import Book
from mlops.io.ledger import BookKey
from mlops.risk.prices import Jump, Mark, Observation
from mlops.risk.var.stand_in import below_zero


@dataclass(frozen=True)
class Held:
    """Positions at an instant. What they are worth is computed once, when it is asked for first.

    `frame` has POSITION_COLUMNS, a row a book and unit. `cash` is by book; `prices` also has the underlyings of
    options, and so have `jumps`, the prices that are not confirmed. `equity` is in `currency`, the one of the books.

    `unknown` says why a position (model/book/unit) is not known, because a fill of it cannot be booked; it has no price
    then, and counts in equity by what could be booked (`unsure`). The cash of a book that cannot be read is NaN.

    What trades in other currencies moved is not in the cash. `abroad`: the units (and their currency) whose part in a
    book's equity is therefore not known.

    `expired` says of each option (unit) past its expiry what it is worth; `unsettled`, of those of which that is not
    known, why. They count in equity at their worst (`unsure`). What `doubts` would gain is not in the cash.

    `levels`: of each future what the day began at, or half of the level before where that is more.

    `last_fill`: number of the last fill that is in it.
    """

    as_of: datetime
    frame: pd.DataFrame
    books: Mapping[BookKey, Book]
    cash: Mapping[BookKey, float]
    prices: Mapping[str, Mark]
    unknown: Mapping[str, str] = field(default_factory=dict)
    unsure: Mapping[BookKey, float] = field(default_factory=dict)
    currency: str = "USD"
    jumps: Mapping[str, Jump] = field(default_factory=dict)
    unusable: Mapping[str, Observation] = field(default_factory=dict)
    accounts: Mapping[BookKey, Account | None] = field(default_factory=dict)
    expired: Mapping[str, str] = field(default_factory=dict)
    unsettled: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()
    last_fill: int = 0
    abroad: Mapping[BookKey, Mapping[str, str]] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)

    @property
    def unbalanced(self) -> list[BookKey]:
        """The bots' books of whose account nobody said what it is worth."""
        return [key for key, known in self.accounts.items() if known is None]

    @property
    def notional(self) -> bool:
        """Whether equity is no account's: then money is true and shares of equity are not."""
        return not self.accounts or bool(self.unbalanced)

    def opened(self, key: BookKey) -> float:
        """What a book began with, and what its account has beside it or lost."""
        account = self.accounts.get(key)
        return self.books[key].start / SCALE + (0.0 if account is None else account.offset + account.fell)

    def counted(self) -> Held:
        """The books that limits are held against: those with a known account, else the bots', else virtual ones."""
        balanced = [key for key, known in self.accounts.items() if known is not None]
        unread = [key for key in self.cash if key not in self.books]
        keep = [*(balanced or list(self.accounts) or list(self.books)), *unread]
        return self if len(keep) == len(self.cash) else self._only(keep)

    def rest(self) -> Held:
        """The books that `counted` leaves out."""
        counted = self.counted().books
        return self._only([key for key in self.books if key not in counted])

    def of(self, strategy: str) -> Held:
        """The books of one strategy."""
        return self._only([key for key in self.cash if key.model == strategy])

    def _only(self, keys: Collection[BookKey]) -> Held:
        names = {(key.model, book_name(key)) for key in keys}
        pairs = zip(self.frame["strategy"], self.frame["book"], strict=True)
        rows = np.array([pair in names for pair in pairs], dtype=bool)
        return replace(
            self,
            frame=self.frame[rows].reset_index(drop=True),
            books={key: book for key, book in self.books.items() if key in keys},
            cash={key: self.cash[key] for key in keys},
            unsure={key: value for key, value in self.unsure.items() if key in keys},
            accounts={key: known for key, known in self.accounts.items() if key in keys},
            doubts=tuple(doubt for doubt in self.doubts if doubt.key in keys),
            abroad={key: units for key, units in self.abroad.items() if key in keys},
            unsettled={unit: why for unit, why in self.unsettled.items() if (self.frame["unit"][rows] == unit).any()},
        )

    @cached_property
    def foreign(self) -> pd.Series[bool]:
        """Whether each position is in another currency than the books: no rate is known."""
        return self.frame["currency"] != self.currency

    @cached_property
    def value(self) -> pd.Series[float]:
        """Value of each position, signed; NaN where it is not known."""
        worth = self.frame["quantity"] * self.frame["price"] * self.frame["multiplier"]
        return worth.where(~self.foreign)

    @cached_property
    def valued(self) -> pd.DataFrame:
        """The positions as scenarios move them: an expired option as what its payoff is of its underlying.

        Without a price where that is no money of the books, or a share of it is no move.
        """
        frame = self._from_levels
        frame = frame.assign(price=frame["price"].mask(self.foreign | below_zero(frame)))
        if not self.paying:
            return frame
        over, moves = frame["unit"].isin(self.paying.keys()), self.moves
        ones = {name: frame[name].mask(over, 1.0) for name in ("quantity", "multiplier")}
        return frame.assign(unit=moves["unit"], price=frame["price"].mask(over, moves["value"]), **ones)

    @cached_property
    def paying(self) -> dict[str, float]:
        """What one of each expired option whose payoff is known is as a holding of its underlying; 0 where none."""
        return equivalents(self.frame, self.prices, self.expired.keys() - self.unsettled.keys())

    @cached_property
    def moves(self) -> pd.DataFrame:
        """The `unit` that each position moves by, and what it moves by for a whole return of that: its `value`.

        An expired option moves as the holding of its underlying that its payoff is. NaN where that is not known: of
        other options, and of a price at or below zero, of which returns say nothing. A future near zero moves by shares
        of its level: it may rise or fall by as much as before.
        """
        frame, none = self._from_levels, below_zero(self.frame) | self.frame["kind"].isin(OPTIONS)
        whole = (frame["quantity"] * frame["price"] * frame["multiplier"]).where(~self.foreign)
        if not self.paying:
            return pd.DataFrame({"unit": frame["unit"], "value": whole.mask(none)})
        over, each = frame["unit"].isin(self.paying.keys()), frame["unit"].map(self.paying).astype(float)
        spot = frame["underlying"].map({unit: mark.value for unit, mark in self.prices.items()}).astype(float)
        value = whole.where(~over, (frame["quantity"] * each).where((spot > 0) & ~self.foreign))
        return pd.DataFrame(
            {"unit": frame["unit"].where(~over, frame["underlying"]), "value": value.mask(none & ~over)}
        )

    @cached_property
    def near_zero(self) -> dict[str, float]:
        """The futures whose price is under half of what the day began at, and that half: shares of less are no move."""
        price = {unit: mark.value for unit, mark in self.prices.items()}
        return {unit: level / 2 for unit, level in self.levels.items() if 0 < price.get(unit, math.nan) < level / 2}

    @cached_property
    def _from_levels(self) -> pd.DataFrame:
        """The positions with futures near zero at their level."""
        if not self.near_zero:
            return self.frame
        level = self.frame["unit"].map(self.near_zero).astype(float)
        return self.frame.assign(price=level.where(level.notna() & self.frame["price"].notna(), self.frame["price"]))

    @property
    def lost(self) -> dict[str, str]:
        """The units in other currencies whose part in equity nobody knows, and their currency."""
        return {unit: name for units in self.abroad.values() for unit, name in units.items()}

    @cached_property
    def equity(self) -> float:
        return sum(self._equities.values())

    def equities(self) -> dict[BookKey, float]:
        """The equity of each book, as if nothing in another currency had ever been traded."""
        return dict(self._equities)

    @cached_property
    def _equities(self) -> dict[BookKey, float]:
        worth = self.value.groupby([self.frame["strategy"], self.frame["book"]]).sum().to_dict()
        return {
            key: cash + self.unsure.get(key, 0.0) + float(worth.get((key.model, book_name(key)), 0.0))
            for key, cash in self.cash.items()
        }

    def alternatives(self) -> list[Held]:
        """The same at the prices that are not confirmed: at all of them, and at those that lose."""
        if not self.jumps:
            return []
        both = [self._at(self.jumps)]
        lose = {unit: jump for unit, jump in self.jumps.items() if self._gain(unit, jump) < 0}
        return both if lose.keys() == self.jumps.keys() else [*both, self._at(lose)]

    def _gain(self, unit: str, jump: Jump) -> float:
        """Profit of a jump, expired options on the unit counted."""
        rows = (self.frame["unit"] == unit) | (self.frame["underlying"] == unit)
        part = replace(self, frame=self.frame[rows])
        return float((part._at({unit: jump}).value - part.value).sum())

    def _at(self, jumps: Mapping[str, Jump]) -> Held:
        moved = {unit: Mark(jump.value, jump.at) for unit, jump in jumps.items()}
        moved |= expired(self.frame, {**self.prices, **moved}, self.as_of).marks
        price = self.frame["unit"].map({unit: mark.value for unit, mark in moved.items()})
        known = price.notna() & self.frame["price"].notna()
        frame = self.frame.assign(price=price.where(known, self.frame["price"]))
        return replace(self, frame=frame, prices={**self.prices, **moved}, jumps={})


def book_name(key: BookKey) -> str:
    """`virtual v3` for a version's virtual book."""
    return f"{key.book} v{key.version}" if key.version else key.book
