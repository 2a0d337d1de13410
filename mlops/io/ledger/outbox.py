"""The outbox: what a bot must hear of, written in the transaction of the change itself.

A change that was undone by a crash was never announced, and one that stands always is. Sending is another thread's
work (`registry_hooks.webhooks.outgoing`), which may be away for as long as it likes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, func, select

from mlops.errors import DataError
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import events

KINDS = ("transition", "trading_state", "alert")


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `seq` counts 1, 2, 3, ... without gaps, in the order of commits."""

    seq: int
    event_id: str
    kind: str
    model: str
    body: Mapping[str, Any]
    correlation_id: str
    created_at: datetime


class Outbox(Tables):
    """Reading of what was announced."""

    def events(self, after: int, limit: int = 100) -> list[Event]:
        """Events with `seq` > `after`, in order. A reader that saw number n is never handed a smaller one later."""
        query = select(events).where(events.c.seq > after).order_by(events.c.seq).limit(limit)
        with self._reading() as connection:
            return [read(row) for row in connection.execute(query).mappings()]


def announce(
    connection: Connection, kind: str, model: str, body: Mapping[str, Any], at: datetime, correlation_id: str = ""
) -> int:
    """Add an event to the open transaction of a change; its number.

    Call it last: on PostgreSQL everyone who announces waits here until this transaction ends, which is what keeps the
    numbers without gaps and in the order of commits (SQLite has one writer anyway).

    Parameters
    ----------
    kind : str
        One of KINDS.
    model : str
        Empty where the event is about no model in particular.
    body : mapping
        What a receiver reads under `data`; JSON (instants and NumPy numbers are written as JSON has them).

    Raises
    ------
    DataError
        Another kind, or a body that JSON cannot carry.
    """
    if kind not in KINDS:
        raise DataError(f"kind of an event must be one of {KINDS}, got {kind!r}. Choose one of them.")
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext("ledger:events"))))
    seq = int(connection.scalar(select(func.coalesce(func.max(events.c.seq), 0))) or 0) + 1
    row = {"seq": seq, "event_id": uuid.uuid4().hex, "kind": kind, "model": model, "body": _json(kind, body)}
    connection.execute(events.insert().values(**row, correlation_id=correlation_id, created_at=at))
    return seq


def read(row: RowMapping) -> Event:
    """A row of the table as an event."""
    names = ("seq", "event_id", "kind", "model", "correlation_id", "created_at")
    return Event(**{name: row[name] for name in names}, body=orjson.loads(row["body"]))


def _json(kind: str, body: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(dict(body), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except orjson.JSONEncodeError as error:
        raise DataError(f"body of a {kind} event must be JSON, got {error}. Give plain values.") from error
