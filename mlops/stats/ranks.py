"""Do two samples differ, whatever their law? By ranks (Mann-Whitney) and by their whole distributions (KS)."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
from numpy.typing import ArrayLike

from mlops.stats.dependent import finite_series
from mlops.stats.effects import cliffs_delta
from mlops.stats.power import mann_whitney_sample_size
from mlops.stats.results import ALPHA, Alternative, Estimate, HypothesisTest, check_share, unknown_test


def mann_whitney(
    x: ArrayLike, y: ArrayLike, *, alpha: float = ALPHA, alternative: Alternative = "two-sided"
) -> HypothesisTest:
    """Mann-Whitney (Wilcoxon rank-sum) test: does a row of x tend to exceed a row of y?

    Null: both samples have one law. Error rate: exact without ties and up to 8 rows in a sample, near `alpha` else.
    Where the laws differ in spread but not in tendency it still fires at a rate of its own: read the effect's
    interval, which allows that. Assumes **independent** rows, within and between the samples; in time it lies as the
    t-test does.

    Parameters
    ----------
    x, y : array_like of shape (n,), (m,)
        NaN is refused. An empty sample, or all rows tied: unknown.

    Returns
    -------
    HypothesisTest
        `statistic` is the U of x (R's W), `effect` Cliff's delta, `n` = n + m.

    Raises
    ------
    DataError
        A value is not finite, or `alpha` is no share.

    References
    ----------
    Mann and Whitney (1947), Annals of Mathematical Statistics 18. Computed by `scipy.stats.mannwhitneyu`.

    Examples
    --------
    >>> round(mann_whitney([1, 2, 3, 4, 5], [4.5, 6, 7, 8, 9]).p_value, 4)
    0.0159
    """
    from scipy.stats import mannwhitneyu

    first, second = finite_series(x, "x"), finite_series(y, "y")
    n = first.size + second.size
    if not min(first.size, second.size):
        return unknown_test("Mann-Whitney", "Cliff's delta", n, "a sample has no rows")
    if np.ptp(np.concatenate([first, second])) == 0:
        return unknown_test("Mann-Whitney", "Cliff's delta", n, "all rows are tied")
    test = mannwhitneyu(first, second, alternative=alternative)
    effect = cliffs_delta(first, second, alpha=alpha)
    superiority, share = float(test.statistic) / (first.size * second.size), first.size / n
    needed = mann_whitney_sample_size(superiority, share=share, alpha=alpha)
    return HypothesisTest("Mann-Whitney", float(test.statistic), float(test.pvalue), effect, n, needed)


def ks_test(x: ArrayLike, y: ArrayLike, *, alpha: float = ALPHA) -> HypothesisTest:
    """Two-sample Kolmogorov-Smirnov test: do the distribution functions of x and y coincide?

    Null: both samples have one continuous law. Error rate: exact up to 10,000 rows a sample, near `alpha` above; under
    it where there are ties. Assumes **independent** rows: at an autocorrelation of 0.5 it fires in 24 % of the windows
    without any drift, at 0.99 in 99 %. Features in time belong into the drift detectors (`mlops.monitor`), whose null
    is the series' own past.

    Parameters
    ----------
    x, y : array_like of shape (n,), (m,)
        NaN is refused. An empty sample: unknown.

    Returns
    -------
    HypothesisTest
        `statistic` and `effect` are the largest distance D in [0, 1]; the interval adds up the bands of Dvoretzky,
        Kiefer, Wolfowitz and Massart around both distribution functions, so it covers at least at `1 - alpha`.
        `n` = n + m; `n_needed` is not computed (`simulated_sample_size` does).

    Raises
    ------
    DataError
        A value is not finite, or `alpha` is no share.

    References
    ----------
    Smirnov (1939); Massart (1990), Annals of Probability 18(3). Computed by `scipy.stats.ks_2samp`.

    Examples
    --------
    >>> ks_test([1, 2, 3, 4], [3, 4, 5, 6]).statistic
    0.5
    """
    from scipy.stats import ks_2samp

    first, second = finite_series(x, "x"), finite_series(y, "y")
    n = first.size + second.size
    if not min(first.size, second.size):
        return unknown_test("KS", "KS distance", n, "a sample has no rows")
    test = ks_2samp(first, second)
    distance = float(test.statistic)
    # Each band at half of alpha: both hold together at 1 - alpha.
    half = sum(sqrt(log(4 / check_share(alpha, "alpha")) / (2 * rows)) for rows in (first.size, second.size))
    effect = Estimate("KS distance", distance, max(distance - half, 0.0), min(distance + half, 1.0), n)
    return HypothesisTest("KS", distance, float(test.pvalue), effect, n)
