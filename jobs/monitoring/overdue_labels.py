"""Labels that do not come: what is not known without them, and who is told."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

from jobs.context import Context
from mlops import monitor as monitoring
from mlops.alerts import ALERTS
from mlops.types import Finding, Level, ModelRef

KINDS = ("labels_stopped", "labels_missing")


def look(context: Context, ref: ModelRef, horizon: int, as_of: datetime, start: datetime | None = None) -> Finding:
    """What a version waits for, of its predictions from `start` on."""
    rows = context.ledger.telemetry.awaited(ref.name, start=start, as_of=as_of, version=ref.version)
    return monitoring.pending(rows, horizon=horizon, late_bars=context.settings.monitor.labels_late_bars)


def unknown(chart: Finding, pending: Finding) -> Finding:
    """A chart that is quiet where labels have stopped: it is not known any more. An alarm stays one."""
    if pending.level is not Level.ALERT or chart.level is not Level.OK:
        return chart
    return replace(chart, value=math.nan, level=Level.UNKNOWN, note=f"{pending.note}; until then: {chart.note}")


def settle(context: Context, model: str, pending: Finding, as_of: datetime) -> None:
    """Tell once of labels that do not come, and anew where other units lack them; close it when they come."""
    units, words = (
        str(pending.params["units"]),
        {"model": model, "note": pending.note, "time": f"{as_of:%Y%m%dT%H%M%S}"},
    )
    wanted = []
    if pending.level is Level.ALERT:
        wanted = [ALERTS["labels_stopped"].alert(as_of, words)]
    elif units:
        wanted = [ALERTS["labels_missing"].alert(as_of, words, details={"units": units})]
    context.ledger.alerts.settle(
        KINDS, wanted, as_of, looked_at=lambda alert: alert.model == model and alert.as_of <= as_of
    )
