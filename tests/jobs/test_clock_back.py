"""A clock that is set back: nothing relaxes, nothing is forgotten, and a person hears of it at once."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from jobs import serve
from jobs.live.monotonic_clock import KINDS, Instants, accept
from jobs.live.risk import Live
from jobs.live.risk_limits import act
from mlops.errors import DataError
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings
from mlops.types import Priority, TradingState

T0, S, HOUR = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1), timedelta(hours=1)
LINES = (
    RiskLimit(measure="gross", warning=1.5, soft=2, hard=3),
    RiskLimit(measure="drawdown", warning=0.08, soft=0.12, hard=0.9),
    RiskLimit(measure="net", warning=50, soft=60, hard=70),
)


@pytest.fixture
def context(sqlite_ledger):
    books = BookSettings(balances=(BookBalance(amount=1e6),))
    return SimpleNamespace(
        ledger=sqlite_ledger, settings=Settings(risk=RiskSettings(limits=LINES), books=books), run_id=None
    )


def fill(context, quantity, at):
    row = {"fill_id": f"{at}", "model": "direction", "version": 1, "book": "live", "unit": "A", "event_time": at}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": float(quantity), "price": 100.0, "fee": 0.0}]))


def looked(context, live, prices, at):
    for i, price in enumerate(prices):
        now = at + i * S
        row = {"unit": "A", "event_time": now, "known_at": now, "bid": price, "ask": price}
        context.ledger.quotes.add(pd.DataFrame([row | {"bid_size": 0.0, "ask_size": 0.0}]))
        look = live.look(now)
        act(context, look.findings, look.state.as_of, unknown=look.unknown)
    return look


def states(look):
    return {f.name: f.params["state"].value for f in look.findings}


def keys(context, kind):
    return [alert.key for alert in context.ledger.alerts.newest() if alert.key.startswith(kind)]


@pytest.mark.parametrize("restart", [False, True])
def test_a_breach_of_a_fill_of_ten_minutes_ago_stands(context, restart):
    fill(context, 5000, T0 - 48 * HOUR)
    fill(context, 40_000, T0 - 1 * S)
    live = Live(context)
    looked(context, live, [100.0] * 3, T0)
    look = looked(context, live, [100.0], T0 + 600 * S)
    assert "hard" == states(look)["gross"]
    [breach] = keys(context, "risk_limit:gross:all:hard")

    look = looked(context, Live(context) if restart else live, [100.0] * 3, T0 - HOUR)

    assert {"gross": "hard", "drawdown": "unknown", "net": "unknown"} == states(look)
    assert [breach] == keys(context, "risk_limit:gross:all:hard")
    assert 4.5 == pytest.approx(look.state.kpi.gross.value)
    assert TradingState.ACTIVE is not context.ledger.trading.state()
    assert "The clock was set back, 70 min" in look.state.missing["clock"]
    [alert] = [one for one in context.ledger.alerts.newest() if one.key.startswith("clock_back:")]
    assert (Priority.CRITICAL, f"clock_back:{T0 + 600 * S:%Y-%m-%dT%H:%M:%S}") == (alert.priority, alert.key)


def test_a_drawdown_is_the_same_when_the_clock_is_right_again_and_all_is_known(context):
    fill(context, 9000, T0 - 5 * S)
    live = Live(context)
    look = looked(context, live, [100.0, *range(100, 79, -1), *[80.0] * 12], T0)
    assert (0.18, "soft") == (pytest.approx(look.state.kpi.drawdown.now), states(look)["drawdown"])
    soft, at = keys(context, "risk_limit:drawdown"), T0 + 40 * S

    live = Live(context)
    for minute in range(8):  # more saved looks than are kept
        look = looked(context, live, [80.0], T0 - HOUR + minute * 60 * S)
        assert (0.18, "soft") == (pytest.approx(look.state.kpi.drawdown.now), states(look)["drawdown"])
    live = Live(context)
    look = looked(context, live, [80.0, 80.0], at)

    assert (0.18, "soft") == (pytest.approx(look.state.kpi.drawdown.now), states(look)["drawdown"])
    assert {"gross": "ok", "net": "ok"}.items() <= states(look).items()
    assert soft == keys(context, "risk_limit:drawdown") != []
    assert [] == keys(context, "clock_back:")
    assert "clock" not in look.state.missing


def test_a_clock_that_is_a_second_behind_is_no_news(context):
    fill(context, 100, T0 - 5 * S)
    live = Live(context)
    looked(context, live, [100.0] * 3, T0)

    look = live.look(T0 + S)

    assert {"ok"} == set(states(look).values())
    assert T0 + 2 * S == look.state.as_of
    assert [] == keys(context, "clock_back:")


def ahead(context, live):
    """A service whose clock was a month ahead for ten minutes, with a drawdown of 18 %, and is right now."""
    fill(context, 9000, T0 - 5 * S)
    looked(context, live, [100.0, *range(100, 79, -1), *[80.0] * 12], T0)
    far = T0 + 720 * HOUR
    for i in range(10):  # more saved looks than are kept
        live.look(far + i * 60 * S)
    look = live.look(T0 + 60 * S)
    assert {"drawdown": "soft", "gross": "unknown", "net": "unknown"} == states(look)
    return far + 540 * S


@pytest.mark.parametrize("restart", [False, True])
def test_a_person_accepts_a_clock_that_was_ahead_and_nothing_that_was_known_is_lost(context, restart):
    live = Live(context)
    stood = ahead(context, live)

    assert stood == accept(context.ledger, "ann", "ntp was off", T0 + 61 * S)
    live = Live(context) if restart else live
    look = looked(context, live, [80.0] * 2, T0 + 62 * S)

    assert T0 + 63 * S == look.state.as_of
    assert {"drawdown": "soft", "gross": "ok", "net": "ok"} == states(look)
    assert 0.18 == pytest.approx(look.state.kpi.drawdown.now)
    assert look.state.kpi.drawdown.start <= T0 + 63 * S
    assert "clock" not in look.state.missing
    look = looked(context, live, [70.0] * 12, T0 + 64 * S)
    assert 0.27 == pytest.approx(look.state.kpi.drawdown.now), "new prices count"
    assert [] == keys(context, "clock_back:")
    [told] = [one for one in context.ledger.alerts.newest(open_only=False) if one.key.startswith("clock_accepted:")]
    assert {"actor": "ann", "reason": "ntp was off", "stood": stood.isoformat()} == told.details
    assert context.ledger.risk.newest_state(KINDS) <= T0 + 75 * S


def test_an_acceptance_that_was_killed_halfway_is_done_by_the_next_look(context, monkeypatch):
    live = Live(context)
    ahead(context, live)
    with monkeypatch.context() as kill:
        kill.setattr(type(context.ledger.risk), "redate_states", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            accept(context.ledger, "ann", "ntp was off", T0 + 61 * S)

    look = looked(context, Live(context), [80.0] * 2, T0 + 62 * S)

    assert T0 + 63 * S == look.state.as_of
    assert {"drawdown": "soft", "gross": "ok", "net": "ok"} == states(look)
    assert [] == keys(context, "clock_back:")


def test_a_clock_that_is_set_back_again_after_that_holds_again(context):
    live = Live(context)
    ahead(context, live)
    accept(context.ledger, "ann", "ntp was off", T0 + 61 * S)
    looked(context, live, [80.0] * 2, T0 + 62 * S)

    look = live.look(T0 + 30 * S)

    assert {"drawdown": "soft", "gross": "unknown", "net": "unknown"} == states(look)


def test_what_would_count_no_more_is_refused_and_so_is_a_clock_that_is_right(context):
    live = Live(context)
    ahead(context, live)
    fill(context, 100, T0 + 700 * HOUR)
    row = {"model": "direction", "book": "live", "amount": 1e6, "flow": -5.0}
    for hours in (0, 1):
        at = T0 + hours * HOUR
        context.ledger.balances.add(pd.DataFrame([row | {"event_time": at, "known_at": at}]))

    with pytest.raises(DataError, match="got 1 fills and 1 balances after it"):
        accept(context.ledger, "ann", "ntp was off", T0 + 61 * S)
    context.ledger.voids.void_fill(f"{T0 + 700 * HOUR}", "ann", "wrong time", T0 + 61 * S)
    context.ledger.balances.void("direction", "live", T0 + HOUR, "ann", "wrong time", T0 + 61 * S)
    with pytest.raises(DataError, match="reason of a clock"):
        accept(context.ledger, "ann", " ", T0 + 61 * S)
    accept(context.ledger, "ann", "ntp was off", T0 + 61 * S)
    with pytest.raises(DataError, match="There is nothing to do"):
        accept(context.ledger, "ann", "again", T0 + 62 * S)


def test_all_loops_of_a_service_look_at_the_instant_that_stands(context, monkeypatch):
    instants = Instants(context.ledger)
    Live(context, instants=instants).look(T0)
    monkeypatch.setattr(serve, "_now", lambda: T0 - HOUR)

    assert T0 == serve._looked_at(context, instants)
    context.settings = context.settings.model_copy(update={"risk": RiskSettings(clock="ledger")})
    assert T0 - HOUR == serve._looked_at(context, instants), "a replay has the clock's"
