"""A champion over a hard limit is rolled back at once, with a real registry; a person is told, once."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from jobs import limits
from jobs.books import VIRTUAL
from jobs.context import Context
from mlops.books.rows import events, state
from mlops.errors import RegistryError
from mlops.experiment import Book, Terms
from mlops.io.ledger import BookKey, BookRows
from mlops.settings import LimitSettings, Settings
from mlops.types import SCORING_COLUMNS, ModelRef, Priority, Verdict
from registry_hooks import aliases, apply, bundle
from registry_hooks.apply import Act

PROMOTED, DAY = datetime(2008, 2, 1, 22, tzinfo=UTC), timedelta(days=1)
NOW = PROMOTED + 30 * DAY


@pytest.fixture
def context(live):
    """v2 was promoted over v1 a month ago."""
    apply.promote(live, ModelRef("volatility", 2), "better", Act("test", PROMOTED), expected=1)
    settings = Settings(state=live.cache.parent, limits=LimitSettings(loss=0.1, drawdown=0.15))
    return Context(settings, live, None)


def _book(context, version, *prices):
    """A book that bought one unit at the first price, all in, and is marked at the rest."""
    book, rows, seq = Book.opened(1_000_000.0), [], 0
    lot = []
    for i, price in enumerate(prices):
        at = PROMOTED + (i + 1) * DAY
        step = book.rebalanced(at, {"A": price}, {"A": 1.0} if i == 0 else {}, Terms(0.0))
        new = events(step, seq)
        seq, book = seq + len(new), book.after(step)
        lot += new
        rows.append({**state(book), "event_time": at, "known_at": at, "seq": seq})
    context.ledger.books.append([BookRows(BookKey("volatility", VIRTUAL, version), None, lot, rows)])


def _scorings(context, version, failed):
    rows = [
        {"version": version, "event_time": PROMOTED + (i + 1) * DAY, "seconds": 0.01, "failed": int(bad)}
        for i, bad in enumerate(failed)
    ]
    frame = pd.DataFrame(rows).assign(model="volatility", batch="b", rows=3)
    frame["known_at"] = frame["event_time"]
    context.ledger.scorings.add(frame[list(SCORING_COLUMNS)])


def _look(context, at=NOW):
    return limits.at(context, "volatility", at)


def _alerts(context):
    return [alert for alert in context.ledger.alerts.newest() if alert.key.startswith("limit:")]


def test_a_champion_within_its_limits_is_left_alone_and_nothing_is_logged(context):
    _book(context, 2, 100.0, 101.0, 95.0)
    _scorings(context, 2, [False] * 10)
    before = len(context.client.search_runs([e.experiment_id for e in context.client.search_experiments()]))

    assert [] == _look(context)
    assert [] == _alerts(context)
    assert before == len(context.client.search_runs([e.experiment_id for e in context.client.search_experiments()]))


def test_a_loss_over_the_limit_rolls_back_at_once_and_wakes_a_person_once(context):
    _book(context, 2, 100.0, 105.0, 88.0)
    _book(context, 1, 100.0, 101.0, 99.0)

    (decision,) = _look(context)

    assert (Verdict.ROLLBACK, 1) == (decision.verdict, context.ledger.registry.champion("volatility"))
    assert 1 == aliases.read(context.client, "volatility")["champion"]
    (alert,) = _alerts(context)
    assert (Priority.CRITICAL, True) == (alert.priority, "its book stands -12.0%" in alert.title)
    entry = context.ledger.registry.promotions("volatility")[-1]
    assert ("rollback", "jobs.limits") == (entry.kind, entry.actor)
    run = context.client.get_run(entry.evidence_run)
    assert ("limits", "rollback") == (run.data.tags["job"], run.data.tags["verdict"])
    assert 0.12 == pytest.approx(run.data.metrics["limit_loss"])
    assert [] == _look(context, NOW + DAY)
    assert 1 == len(_alerts(context))


def test_failures_in_a_row_roll_back_without_any_book(context):
    _scorings(context, 2, [False, True, True, True])
    assert [Verdict.ROLLBACK] == [decision.verdict for decision in _look(context)]
    assert "failed to score the last 3 bars" in _alerts(context)[0].title


def test_a_market_that_hurts_both_books_moves_nothing_and_a_person_is_told_once(context):
    for version in (1, 2):
        _book(context, version, 100.0, 105.0, 80.0)

    assert [] == _look(context) == _look(context, NOW + DAY)
    assert 2 == context.ledger.registry.champion("volatility")
    (alert,) = _alerts(context)
    assert "IT STILL TRADES" in alert.title
    assert "did little better on the same bars" in alert.title


@pytest.mark.parametrize(
    ("before", "champion"),
    [
        ([94.0, 94.0, 94.0], 2),  # fell by more than half of the 11 %
        ([95.0, 95.0, 95.0], 1),
        ([97.0], 2),  # scored no more after the second bar: on those that both have it fell as far
        ([98.0], 1),
        ([], 1),  # nothing is known of it
    ],
)
def test_a_rollback_needs_a_champion_before_that_fell_by_half_as_much_on_the_same_bars(context, before, champion):
    _book(context, 2, 100.0, 96.0, 96.0, 89.0)
    _book(context, 1, 100.0, *before)
    _look(context)
    assert champion == context.ledger.registry.champion("volatility")


def test_what_says_that_a_champion_still_trades_is_closed_when_it_does_not_any_more(context):
    for version in (1, 2):
        _book(context, version, 100.0, 105.0, 80.0)
    _look(context)
    assert ["limit:volatility:2"] == [alert.key for alert in _alerts(context)]

    apply.promote(context.registry, ModelRef("volatility", 3), "a person", Act("test", NOW), expected=2)
    _look(context, NOW + DAY)

    assert [] == _alerts(context)


def test_without_a_champion_before_a_person_must_decide(context):
    apply.rollback(context.registry, "volatility", "gone", Act("test", PROMOTED + DAY))
    _book(context, 1, 100.0, 100.0, 100.0, 60.0)
    assert [] == _look(context)
    assert "no champion to go back to" in _alerts(context)[0].title


def test_a_rollback_that_did_not_come_off_is_told_and_tried_again(context, monkeypatch):
    _book(context, 2, 100.0, 80.0)

    def away(*_, **__):
        raise RegistryError("artifacts must be there, got none")

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "fetch", away)
        with pytest.raises(RegistryError):
            _look(context)
    assert (2, 1) == (context.ledger.registry.champion("volatility"), len(_alerts(context)))

    _look(context, NOW + DAY)

    assert (1, 1) == (context.ledger.registry.champion("volatility"), len(_alerts(context)))


def test_what_happened_before_it_became_champion_does_not_count(context):
    early = Context(context.settings, context.registry, None)
    _scorings(early, 2, [True] * 3)
    assert [] == limits.at(context, "volatility", PROMOTED + timedelta(hours=1))
