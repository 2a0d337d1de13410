"""What must be neither lost nor done twice: alerts, webhook deliveries. On disk when the call returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import RowMapping, func, select, update

from mlops.errors import DataError
from mlops.io import logs
from mlops.io.ledger.outbox import announce
from mlops.io.ledger.registry import added, every
from mlops.io.storage.database import Database
from mlops.io.storage.schema import alerts, deliveries
from mlops.types import Alert, Priority


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook delivery that was acted on. `id` grows in the order in which deliveries were settled."""

    id: int
    delivery_id: str
    source: str
    body: bytes
    received_at: datetime
    model: str
    alias: str
    version: int | None
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Received:
    """A webhook delivery that was acknowledged, whether or not it was acted on yet."""

    delivery_id: str
    source: str
    body: bytes
    received_at: datetime


class Inbox(Database):
    """Alerts and deliveries."""

    def add_alert(self, alert: Alert) -> bool:
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
                told = {**row, "as_of": alert.as_of.isoformat(), "details": dict(alert.details)}
                announce(connection, "alert", alert.model, told, alert.as_of, logs.correlation_id())
            return new

    def alerts(self, *, open_only: bool = True) -> list[Alert]:
        """Newest first."""
        query = select(alerts).order_by(alerts.c.as_of.desc(), alerts.c.id.desc())
        if open_only:
            query = query.where(alerts.c.resolved_at.is_(None))
        with self._reading() as connection:
            return [_alert(row) for row in connection.execute(query).mappings()]

    def alert(self, key: str) -> Alert | None:
        """The alert of a key, resolved or not."""
        with self._reading() as connection:
            row = connection.execute(select(alerts).where(alerts.c.key == key)).mappings().one_or_none()
        return None if row is None else _alert(row)

    def resolve_alert(self, key: str, at: datetime) -> None:
        """Close an alert. The first time stays; an unknown key is nothing to close."""
        with self._writing() as connection:
            mine = update(alerts).where(alerts.c.key == key, alerts.c.resolved_at.is_(None))
            connection.execute(mine.values(resolved_at=at))

    def add_delivery(self, delivery_id: str, source: str, body: bytes, at: datetime) -> bool:
        """Keep a verified delivery before it is acknowledged; False for a duplicate."""
        row = {"delivery_id": delivery_id, "source": source, "body": body, "received_at": at}
        with self._writing() as connection:
            return added(connection, deliveries, row)

    def settle_delivery(self, delivery_id: str, *, model: str, alias: str, version: int | None, at: datetime) -> None:
        """Write down what was found when the delivery was followed: `alias` of `model` pointed to `version`. Once.

        Raises
        ------
        DataError
            The delivery was never added.
        """
        c = deliveries.c
        # Alone, and numbered here: a reader that saw number n will never be handed a smaller one later.
        with self._writing(lock="deliveries") as connection:
            if connection.scalar(select(c.id).where(c.delivery_id == delivery_id)) is None:
                raise DataError(f"delivery must be in the inbox, got {delivery_id!r}. Add it before it is settled.")
            number = int(connection.scalar(select(func.coalesce(func.max(c.settled_seq), 0))) or 0) + 1
            found = {"model": model, "alias": alias, "version": version, "settled_at": at, "settled_seq": number}
            mine = update(deliveries).where(c.delivery_id == delivery_id, c.settled_at.is_(None))
            connection.execute(mine.values(found))

    def unsettled_deliveries(self, source: str, *, before: datetime) -> list[Received]:
        """Those of a source that arrived before `before` and were not followed yet, in the order of arrival."""
        c = deliveries.c
        query = select(c.delivery_id, c.source, c.body, c.received_at).order_by(c.id)
        with self._reading() as connection:
            mine = query.where(c.settled_at.is_(None), c.source == source, c.received_at < before)
            return every(connection, Received, mine)

    def settled_deliveries(self, model: str, *, after: int) -> list[Delivery]:
        """Those about `model` with `id` > `after`, in order."""
        c = deliveries.c
        columns = [column for column in c if column.name not in ("id", "settled_seq")]
        query = select(c.settled_seq.label("id"), *columns).where(c.model == model, c.settled_seq > after)
        with self._reading() as connection:
            return every(connection, Delivery, query.order_by(c.settled_seq))


def _json(alert: Alert) -> str:
    try:
        return orjson.dumps(dict(alert.details), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except orjson.JSONEncodeError as error:
        raise DataError(f"details of alert {alert.key!r} must be JSON, got {error}. Give plain values.") from error


def _alert(row: RowMapping) -> Alert:
    details: dict[str, Any] = orjson.loads(row["details"])
    priority, closed_at = Priority(row["priority"]), row["resolved_at"]
    return Alert(row["key"], priority, row["model"], row["title"], row["as_of"], details, closed_at)
