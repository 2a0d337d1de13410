"""What it is worth that a chart is quiet: the chance that a fall of the accuracy would have been seen by now."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mlops.monitor.accuracy import DROP, daily_hits
from mlops.stats import cusum_power, per_cent
from mlops.types import Finding, Level

FALLS = (0.10, 0.05, 0.03)  # points of accuracy: a collapse, what the chart is quickest at, what it hardly sees
RECENT = 126  # bars: falls that are older than half a year are no news
BEFORE = 126  # bars before the fall that the chart's level has from; more change nothing


def chart_power(baseline: pd.DataFrame, chart: Finding, *, rng: np.random.Generator) -> Finding:
    """Chance that `chart` would have had its alarm by now, had the accuracy fallen half a year ago or when it began.

    By the bootstrap of the baseline that set the chart's threshold (`mlops.stats.cusum_power`). It tests nothing.

    Parameters
    ----------
    baseline : DataFrame
        As `accuracy_change`, which found `chart` on it.

    Returns
    -------
    Finding
        `value` is the chance for 10 points; `params` has those for 10, 5 and 3 points (`fall_10`, …) and the `bars`
        since the fall. UNKNOWN where the chart is; at ALERT it is not quiet, and the note says so.
    """
    if chart.level is Level.UNKNOWN:
        note = f"whether a fall of the accuracy would have been seen is not known: {chart.note}"
        return Finding("chart_power", math.nan, 0.0, Level.UNKNOWN, chart.n, note=note)
    bars = min(chart.n, RECENT)
    power = cusum_power(
        daily_hits(baseline),
        threshold=chart.limit,
        block=float(chart.params["block"]),
        allowance=DROP / 2,
        falls=FALLS,
        before=min(chart.n - bars, BEFORE),
        bars=bars,
        rng=rng,
    )
    chances = {f"fall_{100 * fall:.0f}": float(chance) for fall, chance in zip(FALLS, power, strict=True)}
    since = f"{bars} matured bars ago" if bars == RECENT else f"when its chart began, {bars} matured bars ago,"
    ten, five, three = (per_cent(chance) for chance in chances.values())
    note = f"a fall of 10 points {since} would have been seen by now with {ten}, of 5 with {five}, of 3 with {three}"
    if chart.level is Level.ALERT:
        note = f"the chart of the accuracy is not quiet ({note})"
    return Finding("chart_power", chances["fall_10"], 0.0, Level.OK, bars, {**chances, "bars": bars}, note=note)
