"""Has the mean of a series fallen? A chart that is calibrated to how often it may cry wolf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats.dependent import Floats, ewc_dof, ewc_error, finite_series
from mlops.stats.resample import stationary_indices

PATHS = 1000  # bootstrap years; the alarm rate has a standard error of about 3 % of itself
MIN_BLOCK = 20.0  # bars: labels overlap a few bars and the automatic length has a wide error of its own
# The automatic length is best for the variance of a mean; an excursion of the chart outlasts it and is cut at each
# seam. Measured at length 1x: 1.2 to 1.5 alarms for the 1.0 that was asked for.
BLOCK_SCALE = 3.0
MIN_BASELINE = 100  # bars under which neither level nor dependence of the baseline is known
DESIGN_SHARE = 0.85  # of the alarms that are asked for; the rest is what seams of blocks still hide (1.05 to 1.15)
POWER_PATHS = 500  # for a share with a standard error of 2 points
BISECTIONS = 10  # halvings of the threshold's bracket


@dataclass(frozen=True, slots=True)
class CusumResult:
    """`path` of the chart (one value a bar, >= 0), its `threshold`, and the bar of the first `alarm`."""

    path: Floats
    threshold: float
    alarm: int | None
    target: float
    block: float

    @property
    def excursion(self) -> tuple[int, int] | None:
        """First and last bar of the way to the alarm: it began where the mean is likeliest to have fallen."""
        if self.alarm is None:
            return None
        calm = np.flatnonzero(self.path[: self.alarm] == 0)
        return int(calm[-1]) + 1 if calm.size else 0, self.alarm


def cusum_path(x: ArrayLike, *, target: float, allowance: float) -> Floats:
    """One-sided CUSUM for a fall: S = max(0, S + target - allowance - x), from 0.

    Shape (n,) in the unit of `x`. Page (1954). NaN is refused.

    Examples
    --------
    >>> cusum_path([1.0, 0.0, 0.0, 1.0], target=0.75, allowance=0.25).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    total = np.cumsum(target - allowance - finite_series(x, "x"))
    return total - np.minimum(np.minimum.accumulate(total), 0.0)


def calibrate_cusum(
    baseline: ArrayLike,
    *,
    allowance: float,
    false_alarms_per_year: float,
    bars_per_year: int,
    rng: np.random.Generator,
    paths: int = PATHS,
    block: float | None = None,
) -> tuple[float, float]:
    """Threshold at which the chart, restarted after each alarm, alarms `false_alarms_per_year` times while all is well.

    Years are stationary-bootstrap draws from the baseline, so dependence is kept. The target is drawn anew for each
    year too, from the t distribution of the baseline's mean: a short baseline does not know it, so the rate is an
    average over baselines.

    Parameters
    ----------
    baseline : array_like of shape (n,)
        The watched quantity while all was well, one value a bar, n >= 100. NaN is refused.
    allowance : float
        Half of the fall to detect, in the unit of the series, > 0.
    block : float, optional
        Mean block length in bars; by default three times the automatic one (Politis and White 2004), at
        least 20.

    Returns
    -------
    threshold, block : float

    Raises
    ------
    DataError
        The baseline is too short or not finite, or a rate is not positive.
    """
    series = finite_series(baseline, "baseline", least=MIN_BASELINE)
    if min(allowance, false_alarms_per_year, bars_per_year) <= 0:
        got = (allowance, false_alarms_per_year, bars_per_year)
        raise DataError(f"allowance and rates must be positive, got {got}. Ask for, say, one false alarm a year.")
    length = _block_length(series) if block is None else block
    years = series[stationary_indices(series.size, length=bars_per_year, paths=paths, block=length, rng=rng)]
    doubt = float(ewc_error(series, cautious=True)) * rng.standard_t(ewc_dof(series.size), paths)
    steps = np.ascontiguousarray((series.mean() + doubt[:, None] - allowance - years).T)
    total = steps.cumsum(axis=0)
    rate = DESIGN_SHARE * false_alarms_per_year
    low, high = 0.0, float((total - np.minimum(np.minimum.accumulate(total), 0.0)).max())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if _alarms(steps, middle) <= rate else (middle, high)
    return high, length


def cusum(
    baseline: ArrayLike,
    current: ArrayLike,
    *,
    drop: float,
    false_alarms_per_year: float = 1.0,
    bars_per_year: int = 252,
    rng: np.random.Generator,
    calibrated: tuple[float, float] | None = None,
) -> CusumResult:
    """Has the mean of `current` fallen below that of `baseline`?

    Null: `current` goes on with the baseline's law. Error rate: `false_alarms_per_year` alarms in `bars_per_year` bars
    of a chart that restarts after an alarm, averaged over baselines; measured in tests/calibration. Assumes that the
    baseline is stationary with memory short beside its length, and that `current` starts at the chart's start (the
    last promotion or told alarm) and only grows.

    Parameters
    ----------
    baseline, current : array_like of shape (n,), (m,)
        One value a bar in order of time. NaN is refused.
    drop : float
        Fall of the mean to be quick at, in the unit of the series, > 0.
    calibrated : (threshold, block), optional
        What `calibrate_cusum` gave for this baseline; computed here without it.

    Raises
    ------
    DataError
        As `calibrate_cusum`.

    References
    ----------
    Page (1954), Biometrika 41; Moustakides (1986), Annals of Statistics 14.
    """
    target = float(finite_series(baseline, "baseline", least=MIN_BASELINE).mean())
    threshold, block = calibrated or calibrate_cusum(
        baseline,
        allowance=drop / 2,
        false_alarms_per_year=false_alarms_per_year,
        bars_per_year=bars_per_year,
        rng=rng,
    )
    path = cusum_path(current, target=target, allowance=drop / 2)
    over = np.flatnonzero(path > threshold)
    return CusumResult(path, threshold, int(over[0]) if over.size else None, target, block)


def cusum_power(
    baseline: ArrayLike,
    *,
    threshold: float,
    block: float,
    allowance: float,
    falls: Sequence[float],
    before: int,
    bars: int,
    rng: np.random.Generator,
    paths: int = POWER_PATHS,
) -> Floats:
    """Chance that the chart has its alarm within `bars` after each of `falls`, having had none `before`.

    By the bootstrap that `calibrate_cusum` sets the threshold with, and the same doubt about the baseline's mean: what
    the silence of a chart is worth. The standard error is 2 points; `paths` paths cost some milliseconds.

    Parameters
    ----------
    baseline : array_like of shape (n,)
        As `calibrate_cusum`, whose `threshold` and `block` these are, with its `allowance`.
    falls : sequence of float
        Falls of the mean, in the unit of the series; 0 asks for false alarms.
    before, bars : int
        Bars since the chart's start until the fall, and from the fall until now.

    Returns
    -------
    ndarray of shape (len(falls),)
        NaN where every path had its alarm before.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(0.6, 0.1, 500)
    >>> chart = {"threshold": 1.0, "block": 20.0, "allowance": 0.025}
    >>> cusum_power(x, **chart, falls=(0.0, 0.1), before=50, bars=60, rng=rng).round(1).tolist()
    [0.0, 1.0]
    """
    series = finite_series(baseline, "baseline", least=MIN_BASELINE)
    drawn = series[stationary_indices(series.size, length=before + bars, paths=paths, block=block, rng=rng)]
    doubt = float(ewc_error(series, cautious=True)) * rng.standard_t(ewc_dof(series.size), paths)
    steps, fallen = series.mean() + doubt[:, None] - allowance - drawn, np.arange(before + bars) >= before
    chances = []
    for fall in falls:
        total = (steps + fall * fallen).cumsum(axis=1)
        over = total - np.minimum(np.minimum.accumulate(total, axis=1), 0.0) > threshold
        quiet = ~over[:, :before].any(axis=1)
        chances.append(over[quiet, before:].any(axis=1).mean() if quiet.any() else np.nan)
    return np.array(chances, dtype=np.float64)


def _block_length(series: Floats) -> float:
    from arch.bootstrap import optimal_block_length  # imports numba: half a second

    if np.ptp(series) == 0:
        return MIN_BLOCK
    return float(max(MIN_BLOCK, BLOCK_SCALE * optimal_block_length(series)["stationary"].iloc[0]))


def _alarms(steps: Floats, threshold: float) -> float:
    """Mean number of alarms a path; `steps` has shape (bars, paths)."""
    level = np.zeros(steps.shape[1])
    alarms = 0
    for step in steps:
        level = np.maximum(level + step, 0.0)
        over = level > threshold
        alarms += int(over.sum())
        level[over] = 0.0
    return alarms / int(steps.shape[1])
