"""What a threshold costs: how often a test cries wolf where nothing moved."""

from __future__ import annotations

import math

import numpy as np

from mlops.monitor.detectors import KS
from mlops.monitor.reference import ReferenceSummary
from mlops.stats import ks_p_values
from mlops.types import Finding, Level

NAME = "drift_threshold_cost"


def threshold_cost(summary: ReferenceSummary, bars: int, *, rows: int, threshold: float) -> Finding:
    """How often the drift threshold would raise a false alarm, on plain p-values and on those that decide.

    Null: each stretch of the reference as long as the window is one more stretch of the reference. The plain
    Kolmogorov-Smirnov test of each against the rest at `threshold` is a false alarm wherever it calls; its share is
    measured, not assumed. Adjusted and calibrated p-values (`feature_drift`) call anything in at most `threshold` of
    the looks. It describes and accuses nobody: always OK, or UNKNOWN without ten such stretches.

    Parameters
    ----------
    summary : ReferenceSummary
    bars, rows : int
        Length of the current window.
    threshold : float
        Of p-values.

    Returns
    -------
    Finding
        `value`: false alarms a look and feature of the plain test; `limit`: `threshold`; `n`: stretches. `params` hold
        `looks_plain` (looks to a false alarm of one feature), `calls_plain` (false calls a look over all features),
        `looks_decided` (at least) and `null`: whether that of this length was "kept" in the summary or "computed" now,
        for the window was changed after training or is not full yet.
    """
    rule = KS()
    blocks = summary.bars // bars if bars else 0
    numeric = np.flatnonzero(~summary.category)
    if blocks < rule.min_blocks or rows < rule.min_rows or not numeric.size:
        note = f"{blocks} stretches of {bars} bars and {rows} rows, {rule.min_blocks} and {rule.min_rows} needed"
        return Finding(NAME, math.nan, threshold, Level.UNKNOWN, blocks, note=note)
    stored = bars in summary.lengths
    null = summary.calibrated(bars, [rule]).null(rule, bars)
    assert null is not None
    within = round(summary.rows / summary.bars * bars)
    called = ks_p_values(null[numeric], summary.rows - within, within) <= threshold
    plain, calls = float(called.mean()), float(called.mean(axis=1).sum())
    once = f"1 false alarm every {1 / plain:.3g} weeks a feature" if plain else "no false alarm"
    note = (
        f"threshold {threshold:g} on {rows:,} rows, one look a week: plain KS tests {once}, {calls:.2g} false calls a "
        f"look over {numeric.size} features; calibrated and adjusted as here, 1 every {1 / threshold:.3g} weeks at most"
    ) + ("" if stored else f"; null of {bars} bars computed now, training kept that of {summary.lengths}")
    parameters = {
        "looks_plain": 1 / plain if plain else float("inf"),
        "calls_plain": calls,
        "looks_decided": 1 / threshold,
        "features": int(numeric.size),
        "null": "kept" if stored else "computed",
    }
    return Finding(NAME, plain, threshold, Level.OK, blocks, parameters, note=note)
