"""Is a Sharpe ratio more than luck, after so few bars and so many tries?

Ratios are per bar unless a name says "annual": mean over standard deviation of the bars' excess returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import e, inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats.dependent import finite_series
from mlops.stats.results import ALPHA, check_share

EULER_MASCHERONI = 0.5772156649015329
NORMAL_KURTOSIS = 3.0


@dataclass(frozen=True, slots=True)
class SharpeMoments:
    """What the tests of a Sharpe ratio need of `n` returns: ratio per bar, skewness, kurtosis (3 for the normal law).

    `sharpe` is NaN for fewer than two returns and for returns that do not vary.
    """

    sharpe: float
    n: int
    skewness: float = 0.0
    kurtosis: float = NORMAL_KURTOSIS


def sharpe_moments(returns: ArrayLike) -> SharpeMoments:
    """Sharpe ratio (n - 1 in the standard deviation), skewness and kurtosis of returns, shape (n,). NaN is refused.

    Examples
    --------
    >>> moments = sharpe_moments([0.01, -0.01, 0.02, 0.0])
    >>> round(moments.sharpe, 3), round(moments.kurtosis, 2)
    (0.387, 1.64)
    """
    series = finite_series(returns, "returns")
    # Rounding leaves a spread of some 1e-17 in a constant.
    if series.size < 2 or np.ptp(series) <= 1e-13 * np.abs(series).max():
        return SharpeMoments(nan, series.size)
    centred = series - series.mean()
    spread = float((centred**2).mean())
    skewness, kurtosis = float((centred**3).mean()) / spread**1.5, float((centred**4).mean()) / spread**2
    return SharpeMoments(float(series.mean() / series.std(ddof=1)), series.size, skewness, kurtosis)


def sharpe_error(moments: SharpeMoments) -> float:
    """Standard error of a Sharpe ratio per bar, for **independent** returns of any law with four moments.

    Positively autocorrelated returns (smoothed prices, overlapping trades) make it too small: by sqrt((1 + phi) /
    (1 - phi)) for AR(1). Mertens (2002), cited in Bailey and Lopez de Prado (2012), eq. 6. NaN for fewer than two bars.
    """
    if moments.n < 2:
        return nan
    sharpe = moments.sharpe
    return sqrt((1 - moments.skewness * sharpe + (moments.kurtosis - 1) / 4 * sharpe**2) / (moments.n - 1))


def probabilistic_sharpe(moments: SharpeMoments, *, benchmark: float = 0.0) -> float:
    """Probability-like confidence, in [0, 1], that the true Sharpe ratio exceeds `benchmark` (per bar): PSR.

    Null: true ratio <= benchmark; reject at PSR >= 1 - alpha. Error rate: near alpha from some hundred bars on,
    **for one strategy chosen in advance**: the best of 200 without any edge passes at 95 % every time
    (`deflated_sharpe`). Assumes independent returns; for dependent ones test the mean by `dependent_t`. NaN where the
    ratio is unknown.

    References
    ----------
    Bailey and Lopez de Prado (2012), The Sharpe ratio efficient frontier, Journal of Risk 15(2), eq. 11.

    Examples
    --------
    >>> round(probabilistic_sharpe(SharpeMoments(0.1, 250)), 3)
    0.942
    """
    from scipy.stats import norm

    return float(norm.cdf((moments.sharpe - benchmark) / sharpe_error(moments)))


def expected_max_sharpe(trials: float, spread: float) -> float:
    """Expected best ratio of `trials` independent strategies without edge whose ratios have the deviation `spread`.

    In the unit of `spread`. 0 for one trial. Bailey and Lopez de Prado (2014), eq. 1: an approximation, within 0.045 of
    the spread for two trials and more, and a little too high (so the deflated ratio errs to the safe side) from three.

    Examples
    --------
    >>> round(expected_max_sharpe(100, 1.0), 3)
    2.531
    """
    from scipy.stats import norm

    if trials < 1 or spread < 0:
        raise DataError(f"trials must be >= 1 and spread >= 0, got {trials} and {spread}. Count every variant tried.")
    if trials == 1:
        return 0.0
    best = (1 - EULER_MASCHERONI) * norm.isf(1 / trials) + EULER_MASCHERONI * norm.isf(1 / (trials * e))
    return max(float(best), 0.0) * spread


def deflated_sharpe(moments: SharpeMoments, *, trials: float, spread: float) -> float:
    """PSR against the ratio that the best of `trials` strategies without edge is expected to show: DSR, in [0, 1].

    Null: the selected strategy has no edge, and neither have the others. Error rate: the chance that the best of 200
    without edge reaches 0.95 is far under 5 % (measured 0 %): the expected best already takes the luck out, so what is
    left must be nearly two standard errors beyond it. Assumes independent returns, and **every** try counted:
    parameter sweeps, features dropped, other people's tries. Correlated tries count less (`independent_trials`).

    Parameters
    ----------
    moments : SharpeMoments
        Of the selected strategy.
    trials : float
        Independent tries, >= 1.
    spread : float
        Standard deviation (n - 1) of the ratios per bar over all tries.

    References
    ----------
    Bailey and Lopez de Prado (2014), The deflated Sharpe ratio, Journal of Portfolio Management 40(5).

    Examples
    --------
    >>> annual = SharpeMoments(2.5 / 250**0.5, 1250, skewness=-3.0, kurtosis=10.0)
    >>> round(deflated_sharpe(annual, trials=100, spread=(0.5 / 250) ** 0.5), 4)
    0.9004
    """
    return probabilistic_sharpe(moments, benchmark=expected_max_sharpe(trials, spread))


def independent_trials(returns: ArrayLike) -> float:
    """How many independent tries the correlated columns of `returns`, shape (n, tries), amount to.

    r + (1 - r) tries, with r their mean correlation (never under 0): 1 where all are one strategy. Constant columns
    count as tries of their own. NaN is refused.

    References
    ----------
    Bailey and Lopez de Prado (2014), appendix 3.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.random.default_rng(0).normal(size=(100, 1))
    >>> independent_trials(np.repeat(one, 50, axis=1))
    1.0
    """
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise DataError(f"returns must be a finite table (bars, tries), got shape {table.shape}. One column a try.")
    tries = table.shape[1]
    if tries < 2:
        return float(tries)
    centred = table - table.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    unit = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    # The sum of all correlations is the squared length of the sum of the unit columns.
    total = float((unit.sum(axis=1) ** 2).sum()) - int((norms > 0).sum())
    mean = min(max(total / (tries * (tries - 1)), 0.0), 1.0)
    return float(round(mean + (1 - mean) * tries, 9))


def min_track_record(moments: SharpeMoments, *, benchmark: float = 0.0, alpha: float = ALPHA) -> float:
    """Bars at which PSR would reach `1 - alpha` with the ratio, skewness and kurtosis staying as they are.

    In bars, one-sided; infinite where the ratio does not exceed `benchmark`, NaN where it is unknown. Assumptions as
    `probabilistic_sharpe`.

    References
    ----------
    Bailey and Lopez de Prado (2012), eq. 13.

    Examples
    --------
    >>> daily = SharpeMoments(2 / 252**0.5, 252)
    >>> round(min_track_record(daily, benchmark=1 / 252**0.5) / 252, 2)
    2.73
    """
    from scipy.stats import norm

    gain = moments.sharpe - benchmark
    if not gain > 0:
        return nan if np.isnan(gain) else inf
    variance = 1 - moments.skewness * moments.sharpe + (moments.kurtosis - 1) / 4 * moments.sharpe**2
    return 1 + variance * (float(norm.isf(check_share(alpha, "alpha"))) / gain) ** 2


def min_backtest_years(trials: float, *, annual_sharpe: float = 1.0) -> float:
    """Years of backtest under which the best of `trials` without edge is expected to show `annual_sharpe`.

    A backtest shorter than this says nothing at all, however good it looks; a longer one is not yet proof.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2014), Pseudo-mathematics and financial charlatanism, Notices of the AMS
    61(5), theorem 1.

    Examples
    --------
    >>> round(min_backtest_years(45), 1)
    5.0
    """
    if not annual_sharpe > 0:
        raise DataError(f"annual_sharpe must be positive, got {annual_sharpe}. Give what the backtest shows.")
    return (expected_max_sharpe(trials, 1.0) / annual_sharpe) ** 2
