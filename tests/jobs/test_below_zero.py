"""A future through zero and a dying option, second by second: the loss counts, within seconds, to the cent."""

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs.live import risk as rooms
from jobs.live import risk_limits
from jobs.live.risk import Live
from jobs.portfolio.positions import positions
from jobs.portfolio.returns import Market
from jobs.risk import weights
from mlops.io.ledger import Instrument
from mlops.risk.var.fitted import fit
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings
from mlops.types import Kind, TradingState

T0, SECOND, DAY = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1), timedelta(days=1)
LIMITS = (
    RiskLimit(measure="daily_loss", warning=0.1, soft=0.1, hard=0.15),
    RiskLimit(measure="gross", warning=2.0, soft=2.0, hard=4.0),
    RiskLimit(measure="var", warning=0.1, soft=0.1, hard=0.2),
)


class Service:
    """The loop of `jobs.serve`, a look a second of a clock of its own."""

    def __init__(self, ledger):
        settings = Settings(risk=RiskSettings(limits=LIMITS), books=BookSettings(balances=(BookBalance(amount=1e6),)))
        self.context, self.now = SimpleNamespace(ledger=ledger, settings=settings, run_id=None), T0
        self.live = Live(self.context)
        end = T0 + 30 * DAY
        put = Instrument("P", Kind.PUT, multiplier=100.0, underlying="A", strike=90.0, expiry=end)
        ledger.instruments.put([Instrument("CL", Kind.FUTURE, multiplier=50.0), put], T0 - DAY)

    def fill(self, unit, quantity, price):
        row = {"fill_id": f"{unit}{self.now}", "model": "direction", "version": 1, "book": "live", "unit": unit}
        numbers = {"event_time": self.now - SECOND, "quantity": quantity, "price": price, "fee": 0.0}
        self.context.ledger.telemetry.add_fills(pd.DataFrame([row | numbers]))

    def run(self, *quotes, seconds=1):
        for _ in range(seconds):
            about = {"event_time": self.now, "known_at": self.now, "bid_size": 0.0, "ask_size": 0.0}
            for unit, bid, ask in quotes:
                self.context.ledger.quotes.add(pd.DataFrame([about | {"unit": unit, "bid": bid, "ask": ask}]))
            self.look = self.live.look(self.now)
            state = risk_limits.act(self.context, self.look.findings, self.now, unknown=self.look.unknown)
            self.now += SECOND
        return state

    def finding(self, name):
        return next(one.params for one in self.look.findings if one.name == name)


@pytest.fixture
def service(sqlite_ledger, monkeypatch):
    monkeypatch.setattr(rooms, "SLOW_S", 0.0)
    return Service(sqlite_ledger)


@pytest.mark.parametrize("side", [1, -1])
def test_a_future_that_settles_below_zero_counts_within_seconds_and_trades_on(service, side):
    service.fill("CL", side * 100.0, 3.0)
    assert TradingState.ACTIVE == service.run(("CL", 2.99, 3.01), seconds=3)

    for level in (-5.0, -20.0, -37.0):
        state = service.run(("CL", level - 0.05, level + 0.05), seconds=8)

    kpi, row = service.look.state.kpi, service.look.state.positions["direction/live/CL"]
    assert (-37.0, side * -185_000.0, side * -200_000.0) == pytest.approx((row.price, row.value, row.pnl))
    assert 1e6 - side * 200_000.0 == pytest.approx(kpi.equity)
    assert 185_000.0 / kpi.equity == pytest.approx(kpi.gross.value)
    assert (TradingState.REDUCING if side > 0 else TradingState.ACTIVE) == state

    service.fill("CL", side * -100.0, -37.5)
    service.run(("CL", -37.55, -37.45))
    assert 1e6 - side * 202_500.0 == pytest.approx(service.look.state.kpi.equity)
    assert "direction/live/CL" not in service.look.state.positions
    service.live = Live(service.context)
    service.run()
    assert 1e6 - side * 202_500.0 == pytest.approx(service.look.state.kpi.equity)


def test_near_zero_prices_are_followed_at_once_and_after_a_restart(service):
    service.fill("CL", 100.0, 3.0)
    service.run(("CL", 2.99, 3.01), seconds=3)
    service.run(("CL", 0.005, 0.015), seconds=8)

    for level in (0.03, 0.01, -0.01, 0.0, -0.015):
        service.run(("CL", level - 0.005, level + 0.005))
        row = service.look.state.positions["direction/live/CL"]
        assert (level, None) == (pytest.approx(row.price), row.unconfirmed)
    service.now += 11 * SECOND
    service.run(("CL", -0.02, -0.01))
    service.live = Live(service.context)
    service.run(("CL", 0.0, 0.01))
    assert 0.005 == pytest.approx(service.look.state.positions["direction/live/CL"].price)
    service.run(("CL", -60.0, -59.9))
    assert -59.95 == pytest.approx(service.look.state.positions["direction/live/CL"].unconfirmed), "a bad tick is one"


@pytest.mark.parametrize(("ask", "price"), [(0.05, 0.025), (0.1, 0.05), (0.15, 0.15), (1.0, 1.0)])
def test_a_put_with_no_bid_is_at_the_middle_where_next_to_nothing_is_asked_else_at_the_ask(service, ask, price):
    service.fill("P", 100.0, 2.0)
    service.run(("A", 99.99, 100.01), ("P", 1.95, 2.05), seconds=3)

    service.run(("A", 99.99, 100.01), ("P", 0.0, ask), seconds=8)

    assert price == service.look.state.positions["direction/live/P"].price
    assert 1e6 - (2 - price) * 100 * 100 == pytest.approx(service.look.state.kpi.equity)
    note = service.look.state.missing.get("price:P", "")
    assert ("" if ask <= 0.1 else f"P is quoted 0 to {ask:g}, which is no price.") == note


@pytest.mark.parametrize("quantity", [1_000.0, -1_000.0])
def test_a_share_that_a_person_says_is_worth_nothing_has_no_exposure_and_all_else_is_known(service, quantity):
    service.fill("A", quantity, 100.0)
    service.fill("B", 100.0, 100.0)
    service.run(("A", 99.99, 100.01), ("B", 99.99, 100.01), seconds=3)

    service.context.ledger.confirmed_prices.add("A", 0.0, "ann", "insolvent", service.now)
    service.run(("B", 99.99, 100.01), seconds=3)

    [gross] = [one for one in service.look.findings if one.name == "gross"]
    equity = 1e6 - quantity * 100
    assert equity == pytest.approx(service.look.state.kpi.equity)
    assert ("", 10_000 / equity) == (gross.params["why"], pytest.approx(gross.value))


def test_a_share_without_a_bid_is_a_range_that_is_shown(service):
    service.fill("A", 1_000.0, 100.0)
    service.run(("A", 99.99, 100.01), seconds=3)

    service.run(("A", 0.0, 150.0), seconds=8)
    assert (100.0, 1e6) == (service.look.state.positions["direction/live/A"].price, service.look.state.kpi.equity)
    assert "A is quoted 0 to 150, which is no price" in service.look.state.missing["price:A"]

    service.run(("A", 0.0, 80.0), seconds=8)
    assert 80.0 == service.look.state.positions["direction/live/A"].price


def left(service):
    """What the nightly and the weekly job leave of oil and a share."""
    returns = np.random.default_rng(0).normal(0, 0.02, (600, 2)).astype(np.float32)
    body = {"units": ["CL", "A"], "fitted": fit("fhs_ewma", returns.mean(axis=1)).as_dict()}
    body |= {"growth": {"var": 1.0, "es": 1.0}, "weights": [0.2, 0.2], "lacking": {}}
    arrays = {"returns": returns, "times": np.arange(500) * 86_400_000_000, "var": np.full(500, 0.02)}
    body["backtest"] = {"model": "fhs_ewma", "n": 500, "level": "ok"}
    service.context.ledger.risk.put_state("var", "all", T0 - DAY / 2, body, arrays | {"loss": np.full(500, 0.01)})
    about = {"scenarios": ["crash"], "units": ["CL", "A"], "missing": [], "about": []}
    moves = {"returns": [[-0.2, -0.2]], "proxied": [[0.0, 0.0]]}
    service.context.ledger.risk.put_state("stress", "all", T0 - DAY / 2, about, moves)
    return returns


@pytest.mark.parametrize("known", [True, False])
def test_a_future_just_above_zero_may_lose_what_it_could_before_and_the_page_says_so(service, known):
    if known:
        left(service)
    service.fill("CL", 100.0, 40.0)
    service.run(("CL", 39.99, 40.01), seconds=3)
    before = service.look.state.kpi
    assert "near_zero:CL" not in service.look.state.missing
    service.run(("CL", 0.49, 0.51), seconds=8)

    state = service.look.state

    assert 100 * 50 * 0.5 / state.kpi.equity == pytest.approx(state.kpi.gross.value), "exposure is as it is"
    assert "CL is at 0.5, near zero" in state.missing["near_zero:CL"]
    assert "VaR and scenarios take its moves as shares of 20." in state.missing["near_zero:CL"]
    if known:
        assert 0.5 * before.var.money == pytest.approx(state.kpi.var.money, rel=0.02)
        assert 100 * 50 * 20 * 0.2 == pytest.approx(state.stress["crash"].loss_money)
    else:
        assert state.positions["direction/live/CL"].stand_in * state.kpi.equity > 100 * 50 * 0.5
    service.live = Live(service.context)
    service.run(("CL", 0.49, 0.51))
    again = service.look.state
    assert (state.kpi.var, state.missing["near_zero:CL"]) == (again.kpi.var, again.missing["near_zero:CL"])


@pytest.mark.parametrize("price", [0.0, -37.0])
def test_var_and_scenarios_of_a_future_at_or_below_zero_are_unknown_and_never_nought(service, price):
    returns = left(service)
    service.fill("CL", 100.0, 3.0)
    service.fill("A", 1_000.0, 100.0)
    service.run(("A", 99.99, 100.01), ("CL", 2.99, 3.01), seconds=3)
    assert not service.finding("var")["why"]
    before = service.look.state.kpi.var.value

    service.run(("A", 99.99, 100.01), ("CL", price - 0.01, price + 0.01), seconds=8)

    assert "1 position is in no model: CL" in service.finding("var")["why"]
    assert f"CL is at {price:g}, where returns say nothing" in service.look.state.missing["history:CL"]
    row = service.look.state.positions["direction/live/CL"]
    assert row.stand_in > 0
    assert before > 0
    held = positions(service.context, service.now)
    valued = held.valued.set_index("unit")["price"]
    assert (True, 100.0) == (math.isnan(valued["CL"]), valued["A"])
    table = Market(pd.DatetimeIndex([]), ("A", "CL"), returns, {}, {}, {})
    nightly = weights(held, table, service.context.settings.risk)
    assert [100_000.0 / held.equity, 0.0] == pytest.approx(nightly.tolist())
