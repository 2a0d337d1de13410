"""Do two means differ? For independent rows (t), and for rows in time (EWC)."""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import ArrayLike

from mlops.stats.dependent import MIN_TERMS, Floats, aligned_pair, ewc_dof, ewc_error, finite_series
from mlops.stats.results import (
    ALPHA,
    Alternative,
    Estimate,
    HypothesisTest,
    check_share,
    rows_needed,
    unknown_test,
)

EFFECT = "mean difference"
ROUNDING = 1e-13  # of the largest value: variation under it is what subtraction leaves over, not data


def paired_t(
    x: ArrayLike, y: ArrayLike, *, alpha: float = ALPHA, alternative: Alternative = "two-sided"
) -> HypothesisTest:
    """Student's t-test of the mean of `x - y`, row by row.

    Null: the differences have mean 0 (<= 0 for "greater", >= 0 for "less"). Error rate: `alpha`, exact for normal
    differences, close to it for others from some thirty rows on. Assumes that the differences are **independent of each
    other**: for bars in time, and above all for labels that overlap, it lies (51 % false alarms at 10-bar labels, see
    docs/statistics.md); use `dependent_t` there, and `sequential_test` where the data are looked at more than once.

    Parameters
    ----------
    x, y : array_like of shape (n,)
        In pairs, in one unit. NaN is refused. Fewer than 2 pairs, or differences that are one constant: unknown.

    Returns
    -------
    HypothesisTest
        `statistic` is t with n - 1 degrees of freedom, `effect` the mean of `x - y`.

    Raises
    ------
    DataError
        A value is not finite, the lengths differ, or `alpha` is no share.

    References
    ----------
    Student (1908), The probable error of a mean, Biometrika 6.

    Examples
    --------
    >>> round(paired_t([0.7, -1.6, -0.2, -1.2], [1.9, 0.8, 1.1, 0.1]).p_value, 4)
    0.0121
    """
    first, second = aligned_pair(x, y)
    difference = first - second
    if (verdict := _trivial("paired t", difference, _scale(first, second), least=2)) is not None:
        return verdict
    error = float(difference.std(ddof=1)) / np.sqrt(difference.size)
    return _t_test("paired t", difference.mean(), error, difference.size - 1, difference.size, alpha, alternative)


def welch_t(
    x: ArrayLike, y: ArrayLike, *, alpha: float = ALPHA, alternative: Alternative = "two-sided"
) -> HypothesisTest:
    """Welch's t-test of two means whose variances may differ.

    Null: both samples have one mean. Error rate: near `alpha` for normal rows, for others from some thirty rows a
    sample on. Assumes that all rows are **independent**, within and between the samples: two models scored on the same
    bars are not (pair them), and rows in time are not (`dependent_t`).

    Parameters
    ----------
    x, y : array_like of shape (n,), (m,)
        NaN is refused. Fewer than 2 rows in a sample, or no variation in either: unknown.

    Returns
    -------
    HypothesisTest
        `statistic` is t with the Welch-Satterthwaite degrees of freedom, `effect` is mean(x) - mean(y), `n` = n + m.

    Raises
    ------
    DataError
        A value is not finite, or `alpha` is no share.

    References
    ----------
    Welch (1947), Biometrika 34.

    Examples
    --------
    >>> round(welch_t([0.7, -1.6, -0.2, -1.2], [1.9, 0.8, 1.1, 0.1]).p_value, 4)
    0.0551
    """
    first, second = finite_series(x, "x"), finite_series(y, "y")
    n = first.size + second.size
    if min(first.size, second.size) < 2:
        return unknown_test("Welch t", EFFECT, n, f"{first.size} and {second.size} rows, 2 needed in each sample")
    if max(np.ptp(first), np.ptp(second)) <= _scale(first, second) * ROUNDING:
        return unknown_test("Welch t", EFFECT, n, "neither sample varies: its variance is not known")
    error_x, error_y = first.var(ddof=1) / first.size, second.var(ddof=1) / second.size
    # Satterthwaite's degrees of freedom.
    dof = (error_x + error_y) ** 2 / (error_x**2 / (first.size - 1) + error_y**2 / (second.size - 1))
    return _t_test("Welch t", first.mean() - second.mean(), np.sqrt(error_x + error_y), dof, n, alpha, alternative)


def dependent_t(
    x: ArrayLike, y: ArrayLike | None = None, *, alpha: float = ALPHA, alternative: Alternative = "two-sided"
) -> HypothesisTest:
    """Equal-weighted-cosine t-test of the mean of `x - y` (or of `x`) where bars depend on each other.

    Null: a stationary series of differences, of short memory, with mean 0. Error rate: as `ewc_test`, which this wraps:
    near 5 % on AR(0.5), GARCH and 10-bar overlaps. One look: for repeated looks `sequential_test`. Costs some power
    where the rows are independent after all: its t has only 0.4 n^(2/3) degrees of freedom.

    Parameters
    ----------
    x, y : array_like of shape (n,)
        One value a bar in order of time, in pairs. NaN is refused. Fewer than 8 bars, or differences that are one
        constant: unknown.

    Raises
    ------
    DataError
        A value is not finite, the lengths differ, or `alpha` is no share.

    References
    ----------
    Lazarus, Lewis, Stock and Watson (2018), JBES 36(4).

    Examples
    --------
    >>> import numpy as np
    >>> gain = np.random.default_rng(0).normal(0.2, 1, 250)
    >>> test = dependent_t(gain)
    >>> test.effect.low < 0.2 < test.effect.high
    True
    """
    series = finite_series(x, "x")
    other = aligned_pair(x, y)[1] if y is not None else np.zeros_like(series)
    difference = series - other
    if (verdict := _trivial("EWC t", difference, _scale(series, other), least=MIN_TERMS)) is not None:
        return verdict
    n = difference.size
    return _t_test("EWC t", difference.mean(), float(ewc_error(difference)), ewc_dof(n), n, alpha, alternative)


def _t_test(
    name: str, mean: float, error: float, dof: float, n: int, alpha: float, alternative: Alternative
) -> HypothesisTest:
    from scipy.stats import t as student

    value, statistic = float(mean), float(mean / error)
    half = float(student.isf(check_share(alpha, "alpha") / 2, dof)) * float(error)
    p = 2 * student.sf(abs(statistic), dof)
    if alternative != "two-sided":
        p = student.sf(statistic if alternative == "greater" else -statistic, dof)
    effect = Estimate(EFFECT, value, value - half, value + half, n)
    return HypothesisTest(name, statistic, float(p), effect, n, rows_needed(n, statistic, alpha=alpha))


def _scale(first: Floats, second: Floats) -> float:
    return float(max(np.abs(first).max(initial=0.0), np.abs(second).max(initial=0.0)))


def _trivial(name: str, difference: Floats, scale: float, *, least: int) -> HypothesisTest | None:
    """The verdict where no t can be computed: too few pairs, two equal series, or one constant difference."""
    n = difference.size
    if n < least:
        return unknown_test(name, EFFECT, n, f"{n} pairs, {least} needed")
    if np.abs(difference).max() <= scale * ROUNDING:
        note = "the two series are equal: no evidence of a difference"
        return HypothesisTest(name, 0.0, 1.0, Estimate(EFFECT, 0.0, nan, nan, n, note), n, note=note)
    if np.ptp(difference) <= scale * ROUNDING:
        return unknown_test(name, EFFECT, n, "all differences are one constant: their variance is not known")
    return None
