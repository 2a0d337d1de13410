"""What must be neither lost nor done twice: alerts, webhook deliveries, job runs. On disk when the call returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import RowMapping, func, select, update

from mlops.errors import DataError
from mlops.io.database import Database
from mlops.io.journal import added, every
from mlops.io.schema import alerts, deliveries, job_runs
from mlops.types import Alert, Priority

FINISHED = ("done", "failed")


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
class JobRun:
    """One job at one scheduled time; `attempts` counts its starts."""

    id: int
    job: str
    scheduled_for: datetime
    state: str
    attempts: int
    run_id: str
    started_at: datetime
    ended_at: datetime | None


class Inbox(Database):
    """Alerts, deliveries, job runs."""

    def add_alert(self, alert: Alert) -> bool:
        """Keep an alert; False where one of the same key is known, resolved or not.

        Raises
        ------
        DataError
            Details that JSON cannot carry.
        """
        row = {"key": alert.key, "priority": alert.priority.value, "model": alert.model, "title": alert.title}
        with self._writing() as connection:
            return added(connection, alerts, {**row, "as_of": alert.as_of, "details": _json(alert)})

    def alerts(self, *, open_only: bool = True) -> list[Alert]:
        """Newest first."""
        query = select(alerts).order_by(alerts.c.as_of.desc(), alerts.c.id.desc())
        if open_only:
            query = query.where(alerts.c.resolved_at.is_(None))
        with self._reading() as connection:
            return [_alert(row) for row in connection.execute(query).mappings()]

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

    def settled_deliveries(self, model: str, *, after: int) -> list[Delivery]:
        """Those about `model` with `id` > `after`, in order."""
        c = deliveries.c
        columns = [column for column in c if column.name not in ("id", "settled_seq")]
        query = select(c.settled_seq.label("id"), *columns).where(c.model == model, c.settled_seq > after)
        with self._reading() as connection:
            return every(connection, Delivery, query.order_by(c.settled_seq))

    def start_job(self, job: str, scheduled_for: datetime, at: datetime) -> bool:
        """Take a run; False where somebody runs it or it is done. A failed one may be taken again."""
        c = job_runs.c
        fresh = {"state": "running", "run_id": "", "started_at": at}
        with self._writing() as connection:
            if added(connection, job_runs, {"job": job, "scheduled_for": scheduled_for, "attempts": 1, **fresh}):
                return True
            mine = update(job_runs).where(c.job == job, c.scheduled_for == scheduled_for, c.state == "failed")
            again = mine.values(attempts=c.attempts + 1, ended_at=None, **fresh)
            return connection.execute(again).rowcount == 1

    def finish_job(self, job: str, scheduled_for: datetime, *, state: str, run_id: str, at: datetime) -> None:
        """Say how a run that was started ended: `done` or `failed`.

        Raises
        ------
        DataError
            Another state, or no such run is running.
        """
        if state not in FINISHED:
            raise DataError(f"state of a finished job must be one of {FINISHED}, got {state!r}. Choose one of them.")
        c = job_runs.c
        with self._writing() as connection:
            mine = update(job_runs).where(c.job == job, c.scheduled_for == scheduled_for, c.state == "running")
            if connection.execute(mine.values(state=state, run_id=run_id, ended_at=at)).rowcount == 0:
                raise DataError(f"job must be running to end, got {job} at {scheduled_for}. Start it first.")

    def job_runs(self, job: str | None = None) -> list[JobRun]:
        """All runs, of one job or of every job, by scheduled time."""
        query = select(job_runs).order_by(job_runs.c.scheduled_for, job_runs.c.id)
        if job is not None:
            query = query.where(job_runs.c.job == job)
        with self._reading() as connection:
            return every(connection, JobRun, query)


def _json(alert: Alert) -> str:
    try:
        return orjson.dumps(dict(alert.details), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except orjson.JSONEncodeError as error:
        raise DataError(f"details of alert {alert.key!r} must be JSON, got {error}. Give plain values.") from error


def _alert(row: RowMapping) -> Alert:
    details: dict[str, Any] = orjson.loads(row["details"])
    return Alert(row["key"], Priority(row["priority"]), row["model"], row["title"], row["as_of"], details)
