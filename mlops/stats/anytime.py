"""A mean, judged at every bar and for as long as one likes: confidence sequences and e-values for dependent series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from mlops.errors import DataError
from mlops.stats.dependent import Floats, ewc_dof, ewc_error, finite_series, mean_skewness, skewed, unskewed
from mlops.stats.power import least_rows
from mlops.stats.results import ALPHA, check_share

Rows = NDArray[np.int64]
TUNED_AT = 250  # rows at which the interval is tightest: one year of daily bars
FIRST = 20  # rows before anything is said: 3 cosines, under which a t says nothing
LEAST_P = 1e-300  # beyond it e-values are called e^690, not infinity
MOST_LOG_E = 690.0
ROUNDING = 1e-13  # of the largest value: variation under it is what arithmetic leaves over, not data
FIXED_POINTS = 40  # steps to the bound; each gains more than a digit


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """What `n` rows say about a mean, at whatever `n` somebody looks.

    `lower` to `upper` holds the mean at **every** n at once with a chance of 1 - alpha; infinite while nothing can be
    said. `e_value`: evidence against "mean <= `margin`" (1: none; 20 is as strong as p = 0.05); `p_value` is the lesser
    of 1 and its inverse. `n_needed`: rows at which the present estimate, were it the truth, would keep `margin` out of
    the interval, on either side; `n` where it is out already, None where that is never (the estimate is the margin) or
    nothing is known yet.
    """

    n: int
    estimate: float
    lower: float
    upper: float
    margin: float
    e_value: float
    p_value: float
    n_needed: int | None


@dataclass(frozen=True, slots=True)
class EvidencePath:
    """The same after each of `rows` rows, all of shape (looks,): for plots, and to find the first bar that proved."""

    rows: Rows
    estimate: Floats
    lower: Floats
    upper: Floats
    e_value: Floats

    def first(self, threshold: float) -> int | None:
        """Rows at which the e-value first reached `threshold`, or None."""
        reached = np.flatnonzero(self.e_value >= threshold)
        return int(self.rows[reached[0]]) if reached.size else None


def confidence_sequence(
    x: ArrayLike, *, alpha: float = ALPHA, margin: float = 0.0, tuned_at: int = TUNED_AT, min_n: int = FIRST
) -> ConfidenceSequence:
    """Interval of a mean that holds at every bar at once, where bars depend on each other. No plan, no horizon.

    Null of the e-value: a stationary short-memory series with mean <= `margin`. Error rate: the chance that the
    interval **ever** misses the mean, from bar `min_n` on and looked at every bar, is at most `alpha`, and that the
    e-value ever reaches 1 / alpha at most `alpha`. It is asymptotic, so it was measured: docs/evidence.md has the rates
    on t5, AR, GARCH, 5- and 10-bar overlaps and real daily series. Assumes finite variance and memory that is short
    beside the rows: for labels of more than 10 bars begin (`min_n`) no earlier than three label lengths. Costs more
    rows than `sequential_test`, which knows its horizon; hits of one unit a bar are judged exactly by
    `anytime_mcnemar`.

    A half-normal mixture (Robbins 1970) over the drift of a Brownian motion, fed by the equal-weighted-cosine t: the
    larger of two long-run variances, and its t translated to the normal quantile of the same p-value, which is lowered
    where the mean leans to the other side (`mlops.stats.dependent.unskewed`).

    Parameters
    ----------
    x : array_like of shape (n,)
        One value a bar from the start on, in order of time. NaN is refused. Fewer than `min_n` rows, or a constant:
        the interval is infinite and the e-value 1.
    margin : float
        In the unit of `x`.
    tuned_at : int
        Rows at which the interval shall be tightest. It holds whatever is chosen, when chosen beforehand.

    Raises
    ------
    DataError
        `x` is not a finite vector, `alpha` no share, or `tuned_at` or `min_n` are too small.

    References
    ----------
    Robbins (1970), Annals of Mathematical Statistics 41(5); Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024),
    Time-uniform central limit theory and asymptotic confidence sequences, Annals of Statistics 52(6).

    Examples
    --------
    >>> import numpy as np
    >>> seen = confidence_sequence(np.random.default_rng(0).normal(0.4, 1, 250))
    >>> seen.lower > 0, seen.e_value > 20
    (True, True)
    """
    series = finite_series(x, "x")
    if not series.size:
        return ConfidenceSequence(0, 0.0, -inf, inf, margin, 1.0, 1.0, None)
    path = evidence_path(series, alpha=alpha, margin=margin, tuned_at=tuned_at, min_n=min_n, at=[series.size])
    n, value = series.size, float(path.estimate[0])
    low, high, e = float(path.lower[0]), float(path.upper[0]), float(path.e_value[0])
    needed = None
    if high < inf and value != margin:
        error = ewc_error(series, cautious=True)
        scaled = abs(value - margin) / float(error) / np.sqrt(n)
        lean = float(mean_skewness(series, error) * np.sqrt(n) * np.sign(value - margin))
        needed = _rows(
            lambda m: scaled * np.sqrt(m) >= float(_bounds(np.array([m]), alpha, tuned_at, lean / np.sqrt(m))[0]), n
        )
    return ConfidenceSequence(n, value, low, high, margin, e, min(1.0, 1 / e), needed)


def evidence_path(
    x: ArrayLike,
    *,
    alpha: float = ALPHA,
    margin: float = 0.0,
    tuned_at: int = TUNED_AT,
    min_n: int = FIRST,
    at: Sequence[int] | None = None,
) -> EvidencePath:
    """`confidence_sequence` after every row, or after each of `at` rows; arguments, null and rate as there.

    The e-values are what `e_bh` and `e_holm` take. The largest so far is no e-value; it is evidence only against
    1 / alpha ("was it ever proven?"), for which `EvidencePath.first` asks.

    Examples
    --------
    >>> import numpy as np
    >>> path = evidence_path(np.random.default_rng(0).normal(0.4, 1, 250))
    >>> 20 <= path.first(20.0) < 250
    True
    """
    series = finite_series(x, "x")
    if tuned_at < 1 or min_n < FIRST:
        got = f"tuned_at {tuned_at}, min_n {min_n}"
        raise DataError(f"tuned_at must be at least 1 and min_n at least {FIRST}, got {got}. Wait for more bars.")
    rows = np.arange(1, series.size + 1) if at is None else np.asarray(at, dtype=np.int64)
    means, errors, leans = _moments(series, rows, min_n)
    with np.errstate(invalid="ignore"):
        below, above = (
            np.where(errors < inf, _bounds(rows, alpha, tuned_at, lean) * errors, inf) for lean in (leans, -leans)
        )
        z = unskewed(_normal((means - margin) / errors, rows), leans)
    e = np.where(errors < inf, np.exp(np.minimum(mixture_log_e(z, rows, tuned_at), MOST_LOG_E)), 1.0)
    return EvidencePath(rows, means, means - below, means + above, e)


def mixture_log_e(z: Floats, rows: Rows, tuned_at: int = TUNED_AT) -> Floats:
    """Logarithm of the half-normal mixture at a standardised sum `z` of `rows` rows: an e-process for drift <= 0.

    Exact for a Brownian motion. Robbins (1970); one-sided form of Waudby-Smith et al. (2024).

    Examples
    --------
    >>> import numpy as np
    >>> float(np.exp(mixture_log_e(np.array([3.09]), np.array([250])))[0].round(1))
    46.3
    """
    scale = _spread(tuned_at) * rows
    share = scale / (1 + scale)
    return np.asarray(log(2) - np.log1p(scale) / 2 + share * z**2 / 2 + log_ndtr(z * np.sqrt(share)))


def _moments(series: Floats, rows: Rows, min_n: int) -> tuple[Floats, Floats, Floats]:
    """Means, their standard errors (infinite while there are too few rows or they do not vary) and skewness."""
    if rows.size and not 1 <= rows.min() <= rows.max() <= series.size:
        raise DataError(f"at must lie between 1 and {series.size}, got {rows.tolist()}. Count the rows of x.")
    means = np.cumsum(series)[rows - 1] / rows
    floor = ROUNDING * np.abs(series).max(initial=0.0)
    errors = np.array([float(ewc_error(series[:n], cautious=True)) if n >= min_n else inf for n in rows])
    leans = np.array(
        [float(mean_skewness(series[:n], e)) if e < inf else 0.0 for n, e in zip(rows, errors, strict=True)]
    )
    return means, np.where(errors > floor, errors, inf), leans


def _normal(statistic: Floats, rows: Rows) -> Floats:
    """The normal quantile of the same one-sided p-value as this t, from whichever tail is exact."""
    from scipy.stats import norm
    from scipy.stats import t as student

    dof = _dof(rows)
    tail = np.clip(student.sf(np.abs(statistic), dof), LEAST_P, 0.5)
    return np.asarray(np.sign(statistic) * norm.isf(tail))


def _bounds(rows: Rows, alpha: float, tuned_at: int, skewness: Floats | float = 0.0) -> Floats:
    """Standard errors from the mean to an end of the interval, its lower one: where the mixture reaches 2 / alpha."""
    from scipy.stats import norm
    from scipy.stats import t as student

    scale = _spread(tuned_at) * np.asarray(rows, dtype=np.float64)
    share = scale / (1 + scale)
    level = np.log1p(scale) / 2 - log(check_share(alpha, "alpha"))
    z = np.sqrt(2 * (level + log(2)) / share)
    for _ in range(FIXED_POINTS):
        z = np.sqrt(2 * np.maximum(level - log_ndtr(z * np.sqrt(share)), 0) / share)
    return np.asarray(student.isf(norm.sf(skewed(z, np.asarray(skewness))), _dof(rows)))


def _spread(tuned_at: int) -> float:
    """Variance of the mixture that makes the interval tightest at `tuned_at` (Waudby-Smith et al. 2024)."""
    twice = -2 * log(ALPHA)
    return (twice + log(twice + 1)) / tuned_at


def _dof(rows: Rows) -> Floats:
    return np.array([ewc_dof(int(n)) for n in rows], dtype=np.float64)


def _rows(proven: Callable[[int], bool], n: int) -> int | None:
    return least_rows(lambda m: float(proven(m)), power=0.5, least=n)
