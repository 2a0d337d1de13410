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
import structlog
import typer
from filelock import FileLock

from jobs import limits
from jobs.accounts import equity
from jobs.cli.terminal import start_job
from jobs.context import Context, run
from jobs.doctor import mlflow_writers
from jobs.live import freshness, risk, risk_limits
from jobs.live.loops import Alarm, Loops
from jobs.live.monotonic_clock import Instants
from jobs.portfolio import unbooked_fills
from mlops.settings import Settings
from mlops.types import Finding
from mlops.web import app
from mlops.web.feed import Hub
from mlops.web.server import Config, Server
from mlops.web.watch import Watch
from registry_hooks.bot.client import PATIENCE
from registry_hooks.bot.courier import Courier
from registry_hooks.bot.hosted import Scorers
from registry_hooks.reconcile import sweep
from registry_hooks.webhooks import freqtrade, mlflow_events
from registry_hooks.webhooks.outgoing import PROBE_S, Sender

log = structlog.get_logger()
SOONEST = 0.2  # of risk.every_s: looks are so far apart at the least, however many quotes come
FEEDS_S = 60.0  # between two looks at the feeds
TAKE_OVER_S = 0.02  # between two tries of who stands by to take the lock
AFTER_S = 0.5  # for those who waited for somebody to accept, before the loops want the processor
SLOW_ROUND_S = 30.0  # of a loop: MLflow is waited for so long
UNWATCHED = Watch()  # of a loop that runs alone
Item = TypeVar("Item")
CARRY_S = 10.0  # for the last scores to reach the ledger, at the end


@dataclass(frozen=True, slots=True)
class InheritedSockets:
    """Listening sockets of the supervisor: the one that all callers use, and one of this process for its health."""

    shared: socket.socket
    own: socket.socket

    @classmethod
    def read(cls, text: str) -> InheritedSockets:
        """From two file descriptors, `7,8`."""
        shared, own = (socket.socket(fileno=int(fd)) for fd in text.split(","))
        return cls(shared, own)


class Service:
    """The service of one process. Of two with the same shared socket one serves, and the other stands by.

    Whoever holds the lock accepts callers and runs the loops. The lock falls with its holder, also by kill -9; the
    callers of that moment wait in the socket's queue, which the supervisor keeps open, until the other one accepts.
    """

    def __init__(self, context: Context, handed: InheritedSockets | None) -> None:
        self._context, self._handed, self._stop = context, handed, threading.Event()
        settings = context.settings
        self._hub, self._watch = Hub(_now, settings.feed), _expected(settings)
        (settings.state / "run").mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(settings.state / "run" / "service.lock")
        self._scorers = Scorers(context.registry, _now, settings.service.poll_s, settings.bot)
        self._courier: Courier | None = None
        self._broken, self._held = False, 0
        built = app.build(context.registry, settings, _now, self._scorers, self._hub, self._watch)
        self._server = Server(Config(built, settings.service), self._begun, self._ended)

    def run(self) -> None:
        """Serve until stopped.

        Raises
        ------
        SystemExit
            It could not begin its work: whoever started it may start another one.
        """
        self._server.run(None if self._handed is None else [self._handed.own])
        self._stop.set()
        self._scorers.close()
        if self._courier is not None:
            self._courier.close(CARRY_S)
        if self._broken:
            raise SystemExit(1)

    def _begun(self) -> None:
        threading.Thread(target=self._begin, name="begin", daemon=True).start()

    def _begin(self) -> None:
        """Work until stopped. A service that cannot look at anything ends, so that another one is started."""
        try:
            if self._handed is None:
                self._loops()
            else:
                self._stand_by(self._handed)
        except Exception:  # the edge of a thread: the process ends with it
            log.exception("service cannot do its work and ends")
        if not self._stop.is_set():
            self._broken = self._server.should_exit = True

    def _stand_by(self, handed: InheritedSockets) -> None:
        self._lock.acquire(poll_interval=TAKE_OVER_S)
        self._held = self._inode()
        if not self._stop.is_set():
            self._server.take_over(handed.shared)  # first: callers wait
            log.info("serving")
            if not self._stop.wait(AFTER_S):
                self._loops()

    def _ended(self) -> None:
        """Nothing is accepted any more: the other one may."""
        self._stop.set()
        self._lock.release()

    def _loops(self) -> None:
        """Keep the loops running and tell of those that fail, until stopped."""
        context, watch, stop = self._context, self._watch, self._stop
        instants = Instants(context.ledger)
        works: dict[str, Callable[[], None]] = {
            "poll": lambda: _poll(context, self._carry, watch, stop),
            "hooks": lambda: _hooks(context, stop, watch),
            "limits": lambda: _limits(context, stop, watch, instants),
            "freshness": lambda: _freshness(context, stop, watch, instants),
            "risk": lambda: _risk(context, self._hub, stop, watch, instants),
        }
        loops = Loops(works, watch, stop)

        def keep() -> None:
            self._end_without_lock()
            loops.keep()

        Alarm(context, watch).run(stop, _now, keep)

    def _end_without_lock(self) -> None:
        """End if the lock's file was deleted or replaced: the other service holds the new one, and two would serve."""
        if self._held and self._inode() != self._held:
            log.error("the lock of this service is gone, and it ends", lock=self._lock.lock_file)
            self._broken = self._server.should_exit = True

    def _inode(self) -> int:
        """Inode of the lock's file, as others find it; -1 where there is none."""
        try:
            return os.stat(self._lock.lock_file).st_ino
        except FileNotFoundError:
            return -1

    def _carry(self) -> None:
        """See to it that there is a courier, for what a killed bot left."""
        if self._courier is None:
            self._courier = Courier(self._context.settings.state / "spool", self._context.ledger.url)
        self._courier.look()


def _expected(settings: Settings) -> Watch:
    """The loops, not looked at yet. Each may be silent for a few rounds and the time of a slow one."""
    watch, poll_s, limits_s = Watch(), settings.service.poll_s, settings.limits.every_s
    every = {"mlflow": poll_s, "poll": poll_s, "hooks": PROBE_S, "limits": limits_s, "freshness": limits_s}
    for name, every_s in (every | {"risk": settings.risk.every_s}).items():
        watch.expect(name, 3 * every_s + SLOW_ROUND_S)
    return watch


def serve(context: Context, handed: InheritedSockets | None = None) -> None:
    """Serve until stopped."""
    for name, value in PATIENCE.items():  # MLflow's client would wait for minutes
        os.environ.setdefault(name, value)
    Service(context, handed).run()


def _subscribe(context: Context) -> None:
    service = context.settings.service
    url = f"http://{service.host}:{service.port}/hooks/mlflow"
    mlflow_events.subscribe(context.client, url, service.webhook_secret.get_secret_value())


def _hooks(context: Context, stop: threading.Event, watch: Watch) -> None:
    """Send to outgoing hooks until stopped."""
    sender = Sender(context.ledger, context.settings.outgoing, _now)
    sender.run(stop, lambda why: watch.settle("hooks", [why] if why else []))


def _poll(context: Context, carry: Callable[[], None], watch: Watch, stop: threading.Event) -> None:
    """What a crash or a lost webhook left, at the start and every `poll_s` seconds. One that fails stops no other.

    The webhooks are subscribed to as soon as MLflow answers; `carry` does not wait for it.
    """
    s = context.settings
    mode, split = s.on_manual_move, s.experiment.split
    steps: tuple[Callable[[], object], ...] = (
        lambda: mlflow_events.catch_up(context.registry, _now(), on_manual_move=mode, split=split),
        lambda: freqtrade.catch_up(context.ledger, _now()),
        lambda: sweep(context.registry, _now(), on_manual_move=mode, split=split),
        mlflow_writers.Look(context, _now),
    )
    subscribed = False
    while True:
        failures = _failures(lambda step: step(), lambda: (carry,), "scores of killed bots are not carried")
        try:
            if not subscribed:
                _subscribe(context)
            context.client.search_registered_models(max_results=1)
            subscribed = True
            watch.well("mlflow")
        except (mlflow.MlflowException, OSError) as error:
            log.warning("MLflow does not answer", error=str(error), subscribed=subscribed)
            watch.failed("mlflow", type(error).__name__)
        failures += _failures(lambda step: step(), lambda: steps, "poll failed")
        watch.settle("poll", failures)
        if stop.wait(s.service.poll_s):
            return


def _failures(work: Callable[[Item], object], items: Callable[[], Iterable[Item]], event: str) -> list[str]:
    """Do the work on each item; the classes of what failed. One that fails stops no other."""
    failures = []
    try:
        for item in items():
            try:
                work(item)
            except Exception as error:  # the edge of a thread, which must not end: it is told, and the next look may do
                log.exception(event, item=str(item))
                failures.append(type(error).__name__)
    except Exception as error:  # what there is to do could not be read
        log.exception(event)
        failures.append(type(error).__name__)
    return failures


def _limits(
    context: Context, stop: threading.Event, watch: Watch = UNWATCHED, instants: Instants | None = None
) -> None:
    """Hold every champion against its hard limits, every few seconds. A look that fails stops no other."""
    instants = instants or Instants(context.ledger)
    while not stop.wait(context.settings.limits.every_s):
        failures = _failures(
            lambda model: limits.at(context, model, _looked_at(context, instants)),
            context.ledger.registry.models,
            "hard limits not held",
        )
        watch.settle("limits", failures)


def _looked_at(context: Context, instants: Instants) -> datetime:
    """The instant of a look, never earlier than one before; in a replay that of the clock."""
    return instants.at(_now()) if context.settings.risk.clock == "now" else _now()


def _freshness(
    context: Context, stop: threading.Event, watch: Watch = UNWATCHED, instants: Instants | None = None
) -> None:
    """Tell of bots and feeds that are silent; feeds every minute, for they take longer. A replay has no silence."""
    instants = instants or Instants(context.ledger)
    look, looked = freshness.Freshness(context), -math.inf
    feeds: dict[str, Finding] | None = None
    while not stop.wait(context.settings.limits.every_s):
        try:
            now, failures = _looked_at(context, instants), list[str]()
            if context.settings.risk.clock == "now":
                if time.monotonic() - looked >= FEEDS_S:
                    feeds, looked = look.feeds(now), time.monotonic()
                models = look.models(now)
                freshness.act(context, models, feeds, now)
                failures = [fresh.failure for fresh in models.values() if fresh.failure]
            watch.settle("freshness", failures)
        except Exception as error:  # the edge of a thread, as above
            log.exception("silence not looked at")
            watch.failed("freshness", type(error).__name__)


def _risk(
    context: Context, hub: Hub, stop: threading.Event, watch: Watch = UNWATCHED, instants: Instants | None = None
) -> None:
    """Tell the risk of all books every second, sooner when prices or trades come in, and hold it against its lines.

    A look that fails stops no other.
    """
    looking, every, took = risk.Live(context, instants=instants), context.settings.risk.every_s, 0.0
    while not stop.wait(max(every * SOONEST - took, 0.0)):
        hub.news.wait(max(every - max(took, every * SOONEST), 0.0))
        hub.news.clear()
        began = time.perf_counter()
        try:
            look = looking.look(risk.clock(context, _now()))
            as_of = look.state.as_of  # never an earlier one than before
            hub.publish(look.state)
            if context.settings.risk.clock == "now":
                risk_limits.act(context, look.findings, as_of, unknown=look.unknown)
                unbooked_fills.settle(context, look.lost, as_of)
                equity.tell(context, look.accounts, as_of)
            watch.well("risk")
        except Exception as error:  # whatever it was: the page says that it is stale, and the next second may be good
            log.exception("risk not looked at")
            watch.failed("risk", type(error).__name__)
        took = time.perf_counter() - began


def _now() -> datetime:
    return datetime.now(UTC)


def main(sockets: Annotated[str, typer.Option(help="Listening sockets of the supervisor.")] = "") -> None:
    """The service; with sockets that were handed to it one of two, which stands by until the other ends."""
    run("serve", lambda context: serve(context, InheritedSockets.read(sockets) if sockets else None))


if __name__ == "__main__":
    start_job(main)
