"""A bot's own book held against its virtual twin: every trade that its versions asked for, at the bar's price.

Load: both books over the last `books.twin_days`. Compute: where the money between them went. Log: a point a week on the
run of the two; a run of its own when it is asked for by hand, or when the book departs by more than
`books.twin_limit_bps`. Act: then also an alert, once a week.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

import pandas as pd

from jobs.context import Context
from mlops.alerts import ALERTS
from mlops.books.book import SCALE
from mlops.books.rows import restored, steps
from mlops.books.twin import History, twin_differences, twin_findings
from mlops.experiment import Book
from mlops.io import record
from mlops.io.ledger import BookKey
from mlops.types import Decision, Finding, ModelRef, Report, Role, Verdict

TWIN = "twin:"  # before the name of the book that it is the twin of
FRIDAY, WEEK = 4, 7


def of(book: str) -> str:
    """The twin's name."""
    return f"{TWIN}{book}"


def traded(context: Context, model: str) -> list[str]:
    """The books that bots traded for `model`; a twin is none."""
    return [book for book in context.ledger.books.traded_books(model) if not book.startswith(TWIN)]


def hidden(context: Context, model: str, as_of: datetime) -> dict[BookKey, str]:
    """Books of fills whose name is a twin's, which no position counts, and why; an older release took such fills."""
    keys = [BookKey(model, book) for book in context.ledger.books.traded_books(model) if book.startswith(TWIN)]
    counted = {key: len(context.ledger.books.unbooked_fills(*key[:2], as_of=as_of)) for key in keys}
    why = "{} fills of book {} of {} are in no position: its name is reserved. Void them, send them for another book."
    return {key: why.format(n, key.book, model) for key, n in counted.items() if n}


def look(context: Context, model: str, as_of: datetime, *, without: Collection[BookKey] = ()) -> list[Decision]:
    """Hold every book that a bot traded for `model` against its twin; HOLD with the reason where one departs."""
    books = traded(context, model)
    ends = context.ledger.books.ends(model) if books else {}
    pairs = [(BookKey(model, book), BookKey(model, of(book))) for book in books]
    there = ends.keys() - set(without)
    both = [(*pair, min(ends[key] for key in pair)) for pair in pairs if there.issuperset(pair)]
    runs = [context.run_id, *[None] * len(both)]  # the run that launched the job takes the first; others have their own
    return [decision for pair, run in zip(both, runs, strict=False) for decision in _judged(context, *pair, as_of, run)]


def _judged(
    context: Context, key: BookKey, twin: BookKey, until: datetime, as_of: datetime, run_id: str | None
) -> list[Decision]:
    """Log what is due; alert where the book departs too far."""
    since, asked = until - timedelta(days=context.settings.books.twin_days), bool(context.run_id)
    alert = f"book_departed:{key.model}:{key.book}:{as_of:%G-W%V}"
    far = _far(context, key, twin, since, until) and context.ledger.alerts.get(alert) is None
    if not (far or asked or (as_of.weekday() == FRIDAY and as_of.day <= WEEK)):
        return []
    findings, rows = _compared(context, key, twin, since, until)
    evidence = _evidence(context, key, findings, rows, as_of)
    if far or not asked:
        record.emit(context.client, evidence)
    if not (far or asked):
        return []
    own = replace(evidence, beside=True, headline=f"{key.book} and its twin: {'departed' if far else 'as asked'}")
    run = record.emit(context.client, own, run_id)
    context.tell(own, run)
    if far:
        details = {"evidence_run": run, **{f.name: round(f.value, 2) for f in findings}}
        week, reason = f"{as_of:%G-W%V}", evidence.decision.reason
        words = {"model": key.model, "book": key.book, "week": week, "reason": reason}
        context.ledger.alerts.add(ALERTS["book_departed"].alert(as_of, words, details=details))
    return [evidence.decision]


def _far(context: Context, key: BookKey, twin: BookKey, since: datetime, until: datetime) -> bool:
    """Whether the equities grew apart by more than the limit."""
    ours, theirs = context.ledger.books.growth([key, twin], start=since, end=until)
    grown = (ours[1] - ours[0]) - (theirs[1] - theirs[0])
    return abs(grown) > context.settings.books.twin_limit_bps / 1e4 * max(theirs[0], 0)


def _compared(
    context: Context, key: BookKey, twin: BookKey, since: datetime, until: datetime
) -> tuple[tuple[Finding, ...], pd.DataFrame]:
    """Where the money between the two went after the first bar of the window."""
    end, after = until + timedelta(microseconds=1), since + timedelta(microseconds=1)
    real, virtual = (
        History(_book(context, book, after), steps(context.ledger.books.events(book, start=after, end=end)))
        for book in (key, twin)
    )
    rows, equity = twin_differences(real, virtual), virtual.opening.equity / SCALE
    limit, bars = context.settings.books.twin_limit_bps, rows["event_time"].nunique()
    return twin_findings(rows, equity=equity, limit_bps=limit, bars=bars), rows


def _book(context: Context, key: BookKey, before: datetime) -> Book:
    row = context.ledger.books.state(key, before=before)
    return Book.opened(context.settings.books.cash) if row is None else restored(row)


def _evidence(
    context: Context, key: BookKey, findings: tuple[Finding, ...], rows: pd.DataFrame, as_of: datetime
) -> record.Evidence:
    """The findings and every trade, as a step of the run of the two books."""
    champion = ModelRef(key.model, context.ledger.registry.champion(key.model) or 0, Role.CHAMPION)
    reason = f"book {key.book} against its virtual twin: {findings[0].note}"
    decision = Decision(Verdict.HOLD, champion, findings, reason=reason)
    began = context.ledger.registry.promotions(key.model)
    since = min([as_of, *(entry.created_at for entry in began[:1])])
    tags = {"job": "twin", "model": key.model, "book": key.book, "series": key.book}
    return record.Evidence(
        "books",
        Report(champion, as_of, findings),
        decision,
        tags={"book": key.book},
        pages={"twin.csv": rows.to_csv(index=False)},
        headline=f"departs by {findings[0].value:.0f} bps",
        series=record.Series(f"{key.book} and its twin", since, tags),
    )
