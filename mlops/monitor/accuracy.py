"""Has a model become wrong more often than it was?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlops.errors import DataError
from mlops.monitor.panel import Floats, flat, instants
from mlops.stats import by_bar, cusum, hits
from mlops.types import Finding, Level

DROP = 0.05  # accuracy points to be quick at: 0.60 to 0.55 is what turns a strategy from good to useless
MIN_BARS = 10  # current bars before the chart is read
MIN_BASELINE_BARS = 100  # as mlops.stats.calibrate_cusum


def accuracy_change(
    baseline: pd.DataFrame,
    current: pd.DataFrame,
    *,
    false_alarms_per_year: float = 1.0,
    bars_per_year: int = 252,
    rng: np.random.Generator,
    drop: float = DROP,
) -> Finding:
    """CUSUM chart of accuracy, one value a bar (the mean over units, which are not independent).

    Null: `current` is as accurate as `baseline`. Error rate: `false_alarms_per_year`; the threshold is calibrated by
    a block bootstrap of the baseline (`mlops.stats.cusum`). Assumes that `baseline` are honest predictions
    (out-of-fold or live) and that `current` holds every matured bar since the chart was started (at the last training
    or promotion), not a window that moves.

    Parameters
    ----------
    baseline, current : DataFrame
        Columns `event_time`, `probability`, `label` (0 or 1), rows in any order. NaN is refused.
    rng : Generator
        Of the bootstrap; the same one gives the same threshold.

    Returns
    -------
    Finding
        `value` is the highest the chart stood, `limit` its threshold; ALERT when crossed, `params["alarm_at"]` says
        when. UNKNOWN with fewer than 100 baseline or 10 current bars.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.
    """
    (_, past), (times, now) = _rates(baseline, "baseline"), _rates(current, "current")
    parameters: dict[str, float | str | None] = {
        "drop": drop,
        "false_alarms_per_year": false_alarms_per_year,
        "baseline_bars": past.size,
    }
    if past.size < MIN_BASELINE_BARS or now.size < MIN_BARS:
        note = f"{past.size} baseline and {now.size} current bars, {MIN_BASELINE_BARS} and {MIN_BARS} needed"
        return Finding("accuracy_change", 0.0, 0.0, Level.UNKNOWN, now.size, parameters, note=note)
    chart = cusum(
        past,
        now,
        drop=drop,
        false_alarms_per_year=false_alarms_per_year,
        bars_per_year=bars_per_year,
        rng=rng,
    )
    at = None if chart.alarm is None else str(times[chart.alarm])
    parameters |= {"baseline": chart.target, "current": float(now.mean()), "block": chart.block, "alarm_at": at}
    note = f"accuracy {now.mean():.3f} over {now.size} bars, {chart.target:.3f} before"
    level = Level.OK if at is None else Level.ALERT
    return Finding("accuracy_change", float(chart.path.max()), chart.threshold, level, now.size, parameters, note=note)


def _rates(frame: pd.DataFrame, what: str) -> tuple[pd.Index, Floats]:
    frame = flat(frame)
    scored(frame, what)
    probability, label = (frame[c].to_numpy(dtype=np.float64) for c in ("probability", "label"))
    bar, times = instants(frame)
    return times, by_bar(bar, hits(probability, label))


def scored(frame: pd.DataFrame, what: str) -> None:
    """Refuse a table that does not hold finite `probability` and `label` at an `event_time`."""
    missing = [name for name in ("event_time", "probability", "label") if name not in frame.columns]
    if missing:
        raise DataError(f"{what} must have the columns {missing}, got {list(frame.columns)}. Pass matured rows.")
    if not np.isfinite(frame[["probability", "label"]].to_numpy(dtype=np.float64)).all():
        raise DataError(f"{what} must have finite probabilities and labels, got NaN. Pass matured rows only.")
