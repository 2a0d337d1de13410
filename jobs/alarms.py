"""Alarms of the monitor: each is told to a person once and stands until it is answered; the charts start anew at once.

An alarm is answered by the first version that is trained after a person was told, or by that person, who closes it. All
of it follows from rows of the ledger: alerts, bundles and the promotion log.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from jobs.house import House
from mlops.types import Alert, Priority

KINDS = ("alarm_accuracy:", "alarm_inputs:")
ACCURACY, INPUTS = KINDS
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def alarm(what: Literal["accuracy", "inputs"], model: str, version: int, since: datetime, as_of: datetime) -> Alert:
    """The alert of what is wrong with a champion, without words yet; `since`: when the chart that says so began."""
    return Alert(f"alarm_{what}:{model}:v{version}:{since:%Y-%m-%dT%H:%M:%S}", Priority.HIGH, model, "", as_of)


def promoted(house: House, model: str, as_of: datetime) -> datetime:
    """When the champion became one; of a transition that was undone nothing stays."""
    entries = house.ledger.promotions(model)
    return max((e.created_at for e in entries if e.state != "undone" and e.created_at <= as_of), default=LONG_AGO)


def start(house: House, model: str, version: int, as_of: datetime) -> datetime:
    """When the charts of a champion began: as it was promoted, or where a person was told of its last alarm."""
    began = promoted(house, model, as_of)
    return max([began, *(alert.as_of for alert in _told(house, model, version, as_of))])


def unanswered(house: House, model: str, version: int, as_of: datetime) -> Alert | None:
    """The alarm of the accuracy chart that was told before and stands."""
    began = promoted(house, model, as_of)
    open_ones = (a for a in _told(house, model, version, as_of) if a.as_of >= began)
    return next((alert for alert in open_ones if _answered(house, alert, as_of) is None), None)


def answering(house: House, alarm: Alert, as_of: datetime) -> bool:
    """Whether a version that was trained after a person was told of it is being compared with the champion."""
    first = house.ledger.alert(alarm.key)
    told = as_of if first is None else min(first.as_of, as_of)
    after = {row.version for row in house.ledger.bundles(alarm.model) if told <= row.registered_at <= as_of}
    return any(trial.challenger in after for trial in house.ledger.open_experiments(alarm.model))


def close(house: House, model: str, version: int, as_of: datetime) -> None:
    """Close what is about another champion, and what was answered; that inputs moved stays until a person closes it."""
    for alert in house.ledger.alerts():
        if alert.model != model or not alert.key.startswith(KINDS) or alert.as_of > as_of:
            continue
        other = not alert.key.startswith(tuple(f"{kind}{model}:v{version}:" for kind in KINDS))
        if other or (alert.key.startswith(ACCURACY) and _answered(house, alert, as_of) is not None):
            house.ledger.resolve_alert(alert.key, as_of)


def _told(house: House, model: str, version: int, as_of: datetime) -> list[Alert]:
    """What was told of the accuracy of a version before this look, newest first."""
    mine = f"{ACCURACY}{model}:v{version}:"
    return [a for a in house.ledger.alerts(open_only=False) if a.key.startswith(mine) and a.as_of < as_of]


def _answered(house: House, alert: Alert, as_of: datetime) -> datetime | None:
    """When an alarm was answered; None where it is not yet."""
    trained = (row.registered_at for row in house.ledger.bundles(alert.model) if row.registered_at >= alert.as_of)
    closed = () if alert.closed_at is None else (alert.closed_at,)
    return min((at for at in (*trained, *closed) if at <= as_of), default=None)
