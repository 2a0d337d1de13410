"""Mean and Sharpe ratio along the last axis, what each bar adds to them, and so their errors under dependence."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mlops.stats.dependent import MIN_TERMS, Floats, aligned_pair, ewc_dof, ewc_error
from mlops.stats.results import ALPHA, Estimate, HypothesisTest, check_share, rows_needed, unknown_test

RATIO = "Sharpe ratio difference"


def mean(x: Floats) -> Floats:
    """Mean along the last axis."""
    return np.asarray(x.mean(axis=-1))


def sharpe_ratio(x: Floats) -> Floats:
    """Mean over standard deviation (n - 1) along the last axis, per bar; 0 where there is no variation."""
    spread = x.std(axis=-1, ddof=1)
    return np.asarray(np.divide(x.mean(axis=-1), spread, out=np.zeros_like(spread), where=spread > 0))


def sharpe_influence(x: Floats) -> Floats:
    """What each bar adds to the Sharpe ratio per bar, shape as `x`: z - (z^2 - 1) ratio / 2, with z standard scores.

    The mean of these is 0, and their long-run error is that of the ratio: `ewc_error(sharpe_influence(x))`. 0 where
    there is no variation. Lo (2002), Financial Analysts Journal 58(4); Ledoit and Wolf (2008).
    """
    spread = x.std(axis=-1, keepdims=True)
    z = np.divide(x - x.mean(axis=-1, keepdims=True), spread, out=np.zeros_like(x), where=spread > 0)
    return np.asarray(z - (z**2 - 1) * sharpe_ratio(x)[..., None] / 2)


def sharpe_ewc_error(x: Floats) -> Floats:
    """Standard error of the Sharpe ratio per bar along the last axis, for bars that depend on each other."""
    return ewc_error(sharpe_influence(x))


def sharpe_difference(x: ArrayLike, y: ArrayLike, *, alpha: float = ALPHA) -> HypothesisTest:
    """Do two strategies on the same bars have one Sharpe ratio? Delta method with the EWC variance, two-sided.

    Null: equal ratios per bar. Error rate: near `alpha` for stationary returns with four moments and short memory,
    correlated with each other or not; measured in docs/statistics.md. It sees little: an annual difference of 1 takes
    eight years (`years_needed`) when the two are uncorrelated.

    Parameters
    ----------
    x, y : array_like of shape (n,)
        Returns a bar, in pairs, in order of time. NaN is refused. Fewer than 8 bars, or a strategy that does not
        vary: unknown.

    Returns
    -------
    HypothesisTest
        `effect` is the ratio of x minus that of y, **per bar**: times the root of the bars a year for annual ones.

    Raises
    ------
    DataError
        A value is not finite, the lengths differ, or `alpha` is no share.

    References
    ----------
    Ledoit and Wolf (2008), Robust performance hypothesis testing with the Sharpe ratio, Journal of Empirical Finance
    15; variance and t law by Lazarus, Lewis, Stock and Watson (2018).

    Examples
    --------
    >>> import numpy as np
    >>> market = np.random.default_rng(0).normal(0.0, 1.0, 1000)
    >>> sharpe_difference(market + 0.2, market).p_value < 0.01
    True
    """
    from scipy.stats import t as student

    first, second = aligned_pair(x, y)
    n = first.size
    if n < MIN_TERMS:
        return unknown_test("Sharpe difference", RATIO, n, f"{n} bars, {MIN_TERMS} needed")
    if min(first.std(), second.std()) == 0:
        return unknown_test("Sharpe difference", RATIO, n, "a strategy does not vary")
    value = float(sharpe_ratio(first) - sharpe_ratio(second))
    error = float(ewc_error(sharpe_influence(first) - sharpe_influence(second)))
    if error <= 1e-13:
        return HypothesisTest("Sharpe difference", 0.0, 1.0, Estimate(RATIO, value, value, value, n), n)
    statistic, dof = value / error, ewc_dof(n)
    half = float(student.isf(check_share(alpha, "alpha") / 2, dof)) * error
    effect = Estimate(RATIO, value, value - half, value + half, n)
    p = float(2 * student.sf(abs(statistic), dof))
    return HypothesisTest("Sharpe difference", statistic, p, effect, n, rows_needed(n, statistic, alpha=alpha))
