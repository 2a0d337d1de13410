"""Has the mean of a dependent series moved between two stretches of time? Does it move with time within one?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct

from mlops.errors import DataError
from mlops.stats.dependent import LEAST_SLOW, MIN_TERMS, Floats, ewc_dof, ewc_error, finite_series


@dataclass(frozen=True, slots=True)
class Shift:
    """A `difference` (or slope) with its standard `error`; `p_greater` is the p-value of "it is <= 0"."""

    difference: float
    error: float
    dof: float
    p_greater: float
    n: int

    @property
    def p_less(self) -> float:
        """p-value of "it is >= 0"."""
        return 1 - self.p_greater

    @property
    def p_both(self) -> float:
        """p-value of "it is 0"."""
        return min(1.0, 2 * min(self.p_greater, self.p_less))


def mean_shift(reference: ArrayLike, current: ArrayLike) -> Shift:
    """Mean of `current` minus mean of `reference`, two stretches of one dependent series.

    Null: one stationary law with short memory. Error rate: at the nominal level asymptotically, measured in
    tests/calibration. Welch's t with equal-weighted-cosine errors (Lazarus et al. 2018); the current stretch's variance
    is its own and the reference's together, or its own where that is larger.

    Parameters
    ----------
    reference, current : array_like of shape (n,), (m,)
        One value a bar in order of time, at least 8 each. NaN is refused.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> mean_shift(rng.normal(size=500), rng.normal(0.5, 1, size=100)).p_greater < 0.01
    True
    """
    past = finite_series(reference, "reference", least=MIN_TERMS)
    now = finite_series(current, "current", least=MIN_TERMS)
    before, own = float(ewc_error(past)) ** 2, float(ewc_error(now)) ** 2
    many, few = ewc_dof(past.size), ewc_dof(now.size)
    pooled = (many * before * past.size / now.size + few * own) / (many + few)
    difference = float(now.mean() - past.mean())
    return _judged(difference, (before, max(pooled, own)), (many, many + few), now.size)


def mean_slope(x: ArrayLike, time: ArrayLike) -> Shift:
    """Least-squares trend of a dependent series over `time`, with a long-run error of what the trend leaves.

    Null: no trend. The first cosine is a trend itself and left out of the error. Parameters as `mean_shift`; `time` is
    about evenly spaced, in the unit that the slope is wanted in.

    Examples
    --------
    >>> round(mean_slope([0.0, 1, 2, 3, 4, 5, 6, 8], range(8)).difference, 2)
    1.08
    """
    slope, _, rest, spread = _fitted(x, time)
    dof = ewc_dof(rest.size)
    power = dct(rest, type=2, norm="ortho")[2 : dof + 2] ** 2
    variance = max(float(power.mean()), float(power[: max(LEAST_SLOW, dof // 2)].mean()))
    return _judged(slope, (0.0, variance / spread), (1, dof), rest.size)


def segment_shift(x: ArrayLike, weight: ArrayLike, bar: NDArray[np.intp]) -> Shift:
    """Mean of `x` in a segment minus its mean in the rest: the slope of `x` on membership, over rows.

    Null: `x` has one mean. The error is the long-run error of the scores summed by bar, so rows of one bar may move
    together and bars may depend on their past.

    Parameters
    ----------
    x, weight : array_like of shape (rows,)
        The quantity, and 1 in the segment, else 0 (or any regressor that is not constant). NaN is refused.
    bar : ndarray of shape (rows,)
        Number of each row's bar, 0 .. bars - 1, at least 8 bars.
    """
    slope, apart, rest, spread = _fitted(x, weight)
    scores = np.bincount(bar, weights=apart * rest).astype(np.float64)
    error = float(ewc_error(scores, cautious=True)) * scores.size / spread
    return _judged(slope, (0.0, error**2), (1, max(1, ewc_dof(scores.size) - 1)), scores.size)


def _fitted(x: ArrayLike, on: ArrayLike) -> tuple[float, Floats, Floats, float]:
    """Slope, centred regressor, residuals, and the regressor's sum of squares."""
    series, at = finite_series(x, "x", least=MIN_TERMS), finite_series(on, "regressor", least=MIN_TERMS)
    apart = at - at.mean()
    spread = float(apart @ apart)
    if series.size != at.size or spread <= 0:
        raise DataError(f"regressor must vary over {series.size} rows, got {at.size}. Pass one value a row.")
    slope = float(apart @ series) / spread
    return slope, apart, series - series.mean() - slope * apart, spread


def _judged(difference: float, variances: tuple[float, float], dofs: tuple[int, int], n: int) -> Shift:
    from scipy.stats import t as student

    total = sum(variances)
    if total <= 0:
        return Shift(difference, 0.0, float(dofs[1]), 0.5 if difference == 0 else float(difference < 0), n)
    dof = total**2 / sum(v**2 / d for v, d in zip(variances, dofs, strict=True))
    error = float(np.sqrt(total))
    return Shift(difference, error, float(dof), float(student.sf(difference / error, dof)), n)
