"""A person lifts the state of trading: what stood then is accepted, at confirmed prices only."""

from types import SimpleNamespace

import pytest
import typer

from jobs.live import trading_state
from mlops.errors import DataError
from tests.jobs.test_bad_prices import ACTIVE, GOOD, HALTED, KNOWN, REDUCING, SECOND, Service, fill


@pytest.fixture
def service(sqlite_ledger):
    """All of a book in A, bought at 100, quoted there."""
    context = SimpleNamespace(ledger=sqlite_ledger, settings=KNOWN, run_id=None)
    fill(context, "A", 10_000.0, 100.0)
    found = Service(context)
    assert {ACTIVE} == set(found.run(GOOD, seconds=5))
    return found


def test_a_lift_accepts_what_stands_at_confirmed_prices_and_writes_it_into_the_change(service):
    service.run(("A", 79.0, 80.0), seconds=20)

    assert trading_state.set_state(service.context, ACTIVE, "ada", "seen", service.now)

    change = service.context.ledger.trading.log()[-1]
    assert {"drawdown:all": 0.205, "daily_loss:all": 0.205} == pytest.approx(change.accepted)
    assert {ACTIVE} == set(service.run(("A", 79.0, 80.0), seconds=20))
    assert HALTED is service.run(("A", 76.0, 76.1), seconds=20)[-1], "3 % of equity is over a quarter of 5 %"


def test_a_person_sees_what_a_lift_accepts_and_may_leave_it(service):
    service.run(("A", 79.0, 80.0), seconds=20)
    shown = []

    def no(crossed):
        shown.extend(crossed)
        raise typer.Abort

    with pytest.raises(typer.Abort):
        trading_state.set_state(service.context, ACTIVE, "ada", "seen", service.now, no)

    assert HALTED is service.context.ledger.trading.state()
    told = "drawdown 20.5 %, at or over the hard line of 20.0 %; it would be accepted up to 127% of its line"
    assert told in shown
    assert not trading_state.set_state(service.context, HALTED, "ada", "seen", service.now, no), (
        "tightening asks nothing"
    )


def test_a_lift_is_refused_while_a_price_is_not_confirmed_and_tightening_never_is(service):
    service.run(("A", 79.9, 80.1), seconds=20)
    service.run(("A", 50.0, 50.1), seconds=1)

    with pytest.raises(DataError, match=r"at confirmed prices, got A quoted at 50.05.*price confirm"):
        trading_state.set_state(service.context, ACTIVE, "ada", "seen", service.now)
    assert HALTED is service.context.ledger.trading.state()
    assert not trading_state.set_state(service.context, HALTED, "ada", "seen", service.now)

    service.context.ledger.confirmed_prices.add("A", 80.0, "ada", "one bad tick", service.now)
    service.now += SECOND
    assert trading_state.set_state(service.context, REDUCING, "ada", "seen", service.now)
    assert trading_state.set_state(service.context, HALTED, "ada", "on second thoughts", service.now)


def test_a_lift_of_a_state_that_somebody_changed_meanwhile_is_refused(service, monkeypatch):
    service.run(("A", 79.9, 80.1), seconds=7)

    def late(context, at):
        context.ledger.trading.set(HALTED, "bob", "worse", at)
        return ()

    monkeypatch.setattr(trading_state, "crossed", late)
    with pytest.raises(DataError, match="must be reducing as you saw it, got halted"):
        trading_state.set_state(service.context, ACTIVE, "ada", "seen", service.now)
