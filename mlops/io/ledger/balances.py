"""What the account behind a book was worth, as somebody told it; idempotent by book and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ColumnElement, Text, UnaryExpression, cast, func, literal, select, type_coerce

from mlops.errors import DataError
from mlops.io.ledger.registry import added
from mlops.io.ledger.telemetry import Telemetry
from mlops.io.ledger.voids import named
from mlops.io.storage.book_schema import is_void, voids
from mlops.io.storage.checksum import record_sum
from mlops.io.storage.database import Database, Tables
from mlops.io.storage.insert import BALANCE_COLUMNS, balance_rows
from mlops.io.storage.newest import newest
from mlops.io.storage.risk_schema import balances
from mlops.io.storage.schema import fills
from mlops.io.storage.utc_time import EPOCH, MICROSECOND
from mlops.io.storage.windows import arrays, kind, microseconds, verify

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "balance:"  # how the name of a void begins that takes back a balance
READ = [name for name in BALANCE_COLUMNS if name not in ("model", "book")]


@dataclass(frozen=True, slots=True)
class Balance:
    """`amount`: equity of the account at `at`, open positions at what they are worth.

    `flow`: what was paid in (> 0) or taken out (< 0) since the balance before it. `source`: who told.
    """

    at: datetime
    amount: float
    flow: float
    source: str


class Balances(Tables):
    """Balances of accounts: appended, never changed. One that a person took back stays, and is not told any more."""

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        super().__init__(database)
        self._telemetry = telemetry

    def add(self, frame: pd.DataFrame, source: str = "bot") -> int:
        """Keep balances, in a frame with BALANCE_COLUMNS (`source` may be left out); how many were new."""
        return self._telemetry.store(balance_rows(frame, source))

    def of(
        self, model: str, book: str, *, as_of: datetime, since: datetime | None = None, last: int | None = None
    ) -> list[Balance]:
        """Balances of a book that were known at `as_of`, oldest first; only the `last` ones, where that is given.

        Raises
        ------
        CorruptionError
            A row is not what was written.
        """
        later = () if since is None else (type_coerce(balances.c.event_time, BigInteger) >= microseconds(since),)
        return self._balances(model, book, as_of, *later, order=balances.c.event_time.desc(), limit=last)[::-1]

    def first(self, model: str, book: str, *, as_of: datetime) -> Balance | None:
        """The oldest balance of a book that was known at `as_of`."""
        oldest = self._balances(model, book, as_of, order=balances.c.event_time.asc(), limit=1)
        return oldest[0] if oldest else None

    def flows(self, model: str, book: str, *, as_of: datetime) -> list[Balance]:
        """The balances of a book with which something was paid in or taken out, oldest first."""
        return self._balances(model, book, as_of, balances.c.flow != 0, order=balances.c.event_time.asc())

    def last(self, *, as_of: datetime) -> dict[tuple[str, str], datetime]:
        """Instant of the newest balance of each model and book until `as_of`, by one query."""
        with self._reading() as connection:
            rows = newest(connection, balances, ("model", "book"), "event_time", until=microseconds(as_of))
        return {(row[0], row[1]): EPOCH + row[2] * MICROSECOND for row in rows if row[2] is not None}

    def count(self, *, as_of: datetime) -> dict[tuple[str, str], int]:
        """How many balances of each model and book were known at `as_of`, in the time of reading them all."""
        c, until = balances.c, microseconds(as_of)
        rules = (type_coerce(column, BigInteger) <= until for column in (c.event_time, c.known_at))
        query = select(c.model, c.book, func.count().label("n")).where(*rules).group_by(c.model, c.book)
        with self._reading() as connection:
            return {(row.model, row.book): row.n for row in connection.execute(query)}

    def dated_after(self, now: datetime) -> dict[str, int]:
        """How many fills and balances are dated after an instant and count then; reads all fills and balances."""
        f, b, until = fills.c, balances.c, microseconds(now)
        lengths = [cast(func.length(column), Text) + ":" + column + ":" for column in (b.model, b.book)]
        name = literal(PREFIX) + lengths[0] + lengths[1] + cast(type_coerce(b.event_time, BigInteger), Text)
        later = [select(func.count()).where(type_coerce(c.event_time, BigInteger) > until) for c in (f, b)]
        asked = {"fills": later[0].where(~is_void(f.fill_id)), "balances": later[1].where(~is_void(name))}
        with self._reading() as connection:
            return {of: int(connection.scalar(query) or 0) for of, query in asked.items()}

    def void(self, model: str, book: str, told_at: datetime, actor: str, reason: str, at: datetime) -> bool:
        """Take back the balance that was told for an instant; False where it was before.

        Raises
        ------
        DataError
            There is no such balance, or actor or reason is missing.
        """
        named(actor, reason)
        c, name = balances.c, f"{_prefix(model, book)}{microseconds(told_at)}"
        row = {"fill_id": name, "actor": actor, "reason": reason, "created_at": at}
        wanted = select(c.amount).where(c.model == model, c.book == book, c.event_time == told_at)
        with self._writing() as connection:
            if connection.scalar(wanted) is None:
                rule = f"balance must be one that was told of {model}/{book}, got {told_at.isoformat()}"
                raise DataError(f"{rule}. See `trader-mlops balance told`.")
            return added(connection, voids, row | {"checksum": record_sum("voids", row)})

    def voids(self, model: str, book: str) -> set[datetime]:
        """Instants of the balances that a person took back."""
        import pandas as pd

        prefix = _prefix(model, book)
        with self._reading() as connection:
            names = list(
                connection.scalars(select(voids.c.fill_id).where(voids.c.fill_id.startswith(prefix, autoescape=True)))
            )
        times = pd.to_datetime([int(name.removeprefix(prefix)) for name in names], unit="us", utc=True)
        return {when.to_pydatetime() for when in times}

    def _balances(
        self,
        model: str,
        book: str,
        as_of: datetime,
        *rules: ColumnElement[bool],
        order: UnaryExpression[Any],
        limit: int | None = None,
    ) -> list[Balance]:
        import pandas as pd

        c, until = balances.c, microseconds(as_of)
        at, known = (type_coerce(column, BigInteger) for column in (c.event_time, c.known_at))
        counts = ~is_void(literal(_prefix(model, book)) + cast(at, Text))
        where = [c.model == model, c.book == book, at <= until, known <= until, counts, *rules]
        query = select(*(c[name] for name in (*READ, "checksum"))).where(*where).order_by(order).limit(limit)
        with self._reading() as connection:
            columns = dict(zip((*READ, "checksum"), arrays(connection, query, [*map(kind, READ), int]), strict=True))
        sums = columns.pop("checksum")
        verify("balances", {**columns, "model": model, "book": book}, sums, ["event_time"])
        times = pd.to_datetime(columns["event_time"], unit="us", utc=True)
        rows = zip(times, columns["amount"].tolist(), columns["flow"].tolist(), columns["source"].tolist(), strict=True)
        return [Balance(when.to_pydatetime(), *rest) for when, *rest in rows]


def _prefix(model: str, book: str) -> str:
    """How the names of voids of a book's balances begin; the instant in microseconds follows."""
    return f"{PREFIX}{len(model)}:{model}:{len(book)}:{book}:"
