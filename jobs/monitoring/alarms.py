"""Alarms of the monitor: each is told to a person once and stands until it is answered; the charts start anew at once.

An alarm is answered by the first version that is trained after a person was told and comes into a comparison with the
champion, or by that person, who closes it. A version that is compared with nothing answers nothing. All of it follows
from rows of the ledger: alerts, bundles, comparisons and the promotion log.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from jobs.context import Context
from mlops.alerts import ALERTS, kind_of
from mlops.types import Alert
from registry_hooks import aliases, comparable

KINDS = ("alarm_accuracy", "alarm_inputs", "alarm_unanswered")
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def alarm(subject: Literal["accuracy", "inputs"], model: str, version: int, since: datetime, as_of: datetime) -> Alert:
    """The alert of what is wrong with a champion, without words yet; `since`: when the chart that says so began."""
    began = f"{since:%Y-%m-%dT%H:%M:%S}"
    return ALERTS[f"alarm_{subject}"].alert(as_of, {"model": model, "version": version, "since": began, "text": ""})


def promoted(context: Context, model: str, as_of: datetime) -> datetime:
    """When the champion became one; of a transition that was undone nothing stays."""
    entries = context.ledger.registry.promotions(model)
    return max((e.created_at for e in entries if e.state != "undone" and e.created_at <= as_of), default=LONG_AGO)


def start(context: Context, model: str, version: int, as_of: datetime) -> datetime:
    """When the charts of a champion began: as it was promoted, or where a person was told of its last alarm."""
    began = promoted(context, model, as_of)
    return max([began, *(alert.as_of for alert in _told(context, model, version, as_of))])


def unanswered(context: Context, model: str, version: int, as_of: datetime) -> Alert | None:
    """The newest alarm of the accuracy chart that was told before and stands."""
    return next(iter(_standing(context, model, version, as_of)), None)


def answering(context: Context, alarm: Alert, version: int, as_of: datetime) -> bool:
    """Whether a version that was trained after a person was told of it is being compared with the champion."""
    since = _since(context, alarm, as_of)
    after = {row.version for row in context.ledger.registry.bundles(alarm.model) if since <= row.registered_at <= as_of}
    running = context.ledger.registry.open_comparisons(alarm.model)
    return any(c.challenger in after and c.champion == version for c in running)


def last_training(context: Context, model: str, as_of: datetime) -> datetime:
    """When the newest version that became champion, or was compared with one, was registered: others answer nothing."""
    counted = {c.challenger for c in context.ledger.registry.comparisons(model) if c.started_at <= as_of}
    counted |= {entry.to_version for entry in context.ledger.registry.promotions(model) if entry.created_at <= as_of}
    known = (row.registered_at for row in context.ledger.registry.bundles(model) if row.version in counted)
    return max((at for at in known if at <= as_of), default=LONG_AGO)


def in_vain(context: Context, alarm: Alert, version: int, as_of: datetime) -> str:
    """What was trained since a person was told and is compared with nothing, and why; empty where nothing is."""
    last = last_training(context, alarm.model, as_of)
    stands = (earlier.as_of for earlier in _standing(context, alarm.model, version, as_of))
    since, rows = min([_since(context, alarm, as_of), *stands]), context.ledger.registry.bundles(alarm.model)
    idle = sorted(row.version for row in rows if since <= row.registered_at <= as_of and row.registered_at > last)
    reasons = (f"v{number} {_why_idle(context, alarm.model, number, version)}" for number in idle)
    return f"Trained since and compared with nothing: {'; '.join(reasons)}" if idle else ""


def settle(context: Context, model: str, version: int, reason: str, as_of: datetime) -> None:
    """Tell, once, that trainings leave an alarm unanswered; an empty `reason` closes it."""
    kind = ALERTS["alarm_unanswered"]
    alert = kind.alert(
        as_of, {"model": model, "version": version, "told": f"{as_of:%Y-%m-%dT%H:%M:%S}", "reason": reason}
    )
    context.ledger.alerts.settle(
        kind.name,
        [alert] if reason else (),
        as_of,
        looked_at=lambda known: kind.fact(known) == kind.fact(alert) and known.as_of <= as_of,
    )


def close(context: Context, model: str, version: int, as_of: datetime) -> None:
    """Close what is about another champion, and what was answered; that inputs moved stays until a person closes it."""

    def over(alert: Alert) -> bool:
        if alert.model != model or alert.as_of > as_of:
            return False
        other = f":{model}:v{version}:" not in alert.key
        return other or (
            kind_of(alert.key).name == "alarm_accuracy" and _answered(context, alert, version, as_of) is not None
        )

    context.ledger.alerts.settle(KINDS, (), as_of, looked_at=over)


def _standing(context: Context, model: str, version: int, as_of: datetime) -> list[Alert]:
    """Alarms of the accuracy chart that were told since the promotion and that nothing answered, newest first."""
    began = promoted(context, model, as_of)
    alarms = (alert for alert in _told(context, model, version, as_of) if alert.as_of >= began)
    return [alert for alert in alarms if _answered(context, alert, version, as_of) is None]


def _since(context: Context, alarm: Alert, as_of: datetime) -> datetime:
    """When a person was first told of an alarm; `as_of` where nobody was yet."""
    first = context.ledger.alerts.get(alarm.key)
    return as_of if first is None else min(first.as_of, as_of)


def _why_idle(context: Context, model: str, version: int, champion: int) -> str:
    refusal = context.ledger.alerts.get(f"{comparable.REFUSED_TAG}:{model}:v{version}:v{champion}")
    return "was not nominated" if refusal is None else f"was refused ({refusal.title})"


def _told(context: Context, model: str, version: int, as_of: datetime) -> list[Alert]:
    """What was told of the accuracy of a version before this look, newest first."""
    alarms = context.ledger.alerts.newest("alarm_accuracy", open_only=False)
    return [
        alert for alert in alarms if alert.key.startswith(f"alarm_accuracy:{model}:v{version}:") and alert.as_of < as_of
    ]


def _answered(context: Context, alert: Alert, version: int, as_of: datetime) -> datetime | None:
    """When an alarm of champion `version` was answered; None where it is not yet."""
    after = {row.version for row in context.ledger.registry.bundles(alert.model) if row.registered_at >= alert.as_of}
    comparisons = (
        t for t in context.ledger.registry.comparisons(alert.model) if t.champion == version and t.challenger in after
    )
    compared = (c.started_at for c in comparisons if c.kind in aliases.COMPARED)
    closed = () if alert.closed_at is None else (alert.closed_at,)
    return min((at for at in (*compared, *closed) if at <= as_of), default=None)
