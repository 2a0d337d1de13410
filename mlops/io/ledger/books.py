"""Books: every event and the state at each bar, in one commit; a book only ever grows at its end.

Who appends gives the mark that the book had when it was read. Where somebody else has appended meanwhile, or made the
book anew, nothing is stored, so that two jobs at once, or a job that is done again, leave one chain, and no void is
undone. A kill leaves the book at the end of a bar.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
from sqlalchemy import BigInteger, Connection, Table, exists, func, select, type_coerce

from mlops.errors import CorruptionError
from mlops.io.ledger.bookable import last_fills
from mlops.io.ledger.large_amounts import entries, narrowed, widened
from mlops.io.ledger.telemetry import PREDICTED, PREDICTION_KEY
from mlops.io.storage.book_schema import book_events, book_states, is_void, splits, voids
from mlops.io.storage.checksum import checksums, stored
from mlops.io.storage.database import Tables
from mlops.io.storage.insert import Rows, put
from mlops.io.storage.newest import newest
from mlops.io.storage.row_counts import GONE, HOUR_US, must_be, newest_is
from mlops.io.storage.schema import fills, predictions
from mlops.io.storage.utc_time import EPOCH, MICROSECOND
from mlops.io.storage.validation import to_frame
from mlops.io.storage.windows import FIRST_US, Arrays, Span, arrays, kind, known, microseconds, verify, window
from mlops.types import FILL_COLUMNS, BookEvent

if TYPE_CHECKING:
    import pandas as pd

SCALE = 10**8  # amounts are stored in whole 1e-8
EVENT = tuple(part.name for part in fields(BookEvent))
SUMS = ("equity", "cash", "realised", "unrealised", "fees", "slippage", "funding", "traded", "gross", "net")
STATE = ("event_time", "known_at", "seq", "start", "peak", *SUMS, "positions")
AMOUNTS: Mapping[str, tuple[str, ...]] = {  # what may be past 64 bits
    "book_events": ("quantity", "fee", "slippage", "funding"),
    "book_states": ("start", "peak", *SUMS),
}
CURVE_COLUMNS = ("event_time", *SUMS[:8], "drawdown", "gross", "net")
TIMES = ("event_time", "happened_at", "known_at")
KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("kind", "unit", "positions", "wide"), object),
    **dict.fromkeys(("price", "multiplier"), np.float64),
}
LAST_US = 2**61


class BookKey(NamedTuple):
    """Which book. `version` is 0 for one that is of no one version, such as a bot's own."""

    model: str
    book: str
    version: int = 0


class Mark(NamedTuple):
    """Time, last event and checksum of a book's last state: another one after it grew or was made anew."""

    end: datetime
    seq: int
    checksum: int


@dataclass(frozen=True, slots=True)
class BookRows:
    """New rows of one book. `after`: its mark when it was read (None: it is new).

    `states` are mappings with STATE; a state's `seq` is that of its last event.
    """

    key: BookKey
    after: Mark | None
    events: Sequence[BookEvent] = field(default_factory=list)
    states: Sequence[Mapping[str, Any]] = field(default_factory=list)


class Books(Tables):
    """Events and states of books, and what of the ledger moves them."""

    def append(self, lots: Sequence[BookRows], *, splits: tuple[int, int] | None = None) -> dict[BookKey, Mark]:
        """Append to several books in one commit; the new marks of those that grew: books that moved did not.

        `splits`: those that the rows were made with, as `split_news`; where there are others by now, no book grows.
        """
        with self._writing(durable=False, lock="books") as connection:
            known = splits is None or splits == split_news(connection)
            grow = [lot for lot in lots if known and lot.states and mark_of(connection, lot.key) == lot.after]
            put(connection, [rows for rows in (event_rows(grow), state_rows(grow)) if len(rows)])
            marks = {lot.key: mark_of(connection, lot.key) for lot in grow}
        return {key: mark for key, mark in marks.items() if mark is not None}

    def split_news(self) -> tuple[int, int]:
        """The numbers of the newest split and of the newest void: while both stay, splits are what they were."""
        with self._reading() as connection:
            return split_news(connection)

    def mark(self, key: BookKey) -> Mark | None:
        """Where a book stands; None where it has no state."""
        with self._reading() as connection:
            return mark_of(connection, key)

    def marks(self, model: str) -> dict[BookKey, Mark]:
        """Where the books of a model stand."""
        with self._reading() as connection:
            return marks_of(connection, model=model)

    def all_marks(self, *, as_of: datetime | None = None) -> dict[BookKey, Mark]:
        """Where every book of every model stands, or stood by its bars until `as_of`."""
        with self._reading() as connection:
            return marks_of(connection, as_of=as_of)

    def ends(self, model: str) -> dict[BookKey, datetime]:
        """The books that a model has, by name and version, and the last bar of each."""
        return {key: mark.end for key, mark in self.marks(model).items()}

    def state(self, key: BookKey, *, before: datetime | None = None) -> dict[str, Any] | None:
        """The last state of a book (before an instant), a mapping with STATE; None where it has none.

        Raises
        ------
        CorruptionError
            It is not what was written.
        """
        at = type_coerce(book_states.c.event_time, BigInteger)
        until = LAST_US if before is None else microseconds(before)
        query = select(func.max(at)).where(*of_book(book_states, key), at < until)
        with self._reading() as connection:
            last = connection.scalar(query)
            if before is None:
                newest_is(
                    connection, "book_states", key._asdict(), None if last is None else EPOCH + last * MICROSECOND
                )
            if last is None:
                return None
            return _states(_read(connection, book_states, key, STATE, last, last + 1))[0]

    def growth(self, keys: Sequence[BookKey], *, start: datetime, end: datetime) -> list[tuple[int, int]]:
        """The equity (1e-8) of each book at its last bars until `start` (of a younger one: its first cash) and `end`.

        For a look: it is not held against checksums. Both are 0 where a book has no bar.
        """
        c, sums = book_states.c, []
        with self._reading() as connection:
            for key in keys:
                query = select(c.equity, c.start, c.wide).where(*of_book(book_states, key))
                last = query.order_by(c.event_time.desc()).limit(1)
                first, newest = (connection.execute(last.where(c.event_time <= at)).first() for at in (start, end))
                begun = (newest, "start") if first is None else (first, "equity")
                sums.append((0, 0) if newest is None else (_amount(*begun), _amount(newest, "equity")))
        return sums

    def states(self, key: BookKey, *, start: datetime | None, end: datetime | None = None) -> list[dict[str, Any]]:
        """The states with `start <= event_time < end`, mappings with STATE."""
        with self._reading() as connection:
            return _states(_rows(connection, book_states, key, STATE, *_ends(start, end)))

    def events(self, key: BookKey, *, start: datetime | None = None, end: datetime | None = None) -> list[BookEvent]:
        """The events of the bars with `start <= event_time < end`, in order.

        Raises
        ------
        CorruptionError
            An event is missing, or not what was written.
        """
        with self._reading() as connection:
            columns = _rows(connection, book_events, key, EVENT, *_ends(start, end))
        if (np.diff(columns["seq"]) != 1).any():
            where = {"table": "book_events", "scope": key}
            raise CorruptionError(GONE.format(**where, expected="numbered without a gap", found="one"))
        return _events(columns)

    def unit_events(self, key: BookKey, units: Collection[str], *, end: datetime) -> list[BookEvent]:
        """The events of some units of a book at the bars before `end`, in order; each is verified, none is counted."""
        with self._reading() as connection:
            columns = _read(connection, book_events, key, EVENT, FIRST_US, microseconds(end), units)
        return _events(columns)

    def curve(
        self, model: str, book: str, version: int = 0, *, start: datetime | None = None, as_of: datetime
    ) -> pd.DataFrame:
        """What a book was worth at each bar from `start` on, as it was known at `as_of`.

        Returns
        -------
        DataFrame with CURVE_COLUMNS
            Money of the book's currency. `realised`, `fees`, `slippage`, `funding` and `traded` add up since the book
            began (also before `start`); `drawdown` is the share under its highest equity until then; `gross` and `net`
            are the values of its positions.

        Raises
        ------
        CorruptionError
            What was read is not what was written.
        """
        key, until = BookKey(model, book, version), microseconds(as_of)
        with self._reading() as connection:
            columns = _rows(connection, book_states, key, STATE, _ends(start, None)[0], until + 1)
        past = columns["known_at"] <= until
        rows = {name: np.asarray(columns[name][past] / SCALE, dtype=np.float64) for name in (*SUMS, "peak")}
        peak = np.where(rows["peak"] > 0, rows["peak"], 1.0)
        rows["drawdown"] = np.where(rows["peak"] > 0, 1.0 - rows["equity"] / peak, 0.0)
        rows["event_time"] = columns["event_time"][past]
        return to_frame(CURVE_COLUMNS, [rows[name] for name in CURVE_COLUMNS])

    def equity(self, key: BookKey, *, start: datetime, end: datetime) -> pd.DataFrame:
        """Equity of a book at each bar with `start <= event_time < end`: event_time, known_at, equity in money."""
        with self._reading() as connection:
            columns = _rows(connection, book_states, key, STATE, microseconds(start), microseconds(end))
        equity = np.asarray(columns["equity"] / SCALE, dtype=np.float64)
        return to_frame(("event_time", "known_at", "equity"), [columns["event_time"], columns["known_at"], equity])

    def scores(self, model: str, *, start: datetime | None, as_of: datetime) -> pd.DataFrame:
        """Predictions from `start` on known at `as_of`, without features: PREDICTED, by time, version, unit."""
        first, last = _ends(start, None)[0], microseconds(as_of) + 1
        span = Span(predictions, {"model": model}, min(first, last), last)
        with self._reading() as connection:
            columns = window(connection, span, PREDICTED, PREDICTION_KEY)
        sums = columns.pop("checksum")
        verify("predictions", {**columns, "model": model}, sums, PREDICTION_KEY)
        return to_frame(PREDICTED, [known(columns, as_of)[name] for name in PREDICTED])

    def traded_books(self, model: str) -> list[str]:
        """The books that a model has fills of."""
        with self._reading() as connection:
            return [book for _, book in last_fills(connection, model)]

    def last_fills(self) -> dict[tuple[str, str], int]:
        """Number of the newest fill of each model and book: while it stays that book has not traded."""
        with self._reading() as connection:
            return last_fills(connection)

    def unbooked_fills(self, model: str, book: str, *, as_of: datetime, until: datetime | None = None) -> pd.DataFrame:
        """Fills until `as_of` that a bot's own book has not taken by its bar at `until` (not given: yet).

        `id` and FILL_COLUMNS, by time and id. Those that a person voided are not among them.
        """
        c, e = fills.c, book_events.c
        booked = [*of_book(book_events, BookKey(model, book)), e.fill > 0]
        if until is not None:
            booked.append(type_coerce(e.event_time, BigInteger) <= microseconds(until))
        rules, read = (c.model == model, c.book == book), ["id", *FILL_COLUMNS, "checksum"]
        with self._reading() as connection:
            taken = connection.execute(select(func.coalesce(func.max(e.fill), 0), func.count()).where(*booked)).one()
            earlier = select(func.count()).select_from(fills).where(*rules, c.id <= taken[0])
            after = taken[0] if connection.scalar(earlier) == taken[1] else 0  # else some before it wait
            waits = (
                c.id > after,
                ~exists().where(*booked, e.fill == c.id),
                ~is_void(c.fill_id),
            )
            query = select(*(c[name] for name in read)).where(*rules, *waits).order_by(c.id)
            kinds = [np.int64 if name == "id" else kind(name) for name in read]
            columns = dict(zip(read, arrays(connection, query, kinds), strict=True))
        number, sums = columns.pop("id"), columns.pop("checksum")
        verify("fills", columns, sums, ["fill_id"])
        frame = to_frame(FILL_COLUMNS, [columns[name] for name in FILL_COLUMNS]).assign(id=number)
        new = columns["event_time"] <= microseconds(as_of)
        fresh: pd.DataFrame = frame[new].sort_values(["event_time", "id"], ignore_index=True)
        return fresh

    def traded_versions(self, model: str, book: str) -> dict[str, int]:
        """The version that last traded each unit, of the fills that the bot's own book has taken."""
        c, e = fills.c, book_events.c
        booked = (*of_book(book_events, BookKey(model, book)), e.fill > 0, e.kind == "fill")
        taken = select(e.fill).where(*booked)
        last = select(func.max(c.id)).where(c.model == model, c.book == book, c.id.in_(taken)).group_by(c.unit)
        with self._reading() as connection:
            return {
                row.unit: row.version for row in connection.execute(select(c.unit, c.version).where(c.id.in_(last)))
            }


def split_news(connection: Connection) -> tuple[int, int]:
    """The numbers of the newest split and of the newest void."""
    last = (connection.scalar(select(func.max(table.c.id))) for table in (splits, voids))
    split, void = (int(number or 0) for number in last)
    return split, void


def of_book(table: Table, key: BookKey) -> tuple[Any, ...]:
    """The condition that a row is of a book."""
    return tuple(table.c[name] == value for name, value in key._asdict().items())


def _ends(start: datetime | None, end: datetime | None) -> tuple[int, int]:
    return FIRST_US if start is None else microseconds(start), LAST_US if end is None else microseconds(end)


def mark_of(connection: Connection, key: BookKey) -> Mark | None:
    """Where a book stands; None where it has no state."""
    c = book_states.c
    newest = select(c.event_time, c.seq, c.checksum).where(*of_book(book_states, key)).order_by(c.event_time.desc())
    last = connection.execute(newest.limit(1)).one_or_none()
    return None if last is None else Mark(*last)


def marks_of(connection: Connection, *, model: str | None = None, as_of: datetime | None = None) -> dict[BookKey, Mark]:
    """Where all books stand, in order: one question."""
    until, read = None if as_of is None else microseconds(as_of), ("seq", "checksum")
    rows = newest(connection, book_states, BookKey._fields, "event_time", model=model, until=until, read=read)
    return {BookKey(*row[:3]): Mark(EPOCH + row[3] * MICROSECOND, *row[4:]) for row in rows if row[3] is not None}


def _rows(connection: Connection, table: Table, key: BookKey, names: Sequence[str], start: int, end: int) -> Arrays:
    """Columns of the rows with `start <= event_time < end` (microseconds), verified and counted."""
    floor, ceiling = start - start % HOUR_US, end + -end % HOUR_US
    columns = _read(connection, table, key, names, floor, ceiling)
    must_be(connection, table.name, key._asdict(), len(columns["event_time"]), hours=(floor, ceiling))
    keep = (columns["event_time"] >= start) & (columns["event_time"] < end)
    return {name: values[keep] for name, values in columns.items()}


def _read(
    connection: Connection,
    table: Table,
    key: BookKey,
    names: Sequence[str],
    start: int,
    end: int,
    units: Collection[str] | None = None,
) -> Arrays:
    """The same, not counted; of events only those of `units`, where they are given."""
    at, c, read = type_coerce(table.c.event_time, BigInteger), table.c, [*names, "wide", "checksum"]
    query = select(*(c[name] for name in read)).where(*of_book(table, key), at >= start, at < end)
    query = query if units is None else query.where(c.unit.in_(units))
    kinds = [KINDS.get(name, np.int64) for name in read]
    order = c.seq if table is book_events else c.event_time
    columns: Arrays = dict(zip(read, arrays(connection, query.order_by(order), kinds), strict=True))
    sums = columns.pop("checksum")
    scope: Arrays = {"model": key.model, "book": key.book, "version": np.full(len(sums), key.version)}
    verify(table.name, {**columns, **scope}, sums, ["event_time"])
    return widened(columns)


def _states(columns: Arrays) -> list[dict[str, Any]]:
    values: Arrays = {name: _instants(v) if name in TIMES else v.tolist() for name, v in columns.items()}
    values["positions"] = [orjson.loads(text) for text in values["positions"]]
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _events(columns: Arrays) -> list[BookEvent]:
    values = [_instants(columns[name]) if name in TIMES else columns[name].tolist() for name in EVENT]
    return [BookEvent(*row) for row in zip(*values, strict=True)]


def _instants(values: Any) -> list[datetime]:
    return [EPOCH + value * MICROSECOND for value in values.tolist()]


def event_rows(lots: Sequence[BookRows]) -> Rows:
    """Events as they are stored."""
    rows = [(*lot.key, *_EVENT_OF(event)) for lot in lots for event in lot.events]
    return _summed(book_events, (*BookKey._fields, *EVENT), rows)


def state_rows(lots: Sequence[BookRows]) -> Rows:
    """States as they are stored."""
    rows = [(*lot.key, *(state[name] for name in STATE)) for lot in lots for state in lot.states]
    return _summed(book_states, (*BookKey._fields, *STATE), rows)


def _summed(table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Rows:
    """Rows as they are stored, with their checksums."""
    columns: dict[str, list[Any]] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    for name in TIMES:
        if name in columns:
            columns[name] = [microseconds(at) for at in columns[name]]
    if "positions" in columns:
        columns["positions"] = [entries(held) for held in columns["positions"]]
    columns = narrowed(columns, AMOUNTS[table.name], len(rows))
    sums = checksums(table.name, columns, len(rows))
    return Rows(table, columns | {"checksum": stored(sums)})


def _amount(row: Any, name: str) -> int:
    return int(orjson.loads(row.wide or "{}").get(name, getattr(row, name)))


_EVENT_OF = attrgetter(*EVENT)
