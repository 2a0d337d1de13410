"""The newest rows and the times of bars: one seek into a key each, however many rows a bar has.

For a look: nothing is held against checksums.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Select, Table, func, select, type_coerce

from mlops.io.storage.book_schema import book_states
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import outcomes, predictions, quotes
from mlops.io.storage.utc_time import EPOCH, MICROSECOND
from mlops.io.storage.windows import microseconds
from mlops.types import Role

MOST = 20_000  # bars of a clock: 4 weeks at two minutes, a second each 0.1 ms


@dataclass(frozen=True, slots=True)
class LastPrediction:
    """The newest bar that a champion predicted, when its last row came, and which version it was."""

    event_time: datetime
    known_at: datetime
    champion: int


class Latest(Tables):
    """What came last, of predictions, outcomes and quotes."""

    def last_prediction(self, model: str, versions: Collection[int], *, as_of: datetime) -> LastPrediction | None:
        """The newest bar that one of the versions predicted in the champion's place; None where there is none.

        Neither the bar nor its row lies after `as_of`.
        """
        c, scope = predictions.c, _traded(model, versions, as_of)
        at = self._newest(predictions, scope, as_of)
        if at is None:
            return None
        bar = (*scope, _stored(c.event_time) == microseconds(at))
        with self._reading() as connection:
            known, champion = connection.execute(select(func.max(c.known_at), func.max(c.version)).where(*bar)).one()
        return LastPrediction(at, known, champion)

    def last_outcome(self, model: str, *, as_of: datetime) -> datetime | None:
        """The newest bar until `as_of` of which it is known what came true."""
        return self._newest(outcomes, (outcomes.c.model == model,), as_of)

    def predicted_bars(
        self, model: str, versions: Collection[int], *, start: datetime, as_of: datetime
    ) -> list[datetime]:
        """Event times that the versions predicted as champions from `start` on, oldest first; the newest MOST."""
        return self._times(predictions, _traded(model, versions, as_of), start, as_of, timedelta(0))

    def scored_bars(self, model: str, version: int, *, start: datetime, as_of: datetime) -> list[datetime]:
        """Event times that a version predicted in whatever role from `start` on, oldest first; the newest MOST."""
        c = predictions.c
        rules = (c.model == model, c.version == version, _stored(c.known_at) <= microseconds(as_of))
        return self._times(predictions, rules, start, as_of, timedelta(0))

    def booked_bars(self, model: str, start: datetime, *, as_of: datetime) -> list[datetime]:
        """Bars that any book of a model took from `start` on, oldest first; books of refitted versions follow on."""
        c = book_states.c
        at = _stored(c.event_time)
        rules = (c.model == model, at >= microseconds(start), at <= microseconds(as_of))
        with self._reading() as connection:
            rows = connection.scalars(select(at).where(*rules).distinct().order_by(at)).all()
        return [EPOCH + int(row) * MICROSECOND for row in rows]

    def quoted_times(self, unit: str, *, start: datetime, as_of: datetime, every: timedelta) -> list[datetime]:
        """Times of quotes of a unit from `start` on, at least `every` apart, oldest first; the newest MOST."""
        return self._times(quotes, (quotes.c.unit == unit,), start, as_of, every)

    def quoted_last(self, *, as_of: datetime) -> dict[str, datetime]:
        """When each unit was last quoted, until `as_of`; two seeks a unit."""
        c, last_quoted, unit = quotes.c, dict[str, datetime](), ""
        with self._reading() as connection:
            while (unit := connection.scalar(select(func.min(c.unit)).where(c.unit > unit))) is not None:
                last = select(func.max(c.event_time)).where(
                    c.unit == unit, _stored(c.event_time) <= microseconds(as_of)
                )
                if (at := connection.scalar(last)) is not None:
                    last_quoted[unit] = at
        return last_quoted

    def _newest(self, table: Table, scope: tuple[ColumnElement[bool], ...], as_of: datetime) -> datetime | None:
        c = table.c
        with self._reading() as connection:
            at: datetime | None = connection.scalar(
                select(func.max(c.event_time)).where(*scope, _stored(c.event_time) <= microseconds(as_of))
            )
        return at

    def _times(
        self,
        table: Table,
        scope: tuple[ColumnElement[bool], ...],
        start: datetime,
        as_of: datetime,
        every: timedelta,
    ) -> list[datetime]:
        """Distinct event times, found from the newest back, each by a seek."""
        at, first, step = _stored(table.c.event_time), microseconds(start), every // MICROSECOND

        def newest(before: ColumnElement[bool]) -> Select[Any]:
            return select(func.max(at)).where(*scope, before)

        chain = newest(at <= microseconds(as_of)).cte("chain", recursive=True)
        value: ColumnElement[Any] = next(iter(chain.c))
        chain = chain.union_all(
            select(newest(at <= value - max(step, 1)).scalar_subquery()).where(value.is_not(None), value >= first)
        )
        value = next(iter(chain.c))
        with self._reading() as connection:
            rows = connection.execute(select(value).where(value >= first).limit(MOST)).scalars().all()
        return [EPOCH + int(row) * MICROSECOND for row in reversed(rows)]


def _traded(model: str, versions: Collection[int], as_of: datetime) -> tuple[ColumnElement[bool], ...]:
    c = predictions.c
    own = (c.model == model, c.version.in_(sorted(versions)), c.role == Role.CHAMPION.value)
    return (*own, _stored(c.known_at) <= microseconds(as_of))


def _stored(column: Column[Any]) -> ColumnElement[Any]:
    return type_coerce(column, BigInteger)
