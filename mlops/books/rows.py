"""Books as rows and back: every event of a step, and the state of a book at the end of a bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from itertools import groupby
from operator import attrgetter
from typing import Any

from mlops.books.book import Book, Fill, Position, Step
from mlops.types import BookEvent

MARK, FUNDING, FILL, VOID, SPLIT = "mark", "funding", "fill", "void", "split"


def events(step: Step, after: int) -> list[BookEvent]:
    """What happened at a bar, numbered from `after` + 1 in the order in which it applies."""
    at, rows = step.at, list[BookEvent]()
    for unit, price in step.marks.items():
        rows.append(BookEvent(after + len(rows) + 1, at, at, MARK, unit, price=price))
    for unit, amount in step.funding.items():
        rows.append(BookEvent(after + len(rows) + 1, at, at, FUNDING, unit, funding=amount))
    for fill in step.fills:
        costs: dict[str, Any] = {"fee": fill.fee, "slippage": fill.slippage, "fill": fill.number}
        costs["multiplier"] = fill.multiplier
        when, seq = fill.at or at, after + len(rows) + 1
        if fill.split is None:
            rows.append(BookEvent(seq, at, when, FILL, fill.unit, fill.quantity, fill.price, **costs))
        else:
            new, old = fill.split.numerator, float(fill.split.denominator)
            rows.append(BookEvent(seq, at, when, SPLIT, fill.unit, new, old, **costs))
    return rows


def steps(rows: Iterable[BookEvent]) -> list[Step]:
    """The steps that these events, in order, were."""
    return [_step(list(bar)) for _, bar in groupby(rows, attrgetter("event_time"))]


def state(book: Book) -> dict[str, Any]:
    """The columns of a state; `positions` holds quantity, cost and mark of each unit, and its multiplier if not 1."""
    net = book.net
    return {
        "start": book.start,
        "cash": book.cash,
        "equity": book.cash + net,
        "peak": book.peak,
        "realised": book.realised,
        "unrealised": net - sum(position.cost for position in book.positions.values()),
        "fees": book.fees,
        "slippage": book.slippage,
        "funding": book.funding,
        "traded": book.traded,
        "gross": book.gross,
        "net": net,
        "positions": {unit: _entry(position) for unit, position in book.positions.items()},
    }


def restored(row: Mapping[str, Any]) -> Book:
    """The book that a state was taken of."""
    names = ("start", "cash", "peak", "realised", "fees", "slippage", "funding", "traded")
    held = {
        unit: Position(int(quantity), int(cost), *map(float, rest))
        for unit, (quantity, cost, *rest) in row["positions"].items()
    }
    return Book(**{name: int(row[name]) for name in names}, positions=held)


def replayed(book: Book, done: Iterable[Step]) -> Book:
    """The book after all these steps."""
    for step in done:
        book = book.after(step)
    return book


def split(unit: str, ratio: Fraction, at: datetime, number: int) -> Fill:
    """A split as books take it."""
    return Fill(unit, 0, 0.0, at=at, number=-number, split=ratio)


def _entry(position: Position) -> tuple[int | float, ...]:
    plain = (position.quantity, position.cost, position.mark)
    return plain if position.multiplier == 1.0 else (*plain, position.multiplier)


def _step(bar: Sequence[BookEvent]) -> Step:
    at = bar[0].event_time
    fills = tuple(_fill(event) for event in bar if event.kind in (FILL, SPLIT))
    marks = {e.unit: e.price for e in bar if e.kind == MARK}
    return Step(at, marks, {e.unit: e.funding for e in bar if e.kind == FUNDING}, fills)


def _fill(event: BookEvent) -> Fill:
    at = None if event.happened_at == event.event_time else event.happened_at
    if event.kind == SPLIT:
        return split(event.unit, Fraction(event.quantity, int(event.price)), event.happened_at, -event.fill)
    costs = (event.fee, event.slippage)
    return Fill(event.unit, event.quantity, event.price, *costs, at, event.fill, event.multiplier)
