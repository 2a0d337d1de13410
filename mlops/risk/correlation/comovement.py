"""How the units of a book move together now, in one call: what a page shows of correlation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.risk.correlation.breakdown import BREAKDOWN, Breakdown, State, breakdown
from mlops.risk.correlation.diversification import (
    Concentration,
    absorption,
    clusters,
    concentration,
    diversification_ratio,
    effective_bets,
    effective_dimension,
    risk_contributions,
)
from mlops.risk.correlation.matrices import WINDOW, Correlation, Floats, checked_returns, correlation, deviations, taken
from mlops.risk.correlation.threshold import Calibration

UNCALIBRATED = "not calibrated yet"


@dataclass(frozen=True, slots=True)
class Comovement:
    """The last window. Matrices and labels are in `order`, which are columns of the returns, like beside like.

    `matrix` is Pearson's; `change` is against the window before and NaN where a unit had none then (and everywhere
    under two windows). `left_out`: column -> why it has no correlation. `bets` is what the book makes of `dimension`,
    what the market offers (see `effective_bets`, `effective_dimension`). Of the concentrations `held` is of weights,
    `risk` of contributions to variance. Numbers of a book without positions are NaN. `uncovered`: share of the gross
    weight that is in units left out, of which the book's numbers know nothing.
    """

    order: NDArray[np.intp]
    matrix: Floats
    change: Floats
    labels: NDArray[np.intp]
    left_out: Mapping[int, str]
    mean: float
    dimension: float
    absorption: float
    diversification_ratio: float
    bets: float
    held: Concentration
    risk: Concentration
    uncovered: float
    breakdown: Breakdown


def comovement(
    returns: Floats,
    weights: Floats,
    calibration: Calibration | None = None,
    *,
    last: State = State.UNKNOWN,
    window: int = WINDOW,
    limit: float = BREAKDOWN,
) -> Comovement:
    """Everything about correlation that a page shows, from the newest returns and the book.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Simple returns, oldest first, two windows of them or more. NaN: no bar, see `correlation`.
    weights : ndarray of shape (N,)
        Value / equity, signed. NaN is refused.
    calibration : Calibration, optional
        Of `calibrate`; its window is the one used. Without it the state is unknown.
    last : State
        At the last close, from `states`.
    """
    table, held = checked_returns(returns), np.asarray(weights, dtype=np.float64)
    if held.shape != (table.shape[1],) or not np.isfinite(held).all():
        raise DataError(f"weights must be {table.shape[1]} finite numbers, got {held}. One for each column of returns.")
    scale = calibration or Calibration(np.nan, np.nan, np.nan, 0, 0, window, UNCALIBRATED)
    now = correlation(table[-scale.window :])
    labels, order = clusters(now)
    weight, volatility = held[now.columns], deviations(table[-scale.window :][:, now.columns])[1]
    gross = float(np.abs(held).sum())
    return Comovement(
        order=now.columns[order],
        matrix=taken(now.matrix, order),
        change=taken(_change(table[: -scale.window][-scale.window :], now), order),
        labels=labels[order],
        left_out=now.left_out,
        mean=now.mean,
        dimension=effective_dimension(now),
        absorption=absorption(now),
        diversification_ratio=diversification_ratio(weight, volatility, now),
        bets=effective_bets(weight, volatility, now),
        held=concentration(held),
        risk=concentration(risk_contributions(weight, volatility, now)),
        uncovered=1 - float(np.abs(weight).sum()) / gross if gross > 0 else 0.0,
        breakdown=breakdown(table, scale, last=last, limit=limit),
    )


def _change(past: Floats, now: Correlation) -> Floats:
    before = correlation(past)
    both = np.intersect1d(before.columns, now.columns, assume_unique=True)
    if len(both) == len(now.columns) == len(before.columns):
        return np.subtract(now.matrix, before.matrix, out=before.matrix)
    change = np.full_like(now.matrix, np.nan)
    here, there = np.searchsorted(now.columns, both), np.searchsorted(before.columns, both)
    change[np.ix_(here, here)] = taken(now.matrix, here) - taken(before.matrix, there)
    return change
