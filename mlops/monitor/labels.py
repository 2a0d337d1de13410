"""Charts of single labels, their alarm rates exact or by a theorem; `mlops.monitor.accuracy` charts whole bars.

A label is charted only beside labels that it does not depend on. Of the units of a bar one is drawn, for they move
together: by a hash of the bar and the unit, so that a later look draws the same. Of labels that span bars every one has
a place, in as many charts as they span bars: within a chart no two overlap, and the rates of the charts add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from mlops.errors import DataError
from mlops.monitor.accuracy import BARS_PER_YEAR, DROP, MIN_BARS, MIN_BASELINE_BARS, scored
from mlops.monitor.panel import Floats, flat, instants
from mlops.stats import by_bar, hits, label_alarms, label_chart, label_path, run_length, sr_mixture
from mlops.types import Finding, Level

FAR = 2 * DROP  # the fall whose delay is told: from good to useless
CONFIDENCE = 0.95  # that the baseline's accuracy is not under the bound which the mixture is held against
_calibrated = lru_cache(maxsize=128)(label_chart)  # a fifth of a second, and the same at every look at one version
PINNED = 10_000  # labels of a baseline under which the real rate may be far from the stated one


def label_change(
    baseline: pd.DataFrame,
    current: pd.DataFrame,
    *,
    horizon: int,
    false_alarms_per_year: float = 1.0,
    labels_per_year: int = BARS_PER_YEAR,
    drop: float = DROP,
    seed: int | None = None,
) -> Finding:
    """Bernoulli CUSUM of single labels, by the exact Markov chain (`mlops.stats.label_chart`).

    Null: `current` is right as often as `baseline`. Error rate: `false_alarms_per_year`, averaged over what the
    baseline's true accuracy may be; `params["rate_low"]`, `["rate_high"]` hold what it really is for this baseline with
    90 %. A short baseline makes that interval wide and the limit high. Labels of `horizon` bars are thinned to every
    `horizon`-th in as many charts; the baseline counts as one `horizon`-th of its bars.

    Parameters
    ----------
    baseline, current : DataFrame
        As `accuracy_change`. One row a bar, unless `seed` is given; then with `unit`.
    horizon : int
        Bars that a label spans.
    labels_per_year : int
        Bars a year: one label of each is charted.
    seed : int, optional
        Draws one label of each bar of a panel. The same seed at every look, or each look has its own false alarms.

    Returns
    -------
    Finding
        `value` is the highest that a chart stood, `limit` its threshold; ALERT when crossed, `params["alarm_at"]` says
        when first, `["alarms"]` how often. `["delay_bars"]`: bars until a fall of ten points is seen, on average, at
        most. UNKNOWN with fewer than 100 independent baseline labels or 10 current ones a chart.

    Raises
    ------
    DataError
        A column is missing, a value is not finite, or a bar has several rows and there is no seed.
    """
    past, now = _stream(baseline, "baseline", seed), _stream(current, "current", seed)
    parameters: dict[str, float | str | None] = {
        "drop": drop,
        "horizon": horizon,
        "baseline_labels": past.size / horizon,
    }
    parameters["false_alarms_per_year"] = false_alarms_per_year
    if (lack := _lack(past, now, horizon)) is not None:
        return Finding("label_change", math.nan, math.nan, Level.UNKNOWN, now.size, parameters, note=lack)
    rate, share = false_alarms_per_year / labels_per_year, past.share
    chart = _calibrated(share, labels=past.size / horizon, drop=drop, false_alarms=rate)
    alarms = label_alarms(chart, now.right, horizon=horizon)
    highest = max(int(label_path(chart, now.right[phase::horizon]).max()) for phase in range(horizon))
    at = str(now.times[alarms[0]]) if alarms else None
    low, high = (bound * labels_per_year for bound in (chart.rate_low, chart.rate_high))
    delay = horizon * run_length(max(share - FAR, 0.01), up=chart.up, down=chart.down, limit=chart.limit)
    parameters |= {"baseline": chart.accuracy, "alarm_at": at, "alarms": len(alarms), "delay_bars": delay}
    parameters |= {"rate_low": low, "rate_high": high}
    level = Level.ALERT if alarms else Level.OK
    note = f"right in {now.right.mean():.3f} of {now.size} labels, {share:.3f} before; "
    note += f"{_rates(past.size / horizon, low, high)}; a fall of {FAR:.0%} shows within {delay:,.0f} bars on average"
    return Finding("label_change", float(highest), float(chart.limit), level, now.size, parameters, note=note)


def label_mixture(
    baseline: pd.DataFrame,
    current: pd.DataFrame,
    *,
    horizon: int,
    false_alarms_per_year: float = 1.0,
    labels_per_year: int = BARS_PER_YEAR,
    seed: int | None = None,
) -> Finding:
    """E-detector of single labels (`mlops.stats.sr_mixture`): falls of 2 to 16 points at once, without calibration.

    Null: each label is right with at least the chance that `baseline` leaves possible: its accuracy's lower bound at
    95 %. Error rate: `false_alarms_per_year` at most, by a theorem, given that bound; each of the `horizon` charts
    alarms once in `labels_per_year / false_alarms_per_year` of its labels at most. A short baseline has a low bound,
    and the price is the delay.

    Parameters
    ----------
    baseline, current, horizon, labels_per_year, seed
        As `label_change`.

    Returns
    -------
    Finding
        `value` is the highest evidence of a chart (natural logarithm), `limit` the logarithm of its threshold.
    """
    from scipy.stats import beta

    past, now = _stream(baseline, "baseline", seed), _stream(current, "current", seed)
    parameters: dict[str, float | str | None] = {"horizon": horizon, "baseline_labels": past.size / horizon}
    parameters["false_alarms_per_year"] = false_alarms_per_year
    if (lack := _lack(past, now, horizon)) is not None:
        return Finding("label_mixture", math.nan, math.nan, Level.UNKNOWN, now.size, parameters, note=lack)
    labels = past.size / horizon
    least = float(beta.ppf(1 - CONFIDENCE, past.share * labels + 0.5, (1 - past.share) * labels + 0.5))
    limit = float(np.log(labels_per_year / false_alarms_per_year))
    evidence = np.empty(now.size)
    for phase in range(horizon):
        evidence[phase::horizon] = sr_mixture(now.right[phase::horizon], accuracy=least)
    over = np.flatnonzero(evidence >= limit)
    at = str(now.times[int(over[0])]) if over.size else None
    parameters |= {"baseline": past.share, "held_against": least, "alarm_at": at}
    note = f"right in {now.right.mean():.3f} of {now.size} labels, held against {least:.3f} (baseline {past.share:.3f})"
    level = Level.ALERT if over.size else Level.OK
    return Finding("label_mixture", float(evidence.max()), limit, level, now.size, parameters, note=note)


@dataclass(frozen=True, slots=True)
class _Stream:
    """One label a bar, and the accuracy of all rows, each bar alike."""

    times: pd.Index
    right: Floats
    share: float

    @property
    def size(self) -> int:
        return self.right.size


def _stream(frame: pd.DataFrame, argument: str, seed: int | None) -> _Stream:
    frame = flat(frame)
    scored(frame, argument)
    bar, times = instants(frame)
    right = hits(*(frame[c].to_numpy(dtype=np.float64) for c in ("probability", "label")))
    share = float(by_bar(bar, right).mean()) if right.size else float("nan")
    if len(times) == len(frame):
        return _Stream(times, right[np.argsort(bar)], share)
    if seed is None or "unit" not in frame.columns:
        got = f"{len(frame)} rows of {len(times)}"
        raise DataError(f"{argument} must have one row a bar, got {got}. Chart one unit, or give units and a seed.")
    lot = pd.util.hash_pandas_object(frame[["event_time", "unit"]], index=False, hash_key=f"{seed % 10**16:016d}")
    order = np.lexsort((lot.to_numpy(), bar))
    drawn = order[np.searchsorted(bar[order], np.arange(len(times)))]
    return _Stream(times, right[drawn], share)


def _lack(past: _Stream, now: _Stream, horizon: int) -> str | None:
    if past.size >= MIN_BASELINE_BARS * horizon and now.size >= MIN_BARS * horizon and 0 < past.share < 1:
        return None
    need = f"{MIN_BASELINE_BARS * horizon} of both kinds and {MIN_BARS * horizon} needed"
    return f"{past.size} baseline and {now.size} current labels, {need}"


def _rates(labels: float, low: float, high: float) -> str:
    """What a false-alarm rate is worth that was learned from so many labels."""
    short = f", for {labels:,.0f} labels do not pin it" if labels < PINNED else ""
    return f"{low:.2g} to {high:.2g} false alarms a year with this baseline{short}"
