"""What an equity curve is worth: Sharpe ratio, drawdown, turnover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats import finite_series

BARS_PER_YEAR = 252


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
