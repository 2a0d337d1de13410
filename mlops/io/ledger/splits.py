"""Splits that a person told, and what they make of books: all of it in one commit, so that nothing is ever half split.

A split holds from an instant on. Books that grow past it take it as an event; those that had grown past it already are
made anew with it, in the commit that stores it and the new price. It is taken back by a void of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select

from mlops.errors import CorruptionError, DataError
from mlops.io.ledger.books import BookKey, BookRows, Mark, event_rows, marks_of, split_news, state_rows
from mlops.io.ledger.registry import added, every
from mlops.io.ledger.voids import named, replaced, taken_out
from mlops.io.storage.book_schema import is_void, splits, voids
from mlops.io.storage.checksum import record_sum
from mlops.io.storage.database import Tables
from mlops.io.storage.insert import put
from mlops.io.storage.risk_schema import confirmed_prices
from mlops.types import BookEvent

PREFIX = "split:"  # how a split's name begins
MOMENT = timedelta(minutes=1)  # a look takes less


@dataclass(frozen=True, slots=True)
class Split:
    """`new` units for each `old` ones from `event_time` on; a new one was worth `price` when a person told."""

    unit: str
    new: int
    old: int
    event_time: datetime
    price: float
    actor: str
    reason: str
    created_at: datetime
    id: int = 0

    @property
    def ratio(self) -> Fraction:
        """New units for an old one."""
        return Fraction(self.new, self.old)

    @property
    def name(self) -> str:
        """What it is called, in the list of fills and where it is taken back."""
        return f"{PREFIX}{self.unit}:{self.new}:{self.old}:{self.event_time:%Y-%m-%dT%H:%M:%S}"


class Restated(NamedTuple):
    """A book made anew: its rows that change, how many events were void when it was read, an event that is new."""

    rows: BookRows
    voids: int
    new: BookEvent | None = None


class Moved(Exception):
    """A book moved since it was read."""


class Splits(Tables):
    """Splits, their voids, and the books that both make anew."""

    def all(self, *, void: bool = False) -> list[Split]:
        """All that hold (or those that were taken back), by time.

        Raises
        ------
        CorruptionError
            One is not what was written.
        """
        rule = is_void(splits.c.split_id) if void else ~is_void(splits.c.split_id)
        query = select(splits).where(rule).order_by(splits.c.event_time, splits.c.id)
        with self._reading() as connection:
            rows = every(connection, Split, query)
            sums = list(connection.scalars(query.with_only_columns(splits.c.checksum)))
        for split, checksum in zip(rows, sums, strict=True):
            if record_sum("splits", _told(split)) != checksum:
                raise CorruptionError(f"{split.name} must be as it was written, got another. Restore a backup.")
        return rows

    def after_splits(self, as_of: datetime) -> tuple[datetime, tuple[int, int]]:
        """`as_of`, or the instant of a split that was told while somebody began to look; and `split_news`."""
        query = select(func.max(splits.c.created_at)).union(
            select(func.max(voids.c.created_at)).where(voids.c.fill_id.startswith(PREFIX))
        )
        with self._reading() as connection:
            instants = [at for at in connection.scalars(query) if at is not None and as_of < at <= as_of + MOMENT]
            return max([as_of, *instants]), split_news(connection)

    def last(self) -> int:
        """Number of the newest split; 0 where there is none."""
        with self._reading() as connection:
            return int(connection.scalar(select(func.max(splits.c.id))) or 0)

    def add(self, split: Split, ends: Mapping[BookKey, Mark], books: Sequence[Restated]) -> bool:
        """Store a split, its price as the confirmed one, and books made anew; False where a book moved meanwhile.

        `split.id` must be the next one. `ends`: the marks of all books when they were read.

        Raises
        ------
        DataError
            It is told already, or actor or reason is missing.
        """
        named(split.actor, split.reason, "a split")
        row = _told(split) | {"split_id": split.name}

        def stored(connection: Connection) -> None:
            if int(connection.scalar(select(func.max(splits.c.id))) or 0) + 1 != split.id:
                raise Moved
            if not added(connection, splits, row | {"id": split.id, "checksum": record_sum("splits", _told(split))}):
                raise DataError(f"split must be told once, got {split.name} again. Nothing was changed.")
            _confirm(
                connection, split.unit, split.price, split.actor, f"{split.reason} ({split.name})", split.created_at
            )

        return self._restated(stored, ends, books)

    def void(
        self,
        split: Split,
        price: float | None,
        actor: str,
        reason: str,
        at: datetime,
        ends: Mapping[BookKey, Mark],
        books: Sequence[Restated],
    ) -> bool:
        """Take a split back, with the price of a unit without it; False where a book moved meanwhile."""
        named(actor, reason)
        row = {"fill_id": split.name, "actor": actor, "reason": reason, "created_at": at}

        def stored(connection: Connection) -> None:
            new = added(connection, voids, row | {"checksum": record_sum("voids", row)})
            if new and price is not None:
                _confirm(connection, split.unit, price, actor, f"{reason} ({split.name} taken back)", at)

        return self._restated(stored, ends, books)

    def _restated(
        self, first: Callable[[Connection], None], ends: Mapping[BookKey, Mark], books: Sequence[Restated]
    ) -> bool:
        try:
            with self._writing(lock="books") as connection:
                if marks_of(connection) != dict(ends):
                    raise Moved
                first(connection)
                for book in books:
                    _rewrite(connection, book)
        except Moved:
            return False
        return True


def _told(split: Split) -> dict[str, Any]:
    return {name: value for name, value in asdict(split).items() if name != "id"}


def _confirm(connection: Connection, unit: str, price: float, actor: str, reason: str, at: datetime) -> None:
    row = {"unit": unit, "price": price, "actor": actor, "reason": reason, "confirmed_at": at}
    connection.execute(insert(confirmed_prices).values(row))


def _rewrite(connection: Connection, book: Restated) -> None:
    """A new event is counted where it belongs; those after it are numbered on, each takes the place of the next."""
    lot, after = book.rows, book.rows.after
    if after is None or taken_out(connection, lot.key) != book.voids:
        raise Moved
    if book.new is not None:
        put(connection, [event_rows([replace(lot, events=[replace(book.new, seq=after.seq + 1)])])])
    replaced(connection, event_rows([lot]), "seq")
    replaced(connection, state_rows([lot]), "event_time")
