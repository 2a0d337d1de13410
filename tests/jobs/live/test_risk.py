"""The risk of all books at an instant: what is known adds up, and what is not is said."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs.live import risk as rooms
from jobs.live.risk import Live
from mlops.io.ledger import Instrument
from mlops.risk.var.fitted import fit
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings
from mlops.types import Kind, Level
from mlops.web.envelopes import tree

T0 = datetime(2026, 3, 2, 15, tzinfo=UTC)
UNITS = ("A", "B", "C")
LINES = (
    RiskLimit(measure="var", warning=0.001, soft=0.5, hard=0.9, owner="ann"),
    RiskLimit(measure="gross", warning=0.3, soft=0.5, hard=1.0),
    RiskLimit(measure="var", warning=0.5, soft=0.8, hard=0.9, scope="direction"),
)


def with_balances(amount=1e6, **risk):
    """Settings by which every book's account is known."""
    books = BookSettings(balances=(BookBalance(amount=amount),))
    return Settings(risk=RiskSettings(**risk), books=books)


@pytest.fixture
def context(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=with_balances(limits=LINES), run_id=None)


def fill(context, unit, quantity, price, at=T0, *, model="direction"):
    row = {"fill_id": f"{model}{unit}{at}", "model": model, "version": 1, "book": "live", "unit": unit}
    numbers = {"event_time": at, "quantity": quantity, "price": price, "fee": 0.0}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | numbers]))


def quote(context, unit, price, at):
    row = {"unit": unit, "event_time": at, "known_at": at, "bid": price, "ask": price, "bid_size": 0.0, "ask_size": 0.0}
    context.ledger.quotes.add(pd.DataFrame([row]))


def night(context, at=T0 - timedelta(hours=12), units=UNITS, bars_to=None):
    """What the nightly job leaves, of a made-up market."""
    rng = np.random.default_rng(0)
    market = rng.standard_t(4, 1000) * 0.008
    returns = (market[:, None] + rng.normal(0, 0.01, (1000, len(units)))).astype(np.float32)
    body = {
        "units": units,
        "fitted": fit("fhs_ewma", returns.mean(axis=1)).as_dict(),
        "growth": {"var": 1.0, "es": 1.0},
        "weights": [0.2] * len(units),
        "lacking": {"D": "D has 3 bars of its own, 60 are needed: VaR, stress and correlation are without it."},
        "backtest": {"model": "fhs_ewma", "n": 500, "level": "ok"},
    }
    last = pd.Timestamp(bars_to or at - timedelta(hours=4)).value // 1000
    times = last + np.arange(-499, 1) * 86_400_000_000
    arrays = {"returns": returns, "times": times, "var": np.full(500, 0.02), "loss": np.full(500, 0.01)}
    context.ledger.risk.put_state("var", "all", at, body, arrays)


def test_before_anything_was_traded_nothing_is_known_and_nothing_fails(context):
    state = Live(context).look(T0).state

    assert "var" in state.missing
    assert state.kpi.var.value is None
    assert Level.UNKNOWN == state.kpi.var.level
    assert {} == state.positions
    assert "unknown" == state.limits["var:all"].state


def test_by_when_it_may_be_lost_is_said_by_the_bars_even_before_a_forecast_was_stored(context):
    night(context)
    fill(context, "A", 1000, 100.0)
    state = context.ledger.risk.state("var", "all", as_of=T0)
    ends = pd.bdate_range(end="2026-02-27 21:00", periods=1000).to_numpy().astype("datetime64[us]")
    context.ledger.risk.put_state(
        "var", "all", state.as_of, state.body, {**state.arrays, "bars": ends.astype(np.int64)}
    )

    said = Live(context).look(T0 + timedelta(seconds=5)).state.kpi.var

    assert ("by today's close", "worse one day in 100") == (said.until, said.odds)


def test_what_positions_have_in_the_var_adds_up_along_every_dimension(context):
    context.ledger.instruments.put([Instrument("A", sector="tech"), Instrument("B", sector="oil")], T0)
    night(context)
    fill(context, "A", 1000, 100.0)
    fill(context, "B", 500, 200.0)
    fill(context, "A", -400, 100.0, model="volatility")
    fill(context, "C", -300, 100.0)

    state = Live(context).look(T0 + timedelta(seconds=5)).state

    var = state.kpi.var.value
    assert 0 < var < 0.05
    assert var * 2e6 == pytest.approx(state.kpi.var.money)
    assert var == pytest.approx(sum(p.component_var for p in state.positions.values()))
    assert 1.0 == pytest.approx(sum(p.share_of_var for p in state.positions.values()))
    for dimension in ("strategy", "sector", "currency", "underlying"):
        assert var == pytest.approx(sum(e.component_var for e in state.exposure[dimension].values()))
    assert state.kpi.es.value > var
    assert 0.13 == pytest.approx(state.kpi.gross.value, abs=1e-9) or state.kpi.gross.value > 0.13
    assert {"tech", "oil", "(not stated)"} == set(state.exposure["sector"])
    assert "ok" == state.limits["var:direction"].state
    assert ("warning", "ann") == (state.limits["var:all"].state, state.limits["var:all"].owner)


def test_a_price_that_moves_moves_equity_profit_and_weight(context):
    night(context)
    fill(context, "A", 1000, 100.0)
    live = Live(context)
    before = live.look(T0 + timedelta(seconds=1)).state
    for second in range(2, 8):
        quote(context, "A", 90.0, T0 + timedelta(seconds=second))

    after = live.look(T0 + timedelta(seconds=8)).state

    row = after.positions["direction/live/A"]
    assert 1e6 == before.kpi.equity
    assert 990_000 == after.kpi.equity
    assert (-10_000.0, 90_000 / 990_000) == (row.pnl, pytest.approx(row.weight))
    assert -0.01 == pytest.approx(after.kpi.pnl_today)
    assert -10_000 == pytest.approx(after.kpi.pnl_today_money)
    assert 0.01 == pytest.approx(after.kpi.drawdown.now)


def test_an_old_price_is_shown_as_old_and_one_that_never_moves_too(context):
    night(context)
    fill(context, "A", 1000, 100.0)
    fill(context, "B", 1000, 10.0)
    live = Live(context)
    for minute in range(20):
        quote(context, "B", 10.0, T0 + timedelta(minutes=minute))
        state = live.look(T0 + timedelta(minutes=minute, seconds=1)).state

    assert state.positions["direction/live/A"].stale
    assert "19 min old" in state.missing["price:A"]
    assert "unmoved for 19 min" in state.missing["price:B"]


def test_what_is_lost_entirely_has_no_share_of_equity(context):
    night(context)
    fill(context, "A", 100_000, 100.0)
    context.ledger.confirmed_prices.add("A", 50.0, "ada", "it fell", T0 + timedelta(seconds=1))

    state = Live(context).look(T0 + timedelta(seconds=2)).state

    assert -4e6 == state.kpi.equity
    assert state.kpi.var.value is None
    assert "Equity is -4,000,000" in state.missing["var"]
    assert state.positions["direction/live/A"].weight is None


def test_what_is_in_another_currency_is_never_taken_for_one_of_ours(context):
    context.ledger.instruments.put([Instrument("A", currency="EUR")], T0)
    night(context)
    fill(context, "A", 1000, 100.0)
    fill(context, "B", -1000, 50.0)

    look = Live(context).look(T0)

    state, row = look.state, look.state.positions["direction/live/A"]
    assert -0.05 == state.exposure["currency"]["USD"].net
    assert 0.0 == (state.exposure["currency"]["EUR"].gross or 0.0)
    assert (None, None, 100.0) == (row.value, row.weight, row.price)
    assert 1e6 == state.kpi.equity, "neither what was paid for it nor what it is worth is money of ours"
    assert "A is in EUR, and no rate to USD" in state.missing["currency:A"]
    assert "history:A" not in state.missing
    assert "unknown" == state.limits["gross:all"].state
    assert "unknown" == state.limits["var:direction"].state


def test_the_state_can_be_told_as_json_and_is_the_same_at_the_same_instant(context):
    night(context)
    fill(context, "A", 1000, 100.0)

    first, second = (tree(Live(context).look(T0).state) for _ in range(2))

    assert first == second
    assert first["positions"]["direction/live/A"]["quantity"] == 1000.0


def test_what_changes_slowly_is_read_now_and_then(context, monkeypatch):
    live = Live(context)
    fill(context, "A", 1000, 100.0)
    live.look(T0)
    night(context)

    assert live.look(T0 + timedelta(seconds=1)).state.kpi.var.value is None
    monkeypatch.setattr(rooms, "SLOW_S", 0.0)
    assert live.look(T0 + timedelta(seconds=2)).state.kpi.var.value > 0


def test_options_enter_exposure_by_their_deltas_the_var_by_their_curve_and_the_page_by_expiry(context):
    put = Instrument("P", Kind.PUT, "USD", "", 1.0, "A", 100.0, T0 + timedelta(days=60))
    context.ledger.instruments.put([put, Instrument("Q", Kind.PUT, "USD", "", 1.0, "Z", 10.0, put.expiry)], T0)
    night(context, units=("A", "B", "C"))
    fill(context, "A", 5000, 100.0)
    quote(context, "A", 100.0, T0)
    bare = Live(context).look(T0).state
    fill(context, "P", 5000, 4.0)
    hedged = Live(context).look(T0 + timedelta(seconds=1)).state
    fill(context, "Q", 100, 1.0)

    state = Live(context).look(T0 + timedelta(seconds=1)).state

    row, other = state.positions["direction/live/P"], state.positions["direction/live/Q"]
    assert row.component_var < 0, "a put hedges its share"
    assert hedged.kpi.var.value < bare.kpi.var.value
    assert hedged.kpi.var.value == pytest.approx(sum(p.component_var or 0.0 for p in state.positions.values()))
    assert hedged.kpi.var.value + 100 / 1e6 == pytest.approx(state.kpi.var.bound), "a put can lose what it is worth"
    assert other.component_var is None
    assert "its underlying has no price" in state.missing["option:Q"]
    [greeks] = state.greeks.values()
    assert ("A", put.expiry) == (greeks.underlying, greeks.expiry)
    assert -5000 < greeks.delta_units < 0 < greeks.gamma_units_per_point
    assert greeks.theta_per_day < 0 < greeks.vega_per_vol_point
    assert state.exposure["underlying"]["A"].net < 0.5
    assert "1 position is in no model: Q" == state.limits["var:all"].why


def test_options_that_were_sold_are_said_to_lose_more_than_is_shown(context):
    put = Instrument("P", Kind.PUT, "USD", "", 1.0, "A", 100.0, T0 + timedelta(days=60))
    context.ledger.instruments.put([put], T0)
    night(context)
    quote(context, "A", 100.0, T0)
    fill(context, "P", 10, 4.0)
    assert "volatility" not in Live(context).look(T0).state.missing
    fill(context, "P", -20, 4.0, T0 + timedelta(seconds=1))

    assert "sold lose more" in Live(context).look(T0 + timedelta(seconds=1)).state.missing["volatility"]


def test_an_option_past_its_expiry_is_said_to_be_and_the_rest_goes_on(context):
    context.ledger.instruments.put([Instrument("P", Kind.PUT, "USD", "", 1.0, "A", 100.0, T0 - timedelta(days=1))], T0)
    night(context)
    fill(context, "A", 1000, 100.0)
    fill(context, "P", 10, 4.0)

    state = Live(context).look(T0).state

    assert "it has expired" in state.missing["option:P"]
    assert {} == state.greeks
    assert state.positions["direction/live/A"].component_var > 0


def test_a_strategy_of_its_own_line_is_held_against_its_own_equity(context):
    night(context)
    fill(context, "A", 5000, 100.0)
    fill(context, "B", 1000, 100.0, model="volatility")

    state, findings = (look := Live(context).look(T0)).state, look.findings

    own = next(f for f in findings if f.subject == "direction")
    assert 0.5 < own.value / (2 * state.positions["direction/live/A"].component_var) < 1.5


def test_scenarios_are_told_for_what_is_held_now_options_priced_anew(context):
    put = Instrument("P", Kind.PUT, "USD", "", 1.0, "A", 100.0, T0 + timedelta(days=60))
    context.ledger.instruments.put([put], T0)
    body = {
        "scenarios": ["crash", "rally"], "units": ["A", "P", "B"], "missing": [],
        "about": [{"name": "crash", "dates": "1987", "source": "somebody"}],
    }  # fmt: skip
    table = [[-0.5, 99.0, -0.2], [0.1, 99.0, 0.1]]  # what P was worth last week is not what counts
    arrays = {"returns": np.array(table), "proxied": np.zeros((2, 3), dtype=bool)}
    context.ledger.risk.put_state("stress", "all", T0 - timedelta(hours=1), body, arrays)
    night(context)
    fill(context, "A", 1000, 100.0)
    quote(context, "A", 100.0, T0)
    bare = Live(context).look(T0).state
    fill(context, "P", 1000, 4.0)

    state = Live(context).look(T0 + timedelta(seconds=1)).state

    assert 50_000 == pytest.approx(bare.stress["crash"].loss_money)
    assert ["crash", "rally"] == list(state.stress)
    assert 4_000 == pytest.approx(state.stress["crash"].loss_money, abs=1_500), "the put pays what the share loses"
    assert ("1987", "somebody") == (state.stress["crash"].dates, state.stress["crash"].source)
    assert state.stress["rally"].loss < 0
    assert "stress" not in state.missing


def test_the_line_on_stress_is_held_against_named_scenarios_and_not_against_the_worst_windows(context):
    limits = (RiskLimit(measure="stress", warning=0.02, soft=0.03, hard=0.04),)
    context.settings = with_balances(limits=limits)
    about = [{"name": "crash", "named": True}, {"name": "Worst 60 bars of this book", "named": False}]
    body = {"scenarios": [row["name"] for row in about], "units": ["A"], "missing": [], "about": about}
    arrays = {"returns": np.array([[-0.1], [-0.9]]), "proxied": np.zeros((2, 1), dtype=bool)}
    context.ledger.risk.put_state("stress", "all", T0 - timedelta(hours=1), body, arrays)
    fill(context, "A", 1000, 100.0)

    look = Live(context).look(T0)
    fill(context, "A", 4000, 100.0, T0 + timedelta(seconds=1))
    fill(context, "D", 10, 100.0, T0 + timedelta(seconds=1))
    more = Live(context).look(T0 + timedelta(seconds=2))

    assert 0.01 == pytest.approx(look.findings[0].value)
    assert 0.09 == pytest.approx(look.state.stress["Worst 60 bars of this book"].loss)
    assert {Level.OK} == {row.level for row in look.state.stress.values()}
    assert "hard" == more.state.limits["stress:all"].state, "D is in no scenario, and what is known crosses the line"
    assert "of what is held is in no scenario" in more.findings[0].params["why"]


def test_a_book_that_turned_round_since_the_night_is_said_to_be_another_one(context):
    night(context)
    fill(context, "A", 1000, 100.0)
    fill(context, "B", 1000, 100.0)
    same = Live(context).look(T0).state
    fill(context, "A", -3000, 100.0, T0 + timedelta(seconds=1))
    fill(context, "B", -3000, 100.0, T0 + timedelta(seconds=1))

    turned = Live(context).look(T0 + timedelta(seconds=2)).state

    assert "fit" not in same.missing
    assert "by a correlation of -0.9" in turned.missing["fit"]
    assert turned.kpi.var.value > 0


def looked_at(context, as_of, priced_at, fitted_at, bars_to=None):
    night(context, fitted_at, bars_to=bars_to)
    fill(context, "A", 1000, 100.0, priced_at)
    return Live(context).look(as_of).state


@pytest.mark.parametrize(
    ("priced", "fitted", "bars", "words"),
    [
        (timedelta(days=5), timedelta(days=1), timedelta(days=1), "old prices: A (5 d)"),
        (timedelta(0), timedelta(days=40), timedelta(days=40), "parameters are 40 d old"),
        (timedelta(0), timedelta(hours=12), timedelta(days=1461), "bars ended on 2022-03-02, 1461 d ago"),
    ],
)
def test_what_is_old_is_said_and_nothing_is_usual(context, priced, fitted, bars, words):
    state = looked_at(context, T0, T0 - priced, T0 - fitted, T0 - bars)

    assert words in state.missing["age"]
    assert words in state.kpi.normal.sentence
    assert state.kpi.normal.percentile is None
    assert state.kpi.var.value > 0
    assert words in state.kpi.var.old
    assert words in state.limits["var:all"].old
    assert "unknown" != state.limits["var:all"].state
    assert Level.OK != state.backtest.level


def test_of_last_night_and_of_now_it_is_usual_or_not(context):
    state = looked_at(context, T0, T0, T0 - timedelta(hours=12))

    assert "age" not in state.missing
    assert state.kpi.normal.percentile is not None
    assert "" == state.kpi.var.old == state.limits["var:all"].old


def test_a_var_of_more_than_all_equity_is_a_number_and_crosses_its_line(context):
    night(context)
    fill(context, "A", 1_500_000, 100.0)

    look = Live(context).look(T0 + timedelta(seconds=5))

    assert 150 == pytest.approx(look.state.kpi.gross.value)
    assert look.state.kpi.var.value > 1
    assert "hard" == look.state.limits["var:all"].state
    assert "var" not in look.state.missing


def test_where_the_var_is_not_known_it_is_not_said_to_be_right_and_no_error_reaches_the_page(context):
    night(context)
    state = context.ledger.risk.state("var", "all", as_of=T0)
    short = {**state.arrays, "returns": state.arrays["returns"][:20]}
    right = {**state.body["backtest"], "p": {"kupiec": 0.5}}
    context.ledger.risk.put_state("var", "all", T0, {**state.body, "backtest": right}, short)
    fill(context, "A", 1000, 100.0)

    state = Live(context).look(T0 + timedelta(seconds=5)).state

    assert state.kpi.var.value is None
    assert "could not be computed from what the risk job of 2026-03-02 left" in state.missing["var"]
    assert Level.UNKNOWN == state.backtest.level
    assert "the VaR of now is not known" in state.backtest.note


def test_hourly_bars_of_a_market_that_rests_are_not_old_on_monday(context):
    night(context, T0 - timedelta(hours=64))  # on Friday, after the close
    state = context.ledger.risk.state("var", "all", as_of=T0)
    hours = pd.date_range(end="2026-02-27 21:00", periods=8000, freq="h")
    ends = hours[(hours.weekday < 5) & (hours.hour > 14) & (hours.hour < 22)][-1000:].to_numpy("datetime64[us]")
    arrays = {**state.arrays, "bars": ends.astype(np.int64)}
    context.ledger.risk.put_state("var", "all", state.as_of + timedelta(minutes=1), state.body, arrays)
    fill(context, "A", 1000, 100.0)

    assert "age" not in Live(context).look(T0).state.missing
    assert "parameters are 5 d old" in Live(context).look(T0 + timedelta(days=2)).state.missing["age"]
