"""Every book of a model, bar by bar: a virtual one for each version that scores, and what a bot really traded.

Load: the mark of each book, the scores and the fills since, the bars. Compute: what is new. Act: append it, all books
in one commit; books that moved meanwhile are read and computed again. A book that cannot be read costs itself only.
Then each bot's own book is held against its virtual twin (`jobs/portfolio/twins.py`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import pandas as pd
import structlog

from jobs import schedule
from jobs.cli.terminal import start_job
from jobs.context import Context
from jobs.portfolio import book_inputs, restatement, twins, unbooked_fills
from mlops.books.rows import events, restored, state
from mlops.books.virtual import Bar, BarScores, GrowthStep, Traded, follow, take
from mlops.errors import DataError, StorageError
from mlops.experiment import Book, Fill, Terms
from mlops.io.ledger import BookKey, BookRows, Mark
from mlops.learn import Strategy
from mlops.types import BookEvent, Decision, Role

log = structlog.get_logger()
VIRTUAL = "virtual"
LATE = timedelta(days=2)  # a version's scores that come later than this after other books' last bar are not looked at
BARS_A_COMMIT = 250
TRIES = 5  # of a job whose books others move meanwhile
LAST = datetime.max.replace(tzinfo=UTC)
_AT = attrgetter("at")


@dataclass(frozen=True, slots=True)
class Growth:
    """New bars of one book: those after `mark`."""

    key: BookKey
    mark: Mark | None
    bars: Sequence[GrowthStep]


@dataclass(frozen=True, slots=True)
class Table:
    """All that the books of one model grow by. `scores` and `roles` are by bar and version; `marks`: of the books.

    `news`: of the splits that it knows. `refused`: fills that cannot be booked, by book. `unread`: books that cannot be
    read, and why.
    """

    context: Context
    strategy: Strategy
    names: Sequence[str]
    scores: Mapping[datetime, Mapping[int, BarScores]]
    roles: Mapping[datetime, Mapping[int, str]]
    fills: Mapping[str, Sequence[tuple[Fill, int]]]
    refused: Mapping[str, Sequence[book_inputs.Refused]]
    units: book_inputs.Units
    marks: Mapping[BookKey, Mark]
    rows: Sequence[Bar]
    news: tuple[int, int]
    unread: dict[BookKey, str] = field(default_factory=dict)

    @property
    def terms(self) -> Terms:
        s = self.context.settings.books
        return Terms(self.strategy.cost_bps / 1e4, s.slippage_bps / 1e4, s.funding_bps / 1e4)

    def follow(
        self, mark: Mark | None, book: Book, bars: Sequence[Bar], forecasts: Mapping[datetime, BarScores]
    ) -> Iterator[GrowthStep]:
        """A virtual book along the bars, by the strategy's rule and costs."""
        due = self.units.between(None if mark is None else mark.end, LAST)
        return follow(book, bars, forecasts, self.strategy.position, self.terms, self.units.multipliers, due)

    def key(self, book: str, version: int = 0) -> BookKey:
        return BookKey(self.strategy.name, book, version)

    def end(self, key: BookKey) -> tuple[Mark | None, Book]:
        """The mark of a book and the book there; a new book where there is none."""
        mark = self.marks.get(key)
        row = None if mark is None else self.context.ledger.books.state(key)
        return mark, Book.opened(self.context.settings.books.cash) if row is None else restored(row)

    def bars(self, mark: Mark | None, first: datetime, last: datetime) -> Sequence[Bar]:
        """The bars after `mark` (of a new book: from `first` on), until `last`."""
        start = bisect_left(self.rows, first, key=_AT) if mark is None else bisect_right(self.rows, mark.end, key=_AT)
        return self.rows[start : bisect_right(self.rows, last, key=_AT)]

    def bar_of(self, at: datetime) -> Bar | None:
        """The bar that a fill belongs to: the last one that was not after it; before all of them, the first."""
        return self.rows[max(bisect_right(self.rows, at, key=_AT) - 1, 0)] if self.rows else None


def at(context: Context, strategy: Strategy, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """Bring all books of a strategy's model up to the last bar that was known at `as_of`, then look at the twins.

    Raises
    ------
    DataError
        A book cannot be read; all others were brought up.
    """
    grown, unread = _brought_up(context, strategy, bars, as_of)
    log.info("books", model=strategy.name, bars=grown)
    decisions = twins.look(context, strategy.name, as_of, without=unread)
    if unread:
        raise DataError("; ".join(unread.values()))
    return decisions


def advance(context: Context, strategy: Strategy, bars: pd.DataFrame, as_of: datetime) -> int:
    """Append what is new to every book of a strategy's model that can be read; how many books grew."""
    return _brought_up(context, strategy, bars, as_of)[0]


def _brought_up(
    context: Context, strategy: Strategy, bars: pd.DataFrame, as_of: datetime
) -> tuple[int, Mapping[BookKey, str]]:
    """How many books grew, and those that cannot be read, with the reason."""
    total = 0
    for _ in range(TRIES):
        table = _table(context, strategy, bars, as_of)
        grown = [growth for growth in _grown(table) if growth.bars]
        own = {key: why for key, why in table.unread.items() if key.book in table.names}
        own |= twins.hidden(context, strategy.name, as_of)
        unknown = {f"{key.model}/{key.book}": why for key, why in own.items()}
        unknown |= unbooked_fills.of_books(strategy.name, table.refused)
        unbooked_fills.settle(context, unknown, as_of, model=strategy.name)
        for key, why in table.unread.items():
            log.error("book not brought up", model=key.model, book=key.book, version=key.version, reason=why)
        moved = _append(context, grown, table.news)
        total += len(grown) - len(moved)
        if not moved:
            return total, table.unread
    names = ", ".join(sorted(key.book for key in moved))
    raise StorageError(f"books must stand still while bars come to them, got changes of {names}. Run the job again.")


def _grown(table: Table) -> Iterator[Growth]:
    yield from _virtual(table)
    unread = {key.book for key in table.unread}
    for book in (name for name in table.fills if name not in unread):
        with unbooked_fills.apart(table.key(book), table.unread):
            yield from [*_own(table, book)]
        with unbooked_fills.apart(table.key(twins.of(book)), table.unread):
            yield from [*_twin(table, book)]


def _table(context: Context, strategy: Strategy, bars: pd.DataFrame, as_of: datetime) -> Table:
    ledger, model, unread, news = context.ledger, strategy.name, dict[BookKey, str](), context.ledger.books.split_news()
    units = restatement.units(context)  # after the news: what came between is told anew
    names = twins.traded(context, model)
    for book in names:
        with unbooked_fills.apart(BookKey(model, book), unread):
            restatement.restate(context, BookKey(model, book), units)
    marks = ledger.books.marks(model)  # before fills and scores are read: what somebody books meanwhile moves them
    ends = {key: mark.end for key, mark in marks.items()}
    newest = max(ends.values(), default=None)
    start = None if newest is None else newest - LATE
    scored, roles = book_inputs.scores_by_bar(ledger.books.scores(model, start=start, as_of=as_of))
    read = dict[str, tuple[list[tuple[Fill, int]], list[book_inputs.Refused]]]()
    for book in names:
        with unbooked_fills.apart(BookKey(model, book), unread):
            rows = ledger.books.unbooked_fills(model, book, as_of=as_of)
            read[book] = book_inputs.filled(rows, units, ends.get(BookKey(model, book)))
    fills = {book: good for book, (good, _) in read.items()}
    refused = {book: bad for book, (_, bad) in read.items()}
    versions = {version for row in scored.values() for version in row}
    keys = [
        *(BookKey(model, VIRTUAL, v) for v in versions),
        *(BookKey(model, b) for b in (*names, *map(twins.of, names))),
    ]
    started = [ends[key] for key in keys if key in ends]
    begun = [*scored, *(_time(rows[0]) for rows in fills.values() if rows)]
    since = min([*started, *begun], default=as_of)
    bars_of_books = book_inputs.book_bars(bars, since - LATE, as_of)
    return Table(context, strategy, names, scored, roles, fills, refused, units, marks, bars_of_books, news, unread)


def _virtual(table: Table) -> Iterator[Growth]:
    """The book of each version that scores, up to the last bar that it scored."""
    of: dict[int, dict[datetime, BarScores]] = defaultdict(dict)
    for bar, row in table.scores.items():
        for version, forecast in row.items():
            of[version][bar] = forecast
    for version, forecasts in of.items():
        key = table.key(VIRTUAL, version)
        with unbooked_fills.apart(key, table.unread):
            mark, book = table.end(key)
            bars = table.bars(mark, min(forecasts), max(forecasts))
            yield Growth(key, mark, [*table.follow(mark, book, bars, forecasts)])


def _own(table: Table, name: str) -> Iterator[Growth]:
    """A bot's own book, from the bar of its first fill on."""
    rows, key = table.fills[name], table.key(name)
    mark, book = table.end(key)
    if mark is not None or rows:
        bars = table.bars(mark, _time(rows[0]) if rows else LAST, LAST)
        due = table.units.between(None if mark is None else mark.end, LAST)
        yield Growth(key, mark, [*take(book, bars, [fill for fill, _ in rows], due)])


def _twin(table: Table, name: str) -> Iterator[Growth]:
    """What a bot's book had been if every trade that its versions asked for had been filled at the bar's price."""
    rows, key = table.fills[name], table.key(twins.of(name))
    mark, book = table.end(key)
    if (mark is None and not rows and table.key(name) not in table.marks) or not table.scores:
        return
    first = table.bar_of(_time(rows[0])) if rows else None
    # Without a fill that is new: the bot's book is there, but its scores came late. Then the twin begins with them.
    bars = table.bars(mark, first.at if first is not None else min(table.scores), max(table.scores))
    forecasts = _asked(table, name, bars, _versions(table, rows))
    yield Growth(key, mark, [*table.follow(mark, book, bars, forecasts)])


def _versions(table: Table, rows: Sequence[tuple[Fill, int]]) -> dict[datetime, dict[str, int]]:
    """The version of each fill, by its bar and unit."""
    versions: dict[datetime, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if (bar := table.bar_of(_time(row))) is not None:
            versions[bar.at][row[0].unit] = row[1]
    return versions


def _time(row: tuple[Fill, int]) -> datetime:
    return row[0].at or LAST


def _asked(
    table: Table, name: str, bars: Sequence[Bar], filled: Mapping[datetime, Mapping[str, int]]
) -> dict[datetime, BarScores]:
    """What the versions that a bot traded by said, as if it were one version."""
    traded = Traded(table.context.ledger.books.traded_versions(table.strategy.name, name))
    for earlier in sorted(filled):
        if bars and earlier < bars[0].at:
            traded.last.update(filled[earlier])
    asked = {}
    for bar in bars:
        row, roles = table.scores.get(bar.at, {}), table.roles.get(bar.at, {})
        champion = next((v for v, role in roles.items() if role == Role.CHAMPION), None)
        if champion is not None:
            may = {v for v, role in roles.items() if role in (Role.CHAMPION, Role.CHALLENGER)}
            asked[bar.at] = traded.asked(row, filled.get(bar.at, {}), may, champion)
    return asked


def _append(context: Context, grown: Sequence[Growth], splits: tuple[int, int]) -> set[BookKey]:
    """A commit for every BARS_A_COMMIT bars of all books; the books that somebody else moved, which grew no further."""
    most, moved = max((len(growth.bars) for growth in grown), default=0), set[BookKey]()
    marks = {growth.key: growth.mark for growth in grown}
    for start in range(0, most, BARS_A_COMMIT):
        rest = [growth for growth in grown if len(growth.bars) > start and growth.key not in moved]
        lots = [_rows(growth, marks[growth.key], start) for growth in rest]
        new = context.ledger.books.append(lots, splits=splits)
        moved |= {lot.key for lot in lots} - new.keys()
        marks |= new
    return moved


def _rows(growth: Growth, mark: Mark | None, start: int) -> BookRows:
    """The rows of a book from its bar `start` on, of one commit, numbered on."""
    seq = 0 if mark is None else mark.seq
    happened, states = list[BookEvent](), list[Mapping[str, Any]]()
    for bar in growth.bars[start : start + BARS_A_COMMIT]:
        happened += events(bar.step, seq + len(happened))
        times = {"event_time": bar.step.at, "known_at": bar.known_at, "seq": seq + len(happened)}
        states.append(state(bar.book) | times)
    return BookRows(growth.key, mark, happened, states)


def main(model: str = "volatility", as_of: str = "now") -> None:
    schedule.main("books", model, as_of)


if __name__ == "__main__":
    start_job(main)
