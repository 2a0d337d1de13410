"""A fill at a price that nothing agrees with makes no profit and no peak until a quote or a person says that it is right."""

import pytest

from jobs import doubts
from jobs import live as rooms
from mlops.errors import DataError
from mlops.io.ledger import Instrument
from mlops.settings import BookBalance, BookSettings, Settings
from mlops.types import Kind, TradingState
from tests.jobs.test_peak import DAY, T0, Service


@pytest.fixture
def service(sqlite_ledger, monkeypatch):
    """By the setting an account of a million, 9,000 shares at 100, quoted there."""
    monkeypatch.setattr(rooms, "SLOW_S", 0.0)
    found = Service(sqlite_ledger)
    found.house.settings = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))
    found.restart()
    found.fill(9000.0, 100.0, at=T0)
    found.run(100.0, seconds=3)
    return found


def doubtful(service):
    return [alert.key for alert in service.house.ledger.alerts() if alert.key.startswith("fill_doubtful:")]


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
    assert TradingState.HALTED is service.house.ledger.trading_state()
    assert 0.27768 == pytest.approx(service.state.kpi.drawdown.now)


def test_a_void_ends_it_and_leaves_the_peak(service):
    service.run(100.9, 100.0)
    before = service.state.kpi.drawdown.now
    service.fill(-100.0, 10_000.0)
    service.run(100.0, seconds=2)
    service.house.ledger.void_fill(doubtful(service)[0].partition(":")[2], "ada", "a typo", service.now)

    assert before == pytest.approx(service.run(100.0))
    assert [] == doubtful(service)
    assert (1e6, 9000.0) == (service.state.kpi.equity, service.state.positions["direction/live/A"].quantity)


def test_a_person_confirms_it_with_a_reason(service):
    service.fill(-100.0, 150.0)
    service.run(100.0, seconds=2)
    name = doubtful(service)[0].partition(":")[2]
    with pytest.raises(DataError, match="reason must be"):
        doubts.confirm(service.house.ledger, name, "ada", " ", service.now)
    doubts.confirm(service.house.ledger, name, "ada", "a block trade", service.now)

    service.run(100.0, seconds=2)
    assert 1_005_000 == pytest.approx(service.state.kpi.equity)
    assert [] == doubtful(service)
    service.restart()
    service.run(100.0)
    assert (1_005_000, []) == (pytest.approx(service.state.kpi.equity), doubtful(service))
    with pytest.raises(DataError, match="doubtful one"):
        doubts.confirm(service.house.ledger, name, "ada", "again", service.now)


def test_a_purchase_in_a_true_crash_before_quotes_agree_makes_no_peak(service):
    service.fill(1000.0, 80.0)
    service.run(100.0)
    assert 1e6 == pytest.approx(service.state.kpi.equity)

    service.run(80.0, seconds=10)

    assert 1e6 - 9000 * 20 == pytest.approx(service.state.kpi.equity)
    assert 0.18 == pytest.approx(service.state.kpi.drawdown.now)
    assert [] == doubtful(service)


def test_a_loss_by_a_wrong_price_counts_at_once_and_multipliers_count(service):
    service.house.ledger.put_instruments([Instrument("F", Kind.FUTURE, multiplier=50.0)], T0 - DAY)
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
