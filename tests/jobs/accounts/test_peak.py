"""The drawdown of one long-lived service, second by second: flows never count, losses always do, restarts change nothing."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs import books
from jobs.accounts.balances import confirmed, take_back
from jobs.live import risk as rooms
from jobs.live import risk_limits
from jobs.live.risk import Live
from mlops.errors import DataError
from mlops.io.ledger import BookKey
from mlops.learn import STRATEGIES
from mlops.settings import Settings
from mlops.types import TradingState

T0, SECOND, DAY = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(seconds=1), timedelta(days=1)
NAME = {"model": "direction", "book": "live"}


class Service:
    """The loop of the service: a look a second."""

    def __init__(self, ledger):
        self.context = SimpleNamespace(ledger=ledger, settings=Settings(), run_id=None)
        self.live, self.now = Live(self.context), T0 + SECOND

    def fill(self, quantity, price, unit="A", *, model="direction", at=None):
        row = NAME | {"fill_id": f"{unit}{model}{self.now}", "model": model, "version": 1, "unit": unit, "fee": 0.0}
        row |= {"event_time": at or self.now, "quantity": quantity, "price": price}
        self.context.ledger.telemetry.add_fills(pd.DataFrame([row]))

    def balance(self, amount, flow=0.0, model="direction"):
        row = NAME | {"event_time": self.now, "known_at": self.now, "amount": amount, "flow": flow, "model": model}
        self.context.ledger.balances.add(pd.DataFrame([row]))

    def run(self, *prices, seconds=1):
        for price in prices * seconds:
            self.now += SECOND
            row = {"unit": "A", "event_time": self.now, "known_at": self.now, "bid_size": 0.0, "ask_size": 0.0}
            self.context.ledger.quotes.add(pd.DataFrame([row | {"bid": price, "ask": price}]))
            look = self.live.look(self.now)
            risk_limits.act(self.context, look.findings, self.now, unknown=look.unknown)
            self.state = look.state
        return self.state.kpi.drawdown.now

    def restart(self):
        self.live = Live(self.context)


@pytest.fixture
def service(sqlite_ledger, monkeypatch):
    """An account of a million, 3,000 shares at 100."""
    monkeypatch.setattr(rooms, "SLOW_S", 0.0)
    found = Service(sqlite_ledger)
    found.fill(3000.0, 100.0, at=T0)
    found.balance(1e6)
    assert 0.0 == pytest.approx(found.run(100.0, seconds=3), abs=1e-12)
    return found


def barred(service, *closes):
    days = pd.DatetimeIndex([T0 + i * DAY for i in range(len(closes))])
    frame = pd.DataFrame({"event_time": days, "known_at": days, "symbol": "A", "close": closes})
    books.advance(service.context, STRATEGIES["direction"], frame, days[-1].to_pydatetime())
    service.now = days[-1].to_pydatetime() + SECOND


@pytest.mark.parametrize("bars", [False, True])
def test_a_declared_withdrawal_is_no_loss_in_process_and_after_a_restart(service, bars):
    if bars:
        barred(service, 100.0, 100.0)
    service.run(100.9, seconds=3)
    equity = service.state.kpi.equity
    service.balance(equity - 6e5, flow=-6e5)

    assert 0.0 == pytest.approx(service.run(100.9, seconds=14), abs=1e-9)
    service.restart()
    assert 0.0 == pytest.approx(service.run(100.9, seconds=2), abs=1e-9)
    assert TradingState.ACTIVE is service.context.ledger.trading.state()
    assert equity - 6e5 == pytest.approx(service.state.kpi.equity)


@pytest.mark.parametrize("flow", [1e6, -5e5])
def test_a_loss_is_the_same_share_before_and_after_a_flow(service, flow):
    service.run(99.0, 98.1, 97.3, seconds=1)
    before = service.run(97.3, seconds=12)
    service.balance(service.state.kpi.equity + flow, flow=flow)

    assert 0.0081 == pytest.approx(before)
    assert before == pytest.approx(service.run(97.3, seconds=3))
    service.restart()
    assert before == pytest.approx(service.run(97.3))


@pytest.mark.parametrize("bars", [False, True])
@pytest.mark.parametrize("flow", [-8e5, -4e5, 9e6])
def test_the_days_loss_is_the_same_share_before_and_after_a_flow(service, flow, bars):
    if bars:
        barred(service, 100.0, 100.0)
    service.run(99.2, 98.4, 97.6, 96.8, 96.0)
    fell = service.run(95.0, seconds=12)
    service.balance(service.state.kpi.equity + flow, flow=flow)
    service.run(95.0, seconds=13)
    if bars:
        service.restart()
        service.run(95.0)

    assert 0.015 == pytest.approx(fell) == pytest.approx(service.state.kpi.drawdown.now)
    assert 0.015 == pytest.approx(service.state.limits["daily_loss:all"].value)
    assert TradingState.ACTIVE is service.context.ledger.trading.state()


@pytest.mark.parametrize("bars", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_losses_are_those_of_an_account_without_any_flow(service, seed, bars):
    """Two books, profits and flows of one of them in turn, each flow told at its instant."""
    rng, unit, high = np.random.default_rng(seed), 1.0, 1.0
    service.balance(5e5, model="volatility")
    service.fill(1.0, 100.0, model="volatility", unit="A")
    if bars:
        barred(service, 100.0, 100.0)
    price = 100.0
    service.run(price)
    alone = service.state.kpi.equity - 5e5
    for _ in range(12):
        if rng.random() < 0.4:
            flow = float(rng.choice([-0.3, -0.1, 0.2, 3.0]) * alone)
            service.balance(alone + flow, flow=flow)
            service.run(price)
            alone += flow
        price, before, was = price * (1 + float(rng.normal(-0.002, 0.004))), service.state.kpi.equity, price
        service.run(price)
        alone += 3000.0 * (price - was)
        unit *= service.state.kpi.equity / before
        high = max(high, unit)
        assert 1 - unit == pytest.approx(service.state.limits["daily_loss:all"].value, abs=1e-5)
        assert 1 - unit / high == pytest.approx(service.state.kpi.drawdown.now, abs=1e-5)


def test_an_undeclared_loss_counts_in_process_and_after_a_restart(service):
    service.balance(4e5)

    assert 0.6 == pytest.approx(service.run(100.0, seconds=12))
    service.restart()
    assert 0.6 == pytest.approx(service.run(100.0, seconds=12))
    service.balance(3e5, flow=-1e5)
    assert 0.6 == pytest.approx(service.run(100.0, seconds=12))


def test_a_flow_while_the_service_was_away_is_no_loss_and_a_loss_is_one(service):
    service.run(100.0, seconds=12)
    service.now += 60 * SECOND
    service.balance(4e5, flow=-5e5)
    service.restart()

    assert 0.1 == pytest.approx(service.run(100.0)), "lost before it was taken out: 100,000 of a million"


def test_a_book_that_comes_is_a_flow_too(service):
    service.run(101.0, 101.9, seconds=1)
    under = service.run(101.0, 100.1, 99.2)
    assert under > 0.005
    service.fill(1.0, 100.0, "B", model="volatility")
    service.balance(5e5, model="volatility")

    assert under == pytest.approx(service.run(99.2, seconds=12), rel=1e-3)


def voided(service, *, keep=1):
    """Take every fill back but the first ones."""
    for name in service.context.ledger.voids.newest_fills()["fill_id"].tolist()[:-keep]:
        service.context.ledger.voids.void_fill(name, "ada", "never happened", service.now)


@pytest.mark.parametrize("bars", [False, True])
@pytest.mark.parametrize("away", [False, True])
def test_a_void_erases_no_drawdown(service, away, bars):
    if bars:
        barred(service, 100.0, 100.0)
    service.run(100.9, seconds=2)
    before = service.run(100.0)
    assert 2700 / 1_002_700 == pytest.approx(before)
    service.fill(-1.0, 100.0)
    service.run(100.0)
    voided(service)
    if away:
        service.restart()

    assert before == pytest.approx(service.run(100.0))


@pytest.mark.parametrize("away", [False, True])
def test_a_void_takes_what_the_fill_had_made_of_the_peak_and_no_more(service, away):
    service.fill(3000.0, 100.0)
    service.run(100.0, 100.9)
    assert 5400 / 1_005_400 == pytest.approx(service.run(100.0))
    voided(service)
    if away:
        service.restart()

    assert 2700 / 1_002_700 == pytest.approx(service.run(100.0))
    assert 0.0 == pytest.approx(service.run(100.9), abs=1e-9)


def test_a_void_after_a_deposit_moves_the_peak_by_what_it_is_now(service):
    service.fill(3000.0, 100.0)
    service.run(100.0, 100.9)
    service.run(100.0)
    service.balance(2e6, flow=1e6)
    service.run(100.0)
    voided(service)

    assert 2700 / 1_002_700 == pytest.approx(service.run(100.0), rel=1e-3)


def test_a_void_leaves_every_mark_but_that_of_the_fill_itself(service):
    service.fill(10.0, 1000.0, "B")
    service.run(100.4)
    service.fill(10.0, 100.0, "B")
    service.run(100.4)
    first = service.context.ledger.voids.newest_fills().set_index("price")["fill_id"][1000.0]
    service.context.ledger.voids.void_fill(first, "ada", "a typo", service.now)

    service.run(100.4)

    assert {"A": 100.4, "B": 100.0} == {row.unit: row.price for row in service.state.positions.values()}
    assert {} == {row.unit: row.unconfirmed for row in service.state.positions.values() if row.unconfirmed is not None}


@pytest.mark.parametrize("seconds", [1, 4, 9])
def test_a_peak_of_the_last_seconds_outlives_a_kill(service, seconds):
    service.run(*[100 + 0.1 * i for i in range(1, seconds + 1)])
    top = 3000 * 0.1 * seconds
    service.restart()

    assert top / (1e6 + top) == pytest.approx(service.run(100.0))


def confirm(service, amount):
    return confirmed(service.context, BookKey("direction", "live"), amount, "ada", "the statement", service.now)


def falls(service):
    return [line.value for name, line in service.state.limits.items() if name in ("drawdown:all", "daily_loss:all")]


@pytest.mark.parametrize("away", [False, True])
def test_a_persons_word_takes_a_balance_back_that_was_too_low(service, away):
    """A digit was lost: the loss that it made is none, and the line holds as before."""
    service.run(101.0)
    service.balance(1e5)
    assert 0.9 < service.run(101.0, seconds=11)
    service.balance(1.003e6)
    service.run(101.0, seconds=11)
    if away:
        service.restart()

    assert 0.0 == pytest.approx(confirm(service, 1.003e6))
    service.run(101.0, seconds=2)

    assert 1.003e6 == pytest.approx(service.state.kpi.equity)
    assert 0.0 == pytest.approx(service.state.kpi.drawdown.now, abs=1e-9)
    assert 0.0 == pytest.approx(service.state.kpi.pnl_today_money - 3000, abs=1e-6)
    assert [] == [one.key for one in service.context.ledger.alerts.newest() if one.key.startswith("balance_departs")]
    service.balance(5e5)
    assert 0.5 == pytest.approx(service.run(101.0, seconds=11), abs=0.01), "a loss that is one counts as before"


def test_a_true_loss_is_no_typo_whoever_confirms_it(service):
    service.balance(4e5)
    service.run(100.0, seconds=11)
    confirm(service, 4e5)
    assert 0.6 == pytest.approx(service.run(100.0, seconds=2))
    assert 1e5 == pytest.approx(confirm(service, 5e5))
    assert 0.6 == pytest.approx(service.run(100.0, seconds=2))


@pytest.mark.parametrize("top", [100.0, 101.0])
def test_a_deposit_that_came_twice_is_taken_back(service, top):
    service.balance(2e6, flow=1e6)
    service.run(100.0, seconds=11)
    service.run(top, 100.0)
    before = service.state.kpi.drawdown.now
    service.balance(2e6, flow=1e6)
    assert 0.3 < service.run(100.0, seconds=11)

    assert 0.0 == confirm(service, 2e6)
    assert before == pytest.approx(service.run(100.0, seconds=2), abs=1e-9)


@pytest.mark.parametrize("told", [False, True])
def test_what_a_person_confirmed_by_mistake_is_taken_back_by_the_next_word(service, told):
    service.run(101.0, 100.0)
    before = service.state.kpi.drawdown.now
    confirm(service, 1e7)
    service.run(100.0, seconds=2)
    if told:
        service.balance(1e6)
        service.run(100.0, seconds=11)

    assert 0.0 == confirm(service, 1e6)
    assert before == pytest.approx(service.run(100.0, seconds=2))
    assert 1e6 == pytest.approx(service.state.kpi.equity)


def test_a_balance_is_taken_back_by_its_time(service):
    service.run(101.0, 100.0)
    before, ledger = service.state.kpi.drawdown.now, service.context.ledger
    service.balance(1.5e6, flow=5e5)
    wrong = service.now
    service.run(100.0, seconds=11)
    service.run(101.0, 102.0, 101.0, 100.0)
    with pytest.raises(DataError, match="balance must be one that was told"):
        take_back(service.context, BookKey("direction", "live"), wrong + SECOND, "ada", "why", service.now)
    take_back(service.context, BookKey("direction", "live"), wrong, "ada", "never came", service.now)
    assert {wrong} == ledger.balances.voids("direction", "live")

    assert 6000 / 1_006_000 == pytest.approx(service.run(100.0), rel=1e-6)
    assert 1e6 == pytest.approx(service.state.kpi.equity)
    assert before < service.state.kpi.drawdown.now


def test_a_deposit_with_a_wrong_amount_erases_no_drawdown(service):
    """A nought too many is held aside; equity moves by the flow, and the peak by that share."""
    service.run(99.0, 98.1, 97.3)
    before = service.run(97.3, seconds=12)
    service.balance(1e7, flow=9e5)

    assert before == pytest.approx(service.run(97.3, seconds=12))


def test_a_withdrawal_that_is_repeated_moves_the_peak_as_it_moves_equity(service):
    service.run(99.0, 98.1, 97.3)
    before = service.run(97.3, seconds=12)
    for _ in range(2):
        service.balance(service.state.kpi.equity, flow=-1e5)
        assert before == pytest.approx(service.run(97.3, seconds=12))
    assert 791_900 == pytest.approx(service.state.kpi.equity)


def test_a_late_flow_of_before_an_account_is_counted_erases_no_drawdown(service):
    service.run(99.0, 98.1, 97.3)
    before = service.run(97.3, seconds=12)
    row = NAME | {"event_time": T0 - DAY, "known_at": service.now, "amount": 1e6, "flow": -5e5}
    service.context.ledger.balances.add(pd.DataFrame([row]))

    assert before == pytest.approx(service.run(97.3, seconds=12))
