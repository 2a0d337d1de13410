"""Webhook deliveries, neither lost nor followed twice. On disk when the call returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update

from mlops.errors import DataError
from mlops.io.ledger.registry import added, every
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import deliveries


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


class Deliveries(Tables):
    """What arrived, and what was found when it was followed."""

    def add(self, delivery_id: str, source: str, body: bytes, at: datetime) -> bool:
        """Keep a verified delivery before it is acknowledged; False for a duplicate."""
        row = {"delivery_id": delivery_id, "source": source, "body": body, "received_at": at}
        with self._writing() as connection:
            return added(connection, deliveries, row)

    def settle(self, delivery_id: str, *, model: str, alias: str, version: int | None, at: datetime) -> None:
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
            outcome = {"model": model, "alias": alias, "version": version, "settled_at": at, "settled_seq": number}
            query = update(deliveries).where(c.delivery_id == delivery_id, c.settled_at.is_(None))
            connection.execute(query.values(outcome))

    def unsettled(self, source: str, *, before: datetime) -> list[Received]:
        """Deliveries of a source that arrived before `before` and were not followed yet, in the order of arrival."""
        c = deliveries.c
        query = select(c.delivery_id, c.source, c.body, c.received_at).order_by(c.id)
        with self._reading() as connection:
            waiting = query.where(c.settled_at.is_(None), c.source == source, c.received_at < before)
            return every(connection, Received, waiting)

    def settled(self, model: str, *, after: int) -> list[Delivery]:
        """Deliveries about `model` with `id` > `after`, in order."""
        c = deliveries.c
        columns = [column for column in c if column.name not in ("id", "settled_seq")]
        query = select(c.settled_seq.label("id"), *columns).where(c.model == model, c.settled_seq > after)
        with self._reading() as connection:
            return every(connection, Delivery, query.order_by(c.settled_seq))
