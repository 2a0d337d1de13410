"""Bad prices in the loop of the service, second by second: none halts trading, and no true crash is missed."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs import books
from jobs.live import risk as rooms
from jobs.live import risk_limits, trading_state
from jobs.live.risk import Live
from mlops.errors import DataError
from mlops.io.ledger import Instrument
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, Settings
from mlops.types import Kind, TradingState

T0, SECOND = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1)
ACTIVE, REDUCING, HALTED = TradingState
KNOWN = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))  # of every account


@pytest.fixture
def context(sqlite_ledger, monkeypatch):
    monkeypatch.setattr(rooms, "SLOW_S", 0.0)
    return SimpleNamespace(ledger=sqlite_ledger, settings=KNOWN, run_id=None)


def fill(context, unit, quantity, price, at=T0 - SECOND, *, model="direction"):
    row = {"fill_id": f"{model}{unit}{at}{price}", "model": model, "version": 1, "book": "live", "unit": unit}
    numbers = {"event_time": at, "quantity": quantity, "price": price, "fee": 0.0}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | numbers]))


def quote(context, unit, bid, ask, at):
    row = {"unit": unit, "event_time": at, "known_at": at, "bid": bid, "ask": ask, "bid_size": 0.0, "ask_size": 0.0}
    context.ledger.quotes.add(pd.DataFrame([row]))


class Service:
    """The loop of `jobs.serve`, a look a second of a clock of its own."""

    def __init__(self, context):
        self.context, self.live, self.now = context, Live(context), T0

    def run(self, *quotes, seconds=None):
        """A look after each quote (unit, bid, ask), a list of quotes, or None for a second without any."""
        states = []
        for told in quotes if seconds is None else quotes * seconds:
            for one in told if isinstance(told, list) else [told] if told else []:
                quote(self.context, *one, self.now)
            self.look = self.live.look(self.now)
            states.append(risk_limits.act(self.context, self.look.findings, self.now, unknown=self.look.unknown))
            self.now += SECOND
        return states

    def restart(self):
        self.live = Live(self.context)

    @property
    def row(self):
        return self.look.state.positions["direction/live/A"]


@pytest.fixture
def service(context):
    """All of a book in A, bought at 100, quoted there."""
    fill(context, "A", 10_000.0, 100.0)
    found = Service(context)
    assert {ACTIVE} == set(found.run(("A", 99.95, 100.05), seconds=5))
    return found


def keys(context, kind):
    return [alert.key for alert in context.ledger.alerts.newest() if alert.key.startswith(kind)]


GOOD = ("A", 99.95, 100.05)


def test_a_price_three_times_too_high_for_a_second_halts_nothing_and_leaves_no_peak(service):
    states = service.run(("A", 299.9, 300.1), GOOD, seconds=1) + service.run(GOOD, seconds=30)

    assert {ACTIVE} == set(states)
    assert 0.0 == pytest.approx(service.look.state.kpi.drawdown.now, abs=1e-9)
    assert [] == keys(service.context, ("price_jump", "risk_limit", "trading_state"))
    assert "ok" == service.look.state.limits["drawdown:all"].state


def test_a_jump_is_shown_with_both_values_while_it_is_not_confirmed(service):
    service.run(("A", 299.9, 300.1))

    assert (100.0, 300.0) == (service.row.price, service.row.unconfirmed)
    assert service.now - SECOND == service.row.unconfirmed_since
    assert "300" in service.look.state.missing["price:A"]
    assert 1e6 == service.look.state.kpi.equity


def test_a_bid_of_a_cent_beside_a_true_ask_is_no_price(service):
    states = service.run(("A", 0.01, 100.05), seconds=30)

    assert {ACTIVE} == set(states)
    assert 100.0 == service.row.price
    assert "0.01 to 100.05, which is no price" in service.look.state.missing["price:A"]


def test_a_low_tick_that_no_quote_corrects_is_not_trusted_and_not_forgotten(service):
    states = service.run(("A", 70.0, 70.1)) + service.run(None, seconds=120)

    assert {ACTIVE} == set(states)
    assert (100.0, 70.05) == (service.row.price, service.row.unconfirmed)
    assert ["price_jump:A:2026-03-02T15:00:05"] == keys(service.context, "price_jump")
    assert "unknown" == service.look.state.limits["daily_loss:all"].state
    assert "No quote has come" in service.look.state.missing["price:A"]

    service.run(GOOD)
    assert [] == keys(service.context, "price_jump")
    assert service.row.unconfirmed is None


def test_a_crash_counts_once_its_quotes_have_stood_for_five_seconds_and_halts(service):
    states = service.run(("A", 79.9, 80.1), seconds=17)

    assert ACTIVE is states[4]
    assert REDUCING is states[5]
    assert HALTED is states[15]
    assert -0.2 == pytest.approx(service.look.state.kpi.pnl_today)


def test_a_crash_that_goes_on_falling_is_followed_five_seconds_behind(service):
    states = service.run(*(("A", p, p) for p in range(95, 45, -3)))

    assert [ACTIVE, REDUCING, HALTED] == states[4:7], "it grew by a quarter of its line since the look before"
    assert service.row.price == pytest.approx(47 + 3 * 5)
    assert service.row.unconfirmed < service.row.price


def test_what_looks_like_a_split_is_said_to_be_one_and_waits_for_a_person(service):
    states = service.run(("A", 49.9, 50.1), seconds=60)

    assert {ACTIVE} == set(states)
    assert "looks like a 2 for 1 split" in service.look.state.missing["price:A"]
    assert 1 == len(keys(service.context, "price_jump"))
    assert "unknown" == service.look.state.limits["drawdown:all"].state

    service.context.ledger.confirmed_prices.add("A", 50.0, "ada", "it really fell", service.now)
    assert REDUCING is service.run(("A", 49.9, 50.1), seconds=2)[-1]
    assert [] == keys(service.context, "price_jump")
    assert 50.0 == service.row.price


def test_a_person_may_say_that_the_price_before_is_right(service):
    service.run(("A", 49.9, 50.1), None, seconds=20)
    service.context.ledger.confirmed_prices.add("A", 100.0, "ada", "the feed was wrong", service.now)

    states = service.run(None, seconds=5)

    assert {ACTIVE} == set(states)
    assert service.row.unconfirmed is None


def test_a_fill_that_agrees_confirms_at_once(service):
    service.run(("A", 79.9, 80.1))
    fill(service.context, "A", -100.0, 80.0, service.now)

    assert REDUCING is service.run(None)[0]
    assert service.row.price == pytest.approx(80.0, abs=0.1)


def test_a_fill_at_a_wrong_price_alone_moves_no_mark(service):
    fill(service.context, "A", 1.0, 1.0, service.now)

    assert {ACTIVE} == set(service.run(GOOD, seconds=20))
    fill(service.context, "A", 1.0, 1.0, service.now)
    assert {ACTIVE} == set(service.run(None, seconds=20))
    assert (100.0, 1.0) == (service.row.price, service.row.unconfirmed)


def test_units_that_all_jump_together_do_not_confirm_each_other(context):
    for unit in "AB":
        fill(context, unit, 5_000.0, 100.0)
    service = Service(context)
    service.run([("A", 100.0, 100.0), ("B", 100.0, 100.0)])

    states = service.run([("A", 70.0, 70.0), ("B", 70.0, 70.0)], seconds=3)
    states += service.run([("A", 100.0, 100.0), ("B", 100.0, 100.0)], seconds=30)

    assert {ACTIVE} == set(states)


def test_a_restart_changes_nothing_about_what_is_confirmed_and_what_is_not(service):
    service.run(("A", 110.0, 110.0), seconds=12)
    service.run(("A", 70.0, 70.0))
    before = (service.row.price, service.row.unconfirmed)
    service.run(None, seconds=11)
    service.restart()

    assert {ACTIVE} == set(service.run(None, seconds=30))
    assert before == (service.row.price, service.row.unconfirmed) == (110.0, 70.0)
    assert 1 == len(keys(service.context, "price_jump"))


def test_a_crash_while_the_service_was_away_counts_at_the_first_look(service):
    for i in range(60):
        quote(service.context, "A", 79.0, 79.0, service.now + i * SECOND)
    service.now += 60 * SECOND
    service.restart()

    assert REDUCING is service.run(None)[0]
    assert 79.0 == service.row.price


def test_a_gap_over_night_counts_once_its_quotes_have_stood(service):
    service.now += timedelta(hours=17)

    assert ACTIVE is service.run(("A", 75.0, 75.1))[0]
    assert 100.0 == pytest.approx(service.row.price)
    assert REDUCING is service.run(("A", 75.0, 75.1), seconds=6)[-1]


@pytest.mark.parametrize("tick", [86.0, 116.0])
def test_one_bad_tick_after_a_weekend_halts_nothing_and_leaves_no_peak(service, tick):
    service.now += timedelta(days=3)

    states = service.run(("A", tick, tick)) + service.run(None, seconds=30) + service.run(GOOD, seconds=5)

    assert {ACTIVE} == set(states)
    assert 0.0 == pytest.approx(service.look.state.kpi.drawdown.now, abs=1e-9)


def test_two_bad_ticks_with_silence_between_them_confirm_nothing(service):
    states = service.run(("A", 70.0, 70.1), *[None] * 5, ("A", 70.0, 70.1), *[None] * 20)

    assert {ACTIVE} == set(states)
    assert 100.0 == service.row.price


def test_quotes_that_flap_are_told_once_and_stop_a_lift_until_they_agree(service):
    service.run(("A", 70.0, 70.1), GOOD, seconds=4)
    assert [] != keys(service.context, "price_jump")
    assert {ACTIVE} == set(service.run(("A", 70.0, 70.1), GOOD, seconds=20))

    assert ["price_jump:A:2026-03-02T15:00:05"] == keys(service.context, "price_jump")
    assert (100.0, 70.05) == (service.row.price, service.row.unconfirmed)
    assert "by turns" in service.look.state.missing["price:A"]
    service.context.ledger.trading.set(HALTED, "bob", "look at it", service.now)
    with pytest.raises(DataError, match="at confirmed prices"):
        trading_state.set_state(service.context, ACTIVE, "ada", "seen", service.now)

    service.run(GOOD, seconds=6)
    assert [] == [alert.key for alert in service.context.ledger.alerts.newest() if alert.key.startswith("price_jump")]
    assert service.row.unconfirmed is None


def test_a_fall_in_progress_is_followed_by_whoever_looks_for_the_first_time(service):
    service.run(GOOD, seconds=8)
    service.run(*(("A", p, p) for p in (100 - 0.6 * i for i in range(1, 9))))
    expected = service.row.price
    service.restart()

    service.now -= SECOND
    service.run(None)
    assert expected == service.row.price == pytest.approx(95.2)
    assert service.row.unconfirmed is None


@pytest.mark.parametrize("bad", [(101.0, 99.0), (0.0, 0.0), (-1.0, 100.0), (-5.0, -4.0), (float("inf"), float("inf"))])
def test_quotes_that_are_none_move_nothing(service, bad):
    at = service.now  # the door refuses such rows
    row = {"unit": ["A"], "event_time": [at], "bid": [bad[0]], "ask": [bad[1]]}
    frame = pd.DataFrame(row).assign(event_time=lambda f: pd.to_datetime(f["event_time"], utc=True))
    service.context.ledger.risk.latest_quotes = lambda units, *, as_of: frame

    assert {ACTIVE} == set(service.run(None, seconds=20))
    assert 100.0 == service.row.price


def test_an_option_that_doubles_is_one_and_no_split(context):
    context.ledger.instruments.put([Instrument("P", Kind.PUT, "USD", "", 1.0, "A", 90.0, T0 + timedelta(days=30))], T0)
    fill(context, "A", 1_000.0, 100.0)
    fill(context, "P", 100.0, 1.0)
    service = Service(context)
    service.run([GOOD, ("P", 0.9, 1.1)])

    service.run([GOOD, ("P", 1.9, 2.1)], seconds=7)

    assert 2.0 == service.look.state.positions["direction/live/P"].price


def test_a_look_of_a_person_leaves_nothing_in_the_ledger(service):
    service.run(("A", 70.0, 70.1))
    service.now += 60 * SECOND

    look = Live(service.context, records=False).look(service.now)

    assert ["A"] == list(look.jumps)
    assert [] == keys(service.context, "price_jump")


def test_the_drawdown_of_a_book_without_bars_counts_from_its_opening_and_survives_a_restart(context):
    fill(context, "A", 10_000.0, 100.0)
    service = Service(context)
    service.run(("A", 95.0, 95.0), seconds=7)
    assert 0.05 == pytest.approx(service.look.state.kpi.drawdown.now)

    service.run(("A", 110.0, 110.0), seconds=8)
    service.run(None, seconds=12)
    service.restart()
    service.run(("A", 104.5, 104.5), seconds=8)
    assert 0.05 == pytest.approx(service.look.state.kpi.drawdown.now)


CLOSE = datetime(2026, 3, 2, 21, tzinfo=UTC)  # of the first bar


def advance(context, *closes):
    days = [CLOSE + timedelta(days=i) for i in range(len(closes))]
    index = pd.DatetimeIndex(days)
    bars = pd.DataFrame({"event_time": index, "known_at": index, "symbol": "A", "close": np.asarray(closes, float)})
    books.advance(context, STRATEGIES["direction"], bars, days[-1])


@pytest.fixture
def barred(context):
    """A book with two bars at 100, looked at after the second."""
    fill(context, "A", 5_000.0, 100.0, CLOSE - SECOND)
    advance(context, 100, 100)
    found = Service(context)
    found.now = CLOSE + timedelta(days=1, seconds=2)
    found.run(GOOD, seconds=2)
    return found


def test_the_first_bar_after_a_split_waits_and_halts_nothing(barred):
    barred.now += timedelta(hours=17)
    states = barred.run(("A", 50.0, 50.0), seconds=15)
    advance(barred.context, 100, 100, 50)
    barred.now = CLOSE + timedelta(days=2, seconds=2)

    states += barred.run(("A", 50.0, 50.0), seconds=15)
    barred.restart()
    states += barred.run(None, seconds=15)

    assert {ACTIVE} == set(states)
    assert (100.0, 50.0) == (barred.row.price, barred.row.unconfirmed)
    assert "unknown" == barred.look.state.limits["drawdown:all"].state
    assert 1 == len(keys(barred.context, "price_jump"))
    assert -0.01 < barred.look.state.kpi.pnl_today < 0.01, "no close is made of it"


def test_a_bar_of_three_times_the_price_moves_no_mark_and_leaves_no_peak(barred):
    advance(barred.context, 100, 100, 300)
    barred.now = CLOSE + timedelta(days=2, seconds=2)

    states = barred.run(None, seconds=3) + barred.run(GOOD, seconds=20)
    advance(barred.context, 100, 100, 300, 100)
    barred.now = CLOSE + timedelta(days=3, seconds=2)
    barred.restart()
    states += barred.run(GOOD, seconds=20)

    assert {ACTIVE} == set(states)
    assert 100.0 == barred.row.price
    assert 0.0 == pytest.approx(barred.look.state.kpi.drawdown.now, abs=1e-9)


def test_a_bar_that_fell_by_no_ratio_of_splits_counts(barred):
    advance(barred.context, 100, 100, 70)
    barred.now = CLOSE + timedelta(days=2, seconds=2)

    barred.run(None, seconds=2)
    assert (70.0, None) == (barred.row.price, barred.row.unconfirmed)
    assert 0.15 == pytest.approx(barred.look.state.kpi.drawdown.now)
