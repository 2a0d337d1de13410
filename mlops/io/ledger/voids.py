"""Fills that a person took back, and books made anew without them.

A void is appended and never taken back: the fill stays in the ledger, with who voided it, when and why beside it. In a
book that had taken it its event becomes one of kind `void`, which moves nothing, and the states from its bar on are
made again in the same commit: the book is then what it had been if the fill had never come.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    bindparam,
    exists,
    func,
    select,
    type_coerce,
    update,
)

from mlops.errors import DataError
from mlops.io.ledger.books import TIMES, BookKey, BookRows, event_rows, mark_of, of_book, state_rows
from mlops.io.ledger.registry import added, every
from mlops.io.storage.book_schema import book_events, is_void, voids
from mlops.io.storage.checksum import record_sum
from mlops.io.storage.database import Tables
from mlops.io.storage.insert import Rows
from mlops.io.storage.schema import fills
from mlops.io.storage.validation import MAX_TEXT, storable
from mlops.types import FILL_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

BOUND = "bound_"  # before the name of a parameter, which must not be that of a column


@dataclass(frozen=True, slots=True)
class Void:
    """A fill that was taken back: by whom, why, when."""

    fill_id: str
    actor: str
    reason: str
    created_at: datetime


def named(actor: str, reason: str, thing: str = "a void") -> None:
    """Refuse what nobody did, or without a reason."""
    for name, text in (("actor", actor), ("reason", reason)):
        if not (text.strip() and storable(text)):
            raise DataError(f"{name} of {thing} must be text of 1 to {MAX_TEXT} characters, got {text!r}. Give one.")


class Voids(Tables):
    """Voids, and what they do to books."""

    def void_fill(self, fill_id: str, actor: str, reason: str, at: datetime) -> bool:
        """Take a fill back; False where it was before. What then follows in books is `rewrite_book`.

        Raises
        ------
        DataError
            There is no such fill, or actor or reason is missing.
        """
        named(actor, reason)
        row = {"fill_id": fill_id, "actor": actor, "reason": reason, "created_at": at}
        with self._writing() as connection:
            if connection.scalar(select(fills.c.id).where(fills.c.fill_id == fill_id)) is None:
                rule = f"fill must be one of the ledger's, got {fill_id!r}"
                raise DataError(f"{rule}. See `trader-mlops fill list`.")
            return added(connection, voids, row | {"checksum": record_sum("voids", row)})

    def all(self, *, after: int = 0) -> list[Void]:
        """All of them, oldest first; only those after the one of that number, where that is given.

        Raises
        ------
        DataError
            One is not what was written.
        """
        with self._reading() as connection:
            rule = voids.c.id > after
            rows = every(connection, Void, select(voids).where(rule).order_by(voids.c.id))
            sums = list(connection.scalars(select(voids.c.checksum).where(rule).order_by(voids.c.id)))
        for void, checksum in zip(rows, sums, strict=True):
            if record_sum("voids", asdict(void)) != checksum:
                raise DataError(f"void of {void.fill_id} must be as it was written, got another. Restore a backup.")
        return rows

    def fills(self, *, after: int) -> pd.DataFrame:
        """The fills that were voided after the void of that number: `id` and FILL_COLUMNS, by time and id."""
        return self._fills(exists().where(voids.c.fill_id == fills.c.fill_id, voids.c.id > after))

    def fills_after(self, number: int, *, until: int) -> pd.DataFrame:
        """The fills after the one of that number that are not void: `id` and FILL_COLUMNS, by time and id."""
        return self._fills(fills.c.id > number, fills.c.id <= until, ~is_void(fills.c.fill_id))

    def _fills(self, *rules: ColumnElement[bool]) -> pd.DataFrame:
        import pandas as pd

        c, read = fills.c, ["id", *FILL_COLUMNS]
        query = select(*(c[name] for name in read)).where(*rules).order_by(c.event_time, c.id)
        with self._reading() as connection:
            frame = pd.DataFrame(connection.execute(query).all(), columns=read)
        return frame.assign(event_time=pd.to_datetime(frame["event_time"], utc=True))

    def last(self) -> int:
        """Number of the newest void: while it stays nobody has taken a fill back."""
        with self._reading() as connection:
            return int(connection.scalar(select(func.max(voids.c.id))) or 0)

    def newest_fills(self, model: str | None = None, book: str | None = None, limit: int = 100) -> pd.DataFrame:
        """FILL_COLUMNS and `void` (why it was taken back, None where it was not), newest first."""
        import pandas as pd

        c = fills.c
        query = select(*(c[name] for name in FILL_COLUMNS), voids.c.reason.label("void"))
        query = query.join_from(fills, voids, voids.c.fill_id == c.fill_id, isouter=True)
        for column, value in ((c.model, model), (c.book, book)):
            query = query if value is None else query.where(column == value)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(c.id.desc()).limit(limit)).all()
        return pd.DataFrame(rows, columns=[*FILL_COLUMNS, "void"])

    def books_with_voids(self) -> dict[BookKey, frozenset[int]]:
        """Books that still count fills that are void, and the numbers of those."""
        e, numbers_of = book_events.c, defaultdict[BookKey, set[int]](set)
        query = select(e.model, e.book, e.version, e.fill).join_from(voids, fills, voids.c.fill_id == fills.c.fill_id)
        same = (fills.c.model == e.model) & (fills.c.book == e.book) & (e.fill == fills.c.id) & (e.fill > 0)
        with self._reading() as connection:
            for *key, number in connection.execute(query.join(book_events, same).where(e.kind == "fill")):
                numbers_of[BookKey(*key)].add(int(number))
        return {key: frozenset(numbers) for key, numbers in numbers_of.items()}

    def booked_multipliers(self, key: BookKey) -> dict[str, set[float]]:
        """The multipliers that fills of each unit were booked by."""
        e, multipliers = book_events.c, defaultdict[str, set[float]](set)
        query = select(e.unit, e.multiplier).distinct().where(*of_book(book_events, key), e.kind == "fill")
        with self._reading() as connection:
            for unit, multiplier in connection.execute(query):
                multipliers[unit].add(multiplier)
        return dict(multipliers)

    def count(self, key: BookKey) -> int:
        """How many fills were taken out of a book."""
        with self._reading() as connection:
            return taken_out(connection, key)

    def rewrite_book(self, lot: BookRows, taken: int) -> bool:
        """Replace events (by their number) and states (by their bar) of a book; False where it moved since it was read.

        `taken`: how many fills had been taken out of it then.
        """
        with self._writing(lock="books") as connection:
            if mark_of(connection, lot.key) != lot.after or taken_out(connection, lot.key) != taken:
                return False
            replaced(connection, event_rows([lot]), "seq")
            replaced(connection, state_rows([lot]), "event_time")
        return True


def taken_out(connection: Connection, key: BookKey) -> int:
    """How many events of a book are void."""
    query = select(func.count()).where(*of_book(book_events, key), book_events.c.kind == "void")
    return int(connection.scalar(query) or 0)


def replaced(connection: Connection, rows: Rows, place: str) -> None:
    """Write rows of books in the place of those with their key."""
    if not len(rows):
        return
    key = (*BookKey._fields, place)
    where = (_raw(rows.table.c[name]) == _given(name) for name in key)
    names = [name for name in rows.columns if name not in key]
    change = update(rows.table).where(*where).values({rows.table.c[name]: _given(name) for name in names})
    listed = zip(*rows.columns.values(), strict=True)
    connection.execute(change, [dict(zip((BOUND + n for n in rows.columns), row, strict=True)) for row in listed])


def _raw(column: Column[Any]) -> ColumnElement[Any]:
    """An instant as it is stored."""
    return type_coerce(column, BigInteger) if column.name in TIMES else column


def _given(name: str) -> BindParameter[Any]:
    return bindparam(BOUND + name, type_=BigInteger() if name in TIMES else None)
