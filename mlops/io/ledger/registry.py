"""What the registry relies on: bundles, the promotion log, experiments. Every commit is on disk when the call returns.

Nothing here is ever pruned, and an entry is never rewritten: it is appended, then settled once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

import orjson
from sqlalchemy import Connection, Insert, Select, Table, case, func, null, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from mlops.errors import AliasMoved, CorruptionError, DataError, RegistryError
from mlops.io.ledger.outbox import announce
from mlops.io.storage.checksum import record_sum
from mlops.io.storage.database import Tables
from mlops.io.storage.row_counts import CHANGED, count_in, must_be
from mlops.io.storage.schema import bundles, events, experiments, promotions

SETTLED = ("applied", "undone")
KINDS = ("compare", "watch", "shadow")


class Row(Protocol):
    """A dataclass whose fields are columns."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class BundleRow:
    """One immutable bundle.

    `train_start`, `train_end`: event times of its first and last training row; `kind`: what its model is for.
    """

    model: str
    version: int
    digest: str
    run_id: str
    model_id: str
    train_start: datetime
    train_end: datetime
    horizon_bars: int
    registered_at: datetime
    kind: str = "strategy"


@dataclass(frozen=True, slots=True)
class Promotion:
    """An entry of the promotion log: who moved the champion from where to where, why, on what evidence.

    `state` is pending until the aliases were moved (applied) or the transition was taken back (undone).
    """

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
class ComparisonRow:
    """Champion against challenger: one that may trade (`compare`), or one that waits its turn (`shadow`).

    A `watch` is a new champion against the one before it.
    """

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
    alias_at: datetime | None  # when the alias `challenger` was made to say so; None: still to be done
    plan: str | None  # JSON of what it must show; the first look wrote it, and later settings leave it


class RegistryLog(Tables):
    """Bundles, promotions, experiments."""

    def add_bundle(self, bundle: BundleRow) -> None:
        """Remember a bundle; saying the same again changes nothing.

        Raises
        ------
        DataError
            The version is known with other contents: a bundle never changes.
        """
        with self._writing() as connection:
            row = asdict(bundle)
            if added(connection, bundles, row | {"checksum": record_sum("bundles", row)}):
                count_in(connection, bundles, {"model": [bundle.model]})
                return
        known = self.bundle(bundle.model, bundle.version)
        if known != bundle:
            raise DataError(f"bundle {bundle.model} v{bundle.version} must stay {known}, got {bundle}. Register anew.")

    def bundle(self, model: str, version: int) -> BundleRow | None:
        """The bundle of one version, if it is known."""
        return next((bundle for bundle in self.bundles(model) if bundle.version == version), None)

    def bundles(self, model: str) -> list[BundleRow]:
        """All known bundles of a model, by version."""
        with self._reading() as connection:
            query = select(bundles).where(bundles.c.model == model).order_by(bundles.c.version)
            return _whole(connection, BundleRow, query, model)

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
        """Append to the log, provided that the champion still is `expected` (None: there is none yet).

        Raises
        ------
        AliasMoved
            The champion is another one by now, also where two append at the same moment: one of them loses.
        """
        row: dict[str, Any] = {"model": model, "from_version": expected, "to_version": to, "kind": kind, "actor": actor}
        row |= {"reason": reason, "evidence_run": evidence_run, "correlation_id": correlation_id}
        try:
            with self._writing(lock=f"promotions:{model}") as connection:
                champion, last = _head(connection, model)
                if champion != expected:
                    raise AliasMoved(_moved(model, expected, champion))
                row |= {"seq": last + 1, "state": "pending", "created_at": at}
                entry = _one(connection, Promotion, promotions.insert().values(row).returning(promotions))
                row_of = update(promotions).where(promotions.c.id == entry.id)
                connection.execute(row_of.values(checksum=record_sum("promotions", asdict(entry))))
                count_in(connection, promotions, {"model": [model]})
                return entry
        except IntegrityError as error:  # the lock makes it impossible; the key would still tell
            raise AliasMoved(_moved(model, expected, self.champion(model))) from error

    def announce_promotion(self, entry: Promotion, at: datetime) -> None:
        """Tell receivers of an entry that counts as it stands in the log; others are told once they are applied."""
        with self._writing(lock=f"promotions:{entry.model}") as connection:
            if not _announced(connection, entry):
                announce(connection, "transition", entry.model, _told(entry, at), at, entry.correlation_id)

    def settle_promotion(self, promotion_id: int, state: str, at: datetime) -> None:
        """Say that the aliases were moved (`applied`), or that it never took effect (`undone`). Once; safe to repeat.

        Raises
        ------
        DataError
            Another state, or an entry that is not in the log.
        RegistryError
            The entry is settled otherwise, or would be undone under a later one that builds on it.
        """
        if state not in SETTLED:
            raise DataError(f"state of a promotion must be one of {SETTLED}, got {state!r}. Choose one of them.")
        with self._reading() as connection:
            known = every(connection, Promotion, select(promotions).where(promotions.c.id == promotion_id))
            if not known:
                raise DataError(f"promotion must be in the log, got id {promotion_id}. Read `promotions` for the ids.")
        with self._writing(lock=f"promotions:{known[0].model}") as connection:
            _settle(connection, known[0], state, at)

    def promotions(self, model: str) -> list[Promotion]:
        """The whole log of a model, oldest first."""
        with self._reading() as connection:
            return _log(connection, model)

    def last_move(self, model: str) -> int:
        """Number of the last transition that bots go by, 0 where none is: while it stays the champion stays.

        One that was applied, or a rollback that waits for MLflow.
        """
        c = promotions.c
        counts = (c.state == "applied") | ((c.state == "pending") & (c.kind == "rollback"))
        query = select(func.max(c.seq)).where(c.model == model, counts)
        with self._reading() as connection:
            return int(connection.scalar(query) or 0)

    def models(self) -> list[str]:
        """Every model that a bundle or a transition is known of, by name; also those that MLflow lost."""
        with self._reading() as connection:
            query = select(promotions.c.model).union(select(bundles.c.model))
            return sorted(connection.scalars(query))

    def kinds(self) -> dict[str, str]:
        """What each model with a bundle is for, by its newest version."""
        with self._reading() as connection:
            query = select(bundles.c.model, bundles.c.kind).order_by(bundles.c.version)
            return {row.model: row.kind for row in connection.execute(query)}

    def champion(self, model: str) -> int | None:
        """The champion by the log: where its last entry that was not undone points."""
        with self._reading() as connection:
            return _head(connection, model)[0]

    def open_comparison(
        self, model: str, *, champion: int, challenger: int, kind: str, salt: str, split: float, at: datetime
    ) -> ComparisonRow:
        """Begin a comparison, or return the one of that kind and pair that is open already.

        Raises
        ------
        DataError
            Another kind than `compare`, `watch` and `shadow`.
        """
        if kind not in KINDS:
            raise DataError(f"kind of an experiment must be one of {KINDS}, got {kind!r}. Choose one of them.")
        pair = {"model": model, "kind": kind, "champion": champion, "challenger": challenger}
        with self._writing() as connection:
            added(connection, experiments, {**pair, "salt": salt, "split": split, "started_at": at})
            query = select(experiments).filter_by(**pair).where(experiments.c.ended_at.is_(None))
            return _one(connection, ComparisonRow, query)

    def keep_plan(self, comparison_id: int, plan: str) -> str:
        """Store the plan of a comparison, unless it has one; the one that it has. The first stays.

        Raises
        ------
        DataError
            There is no such comparison.
        """
        c = experiments.c
        with self._writing() as connection:
            connection.execute(update(experiments).where(c.id == comparison_id, c.plan.is_(None)).values(plan=plan))
            plan_stored = connection.scalar(select(c.plan).where(c.id == comparison_id))
        if plan_stored is None:
            raise DataError(
                f"comparison must be in the ledger, got id {comparison_id}. Read `comparisons` for the ids."
            )
        return str(plan_stored)

    def close_comparison(self, comparison_id: int, verdict: str, at: datetime) -> None:
        """End a comparison. The first verdict stays."""
        c = experiments.c
        with self._writing() as connection:
            query = update(experiments).where(c.id == comparison_id, c.ended_at.is_(None))
            connection.execute(query.values(verdict=verdict, ended_at=at, alias_at=None))

    def settle_alias(self, comparison_id: int, at: datetime) -> None:
        """Say that the alias `challenger` agrees with this comparison, as it is now. Safe to repeat."""
        with self._writing() as connection:
            connection.execute(update(experiments).where(experiments.c.id == comparison_id).values(alias_at=at))

    def open_comparisons(self, model: str, kind: str | None = None) -> list[ComparisonRow]:
        """Comparisons that run, oldest first."""
        return [e for e in self.comparisons(model) if e.ended_at is None and kind in (None, e.kind)]

    def comparisons(self, model: str) -> list[ComparisonRow]:
        """All of a model, oldest first."""
        with self._reading() as connection:
            query = select(experiments).where(experiments.c.model == model).order_by(experiments.c.id)
            return every(connection, ComparisonRow, query)


def every(connection: Connection, kind: type[R], query: Select[Any]) -> list[R]:
    """Rows as dataclasses, by the names of their fields."""
    names = [field.name for field in fields(kind)]
    return [kind(**{name: row[name] for name in names}) for row in connection.execute(query).mappings()]


def _whole(connection: Connection, kind: type[R], query: Select[Any], model: str) -> list[R]:
    """All rows of a model, none changed and none missing."""
    (table,) = {column.table.name for column in query.selected_columns}
    rows, names = connection.execute(query).mappings().all(), [field.name for field in fields(kind)]
    entries = []
    for row in rows:
        values = {name: row[name] for name in names}
        entries.append(kind(**values))
        if row["checksum"] is not None and row["checksum"] != record_sum(table, values):
            raise CorruptionError(CHANGED.format(table=table, key=entries[-1]))
    must_be(connection, table, {"model": model}, sum(row["checksum"] is not None for row in rows))
    return entries


def _log(connection: Connection, model: str) -> list[Promotion]:
    """The entries of a model, which are numbered without a gap."""
    query = select(promotions).where(promotions.c.model == model).order_by(promotions.c.seq)
    entries = _whole(connection, Promotion, query, model)
    if [entry.seq for entry in entries] != list(range(1, len(entries) + 1)):
        raise CorruptionError(CHANGED.format(table="promotions", key=f"model={model}: an entry is missing"))
    return entries


def added(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert, unless a row with the same unique key is there; whether it was inserted."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).values(row).on_conflict_do_nothing()
    return connection.execute(insert.execution_options(preserve_rowcount=True)).rowcount == 1


def _one(connection: Connection, kind: type[R], query: Select[Any] | Insert | Any) -> R:
    row = connection.execute(query).mappings().one()
    return kind(**{field.name: row[field.name] for field in fields(kind)})


def _head(connection: Connection, model: str) -> tuple[int | None, int]:
    """The champion, and the last number used in the log (undone entries keep theirs)."""
    log = _log(connection, model)
    standing = [entry.to_version for entry in log if entry.state != "undone"]
    return standing[-1] if standing else None, len(log)


def _settle(connection: Connection, entry: Promotion, state: str, at: datetime) -> None:
    c = promotions.c
    pending = update(promotions).where(c.id == entry.id, c.state == "pending")
    if state == "undone":
        later = select(c.seq).where(c.model == entry.model, c.seq > entry.seq, c.state != "undone").limit(1)
        if connection.scalar(later) is not None:
            rule = (
                f"promotion {entry.seq} of {entry.model} must be the last one to be undone, got one with later entries"
            )
            raise RegistryError(f"{rule}. Roll back instead.")
    summed = record_sum("promotions", asdict(replace(entry, state=state, settled_at=at)))
    checksum = case((c.checksum.is_(None), null()), else_=summed)  # a row of an older release stays without
    if connection.execute(pending.values(state=state, settled_at=at, checksum=checksum)).rowcount == 1:
        announced = _announced(connection, entry)
        if state == "applied" and not announced:
            announce(connection, "transition", entry.model, _told(entry, at), at, entry.correlation_id)
        if state == "undone" and announced:
            back = {"kind": "undone", "from_version": entry.to_version, "to_version": entry.from_version}
            announce(connection, "transition", entry.model, _told(entry, at) | back, at, entry.correlation_id)
        return
    now = connection.scalar(select(c.state).where(c.id == entry.id))
    if now != state:
        raise RegistryError(f"promotion {entry.seq} of {entry.model} must be pending to be {state}, got {now}. Append.")


def _announced(connection: Connection, entry: Promotion) -> bool:
    """Whether receivers were told of an entry before it was settled."""
    c = events.c
    later = select(c.body).where(c.kind == "transition", c.model == entry.model, c.created_at >= entry.created_at)
    return any(orjson.loads(body)["seq"] == entry.seq for body in connection.scalars(later))


def _told(entry: Promotion, at: datetime) -> dict[str, Any]:
    """What a receiver hears of a transition."""
    names = ("model", "seq", "from_version", "to_version", "kind", "actor", "reason", "evidence_run")
    return {name: getattr(entry, name) for name in names} | {"at": at.isoformat()}


def _moved(model: str, expected: int | None, champion: int | None) -> str:
    names = [f"v{v}" if v is not None else "none" for v in (expected, champion)]
    return f"champion of {model} must be {names[0]}, got {names[1]}. Read it again and decide anew."
