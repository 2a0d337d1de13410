"""Profit and loss since the last close, by position and by strategy."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from jobs import books
from jobs.live import risk
from jobs.portfolio.daily_pnl import Today
from jobs.portfolio.positions import positions
from mlops.io.ledger import Instrument
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, Settings

T0, DAY = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(days=1)
NOW = T0 + DAY - timedelta(hours=5)
KNOWN = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))  # of every account


@pytest.fixture
def context(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=KNOWN, run_id=None, client=None)


def fill(context, name, at, quantity, price, *, unit="A", fee=0.0, model="direction"):
    row = {"fill_id": name, "model": model, "version": 1, "book": "live", "unit": unit, "event_time": at}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": quantity, "price": price, "fee": fee}]))


def quote(context, at, price, unit="A"):
    row = {"unit": unit, "event_time": at, "known_at": at, "bid": price, "ask": price, "bid_size": 0.0, "ask_size": 0.0}
    context.ledger.quotes.add(pd.DataFrame([row]))


def gains(today, held, since):
    return today.gains(held, dict.fromkeys(held.books, since))


def closed(context, close=100.0, model="direction"):
    """The book after the bar of T0."""
    bar = {"event_time": [T0], "known_at": [T0], "symbol": ["A"], "close": [close]}
    books.advance(context, STRATEGIES[model], pd.DataFrame(bar), T0)


def test_a_position_gained_what_its_price_did_since_the_close_and_trades_of_today_count_from_their_price(context):
    fill(context, "old", T0 - DAY, 10.0, 80.0)
    closed(context)
    today = Today(context)
    for second in range(8):  # after a pause a price is confirmed by quotes that stay
        quote(context, NOW - timedelta(seconds=7 - second), 103.0)
    assert [30.0] == gains(today, positions(context, NOW), T0).tolist(), "not the 230 since it was opened"
    fill(context, "new", NOW, 5.0, 101.0, fee=2.0)

    assert [10 * 3.0 + 5 * 2.0 - 2.0] == pytest.approx(gains(today, positions(context, NOW), T0).tolist())


def test_what_was_traded_within_bars_that_were_booked_since_counts_too(context):
    closed_at = T0 - 2 * DAY
    fill(context, "a", T0 - DAY, 10.0, 80.0, fee=1.0)
    closed(context)
    assert [10 * 20.0 - 1.0] == gains(Today(context), positions(context, T0), closed_at).tolist()


def test_it_is_told_in_money_of_the_whole_contract_by_position_and_by_strategy(context):
    context.ledger.instruments.put([Instrument("A", multiplier=50.0)], T0)
    fill(context, "a", NOW, -2.0, 100.0)
    fill(context, "b", NOW, 1.0, 100.0, model="volatility", unit="B")
    look = risk.Live(context)
    for second in range(1, 30):  # a price that stays is confirmed
        for unit, price in (("A", 101.0), ("B", 107.0)):
            quote(context, NOW + timedelta(seconds=second), price, unit)
        state = look.look(NOW + timedelta(seconds=second)).state

    assert {"A": -100.0, "B": 7.0} == {row.unit: row.pnl_today for row in state.positions.values()}
    assert {"direction": -100.0, "volatility": 7.0} == {
        name: row.pnl_today for name, row in state.exposure["strategy"].items()
    }


def looked(context, quotes, start):
    """A look a second at quotes of A."""
    look = risk.Live(context)
    for second, price in enumerate(quotes):
        at = start + timedelta(seconds=second)
        quote(context, at, price)
        state = look.look(at)
    return state


@pytest.mark.parametrize(("bars", "since"), [(True, T0), (False, T0 - DAY)])
def test_what_was_made_since_days_ago_says_since_when_and_the_line_on_the_day_is_unknown(context, bars, since):
    fill(context, "a", T0 - DAY, 5000.0, 100.0)
    if bars:
        closed(context)

    look = looked(context, [110.0] * 10, T0 + 6 * DAY)

    state, [line] = look.state, [f for f in look.findings if f.name == "daily_loss"]
    assert since == state.kpi.pnl_since
    assert 50_000 == pytest.approx(state.kpi.pnl_today_money)
    assert state.positions["direction/live/A"].pnl_today is None
    assert state.exposure["strategy"]["direction"].pnl_today is None
    assert ("unknown", -0.05) == (line.params["state"].value, pytest.approx(line.params["bound"]))
    assert f"no close since {since:%-d %b}" in line.params["why"]


def test_a_loss_since_days_ago_still_counts_against_the_line(context):
    fill(context, "a", T0 - DAY, 9000.0, 100.0)
    closed(context)

    look = looked(context, [90.0] * 10, T0 + 6 * DAY)

    assert "hard" == look.state.limits["daily_loss:all"].state


def test_a_day_that_began_at_the_last_close_is_told_as_before(context):
    fill(context, "a", T0 - DAY, 5000.0, 100.0)
    closed(context)

    look = looked(context, [101.0] * 10, NOW)

    assert look.state.kpi.pnl_since is None
    assert 5000.0 == pytest.approx(look.state.kpi.pnl_today_money)
    assert "" == look.state.limits["daily_loss:all"].why
