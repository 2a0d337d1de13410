"""Marginals of filtered returns as tables: their own order statistics in the middle, a Pareto law on either side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtr

from mlops.risk.measures import Floats

TAIL = 0.05  # share of the filtered returns on either side that the Pareto law takes over
LEAST_TAIL = 12  # exceedances under which no Pareto law is fitted
SHAPE = (-0.5, 0.45)  # of the Pareto law; the variance is infinite from 0.5 on, and PWM holds below it
FARTHEST = 1e-7  # probability beyond which a marginal is cut off: once in forty thousand years of days
CELLS = 2048  # of the tables of the marginals


def from_coordinates(grid: ArrayLike) -> Floats:
    """t = 2c / (1 - |c|): the copula's coordinate at places of a table; infinite at its ends."""
    c = np.asarray(grid, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(2 * c / (1 - np.abs(c)))


def copula_cdf(t: Floats, dof: float) -> Floats:
    """Distribution function of the copula's coordinate: Student's, or the normal one for infinite `dof`."""
    return np.asarray(ndtr(t) if np.isinf(dof) else stdtr(dof, t))


def marginal(filtered: Floats, dof: float) -> Floats:
    """The table of one unit."""
    middle = (np.arange(1, 4097) - 0.5) / 4096
    quantile = _quantiles(filtered)
    plain = quantile(middle)
    mean, scale = float(plain.mean()), float(plain.std())
    share = copula_cdf(from_coordinates(np.linspace(-1, 1, CELLS + 1)), dof)
    return np.asarray((quantile(np.clip(share, FARTHEST, 1 - FARTHEST)) - mean) / scale)


def _quantiles(sample: Floats) -> Callable[[Floats], Floats]:
    """Quantile function of a sample, with a Pareto law beyond TAIL on either side."""
    x = np.sort(sample)
    n = x.size
    places = (np.arange(1, n + 1) - 0.5) / n
    k = max(LEAST_TAIL, int(TAIL * n))
    low, high = x[k], x[n - 1 - k]
    left, right = _pareto(low - x[:k][::-1]), _pareto(x[n - k :] - high)
    at_low, at_high = (k + 0.5) / n, 1 - (k + 0.5) / n

    def quantile(share: Floats) -> Floats:
        values = np.interp(share, places, x)
        below, above = share < at_low, share > at_high
        values[below] = low - _excess(share[below] / at_low, *left)
        values[above] = high + _excess((1 - share[above]) / at_low, *right)
        return values

    return quantile


def _pareto(excess: Floats) -> tuple[float, float]:
    """Shape and scale by probability-weighted moments; `excess` ascends."""
    k = excess.size
    weight = 1 - (np.arange(1, k + 1) - 0.35) / k
    mean, moment = float(excess.mean()), float((weight * excess).mean())
    if mean <= 2 * moment or mean == 0:
        return 0.0, mean
    shape = float(np.clip(2 - mean / (mean - 2 * moment), *SHAPE))
    return shape, mean * (1 - shape)


def _excess(share: Floats, shape: float, scale: float) -> Floats:
    return -scale * np.log(share) if abs(shape) < 1e-9 else scale / shape * (share**-shape - 1)
