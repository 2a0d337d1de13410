"""A fill at a price that nothing agrees with makes no profit and no peak until a quote or a person says that it is right."""

import pytest

from jobs.accounts import doubtful_fills
from jobs.live import risk as rooms
from mlops.errors import DataError
from mlops.io.ledger import Instrument
from mlops.settings import BookBalance, BookSettings, Settings
from mlops.types import Kind, TradingState
from tests.jobs.accounts.test_peak import DAY, T0, Service, barred


@pytest.fixture
def service(sqlite_ledger, monkeypatch):
    """By the setting an account of a million, 9,000 shares at 100, quoted there."""
    monkeypatch.setattr(rooms, "SLOW_S", 0.0)
    found = Service(sqlite_ledger)
    found.context.settings = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))
    found.restart()
    found.fill(9000.0, 100.0, at=T0)
    found.run(100.0, seconds=3)
    return found


def doubtful(service):
    return [alert.key for alert in service.context.ledger.alerts.newest() if alert.key.startswith("fill_doubtful:")]


def test_a_sale_at_a_hundred_times_the_price_hides_no_crash(service):
    service.fill(-100.0, 10_000.0)
    service.run(100.0, seconds=2)

    assert 1e6 == pytest.approx(service.state.kpi.equity)
    assert 1 == len(doubtful(service))
    assert (
        "sold 100 A at 10000 when A was at 100"
        in service.state.missing[doubtful(service)[0].replace("fill_doubtful", "fill")]
    )
    service.restart()
    service.run(*[100 - 0.8 * i for i in range(40)], *[68.8] * 8)
    assert 1e6 - 8900 * 31.2 == pytest.approx(service.state.kpi.equity)
    assert TradingState.HALTED is service.context.ledger.trading.state()
    assert 0.27768 == pytest.approx(service.state.kpi.drawdown.now)


def test_a_void_ends_it_and_leaves_the_peak(service):
    service.run(100.9, 100.0)
    before = service.state.kpi.drawdown.now
    service.fill(-100.0, 10_000.0)
    service.run(100.0, seconds=2)
    service.context.ledger.voids.void_fill(doubtful(service)[0].partition(":")[2], "ada", "a typo", service.now)

    assert before == pytest.approx(service.run(100.0))
    assert [] == doubtful(service)
    assert (1e6, 9000.0) == (service.state.kpi.equity, service.state.positions["direction/live/A"].quantity)


def test_a_person_confirms_it_with_a_reason(service):
    service.fill(-100.0, 150.0)
    service.run(100.0, seconds=2)
    name = doubtful(service)[0].partition(":")[2]
    with pytest.raises(DataError, match="reason must be"):
        doubtful_fills.confirm(service.context.ledger, name, "ada", " ", service.now)
    doubtful_fills.confirm(service.context.ledger, name, "ada", "a block trade", service.now)

    service.run(100.0, seconds=2)
    assert 1_005_000 == pytest.approx(service.state.kpi.equity)
    assert [] == doubtful(service)
    service.restart()
    service.run(100.0)
    assert (1_005_000, []) == (pytest.approx(service.state.kpi.equity), doubtful(service))
    with pytest.raises(DataError, match="doubtful one"):
        doubtful_fills.confirm(service.context.ledger, name, "ada", "again", service.now)


@pytest.mark.parametrize("away", [False, True])
def test_closing_its_alert_settles_nothing_and_it_is_told_anew(service, away):
    service.fill(3000.0, 60.0)
    service.run(100.0, seconds=2)
    [first] = doubtful(service)
    for again in range(2):
        service.context.ledger.alerts.resolve(doubtful(service)[0], service.now)
        if away:
            service.restart()
        service.run(100.0)
        assert 1e6 == pytest.approx(service.state.kpi.equity)
        assert 1 == len(doubtful(service)), again
        assert first != doubtful(service)[0]
        assert first.replace("fill_doubtful", "fill") in service.state.missing

    doubtful_fills.confirm(service.context.ledger, first.partition(":")[2], "ada", "a block trade", service.now)
    service.run(100.0)
    assert (1_120_000, []) == (pytest.approx(service.state.kpi.equity), doubtful(service))


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_kill_before_any_write_of_it_leaves_it_in_doubt_and_told_once(service, monkeypatch, writes):
    service.fill(3000.0, 60.0)
    ledger, made = service.context.ledger, []

    def killing(write):
        def kills(self, *about):
            made.append(about)
            if len(made) > writes:
                raise KeyboardInterrupt
            return write(self, *about)

        return kills

    with monkeypatch.context() as patched:
        for tables, name in ((type(ledger.risk), "put_state"), (type(ledger.alerts), "add")):
            patched.setattr(tables, name, killing(getattr(tables, name)))
        with pytest.raises(KeyboardInterrupt):
            service.run(100.0)
    service.restart()
    service.run(100.0, seconds=2)

    assert (1e6, 1) == (pytest.approx(service.state.kpi.equity), len(doubtful(service)))


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("settled", [False, True], ids=["confirmed since", "reached since"])
def test_a_void_leaves_the_peak_of_looks_that_were_without_its_gain(service, settled, away):
    """The gain of 20,000 is not in the top; it began to count only below."""
    down = [103.5 - 0.8 * i for i in range(1, 10)]
    service.fill(5000.0, 96.0)
    service.run(100.0, 100.9, 101.8, 102.7, 103.5)
    [key] = doubtful(service)
    if settled:
        service.run(*down)
        assert [] == doubtful(service)
    else:
        doubtful_fills.confirm(service.context.ledger, key.partition(":")[2], "ada", "a block trade", service.now)
    if away:
        service.restart()
    service.context.ledger.voids.void_fill(key.partition(":")[2], "ada", "a typo", service.now)
    service.run(*([] if settled else down), 96.3)

    assert 9000 * 7.2 / (1e6 + 9000 * 3.5) == pytest.approx(service.state.kpi.drawdown.now)


def test_a_purchase_in_a_true_crash_before_quotes_agree_makes_no_peak(service):
    service.fill(1000.0, 80.0)
    service.run(100.0)
    assert 1e6 == pytest.approx(service.state.kpi.equity)

    service.run(80.0, seconds=10)

    assert 1e6 - 9000 * 20 == pytest.approx(service.state.kpi.equity)
    assert 0.18 == pytest.approx(service.state.kpi.drawdown.now)
    assert [] == doubtful(service)


def test_a_loss_by_a_wrong_price_counts_at_once_and_multipliers_count(service):
    service.context.ledger.instruments.put([Instrument("F", Kind.FUTURE, multiplier=50.0)], T0 - DAY)
    service.fill(1.0, 100.0, "F")
    service.run(100.0)
    service.fill(-1.0, 1000.0, "F")
    service.fill(100.0, 300.0)
    service.run(100.0)

    assert 1e6 - 100 * 200 == pytest.approx(service.state.kpi.equity), "45,000 of F are not there, 20,000 of A are lost"
    assert 2 == len(doubtful(service))


def test_a_fill_at_a_price_that_was_quoted_then_is_none_however_late_it_is_seen(service):
    at = service.now
    service.run(*[100 - 0.8 * i for i in range(20)])
    service.fill(-10.0, 100.0, at=at)
    service.run(84.8)

    assert [] == doubtful(service)


HUGE = 1e9  # shares at 100, in an account of a million


def test_a_fill_of_an_absurd_size_at_a_good_price_makes_no_profit_and_no_peak_and_is_told(service):
    service.fill(HUGE, 100.0)
    service.run(100.0, 100.01)

    assert 1e6 + 90 == pytest.approx(service.state.kpi.equity)
    assert 90 == pytest.approx(service.state.kpi.pnl_today_money)
    assert "hard" == service.state.limits["gross:all"].state, "it still counts as exposure"
    [key] = doubtful(service)
    title = service.context.ledger.alerts.get(key).title
    assert "bought 1e+09 A at 100" in title
    assert "100,000 times what its book is worth" in title
    service.restart()
    assert 0.0 == pytest.approx(service.run(100.02), abs=1e-9)
    assert 1e6 + 180 == pytest.approx(service.state.kpi.equity)

    service.context.ledger.voids.void_fill(key.partition(":")[2], "ada", "a typo", service.now)
    assert 180 / (1e6 + 180) == pytest.approx(service.run(100.0))
    assert (1e6, []) == (pytest.approx(service.state.kpi.equity), doubtful(service))


def test_what_it_loses_counts_and_a_person_confirms_what_it_gains(service):
    service.fill(HUGE, 100.0)
    service.run(100.0, 99.9995)
    assert 1e6 - 0.0005 * (HUGE + 9000) == pytest.approx(service.state.kpi.equity)

    service.run(100.0001)
    doubtful_fills.confirm(
        service.context.ledger, doubtful(service)[0].partition(":")[2], "ada", "a merger", service.now
    )
    service.run(100.0001)
    assert 1e6 + 0.0001 * (HUGE + 9000) == pytest.approx(service.state.kpi.equity)
    assert [] == doubtful(service)


def test_one_that_was_sold_again_gains_nothing_and_loses_nothing_by_later_prices(service):
    service.fill(HUGE, 100.0)
    service.run(100.01)
    service.fill(-HUGE, 100.01)
    service.run(100.01, 100.5, 101.0)

    assert 2 == len(doubtful(service))
    assert 1e6 + 9000 == pytest.approx(service.state.kpi.equity)


def test_the_multiple_is_a_setting_and_is_held_against_what_the_book_began_with_too(service):
    service.context.settings = service.context.settings.model_copy(
        update={"risk": service.context.settings.risk.model_copy(update={"fill_most_times_equity": 2.0})}
    )
    service.restart()
    service.fill(19_000.0, 100.0)
    service.run(100.0)
    assert [] == doubtful(service)

    service.fill(20_100.0, 100.0)
    service.run(100.0)
    assert 1 == len(doubtful(service))


def test_bars_that_came_since_have_none_of_it(service):
    barred(service, 100.0, 100.0)
    service.run(100.0)
    service.fill(HUGE, 100.0)
    service.run(100.0)
    barred(service, 100.0, 100.0, 100.4)

    assert 0.0 == pytest.approx(service.run(100.4), abs=1e-9)
    assert 1e6 + 3600 == pytest.approx(service.state.kpi.equity)
    assert 1e6 == pytest.approx(max(value for value, _ in service.state.history.equity.values()))
    assert service.state.kpi.pnl_today < 0.01
    assert -0.02 < service.run(100.3) < 0.02
