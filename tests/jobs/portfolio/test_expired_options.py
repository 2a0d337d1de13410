"""An option past its expiry that nobody has settled is worth what it pays, never its last quote."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from jobs.live.risk import Live
from jobs.live.risk_limits import act
from jobs.portfolio.positions import positions
from mlops.io.ledger import Instrument
from mlops.settings import BookBalance, BookSettings, Settings
from mlops.types import Kind, TradingState
from tests.jobs.live.test_risk import night

T0, S, DAY = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1), timedelta(days=1)
KNOWN = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))


@pytest.fixture
def context(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=KNOWN, run_id=None, client=None)


def option(context, kind=Kind.PUT, strike=100.0, underlying="A", currency="USD", multiplier=100.0):
    context.ledger.instruments.put(
        [Instrument("P", kind, currency, "", multiplier, underlying, strike, T0 + 30 * S)], T0 - DAY
    )


def fill(context, unit, quantity, price, at=T0 - S):
    row = {"fill_id": f"{unit}{at}{quantity}", "model": "direction", "version": 1, "book": "live", "unit": unit}
    numbers = {"event_time": at, "quantity": float(quantity), "price": float(price), "fee": 0.0}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | numbers]))


def quote(context, unit, price, at):
    row = {"unit": unit, "event_time": at, "known_at": at, "bid": price, "ask": price, "bid_size": 0.0, "ask_size": 0.0}
    context.ledger.quotes.add(pd.DataFrame([row]))


def looked(context, prices, start=T0 + 60 * S, live=None):
    """The last of a look a second, at these prices of A."""
    live = live or Live(context)
    for i, price in enumerate(prices):
        if price is not None:
            quote(context, "A", price, start + i * S)
        look = live.look(start + i * S)
    return look


def test_a_short_put_in_the_money_owes_what_it_pays_and_halts(context):
    option(context)
    fill(context, "P", -100, 0.5)
    fill(context, "A", 1, 100.0)
    live = Live(context)
    looked(context, [100.0, 99.5, 99, 98, 97, 96, 95, 94, 93, 92, 91, 90.5], T0, live)

    look = looked(context, [90.5] * 12, live=live)

    row, kpi = look.state.positions["direction/live/P"], look.state.kpi
    assert -95_000 == pytest.approx(row.value)
    assert "Expired, not settled yet: worth what it pays at 90.5." == row.note
    assert 1e6 + 100 * 0.5 * 100 - 95_000 - 9.5 == pytest.approx(kpi.equity)
    assert -90_009.5 / 1e6 == pytest.approx(kpi.pnl_today)
    assert kpi.drawdown.now == pytest.approx(90_009.5 / 1e6, rel=0.01)
    assert TradingState.ACTIVE is not act(context, look.findings, look.state.as_of)
    assert "P" not in look.jumps


@pytest.mark.parametrize(
    ("kind", "quantity", "worth"),
    [(Kind.PUT, 10, 0.0), (Kind.CALL, 10, 20_000.0), (Kind.CALL, -10, -20_000.0), (Kind.PUT, -10, 0.0)],
)
def test_it_is_worth_its_payoff_long_or_short_until_somebody_settles_it(context, kind, quantity, worth):
    option(context, kind)
    fill(context, "P", quantity, 4.0)
    quote(context, "A", 120.0, T0)
    quote(context, "P", 4.0, T0)
    quote(context, "P", 3.0, T0 + 40 * S)  # after the expiry nothing trades

    held = positions(context, T0 + 60 * S)

    assert worth == pytest.approx(held.frame["price"].iloc[0] * quantity * 100)
    assert 1e6 - quantity * 400 + worth == pytest.approx(held.equity)
    fill(context, "P", -quantity, worth / (100 * quantity), T0 + 50 * S)
    assert 1e6 - quantity * 400 + worth == pytest.approx(positions(context, T0 + 60 * S).equity)


def test_before_it_expires_it_is_worth_what_it_is_quoted_at(context):
    option(context)
    fill(context, "P", -10, 4.0)
    quote(context, "A", 50.0, T0)

    assert [4.0] == positions(context, T0 + 29 * S).frame["price"].tolist()
    assert [50.0] == positions(context, T0 + 30 * S).frame["price"].tolist()


def test_a_jump_of_the_underlying_that_is_not_confirmed_counts_neither_and_is_held_against_the_lines(context):
    option(context)
    fill(context, "P", -100, 0.5)
    live = Live(context)
    looked(context, [100.0] * 5, live=live)

    look = looked(context, [60.0], T0 + 66 * S, live)

    assert 0.0 == look.state.positions["direction/live/P"].value
    [line] = [f for f in look.findings if f.name == "daily_loss"]
    assert "a price that is not confirmed" in line.params["why"]
    confirmed = looked(context, [60.0] * 8, T0 + 67 * S, live)
    assert -400_000 == confirmed.state.positions["direction/live/P"].value


@pytest.mark.parametrize(
    ("kind", "quantity", "worst"), [(Kind.PUT, 10, 0.0), (Kind.PUT, -10, -100_000.0), (Kind.CALL, -10, -500.0)]
)
def test_without_a_price_of_the_underlying_it_is_unknown_and_counts_at_its_worst(context, kind, quantity, worst):
    option(context, kind)
    fill(context, "P", quantity, 0.5)

    look = Live(context).look(T0 + 60 * S)

    row, lines = look.state.positions["direction/live/P"], {f.name: f for f in look.findings}
    assert row.price is row.value is row.pnl_today is None
    assert "A has no price" in row.note
    assert "A has no price" in look.state.missing["expired:P"]
    assert 1e6 - quantity * 50 + worst == pytest.approx(positions(context, T0 + 60 * S).equity)
    assert "A has no price" in lines["daily_loss"].params["why"]
    assert ("hard" if worst < -50_000 else "unknown") == lines["daily_loss"].params["state"].value


def test_one_in_another_currency_adds_nothing_at_its_worst(context):
    option(context, currency="JPY")
    fill(context, "P", -10, 0.5)

    assert 1e6 == pytest.approx(positions(context, T0 + 60 * S).equity)


@pytest.mark.parametrize(("kind", "gross"), [(Kind.CALL, 0.12), (Kind.PUT, 0.0)])
def test_its_exposure_is_that_of_its_underlying_where_it_pays(context, kind, gross):
    option(context, kind)
    fill(context, "P", -10, 4.0)
    quote(context, "A", 120.0, T0)

    look = Live(context).look(T0 + 60 * S)

    equity = 1e6 + 4000 - (20_000 if gross else 0)
    [line] = [f for f in look.findings if f.name == "gross"]
    assert gross * 1e6 / equity == pytest.approx(line.value)
    assert ("", "ok") == (line.params["why"], line.params["state"].value)


@pytest.mark.parametrize(("kind", "quantity"), [(Kind.CALL, -10), (Kind.CALL, 10), (Kind.PUT, -10), (Kind.PUT, 10)])
def test_its_var_is_that_of_its_underlying_where_it_pays_and_nothing_where_it_does_not(context, kind, quantity):
    night(context)
    quote(context, "A", 120.0, T0)
    option(context, kind)
    fill(context, "P", quantity, 4.0)

    kpi = Live(context).look(T0 + 60 * S).state.kpi

    assert kpi.var.bound is None, "nothing stands in"
    fill(context, "P", -quantity, 20.0 if kind is Kind.CALL else 0.0, T0 + 59 * S)
    if kind is Kind.CALL:
        fill(context, "A", 100 * quantity, 120.0, T0 + 59 * S)
    same = Live(context, records=False).look(T0 + 60 * S).state.kpi
    assert (kind is Kind.CALL) == (same.var.value > 0)
    assert same.var.money == pytest.approx(kpi.var.money, rel=1e-3)


def test_what_pays_by_an_underlying_that_no_night_knows_has_a_stand_in(context):
    night(context)
    option(context, Kind.CALL, underlying="Z")
    fill(context, "P", -10, 4.0)
    quote(context, "Z", 120.0, T0)

    state = Live(context).look(T0 + 60 * S).state

    assert state.kpi.var.value is None
    assert state.kpi.var.bound > 0


@pytest.mark.parametrize(("kind", "loss"), [(Kind.CALL, 24_000.0), (Kind.PUT, 0.0)])
def test_scenarios_move_it_as_its_underlying_where_it_pays(context, kind, loss):
    about = {"scenarios": ["crash"], "units": ["A"], "missing": [], "about": []}
    context.ledger.risk.put_state("stress", "all", T0 - DAY, about, {"returns": [[-0.2]], "proxied": [[0.0]]})
    quote(context, "A", 120.0, T0)
    option(context, kind)
    fill(context, "P", 10, 4.0)

    look = Live(context).look(T0 + 60 * S)

    [line] = look.state.stress.values()
    assert loss == pytest.approx(line.loss_money)
