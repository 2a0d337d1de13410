"""What an account is worth: a limit in per cent of equity is of the real one, or it is not held at all."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from jobs import books
from jobs.accounts import equity as accounts
from jobs.accounts.balances import confirmed
from jobs.accounts.equity import without_flows
from jobs.live.risk import Live
from jobs.live.risk_limits import act
from jobs.portfolio.positions import positions
from mlops.errors import DataError
from mlops.io.ledger import BookKey
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings
from mlops.types import TradingState

T0, SECOND, DAY = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(seconds=1), timedelta(days=1)
KEY = BookKey("direction", "live")
LINES = (
    RiskLimit(measure="gross", warning=0.3, soft=0.4, hard=0.5),
    RiskLimit(measure="drawdown", warning=0.05, soft=0.1, hard=0.2),
    RiskLimit(measure="daily_loss", warning=0.05, soft=0.1, hard=0.2),
)


@pytest.fixture
def context(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=Settings(risk=RiskSettings(limits=LINES)), run_id=None)


def fill(context, quantity, price, at=T0, model="direction", book="live"):
    row = {"fill_id": f"{model}{book}{at}", "model": model, "version": 1, "book": book, "unit": "A", "event_time": at}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": quantity, "price": price, "fee": 0.0}]))


def quote(context, price, at):
    row = {"unit": "A", "event_time": at, "known_at": at, "bid": price, "ask": price, "bid_size": 0.0, "ask_size": 0.0}
    context.ledger.quotes.add(pd.DataFrame([row]))


def balance(context, amount, at=T0, flow=0.0, model="direction", book="live"):
    row = {"model": model, "book": book, "event_time": at, "known_at": at, "amount": amount, "flow": flow}
    context.ledger.balances.add(pd.DataFrame([row]))


def look(context, at):
    found = Live(context).look(at)
    act(context, found.findings, at, unknown=found.unknown)
    accounts.tell(context, found.accounts, at)
    return found.state


def open_alerts(context):
    return sorted(alert.key for alert in context.ledger.alerts.newest())


def test_a_book_without_a_balance_has_money_and_no_share_of_a_fictitious_million(context):
    fill(context, 6, 100.0)

    state = look(context, T0 + SECOND)

    assert 1e6 == state.kpi.notional
    assert state.kpi.equity is state.kpi.gross.value is state.kpi.drawdown.now is state.kpi.pnl_today is None
    row = state.positions["direction/live/A"]
    assert (600.0, None, True) == (row.value, row.weight, row.notional)
    assert {"unknown"} == {line.state for line in state.limits.values()}
    assert {"no balance is known of direction/live"} == {line.why for line in state.limits.values()}
    assert "no limit in per cent" in state.missing["balance:direction/live"]
    assert state.balances["direction/live"].amount is None
    assert ["balance_unknown"] == [key.partition(":")[0] for key in open_alerts(context)]


def test_with_the_real_balance_the_same_position_crosses_its_line(context):
    fill(context, 6, 100.0)
    look(context, T0 + SECOND)
    balance(context, 1000.0, T0 + 2 * SECOND)

    state = look(context, T0 + 3 * SECOND)

    assert (1000.0, 0.6, None) == (state.kpi.equity, pytest.approx(state.kpi.gross.value), state.kpi.notional)
    assert "hard" == state.limits["gross:all"].state
    assert TradingState.REDUCING is context.ledger.trading.state()
    assert ["risk_limit:gross:all:hard:1", "trading_state:1"] == open_alerts(context)
    told = state.balances["direction/live"]
    assert (1000.0, 1000.0, "bot") == (told.amount, told.equity, told.source)


def test_the_setting_says_what_the_account_began_with(context):
    stated = BookSettings(balances=(BookBalance(model="direction", book="live", amount=2000.0),))
    context.settings = context.settings.model_copy(update={"books": stated})
    fill(context, 6, 100.0)
    quote(context, 99.0, T0 + SECOND)

    state = look(context, T0 + 2 * SECOND)

    assert 1994.0 == pytest.approx(state.kpi.equity)
    assert 6 / 2000 == pytest.approx(state.limits["daily_loss:all"].value)


def test_equity_moves_with_the_book_after_a_balance_and_is_as_it_was_known(context):
    fill(context, 6, 100.0)
    balance(context, 1000.0)
    quote(context, 99.0, T0 + 5 * SECOND)

    assert [1000.0, 994.0] == [look(context, T0 + i * SECOND).kpi.equity for i in (1, 6)]
    assert 1000.0 == positions(context, T0 + SECOND).equity


def test_a_deposit_is_no_profit_and_a_withdrawal_no_loss(context):
    fill(context, 1, 100.0)
    balance(context, 1000.0)
    balance(context, 5000.0, T0 + 5 * SECOND, flow=4000.0)
    balance(context, 500.0, T0 + 9 * SECOND, flow=-4500.0)

    for second, equity in ((1, 1000.0), (6, 5000.0), (10, 500.0)):
        state = look(context, T0 + second * SECOND)
        assert equity == pytest.approx(state.kpi.equity)
        assert 0.0 == pytest.approx(state.limits["daily_loss:all"].value, abs=1e-12)
        assert 0.0 == pytest.approx(state.limits["drawdown:all"].value, abs=1e-12)
    assert [] == [key for key in open_alerts(context) if key.startswith("balance")]


def departing(context):
    return [key for key in open_alerts(context) if key.startswith("balance_departs:direction:live:")]


def test_a_rise_that_nothing_explains_is_held_aside_however_often_a_bot_repeats_it(context):
    fill(context, 4, 100.0)
    balance(context, 1000.0)
    look(context, T0 + SECOND)
    for i in range(1, 6):
        balance(context, 9000.0 + i, T0 + 5 * i * SECOND)
        state = look(context, T0 + 5 * i * SECOND + SECOND)
        assert 1000.0 == pytest.approx(state.kpi.equity)
    assert 8005.0 == pytest.approx(state.balances["direction/live"].departs)
    assert "Held aside" in state.balances["direction/live"].note
    assert ["balance_departs:direction:live:more:1"] == departing(context), "one alert, whatever the amounts"
    assert "8,001.00 more than its own trades" in context.ledger.alerts.get(departing(context)[0]).title

    balance(context, 1001.0, T0 + 60 * SECOND)
    look(context, T0 + 61 * SECOND)
    assert [] == departing(context), "what is right again closes it"


def test_many_small_rises_do_not_add_up(context):
    """Each is within the tolerance of the one before."""
    fill(context, 4, 100.0)
    for i in range(20):
        balance(context, 1000.0 * 1.004**i, T0 + 5 * i * SECOND)
        state = look(context, T0 + 5 * i * SECOND + SECOND)

    assert 1000.0 == pytest.approx(state.kpi.equity)


def test_a_fall_counts_at_once_as_a_loss_and_a_stale_balance_does_not_undo_it(context):
    fill(context, 4, 100.0)
    balance(context, 1000.0)
    look(context, T0 + SECOND)
    balance(context, 700.0, T0 + 5 * SECOND)
    fell = look(context, T0 + 6 * SECOND)
    assert 700.0 == pytest.approx(fell.kpi.equity)
    assert 0.3 == pytest.approx(fell.limits["drawdown:all"].value) == pytest.approx(fell.limits["daily_loss:all"].value)
    assert ["balance_departs:direction:live:less:2026-03-02T21:00:05"] == departing(context)

    balance(context, 1000.0, T0 + 10 * SECOND)
    again = look(context, T0 + 11 * SECOND)

    assert 700.0 == pytest.approx(again.kpi.equity)
    assert 2 == len(departing(context))


def test_a_person_says_that_a_rise_is_right_and_it_is_no_profit(context):
    fill(context, 4, 100.0)
    balance(context, 1000.0)
    look(context, T0 + SECOND)
    balance(context, 9000.0, T0 + 5 * SECOND)
    look(context, T0 + 6 * SECOND)
    with pytest.raises(DataError, match="reason and actor"):
        confirmed(context, KEY, 9000.0, "ada", " ", T0 + 7 * SECOND)
    with pytest.raises(DataError, match="book must be one that a bot trades, got direction/nosuch"):
        confirmed(context, BookKey("direction", "nosuch"), 9000.0, "ada", "why", T0 + 7 * SECOND)

    assert 8000.0 == pytest.approx(confirmed(context, KEY, 9000.0, "ada", "the bank said so", T0 + 8 * SECOND))
    balance(context, 9000.0, T0 + 9 * SECOND)
    state = look(context, T0 + 10 * SECOND)

    assert 9000.0 == pytest.approx(state.kpi.equity)
    for name in ("daily_loss:all", "drawdown:all"):
        assert 0.0 == pytest.approx(state.limits[name].value, abs=1e-12)
    assert [] == departing(context)


@pytest.mark.parametrize("told_at", [140.0, 100.0])
def test_a_balance_told_while_a_price_jumps_moves_nothing(context, told_at):
    """The exchange may count the new price or the old one: neither is a profit that is still to come."""
    fill(context, 4, 100.0)
    balance(context, 1000.0)
    live = Live(context)
    live.look(T0 + SECOND)
    quote(context, 140.0, T0 + 2 * SECOND)
    balance(context, 600.0 + 4 * told_at, T0 + 3 * SECOND)
    seen = [live.look(T0 + 14 * SECOND).state.kpi.equity]
    for second in range(15, 24):
        quote(context, 140.0, T0 + second * SECOND)
        seen.append(live.look(T0 + second * SECOND).state.kpi.equity)

    assert {1000.0, 1160.0} == set(seen)
    assert 1160.0 == seen[-1]
    assert 1160.0 == pytest.approx(Live(context).look(T0 + 24 * SECOND).state.kpi.equity), "also after a restart"
    assert [] == departing(context)


def test_a_loss_that_no_price_explains_counts_while_one_jumps(context):
    fill(context, 4, 100.0)
    balance(context, 1000.0)
    live = Live(context)
    live.look(T0 + SECOND)
    quote(context, 140.0, T0 + 2 * SECOND)
    balance(context, 500.0, T0 + 3 * SECOND)

    assert 500.0 == pytest.approx(live.look(T0 + 14 * SECOND).state.kpi.equity)


@pytest.mark.parametrize(("amount", "equity"), [(900.0, 900.0), (1100.0, 1000.0), (840.0, 840.0)])
@pytest.mark.parametrize("tick", [60.0, 140.0])
@pytest.mark.parametrize("away", [False, True])
def test_a_balance_told_while_a_price_jumps_is_judged_once_the_jump_proves_false(context, tick, amount, equity, away):
    """A bad tick explains no loss, and no rise, once it is over."""
    fill(context, 4, 100.0)
    balance(context, 1000.0)
    live = Live(context)
    live.look(T0 + SECOND)
    quote(context, tick, T0 + 2 * SECOND)
    balance(context, amount, T0 + 3 * SECOND)
    assert (
        min(1000.0, max(amount, min(1000.0, amount + 4 * (100 - tick)))) == live.look(T0 + 14 * SECOND).state.kpi.equity
    )
    live = Live(context) if away else live
    for second in range(15, 40):
        quote(context, 100.0, T0 + second * SECOND)
        found = live.look(T0 + second * SECOND)
    accounts.tell(context, found.accounts, T0 + 40 * SECOND)

    assert equity == pytest.approx(found.state.kpi.equity)
    told = f"less:{T0 + 3 * SECOND:%Y-%m-%dT%H:%M:%S}" if amount < 1000 else "more:1"
    assert [f"balance_departs:direction:live:{told}"] == departing(context)
    assert max(0.0, 1 - amount / 1000) == pytest.approx(found.state.kpi.drawdown.now)


def test_a_first_balance_that_was_told_while_a_price_jumped_is_what_an_account_is_counted_from(context):
    fill(context, 4, 100.0)
    live = Live(context)
    live.look(T0 + SECOND)
    quote(context, 140.0, T0 + 2 * SECOND)
    balance(context, 1000.0, T0 + 3 * SECOND)
    for second in range(4, 30):
        quote(context, 100.0, T0 + second * SECOND)
        live.look(T0 + second * SECOND)
    balance(context, 900.0, T0 + 30 * SECOND)

    assert 0.1 == pytest.approx(live.look(T0 + 41 * SECOND).state.kpi.drawdown.now)


def test_a_fall_that_a_late_fill_explains_is_no_loss(context):
    fill(context, 4, 100.0)
    balance(context, 1000.0)
    look(context, T0 + SECOND)
    balance(context, 950.0, T0 + 5 * SECOND)
    assert 0.05 == pytest.approx(look(context, T0 + 6 * SECOND).limits["daily_loss:all"].value)
    fill(context, 1, 150.0, T0 + 4 * SECOND)
    context.ledger.confirmed_prices.add("A", 100.0, "ada", "seen", T0 + 4 * SECOND)

    state = look(context, T0 + 20 * SECOND)

    assert 950.0 == pytest.approx(state.kpi.equity)
    assert 0.05 == pytest.approx(state.limits["daily_loss:all"].value), "by its price, and once"


def test_a_book_without_a_balance_does_not_dilute_one_that_has_one(context):
    fill(context, 6, 100.0)
    balance(context, 1000.0)
    fill(context, 1, 100.0, model="volatility")

    state = look(context, T0 + SECOND)

    assert 1000.0 == state.kpi.equity
    assert "hard" == state.limits["gross:all"].state
    assert "no balance is known of volatility/live" == state.limits["gross:all"].why
    assert "unknown" == state.limits["daily_loss:all"].state
    assert state.positions["volatility/live/A"].notional
    assert not state.positions["direction/live/A"].notional


def test_a_past_drawdown_is_not_made_small_by_what_was_paid_in_later(context):
    days = [T0 + i * DAY for i in range(3)]
    bars = pd.DataFrame({"event_time": pd.DatetimeIndex(days), "known_at": pd.DatetimeIndex(days), "symbol": "A"})
    fill(context, 10, 100.0)
    balance(context, 1000.0)
    books.advance(context, STRATEGIES["direction"], bars.assign(close=[100.0, 70.0, 70.0]), days[-1])
    balance(context, 10_000.0, days[-1] + SECOND, flow=9300.0)

    state = look(context, days[-1] + 2 * SECOND)

    assert 10_000.0 == pytest.approx(state.kpi.equity)
    assert 0.3 == pytest.approx(state.kpi.drawdown.now)
    assert "hard" == state.limits["drawdown:all"].state


def test_returns_are_over_what_was_there_when_they_were_made():
    own, offset = pd.Series([0.0, 100.0, 50.0]), pd.Series([1000.0, 1000.0, 9000.0])

    found = without_flows(own, offset)

    assert [0.1, -50 / 1100] == pytest.approx(found.pct_change().dropna().tolist())
    assert 9050.0 == found.iloc[-1]


def test_many_books_without_a_balance_are_one_alert_that_counts_them(context):
    for number in range(5):
        fill(context, 1, 100.0, book=f"b{number}")
    look(context, T0 + SECOND)
    look(context, T0 + 2 * SECOND)

    (alert,) = context.ledger.alerts.newest()
    assert "no balance of direction/b0, direction/b1, direction/b2 and 2 more is known" in alert.title
    assert 5 == alert.details["n"]

    balance(context, 1000.0, T0 + 3 * SECOND, book="b1")
    look(context, T0 + 4 * SECOND)
    (fewer,) = [alert for alert in context.ledger.alerts.newest() if alert.key.startswith("balance_unknown:")]
    assert ["direction/b0", "direction/b2", "direction/b3", "direction/b4"] == fewer.details["books"]

    for number in (0, 2, 3, 4):
        balance(context, 1000.0, T0 + 5 * SECOND, book=f"b{number}")
    look(context, T0 + 6 * SECOND)
    assert [] == [alert for alert in context.ledger.alerts.newest() if alert.key.startswith("balance_unknown:")]

    fill(context, 1, 100.0, book="b9", at=T0 + 7 * SECOND)
    look(context, T0 + 8 * SECOND)  # a key that was used and closed is not used again
    assert [1] == [
        alert.details["n"] for alert in context.ledger.alerts.newest() if alert.key.startswith("balance_unknown:")
    ]
