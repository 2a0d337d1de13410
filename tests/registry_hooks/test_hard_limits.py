"""A champion over a hard limit is rolled back at once, with a real registry; a person is told, once."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from jobs import limits
from jobs.books import VIRTUAL
from jobs.context import House
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
def house(live):
    """v2 was promoted over v1 a month ago."""
    apply.promote(live, ModelRef("volatility", 2), "better", Act("test", PROMOTED), expected=1)
    settings = Settings(state=live.cache.parent, limits=LimitSettings(loss=0.1, drawdown=0.15))
    return House(settings, live, None)


def _book(house, version, *prices):
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
    house.ledger.append_books([BookRows(BookKey("volatility", VIRTUAL, version), None, lot, rows)])


def _scorings(house, version, failed):
    rows = [
        {"version": version, "event_time": PROMOTED + (i + 1) * DAY, "seconds": 0.01, "failed": int(bad)}
        for i, bad in enumerate(failed)
    ]
    frame = pd.DataFrame(rows).assign(model="volatility", batch="b", rows=3)
    frame["known_at"] = frame["event_time"]
    house.ledger.add_scorings(frame[list(SCORING_COLUMNS)])


def _look(house, at=NOW):
    return limits.at(house, "volatility", pd.DataFrame(), at)


def _alerts(house):
    return [alert for alert in house.ledger.alerts() if alert.key.startswith("limit:")]


def test_a_champion_within_its_limits_is_left_alone_and_nothing_is_logged(house):
    _book(house, 2, 100.0, 101.0, 95.0)
    _scorings(house, 2, [False] * 10)
    before = len(house.client.search_runs([e.experiment_id for e in house.client.search_experiments()]))

    assert [] == _look(house)
    assert [] == _alerts(house)
    assert before == len(house.client.search_runs([e.experiment_id for e in house.client.search_experiments()]))


def test_a_loss_over_the_limit_rolls_back_at_once_and_wakes_a_person_once(house):
    _book(house, 2, 100.0, 105.0, 88.0)
    _book(house, 1, 100.0, 101.0, 99.0)

    (decision,) = _look(house)

    assert (Verdict.ROLLBACK, 1) == (decision.verdict, house.ledger.champion("volatility"))
    assert 1 == aliases.read(house.client, "volatility")["champion"]
    (alert,) = _alerts(house)
    assert (Priority.CRITICAL, True) == (alert.priority, "its book stands -12.0%" in alert.title)
    entry = house.ledger.promotions("volatility")[-1]
    assert ("rollback", "jobs.limits") == (entry.kind, entry.actor)
    run = house.client.get_run(entry.evidence_run)
    assert ("limits", "rollback") == (run.data.tags["job"], run.data.tags["verdict"])
    assert 0.12 == pytest.approx(run.data.metrics["limit_loss"])
    assert [] == _look(house, NOW + DAY)
    assert 1 == len(_alerts(house))


def test_failures_in_a_row_roll_back_without_any_book(house):
    _scorings(house, 2, [False, True, True, True])
    assert [Verdict.ROLLBACK] == [decision.verdict for decision in _look(house)]
    assert "failed to score the last 3 bars" in _alerts(house)[0].title


def test_a_market_that_hurts_both_books_moves_nothing_and_a_person_is_told_once(house):
    for version in (1, 2):
        _book(house, version, 100.0, 105.0, 80.0)

    assert [] == _look(house) == _look(house, NOW + DAY)
    assert 2 == house.ledger.champion("volatility")
    (alert,) = _alerts(house)
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
def test_a_rollback_needs_a_champion_before_that_fell_by_half_as_much_on_the_same_bars(house, before, champion):
    _book(house, 2, 100.0, 96.0, 96.0, 89.0)
    _book(house, 1, 100.0, *before)
    _look(house)
    assert champion == house.ledger.champion("volatility")


def test_what_says_that_a_champion_still_trades_is_closed_when_it_does_not_any_more(house):
    for version in (1, 2):
        _book(house, version, 100.0, 105.0, 80.0)
    _look(house)
    assert ["limit:volatility:2"] == [alert.key for alert in _alerts(house)]

    apply.promote(house.registry, ModelRef("volatility", 3), "a person", Act("test", NOW), expected=2)
    _look(house, NOW + DAY)

    assert [] == _alerts(house)


def test_without_a_champion_before_a_person_must_decide(house):
    apply.rollback(house.registry, "volatility", "gone", Act("test", PROMOTED + DAY))
    _book(house, 1, 100.0, 100.0, 100.0, 60.0)
    assert [] == _look(house)
    assert "no champion to go back to" in _alerts(house)[0].title


def test_a_rollback_that_did_not_come_off_is_told_and_tried_again(house, monkeypatch):
    _book(house, 2, 100.0, 80.0)

    def away(*_, **__):
        raise RegistryError("artifacts must be there, got none")

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "fetch", away)
        with pytest.raises(RegistryError):
            _look(house)
    assert (2, 1) == (house.ledger.champion("volatility"), len(_alerts(house)))

    _look(house, NOW + DAY)

    assert (1, 1) == (house.ledger.champion("volatility"), len(_alerts(house)))


def test_what_happened_before_it_became_champion_does_not_count(house):
    early = House(house.settings, house.registry, None)
    _scorings(early, 2, [True] * 3)
    assert [] == limits.at(house, "volatility", pd.DataFrame(), PROMOTED + timedelta(hours=1))
