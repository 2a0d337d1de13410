"""Fills that were told late, taken back or confirmed, and what they made of books at an instant, so that a peak has it.

No void erases a loss, and no fill that is told after the peak makes the fall from it less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from jobs.accounts.doubtful_fills import ALERT, CONFIRMED, Doubt
from jobs.context import Context
from jobs.portfolio import book_inputs, restatement
from jobs.portfolio.book_cache import MOMENT
from jobs.portfolio.book_inputs import Units
from jobs.portfolio.confirmed_prices import Prices
from jobs.portfolio.positions import Unpriced, of_fills, worth_of
from jobs.portfolio.valuation import Held
from mlops.experiment import Fill
from mlops.io.ledger import BookKey
from mlops.risk.prices import Mark
from mlops.types import Alert


@dataclass(frozen=True, slots=True)
class Correction:
    """A change of what a book did, after it was looked at.

    A fill that was told (`sign` 1) or taken back (-1), less the `gain` that does not count, for the fill is in doubt;
    infinite: whatever it gains, for its size is. Of one taken back, in the looks that were without it.
    Without a `fill`: what of one began to count when a person confirmed it, minus `gain`. `number` is the fill's.
    """

    key: BookKey
    number: int
    at: datetime
    sign: int
    gain: float
    fill: Fill | None


def told(context: Context, held: Held, after: int) -> list[Correction]:
    """The fills after the one of that number."""
    rows = context.ledger.voids.fills_after(after, until=held.last_fill) if held.last_fill > after else None
    gains = {doubt.number: math.inf if doubt.times else doubt.gain for doubt in held.doubts}
    return (
        []
        if rows is None
        else [
            Correction(key, fill.number, at, 1, gains.get(fill.number, 0.0), fill)
            for _, key, at, fill in _read(context, rows)
        ]
    )


def voided(context: Context, after: int) -> list[Correction]:
    """The fills that were voided after the void of that number; those that no book could take moved nothing."""
    read = _read(context, context.ledger.voids.fills(after=after))
    return [
        Correction(key, fill.number, at, -1, _uncounted(context.ledger.alerts.get(ALERT + name)), fill)
        for name, key, at, fill in read
    ]


def _uncounted(alert: Alert | None) -> float:
    """What of a fill did not count while it was in doubt, by the alert that told of it, closed or not."""
    if alert is None:
        return 0.0
    return math.inf if alert.details.get("times") else float(alert.details["gain"])


def confirmed(context: Context, doubts: Sequence[Doubt], held: Held) -> list[Correction]:
    """What of these fills counts now, for a person said that they are right."""
    still = {doubt.fill_id for doubt in held.doubts}
    return [
        Correction(doubt.key, doubt.number, doubt.at, 1, -_gain(doubt, held), None)
        for doubt in doubts
        if doubt.fill_id not in still and context.ledger.alerts.get(CONFIRMED + doubt.fill_id) is not None
    ]


def _gain(doubt: Doubt, held: Held) -> float:
    """What did not count of a doubtful fill; of one whose size was doubtful at the price of now."""
    return max(0.0, doubt.profit(held.prices.get(doubt.unit))) if doubt.times else doubt.gain


def _read(context: Context, rows: pd.DataFrame) -> list[tuple[str, BookKey, datetime, Fill]]:
    """The fills of which books count something, their names, books and times."""
    if rows.empty:
        return []
    units = restatement.units(context)
    columns = (rows[name].tolist() for name in ("id", "fill_id", "model", "book"))
    about = {number: (name, BookKey(model, book)) for number, name, model, book in zip(*columns, strict=True)}
    fills = [fill for fill, _ in book_inputs.filled(rows, units)[0] if fill.unit not in units.foreign]
    return [(*about[fill.number], fill.at, fill) for fill in fills if fill.at is not None]


@dataclass(slots=True)
class Effect:
    """What corrections made of the books that are held; what was computed is kept for the next peak."""

    context: Context
    held: Held
    _booked: dict[tuple[int, ...], Unpriced] = field(default_factory=dict)
    _worth: dict[tuple[datetime, tuple[int, ...]], tuple[float, float]] = field(default_factory=dict)
    _splits: Units | None = None

    def own(self, key: BookKey, lot: Sequence[Correction], at: datetime) -> float:
        """Effect on a book's own worth at an instant: what is taken back counts at the least, by prices of then."""
        total = 0.0
        for sign in (1, -1):
            same_sign = [correction for correction in lot if correction.sign == sign and correction.at <= at]
            counted = [correction for correction in same_sign if math.isfinite(correction.gain)]
            losing = [correction for correction in same_sign if math.isinf(correction.gain)]
            made = self._made(key, counted, sign, at) - sum(correction.gain for correction in counted)
            total += sign * (made + min(self._made(key, losing, sign, at), 0.0))
        return total

    def highest(self, correction: Correction, start: datetime, end: datetime) -> set[datetime]:
        """When a fill was worth most between two instants, by the quotes of its unit: at one, and where they stayed."""
        if correction.fill is None or start >= end:
            return set()
        quotes = self.context.ledger.quotes.between(correction.fill.unit, start=start, end=end, as_of=self.held.as_of)
        if quotes.empty:
            return set()
        side = math.copysign(1.0, correction.fill.quantity)
        worth = (quotes["bid"] + quotes["ask"]).set_axis(pd.DatetimeIndex(quotes["event_time"])) * side
        stayed = worth.rolling(pd.Timedelta(seconds=self.context.settings.risk.price_confirm_s), closed="both").min()
        times = pd.DatetimeIndex([worth.idxmax(), stayed.idxmax()])
        return set(times.to_pydatetime())

    def _made(self, key: BookKey, lot: Sequence[Correction], sign: int, at: datetime) -> float:
        fills = [correction.fill for correction in lot if correction.fill is not None]
        value, least = self._of(key, fills, at) if fills else (0.0, 0.0)
        return value if sign > 0 else least

    def account(self, key: BookKey, lot: Sequence[Correction], at: datetime) -> float:
        """Effect on an account at an instant: one that is counted from a balance had their effect until then in it."""
        account = self.held.accounts.get(key)
        since = None if account is None else account.counted_from(at)
        return self.own(key, lot, at) - (0.0 if since is None else self.own(key, lot, since))

    def _of(self, key: BookKey, fills: Sequence[Fill], at: datetime) -> tuple[float, float]:
        self._splits = self._splits or restatement.units(self.context)
        numbers, splits = tuple(fill.number for fill in fills), self._splits.known(None, at)
        if (at, numbers) not in self._worth:
            about = (*numbers, *(split.number for split in splits))
            if about not in self._booked:
                self._booked[about] = of_fills(self.context, key, fills, splits, at)
            prices = {fill.unit: Prices(carried=Mark(fill.price, fill.at)) for fill in fills if fill.at is not None}
            for event in self.context.ledger.books.unit_events(key, list(prices), end=at + MOMENT):
                if event.kind == "mark":
                    prices[event.unit] = Prices(bar=Mark(event.price, event.event_time))
            self._worth[at, numbers] = worth_of(self.context, self._booked[about], prices, at)
        return self._worth[at, numbers]
