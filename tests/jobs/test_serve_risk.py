"""The loop that tells the risk of all books every second: it goes on after a bad second, and hard lines act."""

import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest
from sqlalchemy import text

from jobs import serve
from jobs.context import Context
from jobs.live import risk
from jobs.live.loops import AGAIN_S, Alarm, Loops
from mlops.settings import BookBalance, BookSettings, FeedSettings, RiskLimit, RiskSettings, Settings
from mlops.types import Priority, TradingState
from mlops.web.watch import Watch
from registry_hooks.aliases import Registry

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
    ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": quantity, "price": 100.0, "fee": 0.0}]))
    settings = Settings(risk=RiskSettings(every_s=0.01, limits=GROSS, clock=clock), feed=FeedSettings(), books=KNOWN)
    context = SimpleNamespace(ledger=ledger, settings=settings, run_id=None)
    stop = threading.Event()
    hub = Heard(stop, enough)
    serve._risk(context, hub, stop, watching())
    return hub.states


def test_a_hard_line_that_is_crossed_tightens_trading_and_the_page_hears_of_it(sqlite_ledger, monkeypatch):
    states = run(sqlite_ledger, monkeypatch)

    assert 0.9 == pytest.approx(states[-1].kpi.gross.value)
    assert "hard" == states[-1].limits["gross:all"].state
    assert TradingState.REDUCING == sqlite_ledger.trading.state()


def test_a_replay_is_looked_at_and_tightens_nothing(sqlite_ledger, monkeypatch):
    states = run(sqlite_ledger, monkeypatch, clock="ledger")

    assert "replay" == states[-1].clock
    assert TradingState.ACTIVE == sqlite_ledger.trading.state()


def test_a_second_that_fails_stops_no_other(sqlite_ledger, monkeypatch):
    look, seconds = risk.Live.look, []

    def bad_now_and_then(self, as_of):
        seconds.append(as_of)
        if len(seconds) == 2:
            raise ZeroDivisionError("a bug")
        return look(self, as_of)

    monkeypatch.setattr(risk.Live, "look", bad_now_and_then)

    assert 2 == len(run(sqlite_ledger, monkeypatch))
    assert 3 == len(seconds)


def test_a_new_price_is_looked_at_before_the_second_is_over(sqlite_ledger, monkeypatch):
    monkeypatch.setattr(serve, "_now", lambda: T0 + timedelta(seconds=1))
    context = SimpleNamespace(
        ledger=sqlite_ledger, settings=Settings(risk=RiskSettings(every_s=3600.0), books=KNOWN), run_id=None
    )
    monkeypatch.setattr(serve, "SOONEST", 1e-6)
    stop = threading.Event()
    hub = Heard(stop, 2)
    loop = threading.Thread(target=serve._risk, args=(context, hub, stop, watching()), daemon=True)
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
    seconds, context = [0.0], SimpleNamespace(ledger=sqlite_ledger)
    watch = watching("risk", "limits", clock=lambda: seconds[0])
    alarm, works = Alarm(context, watch, clock=lambda: seconds[0]), True

    def second(*loops):
        seconds[0] += 1.0
        for loop in loops:
            watch.settle(loop, [] if works else ["ZeroDivisionError"])
        alarm.settle(T0 + timedelta(seconds=seconds[0]))
        return {alert.details["loop"] for alert in sqlite_ledger.alerts.newest()}

    assert set() == second("risk", "limits")
    works = False
    told = [second("risk") for _ in range(8)]
    assert [set()] * 4 + [{"risk"}] * 4 == told
    assert "failed: ZeroDivisionError" == watch.parts()["risk"]
    (alert,) = sqlite_ledger.alerts.newest()
    assert (Priority.CRITICAL, True) == (alert.priority, "ZeroDivisionError" in alert.title)
    works = True
    assert set() == second("risk", "limits")
    assert {"limits"} == [second("risk") for _ in range(36)][-1], "one that says nothing"
    assert set() == second("risk", "limits")
    works = False
    assert {"risk"} == [second("risk", "limits") for _ in range(6)][-1] - {"limits"}, "told again, under another key"


def test_a_book_that_cannot_be_read_stops_no_look_and_is_an_alert(sqlite_ledger, monkeypatch):
    row = {"fill_id": "x", "model": "direction", "version": 1, "book": "other", "unit": "B", "event_time": T0}
    sqlite_ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": 1.0, "price": 1.0, "fee": 0.0}]))
    with sqlite_ledger.writing() as connection:
        connection.execute(text("UPDATE fills SET price = 2 WHERE fill_id = 'x'"))

    states = run(sqlite_ledger, monkeypatch)

    assert 900_000 == states[-1].positions["direction/live/A"].value
    assert ["direction/other"] == [
        a.details["row"] for a in sqlite_ledger.alerts.newest() if "position_unknown" in a.key
    ]


def test_a_loop_that_cannot_start_or_ends_keeps_no_other_from_its_work_and_is_started_again(sqlite_ledger, monkeypatch):
    watch, stop, seconds = watching("bad", "mute", "good"), threading.Event(), [0.0]
    tries, worked = [], threading.Event()

    def bad():
        tries.append(1)
        if len(tries) < 3:
            raise PermissionError("no folder for its spool")
        watch.well("bad")
        stop.wait()

    def good():
        worked.set()
        watch.well("good")
        stop.wait()

    start = threading.Thread.start

    def scarce(thread):
        if thread.name == "mute" and seconds[0] < 2 * AGAIN_S:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    works = {"bad": bad, "mute": lambda: watch.well("mute") or stop.wait(), "good": good}
    loops = Loops(works, watch, stop, clock=lambda: seconds[0])

    def keep():
        loops.keep()
        for thread in threading.enumerate():
            if thread.name == "bad":
                thread.join(0.5)

    keep()
    keep()
    assert worked.wait(30)
    assert ("PermissionError", "RuntimeError") == tuple(watch.parts()[n].rpartition(" ")[2] for n in ("bad", "mute"))
    for _ in range(2):
        seconds[0] += AGAIN_S
        keep()
        keep()
    stop.wait(0.2)
    assert {"ok"} == set(watch.parts().values())
    stop.set()


def eventually(holds, limit_s):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def service(tmp_path, ledger):
    settings = Settings(state=tmp_path, tracking_uri="http://127.0.0.1:9")
    return serve.Service(Context(settings, Registry(None, ledger, tmp_path / "bundles")), None)


def test_a_service_whose_spool_is_in_the_way_looks_at_the_rest_and_tells_of_it(tmp_path, sqlite_ledger):
    (tmp_path / "spool").write_text("a file, where a folder must be")
    serving = service(tmp_path, sqlite_ledger)
    thread = threading.Thread(target=serving._begin, daemon=True)
    thread.start()
    try:
        eventually(
            lambda: any(alert.key.startswith("loop_failed:poll@") for alert in sqlite_ledger.alerts.newest()), 60
        )
        eventually(lambda: all(serving._watch.parts()[name] == "ok" for name in ("hooks", "limits", "risk")), 60)
    finally:
        serving._stop.set()
        thread.join(60)
    assert not serving._server.should_exit


def test_a_service_that_can_begin_nothing_ends(tmp_path, sqlite_ledger, monkeypatch):
    monkeypatch.setattr(serve, "Alarm", lambda *_: 1 / 0)
    serving = service(tmp_path, sqlite_ledger)
    serving._begin()

    assert serving._server.should_exit
    monkeypatch.setattr(serving._server, "run", lambda sockets: None)
    with pytest.raises(SystemExit):
        serving.run()


def test_a_service_whose_lock_is_deleted_ends_before_two_serve_for_long(tmp_path, sqlite_ledger):
    serving = service(tmp_path, sqlite_ledger)
    serving._lock.acquire()
    serving._held = serving._inode()
    serving._end_without_lock()
    assert not serving._server.should_exit
    (tmp_path / "run" / "service.lock").unlink()
    serving._end_without_lock()
    assert serving._server.should_exit
