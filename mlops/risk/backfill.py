"""One table of returns for units that have not lived equally long.

A new unit must neither cut everybody's history short nor be left out. Before its first bar it moves as its beta times
the others' mean return, plus residuals drawn from its own; so its own risk is kept and its link to the market too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError

Floats = NDArray[np.float64]
MIN_BARS = 60  # own bars under which a beta is a guess: its standard error is a quarter of a usual stock's spread


@dataclass(frozen=True, slots=True)
class Completed:
    """`returns` of shape (T, N) without a gap; `own`: bars of each unit that are its own; `beta`: of those proxied."""

    returns: Floats
    own: NDArray[np.int64]
    beta: Floats


def returns_of(prices: Floats) -> Floats:
    """Simple returns of prices of shape (T, N); NaN until a unit's second price.

    A price that is missing in between is taken for unchanged: the whole move lies in the bar that shows it.

    Examples
    --------
    >>> import numpy as np
    >>> returns_of(np.array([[1.0, np.nan], [1.1, 2.0], [np.nan, 3.0]])).round(3).tolist()
    [[0.1, nan], [0.0, 0.5]]
    """
    if (prices[np.isfinite(prices)] <= 0).any() or np.isinf(prices).any():
        raise DataError("prices must be positive and finite, or NaN where there is none. Set the bad ones aside.")
    place = np.where(np.isfinite(prices), np.arange(len(prices))[:, None], -1)
    last = np.maximum.accumulate(place, axis=0)
    carried = np.where(last >= 0, np.take_along_axis(prices, np.maximum(last, 0), axis=0), np.nan)
    return np.asarray(carried[1:] / carried[:-1] - 1.0)


def completed(returns: Floats, rng: np.random.Generator, *, least: int = MIN_BARS) -> Completed:
    """Fill what lies before each unit's first return; units under `least` returns of their own are all NaN.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        NaN only before a unit's first return. Units may start at different bars.

    Returns
    -------
    Completed
        `beta` is NaN where nothing was proxied. A unit that nobody else can stand in for (no other unit was there
        before it, or it never moved together with a market that moved) keeps the residuals alone.
    """
    there = np.isfinite(returns)
    own = there.sum(axis=0)
    if (np.diff(there.astype(np.int8), axis=0) < 0).any():
        raise DataError("returns must not stop once they have begun, got a gap. Carry the last price (returns_of).")
    short, known = own < least, there & (own >= least)[None, :]
    filled, beta = np.where(known, returns, np.nan), np.full(returns.shape[1], np.nan)
    for unit in np.flatnonzero((own < len(returns)) & ~short):
        filled[:, unit], beta[unit] = _proxied(returns, known, int(unit), rng)
    return Completed(filled, own, beta)


def _proxied(returns: Floats, known: NDArray[np.bool_], unit: int, rng: np.random.Generator) -> tuple[Floats, float]:
    """A unit's returns, and its beta to the mean of those that were there before it."""
    present = known[:, unit]
    first = int(np.argmax(present))
    older = known[0] & (np.arange(known.shape[1]) != unit)  # there from the first bar on: one market over all bars
    market = returns[:, older].mean(axis=1) if older.any() else np.zeros(len(returns))
    r, m = returns[first:, unit], market[first:]
    spread = float(np.var(m))
    beta = float(np.cov(r, m, bias=True)[0, 1] / spread) if spread > 0 else 0.0
    residuals = r - beta * m
    earlier = beta * market[:first] + rng.choice(residuals, first)
    return np.concatenate([np.maximum(earlier, -1.0), r]), beta
