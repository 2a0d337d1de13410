"""Books made anew: without fills that a person voided, by the multipliers that instruments have now.

A multiplier is a fact about a unit: where it was told late, or told wrong first, a bot's own book counts every fill of
the unit by the right one, from the first on. So nothing that a person says of a unit is ever a profit. Virtual books
chose their quantities by the multiplier of the day: they trade over to the new one at their next bar instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog

from jobs.house import House
from jobs.tape import Units
from mlops.experiment import Book, Step
from mlops.experiment.entries import FILL, VOID, restored, state, steps
from mlops.io.ledger import BookKey, BookRows
from mlops.types import BookEvent

log = structlog.get_logger()
_BAR = attrgetter("event_time")


def units(house: House) -> Units:
    """What fills are booked by now."""
    return Units(house.ledger.multipliers(), house.ledger.unusable_instruments())


def restate(house: House, key: BookKey, now: Units) -> bool:
    """Make a bot's own book right if it counts a void fill or a wrong multiplier; whether it was made anew.

    Safe to repeat and to kill: it is one commit, and nothing is done where somebody else moved the book meanwhile.
    """
    ledger = house.ledger
    void = ledger.books_with_voids().get(key, frozenset())
    booked = {unit: held for unit, held in ledger.booked_multipliers(key).items() if unit not in now.unusable}
    wrong = {unit for unit, held in booked.items() if held != {now.multipliers.get(unit, 1.0)}}
    mark = ledger.book_mark(key) if void or wrong else None
    if mark is None:
        return False
    rows = ledger.book_events(key)
    right = [_right(event, void, wrong, now.multipliers) for event in rows]
    changed = [new for old, new in zip(rows, right, strict=True) if new != old]
    if not changed:
        return False
    states = _states(ledger.book_states(key, start=None), right, changed[0])
    done = ledger.rewrite_book(BookRows(key, mark.end, changed, states), mark)
    log.info("book restated", model=key.model, book=key.book, voids=len(void), units=sorted(wrong), done=done)
    return done


def _right(event: BookEvent, void: frozenset[int], wrong: set[str], multipliers: Mapping[str, float]) -> BookEvent:
    if event.kind == FILL and event.fill in void:
        return replace(event, kind=VOID)
    if event.kind == FILL and event.unit in wrong:
        return replace(event, multiplier=multipliers.get(event.unit, 1.0))
    return event


def _states(
    rows: Sequence[Mapping[str, Any]], events: Sequence[BookEvent], first: BookEvent
) -> list[Mapping[str, Any]]:
    """The states from the bar of `first` on, as these events make them."""
    before = [row for row in rows if row["event_time"] < first.event_time]
    opened = int(rows[0]["start"])
    book = restored(before[-1]) if before else Book(opened, opened, opened)
    happened = {at: steps(list(bar)) for at, bar in groupby(events, _BAR)}
    found = list[Mapping[str, Any]]()
    for row in rows[len(before) :]:
        at = row["event_time"]
        for step in happened.get(at, [Step(at)]):
            book = book.after(step)
        found.append({**row, **state(book)})
    return found
