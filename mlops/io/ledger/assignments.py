"""Keys and the versions that trade them: a key is assigned once in a comparison; weights are appended, not changed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from mlops.errors import DataError
from mlops.io.ledger.registry import ComparisonRow
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import assignments, weights

ASKED = 500  # keys in one question


@dataclass(frozen=True, slots=True)
class Epoch:
    """Share of each version of the keys assigned from `at` on, until the next epoch; the champion has the rest.

    `weights` sums to 1 and names the champion, too. `counts` are the keys that were assigned to each version by them.
    """

    number: int
    at: datetime
    weights: Mapping[int, float]
    actor: str
    reason: str
    counts: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A key and the version that trades it, assigned by the weights of an epoch."""

    key: str
    version: int
    epoch: int
    at: datetime


class Assignments(Tables):
    """Weights and assignments of experiments."""

    def add_weights(
        self, comparison: ComparisonRow, given: Mapping[int, float], *, actor: str, reason: str, at: datetime
    ) -> Epoch:
        """Append an epoch: `given` (version -> share of new keys) over what held before. Keys that were assigned stay.

        Raises
        ------
        DataError
            A weight is negative or no number, the champion has one, or nothing is left to it.
        """
        with self._writing(lock=f"weights:{comparison.model}") as connection:
            last = self.epochs(comparison)[-1]
            merged = {v: w for v, w in last.weights.items() if v != comparison.champion} | dict(given)
            _check(comparison, merged)
            row = {"model": comparison.model, "salt": comparison.salt, "epoch": last.number + 1, "at": at}
            row |= {"actor": actor, "reason": reason}
            connection.execute(weights.insert(), [row | {"version": v, "weight": w} for v, w in merged.items()])
        return Epoch(last.number + 1, at, _whole(comparison, merged), actor, reason)

    def epochs(self, comparison: ComparisonRow) -> list[Epoch]:
        """The weights of an experiment, oldest first; the first are those of its split."""
        c, split = weights.c, {comparison.challenger: 1 - comparison.split}
        query = (
            select(weights).where(c.model == comparison.model, c.salt == comparison.salt).order_by(c.epoch, c.version)
        )
        epochs = [Epoch(0, comparison.started_at, _whole(comparison, split), "", "split of the experiment")]
        with self._reading() as connection:
            rows = connection.execute(query).all() if comparison.salt else []
        by_epoch = defaultdict(list)
        for row in rows:
            by_epoch[row.epoch].append(row)
        for number, (first, *rest) in by_epoch.items():
            shares = {row.version: row.weight for row in (first, *rest)}
            epochs.append(Epoch(number, first.at, _whole(comparison, shares), first.actor, first.reason))
        return epochs

    def add(self, model: str, salt: str, assigned: Sequence[Assignment]) -> dict[str, int]:
        """Remember who trades which key, unless it was assigned before; what stands for these keys now."""
        rows = [
            {"model": model, "salt": salt, "key": d.key, "version": d.version, "epoch": d.epoch, "assigned_at": d.at}
            for d in sorted(assigned, key=lambda assign: assign.key)  # in one order: two writers cannot deadlock
        ]
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        keys, c, stands = [row["key"] for row in rows], assignments.c, dict[str, int]()
        with self._writing() as connection:
            if rows:
                connection.execute(dialect.insert(assignments).on_conflict_do_nothing(), rows)
            for i in range(0, len(keys), ASKED):
                query = select(c.key, c.version).where(c.model == model, c.salt == salt, c.key.in_(keys[i : i + ASKED]))
                stands |= {row.key: row.version for row in connection.execute(query)}
        return stands

    def of(self, model: str, salt: str) -> dict[str, int]:
        """Key -> version, of all keys that were assigned in an experiment."""
        c = assignments.c
        query = select(c.key, c.version).where(c.model == model, c.salt == salt)
        with self._reading() as connection:
            return {row.key: row.version for row in connection.execute(query)}

    def by_epoch(self, comparison: ComparisonRow, as_of: datetime | None = None) -> list[Epoch]:
        """Each epoch of the weights with the keys that were assigned by them; those known at `as_of`, if it is given.

        A count is of keys, each once, by the version that it was assigned to, whoever traded it in the end.
        """
        c = assignments.c
        query = select(c.epoch, c.version, func.count()).where(c.model == comparison.model, c.salt == comparison.salt)
        if as_of is not None:
            query = query.where(c.assigned_at <= as_of)
        counts = defaultdict[int, Counter[int]](Counter)
        with self._reading() as connection:
            for epoch, version, n in connection.execute(query.group_by(c.epoch, c.version)):
                counts[epoch][version] = n
        known = [epoch for epoch in self.epochs(comparison) if as_of is None or epoch.at <= as_of]
        return [replace(epoch, counts={v: counts[epoch.number][v] for v in epoch.weights}) for epoch in known]


def _whole(comparison: ComparisonRow, shares: Mapping[int, float]) -> dict[int, float]:
    """With the champion's share, which is the rest."""
    return {comparison.champion: 1 - math.fsum(shares.values())} | dict(shares)


def _check(comparison: ComparisonRow, shares: Mapping[int, float]) -> None:
    for version, weight in shares.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise DataError(f"weight of v{version} must be zero or more, got {weight}. Give a share, such as 0.05.")
    if comparison.champion in shares:
        rule = f"weights of {comparison.model} must be of challengers, got one of the champion v{comparison.champion}"
        raise DataError(f"{rule}. It has what is left.")
    if math.fsum(shares.values()) >= 1:
        text = " ".join(f"{version}={weight:g}" for version, weight in shares.items())
        rule = f"weights of {comparison.model} must sum to less than 1"
        raise DataError(f"{rule}, got {text}. Leave a share to the champion.")
