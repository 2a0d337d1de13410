"""How deep a curve fell from its peak, for one path or for many at once."""

from __future__ import annotations

from math import exp, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops.stats.dependent import Floats


def underwater(curve: NDArray[np.floating[Any]], floor: float = -np.inf) -> Floats:
    """How far a curve stands under its running peak, as a positive share of the peak, along the last axis.

    Parameters
    ----------
    curve : ndarray of shape (..., n)
        In order of time; NaN propagates. The peak must be positive: start with a positive value, or give a `floor`.
    floor : float
        What the peak is at the least: where the curve stood before its first value.
    """
    peak = np.maximum(np.maximum.accumulate(curve, axis=-1), floor)
    return np.asarray(1 - curve / peak)


def max_drawdown(returns: Floats) -> Floats:
    """Deepest fall from a running peak, as a positive share of the peak, along the last axis.

    Parameters
    ----------
    returns : ndarray of shape (..., n)
        Simple returns, one a bar, in order of time; the curve starts at 1 before the first of them. NaN propagates.

    Returns
    -------
    ndarray of shape (...)
        In [0, 1] while no return is under -1; 0 for no bars.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(max_drawdown(np.array([0.10, -0.20, 0.05, -0.10]))), 4)
    0.244
    """
    return np.asarray(underwater(np.cumprod(1 + returns, axis=-1), 1.0).max(axis=-1, initial=0.0))


def usual_drawdown(volatility: float, bars: int) -> float:
    """Deepest fall that a book without drift has on average, as a share of the peak.

    That of a Brownian motion in the logarithm: sqrt(pi / 2) standard deviations of the whole span, roughly also for
    returns with fat tails.

    Parameters
    ----------
    volatility : float
        Standard deviation of a bar's return, >= 0.

    References
    ----------
    Magdon-Ismail, Atiya, Pratap and Abu-Mostafa (2004), On the maximum drawdown of a Brownian motion, Journal of
    Applied Probability 41(1).

    Examples
    --------
    >>> round(usual_drawdown(0.01, 252), 3)
    0.18
    """
    return 1 - exp(-sqrt(pi / 2) * volatility * sqrt(bars))
