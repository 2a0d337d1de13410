"""What was traded in another currency than the books is in no equity, no curve, no profit of the day and no bound."""

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import books
from jobs.live import history
from jobs.live.risk import Live
from jobs.portfolio.positions import positions
from mlops.io.ledger import Instrument, Ledger
from mlops.learn import STRATEGIES
from mlops.settings import RiskLimit, RiskSettings, Settings
from mlops.types import Kind
from tests.jobs.accounts.test_equity import balance
from tests.jobs.live.test_risk import T0, fill, night, quote, with_balances

UNITS = st.lists(
    st.tuples(st.sampled_from(["USD", "USD", "EUR"]), st.sampled_from([0.1, 1.0, 50.0, 100.0])), min_size=2, max_size=4
)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
LINES = tuple(
    RiskLimit(measure=name, warning=0.05, soft=0.1, hard=0.2)
    for name in ("var", "es", "drawdown", "daily_loss", "gross", "net", "leverage", "concentration")
)


@pytest.fixture
def context(sqlite_ledger):
    sqlite_ledger.instruments.put([Instrument("E", currency="EUR")], T0)
    return SimpleNamespace(ledger=sqlite_ledger, settings=with_balances(limits=LINES), run_id=None, client=None)


def round_trip(context, at=T0, gain=300_000.0):
    """Something in euros, bought and sold."""
    fill(context, "E", 1000, 100.0, at)
    fill(context, "E", -1000, 100.0 + gain / 1000, at + SECOND)


def brought_up(context, closes, days):
    rows = [
        {"event_time": at, "known_at": at, "symbol": unit, "close": price}
        for unit, prices in closes.items()
        for at, price in zip(days, prices, strict=False)
    ]
    books.advance(
        context, STRATEGIES["direction"], pd.DataFrame(rows).sort_values("event_time", ignore_index=True), days[-1]
    )


@pytest.mark.parametrize("gain", [300_000.0, -90_000.0])
def test_what_trades_in_euros_made_is_no_dollar_of_equity_and_every_line_says_so(context, gain):
    round_trip(context, gain=gain)
    fill(context, "A", 10, 100.0)

    state = Live(context).look(T0 + 5 * SECOND).state

    assert 1e6 == pytest.approx(state.kpi.equity)
    assert "E was traded in EUR, and no rate to USD" in state.missing["currency:E"]
    assert "Equity is without E." == state.missing["equity"]
    assert {"unknown"} == {line.state for line in state.limits.values()}
    assert {None} == {line.value for line in state.limits.values()}, "what is missing may be all: there is no bound"
    assert all("E (EUR)" in line.why for line in state.limits.values())


def test_bars_and_the_profit_of_the_day_are_without_them_too(context):
    days = [pd.Timestamp(T0 + i * DAY) for i in range(3)]
    fill(context, "A", 1000, 100.0)
    fill(context, "E", 1000, 100.0)
    brought_up(context, {"A": [100.0, 102.0, 101.0], "E": [100.0, 400.0, 50.0]}, days[:2])
    fill(context, "E", -400, 390.0, days[1].to_pydatetime() + SECOND)
    brought_up(context, {"A": [100.0, 102.0, 101.0], "E": [100.0, 400.0, 50.0]}, days)
    fill(context, "E", -600, 50.0, days[2].to_pydatetime() + SECOND)
    fill(context, "A", -1000, 101.0, days[2].to_pydatetime() + 2 * SECOND)

    held = positions(context, days[2].to_pydatetime() + 5 * SECOND)
    curve = history.past(context, held)
    look = Live(context).look(days[2].to_pydatetime() + 5 * SECOND)

    assert [1_000_000, 1_002_000, 1_001_000] == pytest.approx(curve.equity.tolist())
    assert 1_001_000 == pytest.approx(held.equity)
    [own] = curve.curves.values()
    assert [1_000_000, 1_002_000, 1_001_000] == pytest.approx(own.tolist())
    drawdown = next(f for f in look.findings if f.name == "drawdown")
    assert "unknown" == drawdown.params["state"].value
    model = look.state.models["direction"]
    assert (None, None, None) == (model.equity, model.pnl_today, model.drawdown)


def test_the_known_loss_still_crosses_its_line(context):
    round_trip(context)
    fill(context, "A", 3000, 100.0)
    context.ledger.confirmed_prices.add("A", 20.0, "ada", "it fell", T0 + 3 * SECOND)

    limits = Live(context).look(T0 + 5 * SECOND).state.limits

    assert "hard" == limits["daily_loss:all"].state
    assert 0.24 == pytest.approx(limits["daily_loss:all"].value)


def test_a_balance_covers_what_was_closed_before_it(context):
    round_trip(context)
    fill(context, "A", 10, 100.0)
    balance(context, 1_300_000.0, T0 + 3 * SECOND)

    state = Live(context).look(T0 + 5 * SECOND).state
    assert "equity" not in state.missing
    assert "ok" == state.limits["gross:all"].state

    fill(context, "E", 10, 100.0, T0 + 6 * SECOND)
    assert "unknown" == Live(context).look(T0 + 8 * SECOND).state.limits["gross:all"].state


@pytest.mark.parametrize("known", [True, False])
def test_no_stand_in_speaks_of_a_position_in_another_currency(context, known):
    """Neither its price nor its volatility is in dollars: a dash, and the lines stay unknown however small it is."""
    if known:
        night(context, units=("A", "B"))
        fill(context, "A", 1000, 100.0)
    fill(context, "E", 7_000, 100.0)

    state = Live(context).look(T0 + SECOND).state

    row = state.positions["direction/live/E"]
    assert (None, None, None) == (row.stand_in, row.component_var, row.value)
    assert (None, None) == (state.kpi.var.value, state.kpi.var.bound)
    assert (None, None) == (state.kpi.es.value, state.kpi.es.bound)
    assert {("unknown", None)} == {
        (state.limits[f"{name}:all"].state, state.limits[f"{name}:all"].value) for name in ("var", "es")
    }
    if known:
        assert "equity is without what is in another currency than USD: E (EUR)" in state.missing["var"]


def test_a_strategys_own_lines_are_measured(context):
    """Its exposure, drawdown and daily loss over its own equity, whatever the others hold."""
    lines = [
        RiskLimit(measure=name, warning=0.05, soft=0.1, hard=0.15, scope="direction")
        for name in ("gross", "net", "leverage", "concentration", "drawdown", "daily_loss", "stress", "var")
    ]
    context.settings = with_balances(limits=tuple(lines))
    night(context)
    fill(context, "A", 2000, 100.0)
    fill(context, "B", 1, 100.0, model="volatility")
    live = Live(context)
    live.look(T0 + SECOND)
    context.ledger.confirmed_prices.add("A", 40.0, "ada", "it fell", T0 + 2 * SECOND)

    limits = live.look(T0 + 3 * SECOND).state.limits

    equity = 1e6 - 120_000
    for name in ("gross", "net", "leverage", "concentration"):
        assert 80_000 / equity == pytest.approx(limits[f"{name}:direction"].value), name
    for name in ("drawdown", "daily_loss"):
        assert 0.12 == pytest.approx(limits[f"{name}:direction"].value), name
        assert "soft" == limits[f"{name}:direction"].state
    assert limits["var:direction"].value > 0
    assert "no scenario was run" == limits["stress:direction"].why


def test_a_strategys_peak_outlives_a_restart(context):
    context.settings = with_balances(
        limits=(RiskLimit(measure="drawdown", warning=0.05, soft=0.1, hard=0.2, scope="direction"),)
    )
    fill(context, "A", 2000, 100.0)
    live = Live(context)
    for price, second in ((100.9, 1), (100.9, 14), (100.0, 15)):
        quote(context, "A", price, T0 + second * SECOND)
        live.look(T0 + second * SECOND)

    found = Live(context).look(T0 + 16 * SECOND).state.limits["drawdown:direction"]

    assert 1800 / 1_001_800 == pytest.approx(found.value)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(UNITS, st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_equity_is_cash_and_value_over_currencies_voids_and_balances(tmp_path_factory, about, seed, booked, told):
    """By hand: what trades in dollars paid and are worth; after a balance, the balance and what dollars made since."""
    rng, url = np.random.default_rng(seed), f"sqlite:///{tmp_path_factory.mktemp('m')}/ledger.db"
    ledger = Ledger(url)
    known = Settings(risk=RiskSettings(limits=LINES)) if told else with_balances(limits=LINES)
    context = SimpleNamespace(ledger=ledger, settings=known, run_id=None, client=None)
    names = [f"S{i}" for i in range(len(about))]
    kinds = [Instrument(n, Kind.FUTURE, c, multiplier=m) for n, (c, m) in zip(names, about, strict=True)]
    ledger.instruments.put(kinds, T0 - DAY)
    scale = {n: m if c == "USD" else 0.0 for n, (c, m) in zip(names, about, strict=True)}
    price, rows = dict(zip(names, np.round(rng.uniform(10, 90, len(names)), 2).tolist(), strict=True)), []
    for i, unit in enumerate(rng.choice(names, 8).tolist()):
        at, quantity = T0 + i * SECOND, float(rng.choice([-1, 1]) * rng.integers(1, 40) / 4)
        paid = float(np.round(price[unit] * rng.uniform(0.995, 1.005), 4))
        rows.append((unit, quantity, paid, at))
        fill(context, unit, quantity, paid, at)
    now = T0 + 8 * SECOND
    for unit in names:
        ledger.confirmed_prices.add(unit, price[unit], "ada", "the close", now)
    if booked:
        brought_up(context, {unit: [price[unit]] for unit in names}, [pd.Timestamp(now)])
    if told:
        balance(context, 2e6, now)
        Live(context).look(now + SECOND)
    for at in rng.choice(8, 3, replace=False).tolist():
        unit, *_, when = rows[at]
        ledger.voids.void_fill(f"direction{unit}{when}", "ada", "never happened", now + 2 * SECOND)
        rows[at] = (unit, 0.0, 0.0, when)
    worth = {unit: price[unit] * scale[unit] for unit in names}
    own = 1e6 + sum(q * (worth[unit] - p * scale[unit]) for unit, q, p, _ in rows)
    ledger.close()

    context.ledger = Ledger(url)
    found = positions(context, now + 3 * SECOND)
    page = Live(context).look(now + 3 * SECOND).state

    assert found.equity == pytest.approx(sum(found.cash.values()) + found.value.sum())
    assert (2e6 if told else own) == pytest.approx(found.equity, abs=1e-4) == pytest.approx(page.kpi.equity, abs=1e-4)
    [curve] = history.past(context, found).curves.values()
    assert curve.iloc[-1:].tolist() == pytest.approx([found.equity] * len(curve.iloc[-1:]), abs=1e-4)
    context.ledger.close()
