"""The mean of bounded values, at every row, exactly: an e-process for martingale differences. Anytime McNemar."""

from __future__ import annotations

from math import exp, log

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from mlops.errors import DataError
from mlops.stats.anytime import MOST_LOG_E, ConfidenceSequence
from mlops.stats.dependent import Floats, aligned_pair, finite_series
from mlops.stats.power import least_rows
from mlops.stats.results import ALPHA, check_share

# Shares of the stake that are bet, all of them at once with equal capital: from half a point of hit rate on discordant
# rows to certainty, a quarter apart, so that one of them is always near the best bet.
STAKES = np.geomspace(0.005, 0.9, 24)


def anytime_mcnemar(x: ArrayLike, y: ArrayLike, *, alpha: float = ALPHA, margin: float = 0.0) -> ConfidenceSequence:
    """McNemar's question, asked after every pair: is x right more often than y? Exact at every row.

    `bounded_confidence_sequence` of the differences of hits; at `margin` 0 its e-value is a mixture of likelihood
    ratios of the discordant pairs (1 to q) against one half, which concordant pairs leave as it is.

    Parameters
    ----------
    x, y : array_like of shape (n,)
        1 where the model was right, else 0, in pairs, in order of time. NaN and other values are refused.

    Examples
    --------
    >>> anytime_mcnemar([1] * 12, [0] * 12).e_value > 20
    True
    """
    first, second = aligned_pair(x, y)
    if not np.isin(np.concatenate([first, second]), (0.0, 1.0)).all():
        raise DataError("x and y must be 0 or 1, got other values. Pass hits, not probabilities.")
    return bounded_confidence_sequence(first - second, alpha=alpha, margin=margin)


def bounded_confidence_sequence(
    x: ArrayLike, *, low: float = -1.0, high: float = 1.0, alpha: float = ALPHA, margin: float = 0.0
) -> ConfidenceSequence:
    """Interval of the mean of values in [low, high] that holds at every row at once. Exact, from the first row on.

    Null of the e-value: **given the past**, each value has a mean of at most `margin`. Error rate: the chance that the
    e-value ever reaches 1 / alpha, or the interval ever misses a constant conditional mean, is at most `alpha`: a
    theorem (Ville), no approximation, whatever else the law does. Assumes that the past does not foretell the mean:
    labels that overlap break it (take every h-th bar of h-bar labels, or `confidence_sequence`); several units of a bar
    are one value, their mean.

    Parameters
    ----------
    x : array_like of shape (n,)
        In order of time; differences of hits by default. NaN and values outside are refused.
    margin : float
        In (low, high).

    Raises
    ------
    DataError
        `x` is no finite vector within the bounds, `margin` not inside them, or `alpha` no share.

    References
    ----------
    Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86(1); Ville (1939).

    Examples
    --------
    >>> seen = bounded_confidence_sequence([1.0] * 40 + [0.0] * 60)
    >>> round(seen.lower, 2), round(seen.upper, 2)
    (0.24, 0.57)
    """
    series = _bounded(x, low, high, margin)
    threshold = log(2 / check_share(alpha, "alpha"))
    n, value = series.size, float(series.mean()) if series.size else 0.0
    values, counts = _multiset(series)
    e = exp(min(_log_e(_logs(values, counts, margin, low)), MOST_LOG_E))
    lower = _lower(values, counts, low, threshold)
    upper = -_lower(-values, counts, -high, threshold)
    needed = _needed(values, counts, margin, low, high, threshold)
    return ConfidenceSequence(n, value, lower, upper, margin, e, min(1.0, 1 / e), needed)


def bounded_e_process(x: ArrayLike, *, low: float = -1.0, high: float = 1.0, margin: float = 0.0) -> Floats:
    """The e-value of `bounded_confidence_sequence` after each row, shape (n,); arguments, null and rate as there.

    Examples
    --------
    >>> bounded_e_process([1.0] * 12)[[0, 11]].round(1).tolist()
    [1.2, 137.9]
    """
    series = _bounded(x, low, high, margin)
    paths = np.log1p(np.outer((series - margin) / (margin - low), STAKES)).cumsum(axis=0)
    return np.asarray(np.exp(np.minimum(logsumexp(paths, axis=1) - log(STAKES.size), MOST_LOG_E)))


def _bounded(x: ArrayLike, low: float, high: float, margin: float) -> Floats:
    series = finite_series(x, "x")
    if not low < margin < high:
        raise DataError(f"margin must lie between low and high, got {margin}, {low} and {high}. Mend the bounds.")
    if series.size and not low <= series.min() <= series.max() <= high:
        got = f"{series.min()} to {series.max()}"
        raise DataError(f"x must lie in [{low}, {high}], got {got}. Give the bounds that hold for every row.")
    return series


def _multiset(series: Floats) -> tuple[Floats, Floats]:
    values, counts = np.unique(series, return_counts=True)
    return values, counts.astype(np.float64)


def _logs(values: Floats, counts: Floats, mean: float, low: float) -> Floats:
    """Logarithm of what each stake has won, betting that the mean is greater; the order of the rows does not matter."""
    return np.asarray(counts @ np.log1p(np.outer((values - mean) / (mean - low), STAKES)))


def _log_e(logs: Floats) -> float:
    return float(logsumexp(logs)) - log(STAKES.size)


def _lower(values: Floats, counts: Floats, low: float, threshold: float) -> float:
    """The least mean against which nobody has won 2 / alpha; what is won falls as the mean rises."""
    from scipy.optimize import brentq

    if not values.size or values.max() <= low:
        return low
    value = float(np.average(values, weights=counts))
    step = (value - low) * 1e-12

    def excess(mean: float) -> float:
        return _log_e(_logs(values, counts, mean, low)) - threshold

    return low if excess(low + step) < 0 else float(brentq(excess, low + step, value, xtol=1e-12))


def _needed(values: Floats, counts: Floats, margin: float, low: float, high: float, threshold: float) -> int | None:
    n = int(counts.sum())
    if not n:
        return None
    sides = (_logs(values, counts, margin, low) / n, _logs(-values, counts, -margin, -high) / n)
    if max(float(side.max()) for side in sides) <= 0:
        return None
    return least_rows(lambda m: float(max(_log_e(side * m) for side in sides) >= threshold), power=0.5, least=n)
