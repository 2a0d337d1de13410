"""Labels that do not come: what is not known without them, and who is told."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

from jobs.context import Context
from mlops import monitor as monitoring
from mlops.types import Alert, Finding, Level, ModelRef, Priority

KINDS = ("labels_stopped:", "labels_missing:")


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
    units, stamp = str(pending.params["units"]), f"{as_of:%Y%m%dT%H%M%S}"
    title, wanted = f"{model}: {pending.note}", None
    if pending.level is Level.ALERT:
        wanted = Alert(f"labels_stopped:{model}:{stamp}", Priority.HIGH, model, title, as_of)
    elif units:
        about = {"units": units}
        wanted = Alert(f"labels_missing:{model}:{stamp}", Priority.MEDIUM, model, title, as_of, about)
    prefixes = tuple(f"{kind}{model}:" for kind in KINDS)
    stands = [a for a in context.ledger.alerts.newest() if a.key.startswith(prefixes) and a.as_of <= as_of]
    same = [a.key for a in stands if wanted is not None and _what(a) == _what(wanted)]
    if wanted is not None and not same:
        context.ledger.alerts.add(wanted)
    for alert in stands:
        if alert.key not in same:
            context.ledger.alerts.resolve(alert.key, as_of)


def _what(alert: Alert) -> tuple[str, str]:
    """What an alert says, whenever it was told: its kind and the units."""
    return alert.key.partition(":")[0], str(alert.details.get("units", ""))
