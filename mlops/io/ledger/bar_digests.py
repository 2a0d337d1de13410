"""Digests of bars that were read before, so that a history which changes afterwards is never read as if it had not.

A digest covers all that jobs see of a symbol: instants, prices and volume, as they were parsed. It is of the first n
bars, so that bars which are appended change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Column, Integer, Table, Text, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from mlops.errors import DataError
from mlops.io.ledger.registry import every
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import metadata
from mlops.io.storage.utc_time import UtcTime
from mlops.io.storage.validation import MAX_TEXT, storable

if TYPE_CHECKING:
    import pandas as pd

DIGEST_BYTES = 16
SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # ticks of pandas' units

bars_digests = Table(  # of each symbol of a file of bars: what was read of it last
    "bars_digests",
    metadata,
    Column("source", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("bars", BigInteger, nullable=False),
    Column("until", UtcTime, nullable=False),  # event_time of the last of them
    Column("digest", Text, nullable=False),
    Column("noted_at", UtcTime, nullable=False),
)
bars_accepted = Table(  # append-only: histories that changed and that a person took for right
    "bars_accepted",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("before", Text, nullable=False),  # digest
    Column("after", Text, nullable=False),  # digest; empty: the symbol is gone
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("accepted_at", UtcTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class NotedBars:
    """The first `bars` bars of a symbol, up to `until`, had this digest at `noted_at`."""

    source: str
    symbol: str
    bars: int
    until: datetime
    digest: str
    noted_at: datetime


@dataclass(frozen=True, slots=True)
class AcceptedBars:
    """A changed history that a person took for right. `after` is empty where the symbol is gone."""

    source: str
    symbol: str
    before: str
    after: str
    actor: str
    reason: str
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class History:
    """The bars of one symbol by time, each column as 64-bit values."""

    bars: int
    until: datetime
    columns: Mapping[str, NDArray[Any]]

    def digest(self, bars: int | None = None) -> str:
        """Digest of the first `bars` bars, of all of them by default."""
        total = blake2b(digest_size=DIGEST_BYTES)
        for name, values in self.columns.items():
            total.update(name.encode() + b"\0")
            total.update(values[:bars].tobytes())
        return total.hexdigest()

    def noted(self, source: str, symbol: str, at: datetime) -> NotedBars:
        """All of it, as it is noted."""
        return NotedBars(source, symbol, self.bars, self.until, self.digest(), at)


def histories(frame: pd.DataFrame) -> dict[str, History]:
    """The history of each symbol of checked bars, which are in order of time."""
    import pandas as pd

    codes, symbols = pd.factorize(frame["symbol"])
    order = np.argsort(codes, kind="stable")
    times = pd.DatetimeIndex(frame["event_time"])[order]
    columns = {str(name): _bits(frame[name])[order] for name in frame if name != "symbol"}
    ends = np.cumsum(np.bincount(codes, minlength=len(symbols)))
    spans = zip(symbols, ends - np.bincount(codes, minlength=len(symbols)), ends, strict=True)
    return {
        str(symbol): History(
            int(end - start),
            times[end - 1].floor("us").to_pydatetime(warn=False),
            {name: values[start:end] for name, values in columns.items()},
        )
        for symbol, start, end in spans
    }


def _bits(column: pd.Series[Any]) -> NDArray[Any]:
    """A column in the same 64-bit values whatever unit or width the file has; instants are seconds and nanoseconds."""
    import pandas as pd

    if isinstance(column.dtype, pd.DatetimeTZDtype):
        index = pd.DatetimeIndex(column)
        second = SECOND[index.unit]
        return np.stack([index.asi8 // second, index.asi8 % second * (SECOND["ns"] // second)], axis=1)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isnan(numbers), np.nan, numbers)


class BarDigests(Tables):
    """Notes on bars, and what a person accepted."""

    def notes(self, source: str | None = None) -> list[NotedBars]:
        """Noted bars of a source, by symbol."""
        c = bars_digests.c
        query = select(bars_digests).order_by(c.source, c.symbol)
        with self._reading() as connection:
            return every(connection, NotedBars, query if source is None else query.where(c.source == source))

    def note(self, notes: Sequence[NotedBars], known: Mapping[str, NotedBars]) -> None:
        """Note bars, where the notes are still those that were `known` (by symbol) when the file was read.

        Whoever read a longer file meanwhile noted more than this one knows, and that stays.
        """
        c = bars_digests.c
        new = [asdict(note) for note in notes if note.symbol not in known]
        grown = [_changes(note, known[note.symbol]) for note in notes if note.symbol in known]
        key = (c.source == bindparam("of_source"), c.symbol == bindparam("of_symbol"), c.digest == bindparam("before"))
        moving = ("bars", "until", "digest", "noted_at")
        with self._writing() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            if new:
                connection.execute(dialect.insert(bars_digests).on_conflict_do_nothing(), new)
            if grown:
                change = update(bars_digests).where(*key).values({c[name]: bindparam(f"new_{name}") for name in moving})
                connection.execute(change, grown)

    def accept(
        self,
        before: Sequence[NotedBars],
        after: Mapping[str, NotedBars],
        *,
        actor: str,
        reason: str,
        at: datetime,
    ) -> None:
        """Put other notes (by symbol) in place of those before, none for a symbol that is gone; who did and why stays.

        Raises
        ------
        DataError
            Actor or reason is missing.
        """
        for name, text in (("actor", actor), ("reason", reason)):
            if not (text.strip() and storable(text)):
                raise DataError(f"{name} must be text of 1 to {MAX_TEXT} characters, got {text!r}. Give one.")
        c = bars_digests.c
        with self._writing() as connection:
            for note in before:
                now = after.get(note.symbol)
                connection.execute(delete(bars_digests).where(c.source == note.source, c.symbol == note.symbol))
                if now is not None:
                    connection.execute(bars_digests.insert().values(asdict(now)))
                digest = "" if now is None else now.digest
                row = AcceptedBars(note.source, note.symbol, note.digest, digest, actor, reason, at)
                connection.execute(bars_accepted.insert().values(asdict(row)))

    def accepted(self) -> list[AcceptedBars]:
        """All of them, oldest first."""
        with self._reading() as connection:
            return every(connection, AcceptedBars, select(bars_accepted).order_by(bars_accepted.c.id))


def _changes(note: NotedBars, known: NotedBars) -> dict[str, Any]:
    new = {f"new_{field.name}": getattr(note, field.name) for field in fields(note)}
    return new | {"of_source": note.source, "of_symbol": note.symbol, "before": known.digest}
