"""A split of a unit, in every book at once: what it changes, and the books made anew with it or without it.

A book that has not grown past the split takes it at its next bar. One that has is made anew: the split comes between
its events, at its instant, and all states from that bar on are what they had been with it. What a virtual book traded
meanwhile stays; its next bar puts its weights right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pandas as pd
import structlog

from jobs.context import Context
from jobs.portfolio import book_inputs, restatement, twins
from jobs.portfolio.positions import positions
from jobs.portfolio.valuation import Held, book_name
from mlops.books.book import SCALE, Step
from mlops.books.rows import FILL, FUNDING, MARK, SPLIT, VOID, replayed, restored, split, steps
from mlops.books.rows import events as events_of
from mlops.books.virtual import with_splits
from mlops.errors import DataError, StorageError
from mlops.experiment import Book, Fill
from mlops.io.ledger import BookKey, BookRows, Mark, Split
from mlops.io.ledger.splits import Restated
from mlops.types import OPTIONS, BookEvent

log = structlog.get_logger()
MOST = 10_000  # of a ratio, either way; the largest that exchanges list is about 1 for 2,000
TRIES = 5  # of a change while jobs move books
AGAIN = timedelta(days=7)  # a second split of a unit by the same ratio within that time is the same one
RECENT = 10_000  # fills that are looked at
DAY = timedelta(days=1)
CLEAR = math.log(1.4)  # a ratio that no market moves by within a day
FRESH = timedelta(minutes=5)  # of a quote that tells what prices are of


def ratio(text: str) -> Fraction:
    """New units for an old one: `2:1` and `2` are two for one, `1:10` and `0.1` one for ten.

    Raises
    ------
    DataError
        It is no ratio of positive numbers, or 1, or out of bounds.

    Examples
    --------
    >>> ratio("3:2"), ratio("0.1"), ratio("1.05")
    (Fraction(3, 2), Fraction(1, 10), Fraction(21, 20))
    """
    try:
        new, _, old = text.replace(" ", "").partition(":")
        value = Fraction(new) / Fraction(old or "1")
    except (ValueError, ZeroDivisionError, OverflowError):
        value = Fraction(0)
    within = 0 < value != 1 and Fraction(1, MOST) <= value <= MOST and value.denominator <= MOST >= value.numerator
    if not within or "_" in text or "/" in text:
        rule = f"ratio must be new:old, such as 2:1 or 1:10, or a number within 1/{MOST} and {MOST} that is not 1"
        raise DataError(f"{rule}, got {text!r}. Take it from the exchange's notice.")
    return value


@dataclass(frozen=True, slots=True)
class Change:
    """What a split makes of one position; its value stays but for what rounding to 1e-8 of a unit leaves."""

    model: str
    book: str
    before: float
    after: float
    price: float
    new_price: float
    multiplier: float

    @property
    def fraction(self) -> bool:
        """Whether the new quantity is no whole number where the old one was: the broker pays that part in cash."""
        return self.before == round(self.before) and self.after != round(self.after)


def told(context: Context, unit: str, by: Fraction, at: datetime | None, now: datetime) -> Split | None:
    """The same split, where a person has told of it before.

    Raises
    ------
    DataError
        It was taken back, or another one like it is a few days away.
    """
    for row in (row for row in context.ledger.splits.all() if (row.unit, row.ratio) == (unit, by)):
        if at == row.event_time or (at is None and abs(row.event_time - now) < AGAIN):
            return row
        if at is not None and abs(row.event_time - at) < AGAIN:
            rule = f"split of {unit} must be the only one like it within {AGAIN.days} days, got one at {at:%F %T} UTC"
            raise DataError(f"{rule} beside {row.name}. Take that back first: `trader-mlops fill void {row.name}`.")
    for row in context.ledger.splits.all(void=True):
        if (row.unit, row.ratio, row.event_time) == (unit, by, at):
            raise DataError(f"split must be another than {row.name}, which was taken back. Add a second to --at.")
    return None


def instant(context: Context, held: Held, unit: str, by: Fraction) -> datetime:
    """When a split took place, where nobody says: when quotes or fills first jumped to its price, else now."""
    jump = held.jumps.get(unit)
    if jump is None or (jump.value < held.prices[unit].value) != (by > 1):
        return held.as_of
    mark = held.prices[unit]
    rows = context.ledger.quotes.between(unit, start=jump.since, end=held.as_of, as_of=held.as_of)
    times = (at.to_pydatetime() for at in rows["event_time"])
    prices = zip(times, ((rows["bid"] + rows["ask"]) / 2).tolist(), strict=True)
    levels = [*((at, price) for at, price in prices if price > 0), *_fills(context, unit, mark.at)]
    return min((at for at, price in levels if _nearer(price, mark.value / float(by), mark.value)), default=jump.since)


def _fills(context: Context, unit: str, since: datetime) -> list[tuple[datetime, float]]:
    """Time and price of the fills of a unit since an instant, without those that are void."""
    rows = context.ledger.voids.newest_fills(limit=RECENT)
    rows = rows[(rows["unit"] == unit) & rows["void"].isna() & (rows["price"] > 0)]
    each = zip(rows["event_time"], rows["price"].tolist(), strict=True)
    return [(pd.Timestamp(at).to_pydatetime(), price) for at, price in each if at >= since]


def _nearer(price: float, first: float, second: float) -> bool:
    return abs(math.log(price / first)) < abs(math.log(price / second))


def new_price(context: Context, held: Held, unit: str, by: Fraction, at: datetime) -> float:
    """What a new unit is worth: the mark over the ratio; or the mark, where that is of after the split.

    Raises
    ------
    DataError
        No book holds the unit at a known price, it is an option, or its prices say that it was not split then.
    """
    rows = held.frame[held.frame["unit"] == unit]
    mark = held.prices.get(unit)
    if rows.empty or mark is None or not mark.value > 0:
        raise DataError(f"unit must be one that a book holds at a known price, got {unit!r}. See the live page.")
    if rows["kind"].iloc[0] in OPTIONS:
        rule = f"unit of a split must not be an option, got {unit}"
        raise DataError(f"{rule}. Load the new terms of its contract: `trader-mlops instrument load`.")
    if mark.at < at or unit in held.jumps:
        before, after = mark.value, _quoted(context, unit, held.as_of)
    else:
        before, after = _before(context, unit, at), mark.value
    split = before / float(by)
    if abs(math.log(by)) > CLEAR:
        _contradict(context, unit, at, before, split, after)
    return after if mark.at >= at and unit not in held.jumps else split


def _contradict(context: Context, unit: str, at: datetime, before: float, split: float, after: float) -> None:
    """Refuse an instant that quotes or fills say is the wrong one."""
    remedy = "Say with --at when the split took place."
    if math.isfinite(after) and not _nearer(after, split, before):
        rule = f"price of {unit} must be near {split:g} after {at:%F %T} UTC, got {after:g}"
        raise DataError(f"{rule} (before: {before:g}). {remedy}")
    for traded, price in _fills(context, unit, at - DAY):
        if _nearer(price, split, before) != (traded >= at):
            rule = f"fills of {unit} must be near {before:g} before the split and near {split:g} after it"
            raise DataError(f"{rule}, got {price:g} at {traded:%F %T} UTC. {remedy}")


def _quoted(context: Context, unit: str, as_of: datetime, fresh: timedelta = FRESH) -> float:
    """The middle of its newest quote; NaN where there is none so fresh."""
    quotes = context.ledger.risk.latest_quotes([unit], as_of=as_of)
    for at, bid, ask in zip(quotes["event_time"], quotes["bid"], quotes["ask"], strict=True):
        if as_of - at <= fresh and 0 < bid <= ask:
            return float(bid + ask) / 2
    return math.nan


def _before(context: Context, unit: str, at: datetime) -> float:
    """The last price that a book or a quote had of a unit before an instant."""
    quoted = _quoted(context, unit, at - timedelta(microseconds=1), AGAIN)
    states = (context.ledger.books.state(key, before=at) for key in context.ledger.books.all_marks())
    prices = [(row["event_time"], row["positions"][unit][2]) for row in states if row and unit in row["positions"]]
    if prices or math.isfinite(quoted):
        return float(max(prices)[1]) if prices else quoted
    rule = f"price of {unit} before {at:%Y-%m-%d %H:%M:%S} UTC must be known, got none"
    raise DataError(f"{rule}. Leave --at out, or take an instant after its first price.")


def options(held: Held, unit: str) -> list[str]:
    """Options on a unit that a book holds: a split leaves them as they are."""
    return sorted(set(held.frame.loc[held.frame["underlying"] == unit, "unit"]))


@dataclass(frozen=True, slots=True)
class Plan:
    """A split, what it makes of positions, and the rows of books that are made anew; `ends`: where all books stood."""

    split: Split
    changes: Sequence[Change]
    ends: Mapping[BookKey, Mark]
    books: Sequence[Restated]


def plan(context: Context, held: Held, unit: str, by: Fraction, at: datetime, actor: str, reason: str) -> Plan:
    """What a split of that instant would change now.

    Raises
    ------
    DataError
        The instant is to come, or `new_price` refuses.
    """
    if at > held.as_of:
        rule = f"time of a split must not be to come, got {at:%Y-%m-%d %H:%M:%S} UTC"
        raise DataError(f"{rule}. Book it once it took place.")
    at = at.replace(microsecond=0)
    price, number = new_price(context, held, unit, by, at), context.ledger.splits.last() + 1
    about = (unit, by.numerator, by.denominator, at, price, actor, reason, held.as_of, number)
    return _planned(context, held, Split(*about))


def _planned(context: Context, held: Held, split: Split) -> Plan:
    ledger, units, mark = context.ledger, restatement.units(context), held.prices[split.unit].value
    event = split_fill(split)
    more = replace(units, splits=(*units.splits, event), told_at={**units.told_at, event.number: split.created_at})
    ends = ledger.books.all_marks()
    traded = (BookKey(model, book) for model in ledger.risk.traded_models() for book in twins.traded(context, model))
    changes, books = list[Change](), list[Restated]()
    for key in dict.fromkeys([*traded, *ends]):
        row = ledger.books.state(key) if key in ends else None
        anew = with_split(context, key, split) if row is not None and row["event_time"] >= split.event_time else None
        last = dict(row or {}) if anew is None else dict(anew.rows.states[-1]) if anew.rows.states else dict(row or {})
        before = _now(context, key, row, units, held.as_of).positions.get(split.unit)
        after = _now(context, key, last, more, held.as_of).positions.get(split.unit)
        books += [] if anew is None else [anew]
        if before is not None and (after is None or after.quantity != before.quantity):
            quantity = 0.0 if after is None else after.quantity / SCALE
            prices = (mark, split.price, before.multiplier)
            changes.append(Change(key.model, book_name(key), before.quantity / SCALE, quantity, *prices))
    return Plan(split, changes, ends, books)


def _now(
    context: Context, key: BookKey, row: Mapping[str, Any] | None, units: book_inputs.Units, as_of: datetime
) -> Book:
    """A book after a state and all since."""
    book = restored(row) if row else Book.opened(context.settings.books.cash)
    until = row["event_time"] if row else None
    fills = list[Fill]()
    if not key.version and not key.book.startswith(twins.TWIN):
        new = context.ledger.books.unbooked_fills(key.model, key.book, as_of=as_of, until=until)
        fills = [fill for fill, _ in book_inputs.filled(new, units, until)[0]]
    return book.after(Step(as_of, fills=with_splits(book, fills, units.known(until, as_of))))


def with_split(context: Context, key: BookKey, entry: Split) -> Restated | None:
    """A book that has grown past a split, made anew with it; None where it changes nothing there."""
    ledger, at = context.ledger, entry.event_time
    mark, void = ledger.books.mark(key), ledger.voids.count(key)
    rows, events = ledger.books.states(key, start=None), ledger.books.events(key)
    bar = next((row["event_time"] for row in rows if row["event_time"] >= at), None)
    if mark is None or bar is None:
        return None
    place = sum(_comes_before(event, bar, at) for event in events)
    head = events[:place]
    book = replayed(Book.opened(rows[0]["start"] / SCALE), steps(head))
    late = any(event.kind == FILL and event.unit == entry.unit and event.happened_at < at for event in events[place:])
    if entry.unit not in book.positions and not late:
        return None
    new = events_of(Step(bar, fills=(split_fill(entry),)), place)[0]
    rest = [replace(_resized(event, entry, entry.ratio), seq=event.seq + 1) for event in events[place:]]
    return _restated(key, mark, void, rows, events, [*head, new, *rest], new)


def without_split(context: Context, key: BookKey, entry: Split) -> Restated | None:
    """A book that has taken a split, made anew without it."""
    ledger = context.ledger
    mark, void, events = ledger.books.mark(key), ledger.voids.count(key), ledger.books.events(key)
    place = next((i for i, event in enumerate(events) if event.kind == SPLIT and event.fill == -entry.id), None)
    if mark is None or place is None:
        return None
    rest = [_resized(event, entry, 1 / entry.ratio) for event in events[place + 1 :]]
    right = [*events[:place], replace(events[place], kind=VOID), *rest]
    return _restated(key, mark, void, ledger.books.states(key, start=None), events, right, None)


def _restated(
    key: BookKey,
    mark: Mark,
    void: int,
    rows: Sequence[Mapping[str, Any]],
    events: Sequence[BookEvent],
    right: Sequence[BookEvent],
    new: BookEvent | None,
) -> Restated:
    changed = [event for i, event in enumerate(right) if i >= len(events) or event != events[i]]
    return Restated(BookRows(key, mark, changed, restatement.wrong_states(rows, right)), void, new)


def _comes_before(event: BookEvent, bar: datetime, at: datetime) -> bool:
    """Whether an event of a book comes before a split that falls into the bar."""
    if event.event_time != bar:
        return event.event_time < bar
    return event.kind in (MARK, FUNDING) or event.happened_at < at


def _resized(event: BookEvent, entry: Split, by: Fraction) -> BookEvent:
    """A fill of before a split that a book took after it, in units of after it (or back)."""
    if event.kind != FILL or event.unit != entry.unit or event.happened_at >= entry.event_time:
        return event
    return replace(event, quantity=round(event.quantity * by), price=event.price / float(by))


def split_fill(entry: Split) -> Fill:
    """A split as books take it."""
    return split(entry.unit, entry.ratio, entry.event_time, entry.id)


def book(context: Context, plan: Plan) -> bool:
    """Store what was planned, and end what was asked about its price; False where a book moved since."""
    if not context.ledger.splits.add(plan.split, plan.ends, plan.books):
        return False
    _settled(context, plan.split.unit, plan.split.created_at)
    log.info("split booked", split=plan.split.name, by=plan.split.actor, reason=plan.split.reason)
    return True


def take_back(context: Context, name: str, actor: str, reason: str, now: datetime) -> bool:
    """Take a split back: books are what they had been without it, and so is the price; False where it was before.

    Raises
    ------
    DataError
        There is no such split.
    StorageError
        Jobs moved books all the time.
    """
    ledger = context.ledger
    if any(entry.name == name for entry in ledger.splits.all(void=True)):
        return False
    booked = next((entry for entry in ledger.splits.all() if entry.name == name), None)
    if booked is None:
        raise DataError(f"split must be one that was told, got {name!r}. See `trader-mlops price log`.")
    for _ in range(TRIES):
        ends, mark = ledger.books.all_marks(), positions(context, now).prices.get(booked.unit)
        books = [anew for key in ends if (anew := without_split(context, key, booked)) is not None]
        price = None if mark is None else mark.value * float(booked.ratio)
        if ledger.splits.void(booked, price, actor, reason, now, ends, books):
            _settled(context, booked.unit, now)
            log.info("split taken back", split=name, by=actor, reason=reason, books=len(books))
            return True
    raise StorageError("books must stand still while a split is taken back, got changes. Try again.")


def _settled(context: Context, unit: str, at: datetime) -> None:
    context.ledger.alerts.settle("price_jump", (), at, looked_at=lambda alert: alert.details.get("unit") == unit)
