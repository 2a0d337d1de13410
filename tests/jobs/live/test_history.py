"""What the live page shows of what was: equity of all books, models and their verdicts, alerts and where they lead."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from jobs import books
from jobs.live import history
from jobs.live.freshness import Freshness
from jobs.live.model_status import Standing
from jobs.portfolio.positions import positions
from mlops.learn import STRATEGIES
from mlops.settings import Settings
from mlops.types import Alert, Priority

T0, DAY = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(days=1)


@pytest.fixture
def context(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=Settings(), run_id=None, client=None)


def standing(context, as_of):
    return Standing(context, as_of, Freshness(context))


def grown(context, closes, *, model="direction", start=0, quantity=1000.0):
    """A book that bought at its first close, brought up to the last."""
    days = [T0 + (start + i) * DAY for i in range(len(closes))]
    bars = pd.DataFrame({"event_time": pd.DatetimeIndex(days), "known_at": pd.DatetimeIndex(days)})
    row = {"fill_id": model, "model": model, "version": 1, "book": "live", "unit": "A", "event_time": days[0]}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": quantity, "price": closes[0], "fee": 0.0}]))
    books.advance(context, STRATEGIES[model], bars.assign(symbol="A", close=closes), days[-1])
    return days[-1]


def test_a_book_that_began_later_was_flat_before_and_its_opening_is_no_profit(context):
    grown(context, [100.0, 101.0, 102.0, 103.0])
    end = grown(context, [100.0, 90.0], model="volatility", start=2)

    seen = history.past(context, positions(context, end))

    assert [2_000_000, 2_001_000, 2_002_000, 1_993_000] == seen.equity.tolist()
    assert 2_002_000 == seen.day_began(end)
    assert seen.day_began(T0) is None


def test_a_model_is_shown_with_its_champion_its_book_and_what_was_decided_last(context):
    end = grown(context, [100.0, 110.0, 99.0])
    log = {"kind": "promote", "actor": "jobs.compare", "evidence_run": "", "correlation_id": ""}
    context.ledger.registry.append_promotion("direction", expected=None, to=1, reason="first", at=T0, **log)
    context.ledger.registry.append_promotion("direction", expected=1, to=2, reason="better", at=T0 + DAY, **log)
    context.ledger.registry.open_comparison(
        "direction", champion=2, challenger=3, kind="compare", salt="s", split=0.9, at=T0 + DAY
    )
    held = positions(context, end)

    model = history.models(context, held, history.past(context, held), standing(context, end))["direction"]

    assert (2, T0 + DAY, 3, "ab") == (model.champion, model.champion_since, model.challenger, model.stage)
    assert ("promote", "better") == (model.verdict, model.because)
    assert (999_000, -11_000 / 1_010_000) == (model.equity, pytest.approx(model.pnl_today))
    assert 11_000 / 1_010_000 == pytest.approx(model.drawdown)
    assert 3 == len(model.curve)
    assert 0 == model.trades_since, "its one trade was before"


def test_a_model_without_a_book_or_a_champion_is_shown_as_what_it_is(context):
    end = grown(context, [100.0, 101.0])
    held = positions(context, end)

    model = history.models(context, held, history.past(context, held), standing(context, end))["direction"]

    assert model.champion is None
    assert ("", None) == (model.verdict, model.verdict_at)


def test_an_alert_that_names_a_unit_leads_to_its_largest_row_and_a_later_one_is_not_seen(context):
    for key, at, details in (("a", T0, {"unit": "A"}), ("b", T0, {}), ("c", T0 + DAY, {"unit": "A"})):
        context.ledger.alerts.add(Alert(f"rollback:{key}", Priority.HIGH, "m", f"title {key}", at, details))

    found = history.alerts(context, ["direction/live/B", "direction/live/A", "volatility/live/A"], T0)

    assert {"rollback:a": "direction/live/A", "rollback:b": ""} == {key: alert.position for key, alert in found.items()}


def test_the_trading_state_is_told_with_who_set_it_and_why(context):
    assert "active" == history.trading(context).state
    context.ledger.trading.set("reducing", "ann", "exchange slow", T0)

    now = history.trading(context)

    assert ("reducing", "exchange slow", "ann", T0) == (now.state, now.reason, now.actor, now.since)


def test_what_a_book_made_since_a_close_of_days_ago_is_not_shown_as_todays(context):
    end = grown(context, [100.0] * 5)  # Monday to Friday
    monday, tuesday = end + timedelta(days=2, hours=18), end + timedelta(days=3, hours=18)

    def shown(as_of):
        held = positions(context, as_of)
        seen = history.past(context, held)
        model = history.models(context, held, seen, standing(context, as_of))["direction"]
        [key] = held.books
        return seen.beginning(key, 1e6, as_of), model.pnl_today

    assert (history.Beginning(1e6, end, today=True), 0.0) == shown(monday), "over a weekend Friday's close is the last"
    assert (history.Beginning(1e6, end, today=False), None) == shown(tuesday)
