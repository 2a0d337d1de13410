"""Alerts: what a person must know. On disk when the call returns, and announced in the same transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import RowMapping, select, update

from mlops.errors import DataError
from mlops.io import logs
from mlops.io.ledger.outbox import announce
from mlops.io.ledger.registry import added
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import alerts
from mlops.types import Alert, Priority


class Alerts(Tables):
    """What a person was told of, and whether it is closed."""

    def add(self, alert: Alert) -> bool:
        """Keep an alert; False where one of the same key is known, resolved or not.

        Raises
        ------
        DataError
            Details that JSON cannot carry.
        """
        row = {"key": alert.key, "priority": alert.priority.value, "model": alert.model, "title": alert.title}
        with self._writing() as connection:
            new = added(connection, alerts, {**row, "as_of": alert.as_of, "details": _json(alert)})
            if new:
                message = {**row, "as_of": alert.as_of.isoformat(), "details": dict(alert.details)}
                announce(connection, "alert", alert.model, message, alert.as_of, logs.correlation_id())
            return new

    def newest(self, *, open_only: bool = True) -> list[Alert]:
        """Newest first."""
        query = select(alerts).order_by(alerts.c.as_of.desc(), alerts.c.id.desc())
        if open_only:
            query = query.where(alerts.c.resolved_at.is_(None))
        with self._reading() as connection:
            return [_alert(row) for row in connection.execute(query).mappings()]

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


def _json(alert: Alert) -> str:
    try:
        return orjson.dumps(dict(alert.details), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except orjson.JSONEncodeError as error:
        raise DataError(f"details of alert {alert.key!r} must be JSON, got {error}. Give plain values.") from error


def _alert(row: RowMapping) -> Alert:
    details: dict[str, Any] = orjson.loads(row["details"])
    priority, closed_at = Priority(row["priority"]), row["resolved_at"]
    return Alert(row["key"], priority, row["model"], row["title"], row["as_of"], details, closed_at)
