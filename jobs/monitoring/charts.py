"""Charts of a champion's labels, and how often all that the monitor says is false while nothing is wrong.

Each is loud at the look that first sees its alarm, and starts anew after it. One chart decides: its alarm stands until
it is answered (`jobs.monitoring.alarms`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np
import pandas as pd

from jobs.context import Context
from jobs.monitoring import overdue_labels
from mlops import monitor as monitoring
from mlops.settings import MonitorSettings
from mlops.types import Finding, Level
from registry_hooks.bundle import Bundle

LOOKS_PER_YEAR, MOST_ALPHA = 52, 0.05
SHOWN, CHARTS_SHOWN = 1 / 16, 4  # of the deciding chart's false alarms, for each of the charts beside it; how many
FAMILIES = 8  # of tests of the last window, which share as many false alarms as the deciding chart has
Chart = Callable[[pd.DataFrame], Finding]


def charts(
    context: Context,
    bundle: Bundle,
    reference: pd.DataFrame,
    matured: pd.DataFrame,
    looked: datetime,
    pending: Finding,
) -> tuple[Finding, ...]:
    """All charts of `matured`: rows since the champion was promoted, or its last alarm was told.

    `looked`: when the look before this one was. `pending`: what waits for its label; where labels have stopped, the
    chart that decides is not known any more.
    """
    rate, horizon = context.settings.monitor.false_alarms_per_year, bundle.meta["horizon_bars"]
    seed = context.settings.train.seed
    single = {"horizon": horizon, "false_alarms_per_year": SHOWN * rate, "seed": seed}
    informative: tuple[Chart, ...] = (
        lambda rows: monitoring.log_loss_change(
            reference, rows, false_alarms_per_year=SHOWN * rate, rng=np.random.default_rng(seed)
        ),
        partial(monitoring.accuracy_groups, reference, false_alarms_per_year=SHOWN * rate),
        partial(monitoring.label_change, reference, **single),
        partial(monitoring.label_mixture, reference, **single),
    )
    assert len(informative) == CHARTS_SHOWN
    decides = monitoring.accuracy_change(
        reference, matured, false_alarms_per_year=rate, rng=np.random.default_rng(seed)
    )
    decides = overdue_labels.unknown(replace(decides, note=decides.note + _too_short(bundle)), pending)
    power = monitoring.chart_power(reference, decides, rng=np.random.default_rng(seed))
    return (decides, power, *(news(chart, matured, looked) for chart in informative))


def _too_short(bundle: Bundle) -> str:
    """Why there is nothing to hold live scores against; empty where there is."""
    known = bundle.meta.get("held_out")
    if known is None or known["from"] is not None:
        return ""
    return (
        f"; {known['bars_needed']} labelled bars of training hold some out from the search, and this version had fewer"
    )


def news(chart: Chart, matured: pd.DataFrame, looked: datetime) -> Finding:
    """A chart that was started anew after each alarm that the look at `looked` could see."""
    finding = chart(matured)
    while finding.level is Level.ALERT:
        at = pd.Timestamp(finding.params.get("alarm_end") or finding.params["alarm_at"])
        if matured.known_at[matured.event_time <= at].max() > looked:
            break
        matured = matured[matured.event_time > at]
        finding = chart(matured)
    return finding


def alpha(settings: MonitorSettings) -> float:
    """Error of one family of tests at one look: all of them together cry wolf as often a year as the chart may."""
    return min(MOST_ALPHA, settings.false_alarms_per_year / LOOKS_PER_YEAR) / FAMILIES


def false_words(settings: MonitorSettings) -> Finding:
    """How many looks a year say of an unchanged model that something is wrong, at most: the sum of what is stated."""
    each = {
        "accuracy chart": settings.false_alarms_per_year,
        "charts beside it": CHARTS_SHOWN * SHOWN * settings.false_alarms_per_year,
        "tests of the window": FAMILIES * alpha(settings) * LOOKS_PER_YEAR,
        "drift": settings.drift_threshold * LOOKS_PER_YEAR,
    }
    total = min(sum(each.values()), float(LOOKS_PER_YEAR))
    parts = ", ".join(f"{name} {rate:.2g}" for name, rate in each.items())
    note = f"of an unchanged model at most {total:.2g} of {LOOKS_PER_YEAR} looks a year say that something is wrong"
    return Finding(
        "false_words", total, float(LOOKS_PER_YEAR), Level.OK, LOOKS_PER_YEAR, each, note=f"{note} ({parts})"
    )
