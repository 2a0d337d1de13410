"""Every book of a model, bar by bar: a virtual one for each version that scores, and what a bot really traded.

Load: the end of each book, the scores and the fills since, the bars. Compute: what is new. Act: append it, all books in
one commit. Then each bot's own book is held against its virtual twin (`jobs/twins.py`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import pandas as pd
import structlog
import typer

from jobs import restatement, tape, twins, unbooked
from jobs.bars import bars_of
from jobs.house import House, moment, run
from mlops.experiment import Book, Fill, Terms
from mlops.experiment.entries import events, restored, state
from mlops.experiment.shadow import Bar, Grown, Said, Traded, follow, take
from mlops.io.ledger import BookKey, BookRows
from mlops.learn import STRATEGIES, Strategy
from mlops.types import BookEvent, Decision, Role

log = structlog.get_logger()
VIRTUAL = "virtual"
LATE = timedelta(days=2)  # a version's scores that come later than this after other books' last bar are not looked at
BARS_A_COMMIT = 250
LAST = datetime.max.replace(tzinfo=UTC)
_AT = attrgetter("at")


@dataclass(frozen=True, slots=True)
class Growth:
    """What is new of one book: its bars after `end`, where the ledger's last event is number `seq`."""

    key: BookKey
    end: datetime | None
    seq: int
    bars: Sequence[Grown]


@dataclass(frozen=True, slots=True)
class Table:
    """All that the books of one model grow by. `said` and `roles` are by bar and version; `ends`: of the books.

    `refused`: fills that cannot be booked, by book.
    """

    house: House
    strategy: Strategy
    said: Mapping[datetime, Mapping[int, Said]]
    roles: Mapping[datetime, Mapping[int, str]]
    fills: Mapping[str, Sequence[tuple[Fill, int]]]
    refused: Mapping[str, Sequence[tape.Refused]]
    units: tape.Units
    ends: Mapping[BookKey, datetime]
    tape: Sequence[Bar]

    @property
    def terms(self) -> Terms:
        s = self.house.settings.books
        return Terms(self.strategy.cost_bps / 1e4, s.slippage_bps / 1e4, s.funding_bps / 1e4)

    def follow(self, book: Book, bars: Sequence[Bar], said: Mapping[datetime, Said]) -> Iterator[Grown]:
        """A virtual book along the bars, by the strategy's rule and costs."""
        return follow(book, bars, said, self.strategy.position, self.terms, self.units.multipliers)

    def key(self, book: str, version: int = 0) -> BookKey:
        return BookKey(self.strategy.name, book, version)

    def end(self, key: BookKey) -> tuple[datetime | None, int, Book]:
        """Time, number of the last event, and the book there; a new book where there is none."""
        row = self.house.ledger.book_state(key) if key in self.ends else None
        if row is None:
            return None, 0, Book.opened(self.house.settings.books.cash)
        return row["event_time"], row["seq"], restored(row)

    def bars(self, end: datetime | None, first: datetime, last: datetime) -> Sequence[Bar]:
        """The bars after `end` (of a new book: from `first` on), until `last`."""
        start = bisect_left(self.tape, first, key=_AT) if end is None else bisect_right(self.tape, end, key=_AT)
        return self.tape[start : bisect_right(self.tape, last, key=_AT)]

    def bar_of(self, at: datetime) -> Bar | None:
        """The bar that a fill belongs to: the last one that was not after it; before all of them, the first."""
        return self.tape[max(bisect_right(self.tape, at, key=_AT) - 1, 0)] if self.tape else None


def at(house: House, model: str, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """Bring all books of `model` up to the last bar that was known at `as_of`, then look at the twins."""
    strategy = STRATEGIES.get(model)
    if strategy is None:
        return []
    if bars.empty:
        bars = bars_of(house, house.settings.jobs.source, as_of)
    grown = advance(house, strategy, bars, as_of)
    log.info("books", model=model, bars=grown)
    return twins.look(house, model, as_of)


def advance(house: House, strategy: Strategy, bars: pd.DataFrame, as_of: datetime) -> int:
    """Append what is new to every book of a strategy's model; how many books grew."""
    units = restatement.units(house)
    for book in twins.traded(house, strategy.name):
        restatement.restate(house, BookKey(strategy.name, book), units)
    table = _table(house, strategy, bars, as_of, units)
    unbooked.settle(house, unbooked.of_books(strategy.name, table.refused), as_of, model=strategy.name)
    grown = [*_virtual(table)]
    for book in table.fills:
        grown += [*_own(table, book), *_twin(table, book)]
    return _append(house, [growth for growth in grown if growth.bars])


def _table(house: House, strategy: Strategy, bars: pd.DataFrame, as_of: datetime, units: tape.Units) -> Table:
    ledger, model = house.ledger, strategy.name
    ends = ledger.book_ends(model)
    newest = max(ends.values(), default=None)
    said, roles = tape.heard(ledger.scores(model, start=None if newest is None else newest - LATE, as_of=as_of))
    names = twins.traded(house, model)
    read = {book: tape.filled(ledger.unbooked_fills(model, book, as_of=as_of), units) for book in names}
    fills = {book: good for book, (good, _) in read.items()}
    refused = {book: bad for book, (_, bad) in read.items()}
    versions = {version for row in said.values() for version in row}
    mine = [
        *(BookKey(model, VIRTUAL, v) for v in versions),
        *(BookKey(model, b) for b in (*names, *map(twins.of, names))),
    ]
    started = [ends[key] for key in mine if key in ends]
    begun = [*said, *(_time(rows[0]) for rows in fills.values() if rows)]
    since = min([*started, *begun], default=as_of)
    line = tape.tape(bars, since - LATE, as_of)
    return Table(house, strategy, said, roles, fills, refused, units, ends, line)


def _virtual(table: Table) -> Iterator[Growth]:
    """The book of each version that scores, up to the last bar that it scored."""
    of: dict[int, dict[datetime, Said]] = defaultdict(dict)
    for bar, row in table.said.items():
        for version, one in row.items():
            of[version][bar] = one
    for version, said in of.items():
        key = table.key(VIRTUAL, version)
        end, seq, book = table.end(key)
        bars = table.bars(end, min(said), max(said))
        yield Growth(key, end, seq, [*table.follow(book, bars, said)])


def _own(table: Table, name: str) -> Iterator[Growth]:
    """A bot's own book, from the bar of its first fill on."""
    rows, key = table.fills[name], table.key(name)
    end, seq, book = table.end(key)
    if end is not None or rows:
        bars = table.bars(end, _time(rows[0]) if rows else LAST, LAST)
        yield Growth(key, end, seq, [*take(book, bars, [fill for fill, _ in rows])])


def _twin(table: Table, name: str) -> Iterator[Growth]:
    """What a bot's book had been if every trade that its versions asked for had been filled at the bar's price."""
    rows, key = table.fills[name], table.key(twins.of(name))
    end, seq, book = table.end(key)
    if (end is None and not rows and table.key(name) not in table.ends) or not table.said:
        return
    first = table.bar_of(_time(rows[0])) if rows else None
    # Without a fill that is new: the bot's book is there, but its scores came late. Then the twin begins with them.
    bars = table.bars(end, first.at if first is not None else min(table.said), max(table.said))
    said = _asked(table, name, bars, _versions(table, rows))
    yield Growth(key, end, seq, [*table.follow(book, bars, said)])


def _versions(table: Table, rows: Sequence[tuple[Fill, int]]) -> dict[datetime, dict[str, int]]:
    """The version of each fill, by its bar and unit."""
    found: dict[datetime, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if (bar := table.bar_of(_time(row))) is not None:
            found[bar.at][row[0].unit] = row[1]
    return found


def _time(row: tuple[Fill, int]) -> datetime:
    return row[0].at or LAST


def _asked(
    table: Table, name: str, bars: Sequence[Bar], filled: Mapping[datetime, Mapping[str, int]]
) -> dict[datetime, Said]:
    """What the versions that a bot traded by said, as if it were one version."""
    traded = Traded(table.house.ledger.traded_versions(table.strategy.name, name))
    for earlier in sorted(filled):
        if bars and earlier < bars[0].at:
            traded.last.update(filled[earlier])
    found = {}
    for bar in bars:
        row, roles = table.said.get(bar.at, {}), table.roles.get(bar.at, {})
        champion = next((v for v, role in roles.items() if role == Role.CHAMPION), None)
        if champion is not None:
            may = {v for v, role in roles.items() if role in (Role.CHAMPION, Role.CHALLENGER)}
            found[bar.at] = traded.said(row, filled.get(bar.at, {}), may, champion)
    return found


def _append(house: House, grown: Sequence[Growth]) -> int:
    """A commit for every BARS_A_COMMIT bars of all books; how many books grew."""
    most, books = max((len(growth.bars) for growth in grown), default=0), [_Writing(growth) for growth in grown]
    for start in range(0, most, BARS_A_COMMIT):
        house.ledger.append_books([one.rows(start, start + BARS_A_COMMIT) for one in books])
    return len(grown)


class _Writing:
    """The rows of one book, numbered on."""

    def __init__(self, growth: Growth) -> None:
        self._growth, self._seq, self._end = growth, growth.seq, growth.end

    def rows(self, start: int, stop: int) -> BookRows:
        """Those of the bars from `start` to `stop`."""
        after, happened, states = self._end, list[BookEvent](), list[Mapping[str, Any]]()
        for one in self._growth.bars[start:stop]:
            told = events(one.step, self._seq)
            self._seq, self._end = self._seq + len(told), one.step.at
            times = {"event_time": one.step.at, "known_at": one.known_at, "seq": self._seq}
            happened += told
            states.append(state(one.book) | times)
        return BookRows(self._growth.key, after, happened, states)


def main(model: str = "volatility", as_of: str = "now") -> None:
    run("books", lambda house: at(house, model, pd.DataFrame(), moment(as_of)), model)


if __name__ == "__main__":
    typer.run(main)
