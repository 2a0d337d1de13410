"""Has a model become wrong more often than it was?

`accuracy_change` and `log_loss_change` chart one value a bar, whatever moves together within it; `accuracy_groups` is
the control chart that people read. Single labels: `mlops.monitor.labels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mlops.errors import DataError
from mlops.monitor.panel import Floats, flat, instants
from mlops.stats import CusumResult, by_bar, calibrate_cusum, cusum, hits, log_losses
from mlops.types import Finding, Level

DROP = 0.05  # accuracy points to be quick at: 0.60 to 0.55 is what turns a strategy from good to useless
RISE = 0.02  # nats to be quick at: what a calibrated forecast loses when its accuracy falls from 0.60 to 0.54
MIN_BARS = 10  # current bars before the chart is read
MIN_BASELINE_BARS = 100  # as mlops.stats.calibrate_cusum
GROUP_BARS = 20  # a month: longer than labels overlap, short enough to be seen
MIN_GROUPS = 8  # baseline groups under which their spread says nothing of a rare one
BARS_PER_YEAR = 252

MOST_KNOWN = 64  # calibrations kept in memory, 8 kB a thousand bars

Sides = Literal["fall", "both"]
Score = Callable[[Floats, Floats], Floats]
_KNOWN: dict[Any, tuple[tuple[float, float], Any]] = {}  # calibration, and the generator's state after it


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a chart looks for, and how often it may cry wolf."""

    drop: float
    false_alarms_per_year: float
    bars_per_year: int
    sides: Sides

    def look(self, past: Floats, now: Floats, rng: np.random.Generator) -> CusumResult:
        rate = self.false_alarms_per_year / (2 if self.sides == "both" else 1)
        of: dict[str, Any] = {"false_alarms_per_year": rate, "bars_per_year": self.bars_per_year, "rng": rng}
        return cusum(past, now, drop=self.drop, calibrated=self._calibrated(past, of), **of)

    def _calibrated(self, past: Floats, of: dict[str, Any]) -> tuple[float, float]:
        """Threshold and block, drawn once for a baseline: each look at one version asks the same of the same draws."""
        generator = of["rng"].bit_generator
        key = (past.tobytes(), self, repr(generator.state))
        if key not in _KNOWN:
            while len(_KNOWN) >= MOST_KNOWN:
                del _KNOWN[next(iter(_KNOWN))]
            _KNOWN[key] = calibrate_cusum(past, allowance=self.drop / 2, **of), generator.state
        calibration, generator.state = _KNOWN[key]
        return calibration


def accuracy_change(
    baseline: pd.DataFrame,
    current: pd.DataFrame,
    *,
    false_alarms_per_year: float = 1.0,
    bars_per_year: int = BARS_PER_YEAR,
    rng: np.random.Generator,
    drop: float = DROP,
    sides: Sides = "fall",
) -> Finding:
    """CUSUM chart of accuracy, one value a bar (the mean over units, which are not independent).

    Null: `current` is as accurate as `baseline`. Error rate: `false_alarms_per_year`; the threshold is calibrated by
    a block bootstrap of the baseline (`mlops.stats.cusum`), so labels that overlap are counted for what they are.
    Assumes that `baseline` are honest predictions (out-of-fold or live) and that `current` holds every matured bar
    since the chart was started (at a promotion, or where an alarm was told), not a window that moves: a mean over
    a moving window must never be charted.

    Parameters
    ----------
    baseline, current : DataFrame
        Columns `event_time`, `probability`, `label` (0 or 1), rows in any order. NaN is refused.
    rng : Generator
        Of the bootstrap; the same one gives the same threshold.
    sides : {"fall", "both"}
        "both" looks for a rise too, each at half of the rate. A rise is told (`params["better_at"]`) and never an
        alarm.

    Returns
    -------
    Finding
        `value` is the highest the chart stood, `limit` its threshold; ALERT when crossed, `params["alarm_at"]` says
        when, `["alarm_from"]` since when it had not been at zero, and `["alarm_mean"]` how accurate those bars were.
        UNKNOWN with fewer than 100 baseline or 10 current bars.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.
    """
    plan = _Plan(drop, false_alarms_per_year, bars_per_year, sides)
    return _chart("accuracy", hits, baseline, current, plan, rng)


def log_loss_change(
    baseline: pd.DataFrame,
    current: pd.DataFrame,
    *,
    false_alarms_per_year: float = 1.0,
    bars_per_year: int = BARS_PER_YEAR,
    rng: np.random.Generator,
    rise: float = RISE,
    sides: Sides = "fall",
) -> Finding:
    """CUSUM chart of the log-loss, one value a bar: sees probabilities go bad before answers do.

    Null: the log-loss is that of `baseline`. Error rate, assumptions and parameters as `accuracy_change`; `rise` is in
    nats. A wilder market raises the loss of every model: a finding here says that skill fell, not whose fault it is.
    """
    plan = _Plan(rise, false_alarms_per_year, bars_per_year, sides)
    return _chart("log_loss", _gain, baseline, current, plan, rng)


def daily_hits(frame: pd.DataFrame) -> Floats:
    """Accuracy of each bar, the mean over units: what `accuracy_change` charts; columns as there."""
    return _rates(frame, "baseline", hits)[1]


def accuracy_groups(
    baseline: pd.DataFrame,
    current: pd.DataFrame,
    *,
    false_alarms_per_year: float = 1.0,
    bars_per_year: int = BARS_PER_YEAR,
    size: int = GROUP_BARS,
) -> Finding:
    """Control chart (SPC, Shewhart's p-chart for panels): the accuracy of each `size` bars against a lower limit.

    Null: a group is one more of the baseline's. Error rate: `false_alarms_per_year`, by a t prediction limit from the
    spread of the baseline's own groups, which has the dependence within a group in it. Assumes groups close to normal
    and long beside the overlap of labels. Groups do not overlap; bars that do not fill one wait.

    Returns
    -------
    Finding
        `value` is the lowest group's accuracy, `limit` the control limit; ALERT below it, `params["alarm_at"]` and
        `["alarm_end"]` say when the first such group began and ended. UNKNOWN with fewer than 8 baseline groups or no
        full current one.
    """
    from scipy.stats import t as student

    (_, past), (times, now) = _rates(baseline, "baseline", hits), _rates(current, "current", hits)
    before, after = _groups(past, size), _groups(now, size)
    parameters: dict[str, float | str | None] = {
        "size": size,
        "false_alarms_per_year": false_alarms_per_year,
        "baseline_groups": before.size,
    }
    if before.size < MIN_GROUPS or not after.size:
        need = f"{MIN_GROUPS * size} and {size} needed"
        note = f"{past.size} baseline and {now.size} current bars, {need}"
        return Finding("accuracy_groups", math.nan, math.nan, Level.UNKNOWN, after.size, parameters, note=note)
    tail = min(0.5, false_alarms_per_year * size / bars_per_year)
    width = float(student.isf(tail, before.size - 1) * before.std(ddof=1) * np.sqrt(1 + 1 / before.size))
    limit = float(before.mean()) - width
    below = np.flatnonzero(after < limit)
    at, end = (str(times[int(below[0]) * size + i]) if below.size else None for i in (0, size - 1))
    note = f"lowest accuracy of {size} bars {after.min():.3f}, {limit:.3f} allowed, {before.mean():.3f} before"
    level = Level.ALERT if below.size else Level.OK
    parameters |= {"alarm_at": at, "alarm_end": end, "baseline": float(before.mean()), "groups_below": below.size}
    return Finding("accuracy_groups", float(after.min()), limit, level, after.size, parameters, note=note)


def _chart(
    name: str, score: Score, baseline: pd.DataFrame, current: pd.DataFrame, plan: _Plan, rng: np.random.Generator
) -> Finding:
    (_, past), (times, now) = _rates(baseline, "baseline", score), _rates(current, "current", score)
    parameters: dict[str, float | str | None] = {
        "drop": plan.drop,
        "false_alarms_per_year": plan.false_alarms_per_year,
        "baseline_bars": past.size,
    }
    if past.size < MIN_BASELINE_BARS or now.size < MIN_BARS:
        note = f"{past.size} baseline and {now.size} current bars, {MIN_BASELINE_BARS} and {MIN_BARS} needed"
        return Finding(f"{name}_change", math.nan, math.nan, Level.UNKNOWN, now.size, parameters, note=note)
    sign = -1.0 if score is _gain else 1.0  # the chart looks for a fall of the gain; people read the loss
    chart = plan.look(past, now, rng)
    at = None if chart.alarm is None else str(times[chart.alarm])
    means = {"baseline": sign * chart.target, "current": sign * float(now.mean())}
    parameters |= {**means, "block": chart.block, "alarm_at": at}
    if plan.sides == "both":
        rise = plan.look(-past, -now, rng)
        parameters["better_at"] = None if rise.alarm is None else str(times[rise.alarm])
    over = f"{means['current']:.3f} over {now.size} bars"
    if chart.excursion is not None:  # what fell are these bars, not all since the chart began
        first, last = chart.excursion
        fallen = sign * float(now[first : last + 1].mean())
        parameters |= {"alarm_from": str(times[first]), "alarm_mean": fallen}
        over = f"{fallen:.3f} over the {last + 1 - first} bars from {str(times[first])[:10]} to {str(at)[:10]}"
    note = f"{name.replace('_', '-')} {over}, {means['baseline']:.3f} before"
    level = Level.OK if at is None else Level.ALERT
    return Finding(f"{name}_change", float(chart.path.max()), chart.threshold, level, now.size, parameters, note=note)


def _gain(probability: Floats, label: Floats) -> Floats:
    return -log_losses(probability, label)


def _groups(values: Floats, size: int) -> Floats:
    full = values.size // size
    return np.asarray(values[: full * size].reshape(full, size).mean(axis=1))


def _rates(frame: pd.DataFrame, argument: str, score: Score) -> tuple[pd.Index, Floats]:
    frame = flat(frame)
    scored(frame, argument)
    probability, label = (frame[c].to_numpy(dtype=np.float64) for c in ("probability", "label"))
    bar, times = instants(frame)
    return times, by_bar(bar, score(probability, label))


def scored(frame: pd.DataFrame, argument: str) -> None:
    """Refuse a table that does not hold finite `probability` and `label` at an `event_time`."""
    missing = [name for name in ("event_time", "probability", "label") if name not in frame.columns]
    if missing:
        raise DataError(f"{argument} must have the columns {missing}, got {list(frame.columns)}. Pass matured rows.")
    if not np.isfinite(frame[["probability", "label"]].to_numpy(dtype=np.float64)).all():
        raise DataError(f"{argument} must have finite probabilities and labels, got NaN. Pass matured rows only.")
