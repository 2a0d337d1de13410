"""A book: what it owns, what that is worth, and where every cent of it came from.

Money is counted in whole 1e-8 of the book's one currency and quantities in whole 1e-8 of a unit: integers, because sums
of integers do not depend on their order or on where a run was interrupted, and binary floats cannot even hold a cent.
1e-8 is the finest step in which exchanges quote; prices stay the floats that they came as. Only a product (quantity
x price x multiplier) is rounded, half to even, once, when it happens. So for every book and at every moment, exactly,

    equity = cash + sum(quantity x mark x multiplier) = start + realised + unrealised - fees - slippage - funding.

The multiplier says how many of what is quoted one unit stands for (100 for a US equity option). It counts in what is
paid as it does in what a position is worth, so a trade at the mark moves no equity but for its costs.

A position is kept at what it cost, not at its average price: closing a part of it releases the same part of the cost,
and what rounding leaves over stays in the cost of the rest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction

from mlops.errors import DataError
from mlops.types import LARGEST

SCALE = 10**8


@dataclass(frozen=True, slots=True)
class Fill:
    """A trade: signed `quantity` of `unit` (positive bought) at `price`; `fee` and `slippage` were paid beside it.

    `quantity`, `fee` and `slippage` are whole 1e-8. `at` is when it happened, where that is not the bar's own time;
    `number` is its id among the ledger's fills, 0 for a virtual one. A `price` of 0 closes what ended worthless; below
    0 the seller pays.

    A `split` trades nothing: each unit held becomes so many, at the same cost; `number` is minus the split's then.
    """

    unit: str
    quantity: int
    price: float
    fee: int = 0
    slippage: int = 0
    at: datetime | None = None
    number: int = 0
    multiplier: float = 1.0
    split: Fraction | None = None

    @property
    def value(self) -> int:
        """quantity x price x multiplier, signed."""
        return worth(self.quantity, self.price, self.multiplier)

    def in_price(self) -> Fill:
        """The same cost, but with the slippage as a worse price: what a broker would report."""
        if not self.slippage:
            return self
        price = self.price + self.slippage / self.quantity / self.multiplier
        return replace(self, price=price, slippage=0)


@dataclass(frozen=True, slots=True)
class Position:
    """Signed `quantity`, what it `cost` (signed like it), and the last price seen."""

    quantity: int
    cost: int
    mark: float
    multiplier: float = 1.0

    @property
    def value(self) -> int:
        return worth(self.quantity, self.mark, self.multiplier)

    @property
    def average_price(self) -> float:
        return self.cost / self.quantity / self.multiplier


@dataclass(frozen=True, slots=True)
class Step:
    """All that happens to a book at one bar, in this order: its units are marked, funding is paid, fills are booked.

    `marks` has the price of each unit that is held and does not trade at just that price: what trades without a mark is
    worth what was paid last. `funding` is what each position pays (> 0) or gets.
    """

    at: datetime
    marks: Mapping[str, float] = field(default_factory=dict)
    funding: Mapping[str, int] = field(default_factory=dict)
    fills: Sequence[Fill] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What trading costs a virtual book: fractions of the traded value, and of a position's value each bar.

    Parameters
    ----------
    fee, slippage : float
        Of |quantity x price|, >= 0. 0.0005 is 5 basis points.
    funding : float
        Of quantity x mark at each bar: where it is positive, longs pay and shorts receive.
    """

    fee: float = 0.0
    slippage: float = 0.0
    funding: float = 0.0

    def __post_init__(self) -> None:
        for name, rate in (("fee", self.fee), ("slippage", self.slippage)):
            if not (rate >= 0 and math.isfinite(rate)):
                raise DataError(f"{name} must be at least 0, got {rate}. Give a fraction: 0.0005 is 5 basis points.")
        if not math.isfinite(self.funding):
            raise DataError(f"funding must be finite, got {self.funding}. Give a fraction a bar.")


@dataclass(frozen=True, slots=True)
class Book:
    """Cash and positions, and all that moved them since `start`. Amounts are whole 1e-8.

    `traded` is the value of all trades (turnover), `peak` the highest equity at the end of a bar.

    Examples
    --------
    >>> from datetime import datetime, UTC
    >>> book, at = Book.opened(100.0), datetime(2026, 1, 2, tzinfo=UTC)
    >>> book = book.after(book.rebalanced(at, {"A": 10.0}, {"A": 0.5}, Terms(fee=0.001)))
    >>> book.cash / SCALE, book.positions["A"].quantity / SCALE, book.equity / SCALE
    (49.95, 5.0, 99.95)
    """

    start: int
    cash: int
    peak: int
    positions: Mapping[str, Position] = field(default_factory=dict)
    realised: int = 0
    fees: int = 0
    slippage: int = 0
    funding: int = 0
    traded: int = 0

    @classmethod
    def opened(cls, cash: float) -> Book:
        """A book with nothing but cash."""
        amount = exact(cash)
        return cls(amount, amount, amount)

    @property
    def net(self) -> int:
        """Value of all positions, shorts against longs."""
        return sum(position.value for position in self.positions.values())

    @property
    def gross(self) -> int:
        """Value of all positions, shorts and longs added up."""
        return sum(abs(position.value) for position in self.positions.values())

    @property
    def equity(self) -> int:
        return self.cash + self.net

    @property
    def unrealised(self) -> int:
        return self.net - sum(position.cost for position in self.positions.values())

    @property
    def drawdown(self) -> float:
        """How far the equity is under its peak, as a share of the peak."""
        return 1.0 - self.equity / self.peak if self.peak > 0 else 0.0

    def average_price(self, unit: str) -> float | None:
        """What a unit was bought (or sold short) at; None where nothing is held."""
        position = self.positions.get(unit)
        return None if position is None else position.average_price

    def after(self, step: Step) -> Book:
        """The book once the step has happened.

        Raises
        ------
        DataError
            A mark is not positive and finite, the price of a fill is not finite, or its multiplier is not that of the
            position that it meets.
        """
        _refuse(step.marks)
        for fill in step.fills:
            _refuse({fill.unit: abs(fill.price)} if fill.price else {})
        held = _marked(self.positions, step.marks)
        cash, realised, traded = self.cash - sum(step.funding.values()), self.realised, self.traded
        for fill in step.fills:
            position, gain = _booked(held.pop(fill.unit, None), fill, step.marks.get(fill.unit, fill.price))
            if position is not None:
                held[fill.unit] = position
            value = fill.value
            cash -= value + fill.fee + fill.slippage
            realised, traded = realised + gain, traded + abs(value)
        return Book(
            start=self.start,
            cash=cash,
            peak=max(self.peak, cash + sum(position.value for position in held.values())),
            positions=held,
            realised=realised,
            fees=self.fees + sum(fill.fee for fill in step.fills),
            slippage=self.slippage + sum(fill.slippage for fill in step.fills),
            funding=self.funding + sum(step.funding.values()),
            traded=traded,
        )

    def rebalanced(
        self,
        at: datetime,
        prices: Mapping[str, float],
        weights: Mapping[str, float],
        terms: Terms,
        multipliers: Mapping[str, float] | None = None,
    ) -> Step:
        """Mark at `prices`, pay funding, and trade at them to the target weights.

        Parameters
        ----------
        prices : mapping
            Price of each unit that trades now, > 0. A unit held but not priced keeps its quantity and its last mark.
        weights : mapping
            Signed share of equity (before the costs of these trades) wanted in each unit. A unit without a weight is
            left as it is. A ruined book (equity not positive) closes what has a price, and never trades again.
        multipliers : mapping, optional
            Of the units that have another one than 1. A position that was opened by another multiplier is closed by
            that, and opened anew.

        Raises
        ------
        DataError
            A price is not positive, or a weight is not finite or has no price.
        """
        _refuse(prices, weights)
        held = _marked(self.positions, prices)
        values = {unit: position.value for unit, position in held.items()}
        funding = {unit: times(value, terms.funding) for unit, value in values.items()} if terms.funding else {}
        equity = self.cash + sum(values.values()) - sum(funding.values())
        wanted = weights if equity > 0 else dict.fromkeys((unit for unit in held if unit in prices), 0.0)
        fills = []
        for unit, weight in wanted.items():
            price, lot = prices[unit], (multipliers or {}).get(unit, 1.0)
            changes = [(exact(weight * (equity / SCALE) / (price * lot)), lot)]
            if unit in held:
                changes = _changes(held[unit], *changes[0])
            for change, multiplier in changes:
                value = abs(worth(change, price, multiplier))
                fees = times(value, terms.fee), times(value, terms.slippage)
                fills += [Fill(unit, change, price, *fees, multiplier=multiplier)] if change else []
        return Step(at, self._marks(prices, fills), funding, tuple(fills))

    def shrinking(self, fills: Sequence[Fill]) -> tuple[Fill, ...]:
        """The part of these fills that only shrinks open positions: nothing opens one, adds to one or passes zero."""
        held = {unit: position.quantity for unit, position in self.positions.items()}
        allowed = []
        for fill in fills:
            before = held.get(fill.unit, 0)
            most = min(abs(before), abs(fill.quantity)) if before * fill.quantity < 0 else 0
            if most:
                fee, slippage = (_nearest(amount * most, abs(fill.quantity)) for amount in (fill.fee, fill.slippage))
                quantity = most if fill.quantity > 0 else -most
                allowed.append(replace(fill, quantity=quantity, fee=fee, slippage=slippage))
                held[fill.unit] = before + quantity
        return tuple(allowed)

    def taking(self, at: datetime, prices: Mapping[str, float], fills: Sequence[Fill]) -> Step:
        """Mark at `prices` and take what was really filled since the bar before."""
        return Step(at, self._marks(prices, fills), {}, tuple(fills))

    def _marks(self, prices: Mapping[str, float], fills: Sequence[Fill]) -> dict[str, float]:
        times_filled = Counter(fill.unit for fill in fills)
        by_fill = {f.unit for f in fills if times_filled[f.unit] == 1 and f.price == prices.get(f.unit)}
        units = {**self.positions, **times_filled}
        return {unit: prices[unit] for unit in units if unit in prices and unit not in by_fill}


def exact(number: float) -> int:
    """A number in whole 1e-8, half to even.

    Raises
    ------
    DataError
        It is not finite, or no amount that anybody trades.
    """
    if not abs(number) < LARGEST:  # also NaN
        raise DataError(f"amount must be finite and under {LARGEST:g}, got {number}. Correct it.")
    top, bottom = number.as_integer_ratio()
    return _nearest(top * SCALE, bottom)


def times(amount: int, factor: float) -> int:
    """An integer times a float (taken for the exact number that it is), to the nearest integer, half to even."""
    top, bottom = factor.as_integer_ratio()
    return _nearest(amount * top, bottom)


def worth(quantity: int, price: float, multiplier: float = 1.0) -> int:
    """quantity x price x multiplier, both floats taken for the exact numbers that they are; rounded once."""
    if multiplier == 1.0:
        return times(quantity, price)
    (top, bottom), (more, under) = price.as_integer_ratio(), multiplier.as_integer_ratio()
    return _nearest(quantity * top * more, bottom * under)


def _nearest(top: int, bottom: int) -> int:
    whole, rest = divmod(top, bottom)
    return whole + (2 * rest > bottom or (2 * rest == bottom and whole % 2 == 1))


def _marked(positions: Mapping[str, Position], prices: Mapping[str, float]) -> dict[str, Position]:
    return {
        unit: replace(position, mark=prices[unit]) if unit in prices else position
        for unit, position in positions.items()
    }


def _booked(held: Position | None, fill: Fill, mark: float) -> tuple[Position | None, int]:
    """The position after a fill, and the profit that it realised."""
    if fill.split is not None:
        return (None, 0) if held is None else _split(held, fill.split, mark or held.mark / float(fill.split))
    value = fill.value
    quantity, cost = (held.quantity, held.cost) if held is not None else (0, 0)
    gain = 0
    if held is not None and held.multiplier != fill.multiplier:
        rule = f"multiplier of {fill.unit} must be that of the open position, {held.multiplier}"
        raise DataError(f"{rule}, got {fill.multiplier}. Restate the book.")
    if quantity * fill.quantity < 0:  # some of it is closed; what goes through zero opens anew
        closed = min(abs(quantity), abs(fill.quantity))
        released, paid = _nearest(cost * closed, abs(quantity)), _nearest(value * closed, abs(fill.quantity))
        gain = -paid - released
    if quantity + fill.quantity == 0:
        return None, gain
    return Position(quantity + fill.quantity, cost + value + gain, mark, fill.multiplier), gain


def _split(held: Position, ratio: Fraction, mark: float) -> tuple[Position | None, int]:
    """The position in units of after a split; what is too little to be a unit is lost."""
    quantity = _nearest(held.quantity * ratio.numerator, ratio.denominator)
    return (replace(held, quantity=quantity, mark=mark), 0) if quantity else (None, -held.cost)


def _changes(held: Position, quantity: int, multiplier: float) -> list[tuple[int, float]]:
    """What to trade, and by which multiplier, to go from a position to a quantity."""
    if held.multiplier == multiplier:
        return [(quantity - held.quantity, multiplier)]
    return [(-held.quantity, held.multiplier), (quantity, multiplier)]


def _refuse(prices: Mapping[str, float], weights: Mapping[str, float] | None = None) -> None:
    for unit, price in prices.items():
        if not (price > 0 and math.isfinite(price)):
            raise DataError(f"price of {unit} must be positive and finite, got {price}. Leave the unit out.")
    for unit, weight in (weights or {}).items():
        if unit not in prices or not math.isfinite(weight):
            raise DataError(f"target of {unit} must be finite and have a price, got {weight}. Leave the unit out.")
