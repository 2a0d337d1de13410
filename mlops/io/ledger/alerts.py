"""Alerts: what a person must know. On disk when the call returns, and announced in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, RowMapping, func, or_, select, update

from mlops.alerts import ALERTS, Closes, Kind, kind_of
from mlops.errors import DataError
from mlops.io import logs
from mlops.io.ledger.outbox import announce
from mlops.io.ledger.registry import added
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import alerts
from mlops.types import Alert, Priority


@dataclass(frozen=True, slots=True)
class Settled:
    """What a look changed: alerts that it opened, and alerts whose fact has ended."""

    opened: tuple[Alert, ...]
    closed: tuple[Alert, ...]


class Alerts(Tables):
    """What a person was told of, and whether it is closed."""

    def add(self, alert: Alert) -> bool:
        """Keep an alert; False where one of the same key is known, resolved or not. Evidence is closed as it comes.

        Raises
        ------
        DataError
            Its kind is not declared, or JSON cannot carry its details.
        """
        row = {"key": alert.key, "priority": alert.priority.value, "model": alert.model, "title": alert.title}
        closed_at = alert.as_of if kind_of(alert.key).closes is Closes.AT_ONCE else None
        stored = {**row, "as_of": alert.as_of, "details": _json(alert), "resolved_at": closed_at}
        with self._writing() as connection:
            new = added(connection, alerts, stored)
            if new:
                message = {**row, "as_of": alert.as_of.isoformat(), "details": dict(alert.details)}
                announce(connection, "alert", alert.model, message, alert.as_of, logs.correlation_id())
            return new

    def settle(
        self,
        kinds: str | Iterable[str],
        wanted: Iterable[Alert],
        at: datetime,
        *,
        looked_at: Callable[[Alert], bool] = lambda alert: True,
    ) -> Settled:
        """Make the open alerts of `kinds` say what is true: open what is new, close what has ended.

        A fact that has an open alert is not told again. What a person closed is told again where the kind says so
        (`Closes.RAISED_AGAIN`), else it stays closed.

        Parameters
        ----------
        wanted : iterable of Alert
            All that is true now, of what was looked at.
        looked_at : callable, optional
            Whether an open alert is about something that was looked at; unknown closes nothing. By default all are.
        """
        names = {kinds} if isinstance(kinds, str) else {*kinds}
        facts = {kind_of(alert.key).fact(alert): alert for alert in wanted}
        stands = [(kind_of(alert.key).fact(alert), alert) for alert in self.newest(*names) if looked_at(alert)]
        over = (alert for fact, alert in stands if fact not in facts)
        closed = tuple(alert for alert in over if kind_of(alert.key).closes is not Closes.BY_PERSON)
        for alert in closed:
            self.resolve(alert.key, at)
        new = facts.keys() - {fact for fact, _ in stands}
        opened = (self._opened(alert) for fact, alert in facts.items() if fact in new)
        return Settled(tuple(alert for alert in opened if alert is not None), closed)

    def newest(self, *kinds: str, open_only: bool = True) -> list[Alert]:
        """Alerts of these kinds, or of all where none is named; newest first."""
        query = select(alerts).order_by(alerts.c.as_of.desc(), alerts.c.id.desc())
        if open_only:
            query = query.where(alerts.c.resolved_at.is_(None))
        if kinds:
            query = query.where(or_(*(_begins(ALERTS[name]) for name in kinds)))
        with self._reading() as connection:
            rows = [_alert(row) for row in connection.execute(query).mappings()]
        return [alert for alert in rows if not kinds or kind_of(alert.key).name in kinds]

    def _opened(self, alert: Alert) -> Alert | None:
        """A new alert, numbered where its kind is; None where it is known.

        Two processes that open the same count the same, for both count before they look at what is open: one alert.
        """
        kind = kind_of(alert.key)
        if kind.numbered:
            about = alert.key.removesuffix("0")
            alert = replace(alert, key=f"{about}{1 + self._count(about)}")
            if any(kind.fact(known) == kind.fact(alert) for known in self.newest(kind.name)):
                return None
        return alert if self.add(alert) else None

    def _count(self, beginning: str) -> int:
        query = select(func.count()).where(alerts.c.key.startswith(beginning, autoescape=True))
        with self._reading() as connection:
            return int(connection.scalar(query) or 0)

    def get(self, key: str) -> Alert | None:
        """The alert of a key, resolved or not."""
        with self._reading() as connection:
            row = connection.execute(select(alerts).where(alerts.c.key == key)).mappings().one_or_none()
        return None if row is None else _alert(row)

    def resolve(self, key: str, at: datetime) -> None:
        """Close an alert. The first time stays; an unknown key is nothing to close."""
        with self._writing() as connection:
            query = update(alerts).where(alerts.c.key == key, alerts.c.resolved_at.is_(None))
            connection.execute(query.values(resolved_at=at))


def _begins(kind: Kind) -> ColumnElement[bool]:
    return alerts.c.key.startswith(kind.prefix, autoescape=True)


def _json(alert: Alert) -> str:
    try:
        return orjson.dumps(dict(alert.details), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except orjson.JSONEncodeError as error:
        raise DataError(f"details of alert {alert.key!r} must be JSON, got {error}. Give plain values.") from error


def _alert(row: RowMapping) -> Alert:
    details: dict[str, Any] = orjson.loads(row["details"])
    priority, closed_at = Priority(row["priority"]), row["resolved_at"]
    return Alert(row["key"], priority, row["model"], row["title"], row["as_of"], details, closed_at)
