"""Books made anew: without fills that a person voided, by the multipliers that instruments have now.

A multiplier is a fact about a unit: where it was told late, or told wrong first, a bot's own book counts every fill of
the unit by the right one, from the first on. So nothing that a person says of a unit is ever a profit. Virtual books
chose their quantities by the multiplier of the day: they trade over to the new one at their next bar instead.

The states are judged too, where a fill was taken out or the last state holds another multiplier: they must be what the
events make of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog

from jobs.context import Context
from jobs.portfolio.book_inputs import Units
from mlops.books.rows import FILL, VOID, restored, split, state, steps
from mlops.experiment import Book, Step
from mlops.io.ledger import BookKey, BookRows
from mlops.types import BookEvent

log = structlog.get_logger()
_BAR = attrgetter("event_time")


def units(context: Context) -> Units:
    """What fills are booked by now."""
    ledger, currency = context.ledger, context.settings.risk.currency
    foreign = {unit: name for unit, name in ledger.instruments.currencies().items() if name != currency}
    splits = ledger.splits.all()
    each = [split(row.unit, row.ratio, row.event_time, row.id) for row in splits]
    told_at = {-row.id: row.created_at for row in splits}
    return Units(ledger.instruments.multipliers(), ledger.instruments.unusable(), foreign, each, told_at)


def restate(context: Context, key: BookKey, now: Units) -> bool:
    """Make a bot's own book right if it counts a void fill or a wrong multiplier; whether it was made anew.

    Safe to repeat and to kill: it is one commit, and nothing is done where somebody else moved the book meanwhile.
    """
    ledger = context.ledger
    mark, taken = ledger.books.mark(key), ledger.voids.count(key)
    last = None if mark is None else ledger.books.state(key)
    if mark is None or last is None:
        return False
    void = ledger.voids.books_with_voids().get(key, frozenset())
    booked = {unit: held for unit, held in ledger.voids.booked_multipliers(key).items() if unit not in now.unusable}
    wrong = {unit for unit, held in booked.items() if held != {now.multipliers.get(unit, 1.0)}}
    if not (void or wrong or taken or outdated(restored(last), now)):
        return False
    rows = ledger.books.events(key)
    right = [_right(event, void, wrong, now.multipliers) for event in rows]
    changed = [new for old, new in zip(rows, right, strict=True) if new != old]
    states = wrong_states(ledger.books.states(key, start=None), right)
    if not (changed or states):
        return False
    done = ledger.voids.rewrite_book(BookRows(key, mark, changed, states), taken)
    about = {"voids": len(void), "units": sorted(wrong), "states": len(states)}
    log.info("book restated", model=key.model, book=key.book, **about, done=done)
    return done


def outdated(book: Book, now: Units) -> bool:
    """Whether a position was booked by another multiplier than its unit's."""
    held = ((unit, position.multiplier) for unit, position in book.positions.items() if unit not in now.unusable)
    return any(multiplier != now.multipliers.get(unit, 1.0) for unit, multiplier in held)


def _right(event: BookEvent, void: frozenset[int], wrong: set[str], multipliers: Mapping[str, float]) -> BookEvent:
    if event.kind == FILL and event.fill in void:
        return replace(event, kind=VOID)
    if event.kind == FILL and event.unit in wrong:
        return replace(event, multiplier=multipliers.get(event.unit, 1.0))
    return event


def wrong_states(rows: Sequence[Mapping[str, Any]], events: Sequence[BookEvent]) -> list[Mapping[str, Any]]:
    """The states that are not what these events make, as they make them."""
    opened = int(rows[0]["start"])
    book = Book(opened, opened, opened)
    happened = {at: steps(list(bar)) for at, bar in groupby(events, _BAR)}
    wrong, last = list[Mapping[str, Any]](), {event.event_time: event.seq for event in events}
    seq = 0
    for row in rows:
        at = row["event_time"]
        seq = last.get(at, seq)
        for step in happened.get(at, [Step(at)]):
            book = book.after(step)
        if book != restored(row) or seq != row["seq"]:
            wrong.append({**row, **state(book), "seq": seq})
    return wrong
