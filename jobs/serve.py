"""The platform's service: bot API, hooks in and out, hard limits, live risk with its page, and the poll that
repairs what got lost."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import mlflow
import pandas as pd
import structlog
import typer
from filelock import FileLock

from jobs import accounts, freshness, limits, live, risk_limits, unbooked
from jobs.house import House, run
from jobs.loops import Alarm
from mlops.settings import Settings
from mlops.types import Finding
from mlops.web import app
from mlops.web.feed import Hub
from mlops.web.server import Config, Server
from mlops.web.watch import Watch
from registry_hooks import freqtrade, webhook
from registry_hooks.bot import PATIENCE
from registry_hooks.courier import Courier
from registry_hooks.outgoing import PROBE_S, Sender
from registry_hooks.reconcile import sweep
from registry_hooks.scorers import Scorers

log = structlog.get_logger()
SOONEST = 0.2  # of risk.every_s: looks are so far apart at the least, however many quotes come
FEEDS_S = 60.0  # between two looks at the feeds
TAKE_OVER_S = 0.05  # between two tries of who stands by to take the lock
AFTER_S = 0.5  # for those who waited for somebody to accept, before the loops want the processor
SLOW_ROUND_S = 30.0  # of a loop: MLflow is waited for so long
UNWATCHED = Watch()  # of a loop that runs alone
Item = TypeVar("Item")
CARRY_S = 10.0  # for the last scores to reach the ledger, at the end


@dataclass(frozen=True, slots=True)
class Handed:
    """Listening sockets of the supervisor: the one that all callers use, and one of this process for its health."""

    shared: socket.socket
    own: socket.socket

    @classmethod
    def read(cls, text: str) -> Handed:
        """From two file descriptors, `7,8`."""
        shared, own = (socket.socket(fileno=int(fd)) for fd in text.split(","))
        return cls(shared, own)


class Service:
    """The service of one process. Of two with the same shared socket one serves, and the other stands by.

    Whoever holds the lock accepts callers and runs the loops. The lock falls with its holder, also by kill -9; the
    callers of that moment wait in the socket's queue, which the supervisor keeps open, until the other one accepts.
    """

    def __init__(self, house: House, handed: Handed | None) -> None:
        self._house, self._handed, self._stop = house, handed, threading.Event()
        settings = house.settings
        self._hub, self._watch = Hub(_now, settings.feed), _expected(settings)
        (settings.state / "run").mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(settings.state / "run" / "service.lock")
        self._scorers = Scorers(house.registry, _now, settings.service.poll_s, settings.bot)
        self._courier: Courier | None = None
        built = app.build(house.registry, settings, _now, self._scorers, self._hub, self._watch)
        self._server = Server(Config(built, settings.service), self._begun, self._ended)

    def run(self) -> None:
        """Serve until stopped."""
        self._server.run(None if self._handed is None else [self._handed.own])
        self._stop.set()
        self._scorers.close()
        if self._courier is not None:
            self._courier.close(CARRY_S)

    def _begun(self) -> None:
        work = self._loops if self._handed is None else self._stand_by
        threading.Thread(target=work, name="begin", daemon=True).start()

    def _stand_by(self) -> None:
        assert self._handed is not None
        self._lock.acquire(poll_interval=TAKE_OVER_S)
        if not self._stop.is_set():
            self._server.take_over(self._handed.shared)  # first: callers wait
            log.info("serving")
            if not self._stop.wait(AFTER_S):
                self._loops()

    def _ended(self) -> None:
        """Nothing is accepted any more: the other one may."""
        self._stop.set()
        self._lock.release()

    def _loops(self) -> None:
        house, watch, stop, s = self._house, self._watch, self._stop, self._house.settings
        sender = Sender(house.ledger, s.outgoing, _now)
        courier = self._courier = Courier(s.state / "spool", house.ledger.url)  # for what a killed bot left
        loops: dict[str, Callable[[], None]] = {
            "poll": lambda: _poll(house, courier, watch, stop),
            "hooks": lambda: sender.run(stop, lambda why: watch.settle("hooks", [why] if why else [])),
            "limits": lambda: _limits(house, stop, watch),
            "freshness": lambda: _freshness(house, stop, watch),
            "risk": lambda: _risk(house, self._hub, stop, watch),
        }
        for name, work in loops.items():
            threading.Thread(target=work, name=name, daemon=True).start()
        alarm = Alarm(house, watch)
        threading.Thread(target=alarm.run, args=(stop, _now), name="alarm", daemon=True).start()


def _expected(settings: Settings) -> Watch:
    """The loops, not looked at yet. Each may be silent for a few rounds and the time of a slow one."""
    watch, poll_s, limits_s = Watch(), settings.service.poll_s, settings.limits.every_s
    every = {"mlflow": poll_s, "poll": poll_s, "hooks": PROBE_S, "limits": limits_s, "freshness": limits_s}
    for name, every_s in (every | {"risk": settings.risk.every_s}).items():
        watch.expect(name, 3 * every_s + SLOW_ROUND_S)
    return watch


def serve(house: House, handed: Handed | None = None) -> None:
    """Serve until stopped."""
    for name, value in PATIENCE.items():  # MLflow's client would wait for minutes
        os.environ.setdefault(name, value)
    Service(house, handed).run()


def _subscribe(house: House) -> None:
    service = house.settings.service
    url = f"http://{service.host}:{service.port}/hooks/mlflow"
    webhook.subscribe(house.client, url, service.webhook_secret.get_secret_value())


def _poll(house: House, courier: Courier, watch: Watch, stop: threading.Event) -> None:
    """What a crash or a lost webhook left, at the start and every `poll_s` seconds. One that fails stops no other.

    First of all the webhooks are subscribed to, as soon as MLflow answers.
    """
    s = house.settings
    mode, split = s.on_manual_move, s.experiment.split
    steps: tuple[Callable[[], object], ...] = (
        lambda: webhook.catch_up(house.registry, _now(), on_manual_move=mode, split=split),
        lambda: freqtrade.catch_up(house.ledger, _now()),
        lambda: sweep(house.registry, _now(), on_manual_move=mode, split=split),
        courier.look,
    )
    subscribed = False
    while True:
        try:
            if not subscribed:
                _subscribe(house)
            house.client.search_registered_models(max_results=1)
            subscribed = True
            watch.well("mlflow")
        except (mlflow.MlflowException, OSError) as error:
            log.warning("MLflow does not answer", error=str(error), subscribed=subscribed)
            watch.failed("mlflow", type(error).__name__)
        failures = _failures(lambda step: step(), lambda: steps, "poll failed")
        watch.settle("poll", failures)
        if stop.wait(s.service.poll_s):
            return


def _failures(work: Callable[[Item], object], items: Callable[[], Iterable[Item]], what: str) -> list[str]:
    """Do the work on each item; the classes of what failed. One that fails stops no other."""
    failures = []
    try:
        for item in items():
            try:
                work(item)
            except Exception as error:  # the edge of a thread, which must not end: it is told, and the next look may do
                log.exception(what, item=str(item))
                failures.append(type(error).__name__)
    except Exception as error:  # what there is to do could not be read
        log.exception(what)
        failures.append(type(error).__name__)
    return failures


def _limits(house: House, stop: threading.Event, watch: Watch = UNWATCHED) -> None:
    """Hold every champion against its hard limits, every few seconds. A look that fails stops no other."""
    while not stop.wait(house.settings.limits.every_s):
        failures = _failures(
            lambda model: limits.at(house, model, pd.DataFrame(), _now()),
            house.ledger.models,
            "hard limits not held",
        )
        watch.settle("limits", failures)


def _freshness(house: House, stop: threading.Event, watch: Watch = UNWATCHED) -> None:
    """Tell of bots and feeds that are silent; feeds every minute, for they take longer. A replay has no silence."""
    look, feeds, looked = freshness.Freshness(house), dict[str, Finding](), -math.inf
    while not stop.wait(house.settings.limits.every_s):
        try:
            now = _now()
            watch.well("freshness")
            if house.settings.risk.clock != "now":
                continue
            if time.monotonic() - looked >= FEEDS_S:
                feeds, looked = look.feeds(now), time.monotonic()
            freshness.act(house, look.models(now), feeds, now)
        except Exception as error:  # the edge of a thread, as above
            log.exception("silence not looked at")
            watch.failed("freshness", type(error).__name__)


def _risk(house: House, hub: Hub, stop: threading.Event, watch: Watch = UNWATCHED) -> None:
    """Tell the risk of all books every second, sooner when prices or trades come in, and hold it against its lines.

    A look that fails stops no other.
    """
    looking, every, took = live.Live(house), house.settings.risk.every_s, 0.0
    while not stop.wait(max(every * SOONEST - took, 0.0)):
        hub.news.wait(max(every - max(took, every * SOONEST), 0.0))
        hub.news.clear()
        began = time.perf_counter()
        try:
            as_of = live.clock(house, _now())
            look = looking.look(as_of)
            hub.publish(look.state)
            if house.settings.risk.clock == "now":
                risk_limits.act(house, look.findings, as_of, unknown=look.unknown)
                unbooked.settle(house, look.lost, as_of)
                accounts.tell(house, look.accounts, as_of)
            watch.well("risk")
        except Exception as error:  # whatever it was: the page says that it is stale, and the next second may be good
            log.exception("risk not looked at")
            watch.failed("risk", type(error).__name__)
        took = time.perf_counter() - began


def _now() -> datetime:
    return datetime.now(UTC)


def main(sockets: Annotated[str, typer.Option(help="Listening sockets of the supervisor.")] = "") -> None:
    """The service; with sockets that were handed to it one of two, which stands by until the other ends."""
    run("serve", lambda house: serve(house, Handed.read(sockets) if sockets else None))


if __name__ == "__main__":
    typer.run(main)
