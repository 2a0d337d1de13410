"""How large a difference is, free of its unit: Cohen's d, Hedges' g, Cliff's delta."""

from __future__ import annotations

from math import exp, lgamma, log, sqrt

import numpy as np
from numpy.typing import ArrayLike

from mlops.stats.dependent import Floats, aligned_pair, finite_series
from mlops.stats.intervals import noncentral_t
from mlops.stats.results import ALPHA, Estimate, check_share, unknown_estimate


def cohens_d(x: ArrayLike, y: ArrayLike, *, paired: bool = False, alpha: float = ALPHA) -> Estimate:
    """Mean of x minus mean of y in standard deviations, with the interval of the noncentral t law.

    By custom 0.2 is small, 0.5 medium, 0.8 large (Cohen 1988); of daily returns 0.1 is an annual Sharpe ratio of 1.6.
    The interval covers at `1 - alpha` for **independent normal** rows of one variance; heavy tails cost some coverage
    (use `cliffs_delta`), dependence in time costs much (`bootstrap_interval` of the same ratio).

    Parameters
    ----------
    x, y : array_like of shape (n,), (m,)
        NaN is refused. Too few rows (2 pairs; 2 in all beyond one each) or no variation: unknown.
    paired : bool
        In units of the differences' standard deviation (d_z) instead of the pooled one of the rows.

    Raises
    ------
    DataError
        A value is not finite, pairs differ in length, or `alpha` is no share.

    References
    ----------
    Cohen (1988), ch. 2; Cumming and Finch (2001), Educational and Psychological Measurement 61(4).

    Examples
    --------
    >>> d = cohens_d([0.7, -1.6, -0.2, -1.2, -0.1], [1.9, 0.8, 1.1, 0.1, -0.1])
    >>> round(d.value, 2), d.low < d.value < d.high
    (-1.43, True)
    """
    return _standardised("Cohen's d", x, y, paired=paired, alpha=alpha, corrected=False)


def hedges_g(x: ArrayLike, y: ArrayLike, *, paired: bool = False, alpha: float = ALPHA) -> Estimate:
    """Cohen's d without its small-sample bias; everything else as `cohens_d`.

    References
    ----------
    Hedges (1981), Journal of Educational Statistics 6(2): the exact factor, by gamma functions.

    Examples
    --------
    >>> x, y = [0.7, -1.6, -0.2, -1.2, -0.1], [1.9, 0.8, 1.1, 0.1, -0.1]
    >>> round(hedges_g(x, y).value / cohens_d(x, y).value, 4)
    0.9027
    """
    return _standardised("Hedges' g", x, y, paired=paired, alpha=alpha, corrected=True)


def cliffs_delta(x: ArrayLike, y: ArrayLike, *, alpha: float = ALPHA) -> Estimate:
    """P(x > y) - P(x < y) for rows drawn at random, in [-1, 1]; no law of the rows is assumed.

    Interval: Feng and Cliff's asymmetric one with the unbiased variance and n + m - 2 degrees of freedom. It assumes
    **independent** rows, within and between the samples. By custom 0.15 is small, 0.33 medium, 0.47 large. Costs
    (n + m) log(n + m).

    Parameters
    ----------
    x, y : array_like of shape (n,), (m,)
        NaN is refused. Fewer than 2 rows in a sample: unknown.

    Raises
    ------
    DataError
        A value is not finite, or `alpha` is no share.

    References
    ----------
    Cliff (1996), Ordinal Methods for Behavioral Data Analysis, ch. 5; Feng and Cliff (2004), Journal of Modern Applied
    Statistical Methods 3(2).

    Examples
    --------
    >>> round(cliffs_delta([1, 2, 4], [1, 1, 3]).value, 3)
    0.333
    """
    from scipy.stats import t as student

    first, second = finite_series(x, "x"), finite_series(y, "y")
    n, m = first.size, second.size
    if min(n, m) < 2:
        return unknown_estimate("Cliff's delta", n + m, f"{n} and {m} rows, 2 needed in each sample")
    by_x, by_y = _dominance(first, second), -_dominance(second, first)
    delta = float(by_x.mean())
    # Where every x beats every y the variance estimate is 0: take it one pair short of that, as R's effsize does.
    at = delta * (1 - 1 / (n * m)) if abs(delta) == 1 else delta
    critical = float(student.isf(check_share(alpha, "alpha") / 2, n + m - 2))
    low, high = _asymmetric(at, _variance(first, second, by_x - at, by_y - at, at), critical)
    value = min(max(delta, -1.0), 1.0)
    return Estimate("Cliff's delta", value, -1.0 if delta == -1 else low, 1.0 if delta == 1 else high, n + m)


def _standardised(name: str, x: ArrayLike, y: ArrayLike, *, paired: bool, alpha: float, corrected: bool) -> Estimate:
    first, second = aligned_pair(x, y) if paired else (finite_series(x, "x"), finite_series(y, "y"))
    n, dof = (first.size, first.size - 1) if paired else (first.size + second.size, first.size + second.size - 2)
    if dof < 1 or not min(first.size, second.size):
        return unknown_estimate(name, n, f"{first.size} and {second.size} rows are too few")
    spread = float((first - second).std(ddof=1)) if paired else _pooled(first, second, dof)
    if spread <= 1e-13 * max(np.abs(first).max(), np.abs(second).max()):
        return unknown_estimate(name, n, "the rows do not vary: there is no standard deviation to measure in")
    root = sqrt(n if paired else first.size * second.size / n)
    d = float(first.mean() - second.mean()) / spread
    low, high = noncentral_t(d * root, dof, check_share(alpha, "alpha"))
    factor = _hedges_factor(dof) if corrected else 1.0
    return Estimate(name, d * factor, low / root * factor, high / root * factor, n)


def _pooled(first: Floats, second: Floats, dof: int) -> float:
    return sqrt(float(((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()) / dof)


def _hedges_factor(dof: int) -> float:
    if dof < 2:
        return 0.0  # one degree of freedom: d has no mean to be unbiased for
    return exp(lgamma(dof / 2) - lgamma((dof - 1) / 2) - log(dof / 2) / 2)


def _dominance(rows: Floats, others: Floats) -> Floats:
    """For each row, the share of the others below it less the share above it."""
    ordered = np.sort(others)
    below, upto = np.searchsorted(ordered, rows, side="left"), np.searchsorted(ordered, rows, side="right")
    return np.asarray((below - (others.size - upto)) / others.size)


def _variance(first: Floats, second: Floats, by_x: Floats, by_y: Floats, at: float) -> float:
    """Unbiased variance of delta, from the dominance of each row around `at` (Cliff 1996, eq. 5.11)."""
    n, m = first.size, second.size
    ordered = np.sort(second)
    ties = np.searchsorted(ordered, first, side="right") - np.searchsorted(ordered, first, side="left")
    untied = n * m - float(ties.sum())
    delta = float(by_x.mean()) + at
    squares = untied - 2 * at * delta * n * m + at**2 * n * m  # sum of (d_ij - at)^2 over all pairs
    whole = m**2 * float((by_x**2).sum()) + n**2 * float((by_y**2).sum()) - squares
    floor = (1 - at**2) / (n * m - 1)  # the unbiased estimate can be negative; Cliff's least possible variance
    return max(whole / (n * m * (n - 1) * (m - 1)), floor)


def _asymmetric(at: float, variance: float, critical: float) -> tuple[float, float]:
    half = critical * sqrt(variance) * sqrt((1 - at**2) ** 2 + critical**2 * variance)
    below = 1 - at**2 + critical**2 * variance
    return (at - at**3 - half) / below, (at - at**3 + half) / below
