"""How many trades, bars and years a question takes, before it is asked."""

from __future__ import annotations

from math import ceil

from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats.dependent import MIN_TERMS, ewc_error, finite_series
from mlops.stats.power import mcnemar_sample_size, shares_sample_size
from mlops.stats.results import ALPHA, POWER, check_share


def trades_needed(
    gain: float = 0.02,
    *,
    rate: float = 0.55,
    discordance: float | None = None,
    inflation: float = 1.0,
    alpha: float = ALPHA,
    power: float = POWER,
) -> int | None:
    """Trades to see a win rate `gain` above `rate` with `power`: **an arm** where each arm trades its own, or pairs.

    Two-sided at `alpha`. None for no gain.

    Parameters
    ----------
    gain, rate : float
        Fractions: 0.02 is two points. `rate` matters for arms that trade apart only.
    discordance : float, optional
        Share of rows on which exactly one of two models that score the **same** rows is right; given, the answer
        counts paired rows (McNemar), else trades of each arm (two independent shares).
    inflation : float
        Rows that carry as much as one independent row, >= 1 (`variance_inflation`): about h for labels that overlap h
        bars.

    References
    ----------
    `shares_sample_size` and `mcnemar_sample_size`.

    Examples
    --------
    >>> trades_needed(0.02)
    9669
    >>> [trades_needed(0.02, discordance=share) for share in (0.1, 0.2, 0.3)]
    [1960, 3923, 5885]
    """
    if not inflation >= 1:
        raise DataError(f"inflation must be at least 1, got {inflation}. Independent rows have 1.")
    if discordance is None:
        rows = shares_sample_size(rate, rate + gain, alpha=alpha, power=power)
    else:
        rows = mcnemar_sample_size(gain, discordance=discordance, alpha=alpha, power=power)
    return None if rows is None else ceil(rows * inflation)


def years_needed(annual_sharpe: float, *, inflation: float = 1.0, alpha: float = ALPHA, power: float = POWER) -> float:
    """Years to see that a series of P&L (or of P&L differences) with this true annual Sharpe ratio has a mean.

    Two-sided at `alpha`, normal approximation; how often the series is sampled does not matter. Infinite at 0.

    Examples
    --------
    >>> [round(years_needed(ratio), 1) for ratio in (0.5, 1.0, 2.0)]
    [31.4, 7.8, 2.0]
    """
    from scipy.stats import norm

    if annual_sharpe == 0:
        return float("inf")
    z = float(norm.isf(check_share(alpha, "alpha") / 2) + norm.ppf(check_share(power, "power")))
    return inflation * (z / annual_sharpe) ** 2


def variance_inflation(x: ArrayLike) -> float:
    """How many bars of `x` carry as much about its mean as one independent bar: long-run over plain variance.

    (1 + phi) / (1 - phi) for AR(1), about h for labels that overlap h bars, under 1 where moves revert. An estimate
    with the error of the EWC variance: about sqrt(2 / `ewc_dof(n)`) of itself.

    Parameters
    ----------
    x : array_like of shape (n,)
        In order of time, at least 8. NaN is refused. NaN for a constant.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.convolve(np.random.default_rng(0).normal(size=5000), np.ones(10), "valid")
    >>> 8 < variance_inflation(labels) < 12
    True
    """
    series = finite_series(x, "x", least=MIN_TERMS)
    plain = float(series.var(ddof=1))
    return float(ewc_error(series)) ** 2 * series.size / plain if plain > 0 else float("nan")
