"""The part of the ledger that someone relies on: bundles, promotions, experiments, alerts, deliveries, job runs.

Every commit here waits for the disk. Nothing here is ever pruned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from sqlalchemy import Engine, RowMapping, Select, Table, func, select, update
from sqlalchemy.exc import IntegrityError

from mlops.errors import AliasMoved, DataError
from mlops.io import database
from mlops.io.schema import alerts, bundles, deliveries, experiments, job_runs, promotions
from mlops.types import Alert, Priority

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class BundleRow:
    """What the ledger knows of a model version; `digest` is what its files must hash to, for ever."""

    model: str
    version: int
    digest: str
    run_id: str
    model_id: str
    train_start: datetime
    train_end: datetime
    horizon_bars: int
    registered_at: datetime


@dataclass(frozen=True, slots=True)
class Promotion:
    """One entry of the promotion log: `from_version` is None for the first champion."""

    id: int
    model: str
    seq: int
    from_version: int | None
    to_version: int
    kind: str
    actor: str
    reason: str
    evidence_run: str
    correlation_id: str
    state: str
    created_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Experiment:
    """A comparison (`compare`) or the watch on a new champion (`watch`); open while `verdict` is None."""

    id: int
    model: str
    kind: str
    champion: int
    challenger: int
    salt: str
    split: float
    started_at: datetime
    verdict: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that was handled: the version that the alias pointed to when it was read anew."""

    id: int
    delivery_id: str
    model: str
    alias: str
    version: int | None
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class JobRun:
    """One (job, scheduled time)."""

    job: str
    scheduled_for: datetime
    state: str
    attempts: int
    run_id: str
    started_at: datetime
    ended_at: datetime | None


class Journal:
    """Logs over one durable engine."""

    def __init__(self, engine: Engine) -> None:
        self._durable = engine

    # bundles

    def add_bundle(self, bundle: BundleRow) -> None:
        """Remember a version. Saying the same again changes nothing; another digest for it is refused."""
        known = self.bundle(bundle.model, bundle.version)
        if known is not None and known.digest != bundle.digest:
            raise DataError(
                f"bundle of {bundle.model} v{bundle.version} must keep its digest {known.digest}, got {bundle.digest}. "
                "Register a new version."
            )
        if known is None:
            self._insert(bundles, asdict(bundle))

    def bundle(self, model: str, version: int) -> BundleRow | None:
        found = self._all(BundleRow, select(bundles).where(bundles.c.model == model, bundles.c.version == version))
        return found[0] if found else None

    def bundles(self, model: str) -> list[BundleRow]:
        return self._all(BundleRow, select(bundles).where(bundles.c.model == model).order_by(bundles.c.version))

    # promotions

    def append_promotion(
        self,
        model: str,
        *,
        expected: int | None,
        to: int,
        kind: str,
        actor: str,
        reason: str,
        evidence_run: str,
        correlation_id: str,
        at: datetime,
    ) -> Promotion:
        """Compare-and-set: append only while the champion is `expected` (None: none yet).

        Raises
        ------
        AliasMoved
            The champion is another one, or somebody else appended at the same moment.
        """
        row: dict[str, Any] = {
            **{"model": model, "from_version": expected, "to_version": to, "kind": kind, "actor": actor},
            **{"reason": reason, "evidence_run": evidence_run, "correlation_id": correlation_id},
            **{"state": "pending", "created_at": at, "settled_at": None},
        }
        mine = select(promotions).where(promotions.c.model == model)
        last = mine.where(promotions.c.state != "undone").order_by(promotions.c.seq.desc()).limit(1)
        try:
            with database.writing(self._durable) as connection:
                standing = connection.execute(last).mappings().first()
                champion = None if standing is None else standing["to_version"]
                if champion != expected:
                    raise AliasMoved(f"champion of {model} must be v{expected}, got v{champion}. Read it and decide anew.")
                seq = connection.scalar(select(func.max(promotions.c.seq)).where(promotions.c.model == model)) or 0
                row["seq"] = seq + 1
                row["id"] = connection.execute(promotions.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
        except IntegrityError as error:
            raise AliasMoved(f"champion of {model} was moved by somebody else meanwhile. Read it and decide anew.") from error
        return Promotion(**row)

    def settle_promotion(self, promotion_id: int, state: str, at: datetime) -> None:
        """Mark an entry `applied` or `undone`."""
        if state not in ("applied", "undone"):
            raise DataError(f"state of a promotion must be applied or undone, got {state}. Use one of them.")
        self._update(promotions, promotion_id, state=state, settled_at=at)

    def promotions(self, model: str) -> list[Promotion]:
        """Oldest first."""
        return self._all(Promotion, select(promotions).where(promotions.c.model == model).order_by(promotions.c.seq))

    def champion(self, model: str) -> int | None:
        """Where the last entry that was not undone points."""
        standing = [entry for entry in self.promotions(model) if entry.state != "undone"]
        return standing[-1].to_version if standing else None

    # experiments

    def open_experiment(
        self, model: str, *, champion: int, challenger: int, kind: str, salt: str, split: float, at: datetime
    ) -> Experiment:
        """The open experiment of that pair and kind; begun now where there is none."""
        for open_one in self.open_experiments(model, kind):
            if (open_one.champion, open_one.challenger) == (champion, challenger):
                return open_one
        row: dict[str, Any] = {
            **{"model": model, "kind": kind, "champion": champion, "challenger": challenger},
            **{"salt": salt, "split": split, "started_at": at, "verdict": None, "ended_at": None},
        }
        return Experiment(id=self._insert(experiments, row), **row)

    def open_experiments(self, model: str, kind: str | None = None) -> list[Experiment]:
        return [e for e in self.experiments(model) if e.verdict is None and kind in (None, e.kind)]

    def experiments(self, model: str) -> list[Experiment]:
        """Oldest first."""
        return self._all(Experiment, select(experiments).where(experiments.c.model == model).order_by(experiments.c.id))

    def close_experiment(self, experiment_id: int, verdict: str, at: datetime) -> None:
        self._update(experiments, experiment_id, verdict=verdict, ended_at=at)

    # alerts

    def add_alert(self, alert: Alert) -> bool:
        """False where an alert of that key is known already."""
        row = asdict(alert) | {"priority": alert.priority.value, "details": orjson.dumps(dict(alert.details)).decode()}
        return self._insert_new(alerts, row)

    def alerts(self, *, open_only: bool = True) -> list[Alert]:
        """Newest first."""
        query = select(alerts).order_by(alerts.c.as_of.desc(), alerts.c.id.desc())
        query = query.where(alerts.c.resolved_at.is_(None)) if open_only else query
        with self._durable.connect() as connection:
            return [_alert(row) for row in connection.execute(query).mappings()]

    def resolve_alert(self, key: str, at: datetime) -> None:
        with database.writing(self._durable) as connection:
            connection.execute(update(alerts).where(alerts.c.key == key).values(resolved_at=at))

    # deliveries: the webhook inbox

    def add_delivery(self, delivery_id: str, source: str, body: bytes, at: datetime) -> bool:
        """Keep a verified delivery before it is acknowledged. False for one that is here already."""
        row = {"delivery_id": delivery_id, "source": source, "body": body, "received_at": at}
        return self._insert_new(deliveries, row)

    def settle_delivery(self, delivery_id: str, *, model: str, alias: str, version: int | None, at: datetime) -> None:
        """What was found when the delivery was acted upon."""
        found = {"model": model, "alias": alias, "version": version, "settled_at": at}
        with database.writing(self._durable) as connection:
            connection.execute(update(deliveries).where(deliveries.c.delivery_id == delivery_id).values(found))

    def settled_deliveries(self, model: str, *, after: int) -> list[Delivery]:
        """Deliveries about `model` with an id above `after`, oldest first."""
        c = deliveries.c
        columns = (c.id, c.delivery_id, c.model, c.alias, c.version, c.settled_at)
        query = select(*columns).where(c.model == model, c.settled_at.is_not(None), c.id > after).order_by(c.id)
        return self._all(Delivery, query)

    # job runs

    def start_job(self, job: str, scheduled_for: datetime, at: datetime) -> bool:
        """Claim one scheduled run. False where it is running or done; a failed one may be tried again."""
        mine = (job_runs.c.job == job) & (job_runs.c.scheduled_for == scheduled_for)
        again = update(job_runs).where(mine, job_runs.c.state == "failed")
        row = {"job": job, "scheduled_for": scheduled_for, "state": "running", "started_at": at}
        if self._insert_new(job_runs, row | {"attempts": 1, "run_id": ""}):
            return True
        with database.writing(self._durable) as connection:
            tried = again.values(state="running", attempts=job_runs.c.attempts + 1, started_at=at, ended_at=None)
            return connection.execute(tried).rowcount == 1

    def finish_job(self, job: str, scheduled_for: datetime, *, state: str, run_id: str, at: datetime) -> None:
        """Mark a run `done` or `failed`."""
        mine = (job_runs.c.job == job) & (job_runs.c.scheduled_for == scheduled_for)
        with database.writing(self._durable) as connection:
            connection.execute(update(job_runs).where(mine).values(state=state, run_id=run_id, ended_at=at))

    def job_runs(self, job: str) -> list[JobRun]:
        """In order of their scheduled time."""
        c = job_runs.c
        columns = (c.job, c.scheduled_for, c.state, c.attempts, c.run_id, c.started_at, c.ended_at)
        return self._all(JobRun, select(*columns).where(c.job == job).order_by(c.scheduled_for))

    def _all(self, kind: type[Row], query: Select[Any]) -> list[Row]:
        with self._durable.connect() as connection:
            return [kind(**row) for row in connection.execute(query).mappings()]

    def _insert(self, table: Table, row: Mapping[str, Any]) -> int:
        with database.writing(self._durable) as connection:
            key = connection.execute(table.insert().values(row)).inserted_primary_key
            return int(key[0]) if isinstance(key[0], int) else 0  # type: ignore[index]

    def _insert_new(self, table: Table, row: Mapping[str, Any]) -> bool:
        """True where the row's unique key was new."""
        try:
            with database.writing(self._durable) as connection:
                connection.execute(table.insert().values(row))
        except IntegrityError:
            return False
        return True

    def _update(self, table: Table, row_id: int, **values: Any) -> None:
        with database.writing(self._durable) as connection:
            connection.execute(update(table).where(table.c.id == row_id).values(values))


def _alert(row: RowMapping) -> Alert:
    details = orjson.loads(row["details"])
    return Alert(row["key"], Priority(row["priority"]), row["model"], row["title"], row["as_of"], details)
