"""The loop that tells the risk of all books every second: it goes on after a bad second, and hard lines act."""

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest
from sqlalchemy import text

from jobs import live, serve
from jobs.loops import Alarm
from mlops.settings import BookBalance, BookSettings, FeedSettings, RiskLimit, RiskSettings, Settings
from mlops.types import Priority, TradingState
from mlops.web.watch import Watch

T0 = datetime(2026, 3, 2, 15, tzinfo=UTC)
GROSS = (RiskLimit(measure="gross", warning=0.1, soft=0.2, hard=0.5),)


class Heard:
    """A hub that stops the loop after some states."""

    def __init__(self, stop, enough):
        self.stop, self.enough, self.states, self.news = stop, enough, [], threading.Event()

    def publish(self, state):
        self.states.append(state)
        if len(self.states) >= self.enough:
            self.stop.set()


KNOWN = BookSettings(balances=(BookBalance(amount=1e6),))  # of every account


def watching(*loops, **how):
    """A watch over the loops."""
    found = Watch(**how)
    for name in loops or ("risk", "freshness"):
        found.expect(name, 30.0)
    return found


def run(ledger, monkeypatch, *, clock="now", enough=2, quantity=9000.0):
    times = iter(T0 + timedelta(seconds=i) for i in range(1, 1000))
    monkeypatch.setattr(serve, "_now", lambda: next(times))
    row = {"fill_id": "f", "model": "direction", "version": 1, "book": "live", "unit": "A", "event_time": T0}
    ledger.add_fills(pd.DataFrame([row | {"quantity": quantity, "price": 100.0, "fee": 0.0}]))
    settings = Settings(risk=RiskSettings(every_s=0.01, limits=GROSS, clock=clock), feed=FeedSettings(), books=KNOWN)
    house = SimpleNamespace(ledger=ledger, settings=settings, run_id=None)
    stop = threading.Event()
    hub = Heard(stop, enough)
    serve._risk(house, hub, stop, watching())
    return hub.states


def test_a_hard_line_that_is_crossed_tightens_trading_and_the_page_hears_of_it(sqlite_ledger, monkeypatch):
    states = run(sqlite_ledger, monkeypatch)

    assert 0.9 == pytest.approx(states[-1].kpi.gross.value)
    assert "hard" == states[-1].limits["gross:all"].state
    assert TradingState.REDUCING == sqlite_ledger.trading_state()


def test_a_replay_is_looked_at_and_tightens_nothing(sqlite_ledger, monkeypatch):
    states = run(sqlite_ledger, monkeypatch, clock="ledger")

    assert "replay" == states[-1].clock
    assert TradingState.ACTIVE == sqlite_ledger.trading_state()


def test_a_second_that_fails_stops_no_other(sqlite_ledger, monkeypatch):
    look, seconds = live.Live.look, []

    def bad_now_and_then(self, as_of):
        seconds.append(as_of)
        if len(seconds) == 2:
            raise ZeroDivisionError("a bug")
        return look(self, as_of)

    monkeypatch.setattr(live.Live, "look", bad_now_and_then)

    assert 2 == len(run(sqlite_ledger, monkeypatch))
    assert 3 == len(seconds)


def test_a_new_price_is_looked_at_before_the_second_is_over(sqlite_ledger, monkeypatch):
    monkeypatch.setattr(serve, "_now", lambda: T0 + timedelta(seconds=1))
    house = SimpleNamespace(
        ledger=sqlite_ledger, settings=Settings(risk=RiskSettings(every_s=3600.0), books=KNOWN), run_id=None
    )
    monkeypatch.setattr(serve, "SOONEST", 1e-6)
    stop = threading.Event()
    hub = Heard(stop, 2)
    loop = threading.Thread(target=serve._risk, args=(house, hub, stop, watching()), daemon=True)
    loop.start()
    for _ in range(2):
        hub.news.set()
        while hub.news.is_set() and loop.is_alive():
            stop.wait(0.01)
    loop.join(timeout=60)

    assert 2 == len(hub.states)


# --- loops that fail --------------------------------------------------------------------------------------------------


def test_a_loop_that_fails_is_loud_within_seconds_and_quiet_when_it_works_again(sqlite_ledger):
    """Also one whose thread has died, or that hangs: it says nothing any more."""
    seconds, house = [0.0], SimpleNamespace(ledger=sqlite_ledger)
    watch = watching("risk", "limits", clock=lambda: seconds[0])
    alarm, works = Alarm(house, watch, clock=lambda: seconds[0]), True

    def second(*loops):
        seconds[0] += 1.0
        for loop in loops:
            watch.settle(loop, [] if works else ["ZeroDivisionError"])
        alarm.settle(T0 + timedelta(seconds=seconds[0]))
        return {alert.details["loop"] for alert in sqlite_ledger.alerts()}

    assert set() == second("risk", "limits")
    works = False
    told = [second("risk") for _ in range(8)]
    assert [set()] * 4 + [{"risk"}] * 4 == told
    assert "failed: ZeroDivisionError" == watch.parts()["risk"]
    (alert,) = sqlite_ledger.alerts()
    assert (Priority.CRITICAL, True) == (alert.priority, "ZeroDivisionError" in alert.title)
    works = True
    assert set() == second("risk", "limits")
    assert {"limits"} == [second("risk") for _ in range(36)][-1], "one that says nothing"
    assert set() == second("risk", "limits")
    works = False
    assert {"risk"} == [second("risk", "limits") for _ in range(6)][-1] - {"limits"}, "told again, under another key"


def test_a_book_that_cannot_be_read_stops_no_look_and_is_an_alert(sqlite_ledger, monkeypatch):
    row = {"fill_id": "x", "model": "direction", "version": 1, "book": "other", "unit": "B", "event_time": T0}
    sqlite_ledger.add_fills(pd.DataFrame([row | {"quantity": 1.0, "price": 1.0, "fee": 0.0}]))
    with sqlite_ledger._writing() as connection:
        connection.execute(text("UPDATE fills SET price = 2 WHERE fill_id = 'x'"))

    states = run(sqlite_ledger, monkeypatch)

    assert 900_000 == states[-1].positions["direction/live/A"].value
    assert ["direction/other"] == [a.details["row"] for a in sqlite_ledger.alerts() if "position_unknown" in a.key]
