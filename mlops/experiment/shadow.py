"""A paper book: what a model would own, and what that is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats import finite_series

BARS_PER_YEAR = 252


@dataclass(frozen=True, slots=True)
class Fill:
    """A paper trade: signed `quantity` of `unit` (positive bought) at `price`, `fee` paid in cash (>= 0)."""

    unit: str
    quantity: float
    price: float
    fee: float


@dataclass(frozen=True, slots=True)
class Book:
    """Cash and signed quantities, marked at the last price seen of each unit.

    Always: equity = cash + sum of quantity x mark. Equity moves by prices and by fees only.

    Examples
    --------
    >>> book, fills = Book(cash=100.0).step({"A": 10.0}, {"A": 0.5}, cost_rate=0.001)
    >>> book.cash, book.quantities["A"], round(book.equity, 2)
    (49.95, 5.0, 99.95)
    """

    cash: float = 1.0
    quantities: Mapping[str, float] = field(default_factory=dict)
    marks: Mapping[str, float] = field(default_factory=dict)

    @property
    def equity(self) -> float:
        """Cash plus positions at their last marks, in the currency of `cash`."""
        return self.cash + sum(quantity * self.marks[unit] for unit, quantity in self.quantities.items())

    def step(
        self, prices: Mapping[str, float], target_weights: Mapping[str, float], cost_rate: float
    ) -> tuple[Book, tuple[Fill, ...]]:
        """Mark at `prices`, then trade at them to the target weights.

        Parameters
        ----------
        prices : mapping
            Price of each unit that trades now, > 0. A unit held but not priced keeps its quantity and its last mark.
        target_weights : mapping
            Signed share of equity (before costs) wanted in each unit; a priced unit without a target is closed.
        cost_rate : float
            Fraction of the traded value paid as fee, >= 0 (5 basis points: 0.0005).

        Raises
        ------
        DataError
            A price is not positive, a target is not finite or has no price, or the equity is gone.
        """
        _refuse(prices, target_weights, cost_rate)
        marked = Book(self.cash, self.quantities, {**self.marks, **prices})
        equity = marked.equity
        if equity <= 0:
            raise DataError(f"equity must be positive, got {equity}. The book is ruined: start a new one.")
        cash, quantities, fills = self.cash, dict(self.quantities), []
        for unit, price in prices.items():
            change = target_weights.get(unit, 0.0) * equity / price - quantities.get(unit, 0.0)
            if change == 0.0:
                continue
            fee = cost_rate * abs(change) * price
            cash -= change * price + fee
            quantities[unit] = quantities.get(unit, 0.0) + change
            fills.append(Fill(unit, change, price, fee))
        return Book(cash, quantities, marked.marks), tuple(fills)


def _refuse(prices: Mapping[str, float], targets: Mapping[str, float], cost_rate: float) -> None:
    for unit, price in prices.items():
        if not (price > 0 and np.isfinite(price)):
            raise DataError(f"price of {unit} must be positive and finite, got {price}. Leave the unit out.")
    for unit, weight in targets.items():
        if unit not in prices or not np.isfinite(weight):
            raise DataError(f"target of {unit} must be finite and have a price, got {weight}. Leave the unit out.")
    if not cost_rate >= 0:
        raise DataError(f"cost_rate must be at least 0, got {cost_rate}. Give a fraction: 0.0005 is 5 basis points.")


@dataclass(frozen=True, slots=True)
class CurveMetrics:
    """Annual `sharpe` (no risk-free rate), `max_drawdown` (positive share of the peak), annual `turnover`."""

    sharpe: float
    max_drawdown: float
    turnover: float


def curve_metrics(
    equity: ArrayLike, traded: ArrayLike | None = None, *, bars_per_year: int = BARS_PER_YEAR
) -> CurveMetrics:
    """Sharpe ratio, deepest drawdown and turnover of an equity curve.

    Parameters
    ----------
    equity : array_like of shape (n,)
        One value a bar, > 0. NaN is refused.
    traded : array_like of shape (n,), optional
        Value traded at each bar (sum of |quantity| x price); without it the turnover is 0.

    Returns
    -------
    CurveMetrics
        `sharpe` is 0 with fewer than two returns or without any variation.

    Raises
    ------
    DataError
        A curve is not finite, not positive, or the two differ in length.
    """
    curve = finite_series(equity, "equity")
    if (curve <= 0).any():
        raise DataError(f"equity must be positive, got {curve.min()}. The book is ruined: start a new one.")
    volume = np.zeros(curve.size) if traded is None else finite_series(traded, "traded")
    if volume.size != curve.size:
        raise DataError(f"traded must have as many bars as equity, got {volume.size}. Align the two.")
    returns = np.diff(curve) / curve[:-1]
    spread = float(returns.std(ddof=1)) if returns.size > 1 else 0.0
    sharpe = float(returns.mean()) / spread * np.sqrt(bars_per_year) if spread > 0 else 0.0
    peak = np.maximum.accumulate(curve)
    drawdown = float((1 - curve / peak).max()) if curve.size else 0.0
    turnover = float((volume / curve).mean()) * bars_per_year if curve.size else 0.0
    return CurveMetrics(float(sharpe), drawdown, turnover)
