"""Alerts about the loops beside the HTTP service: one that fails is loud within seconds.

Each loop says after every look whether all went well (`mlops/web/watch.py`); `/readyz` shows it, and this thread makes
alerts of it, so that a loop that hangs or whose thread died is told of like one that raises. The same thread starts the
loops, and again those that end: none of them keeps another, or the alarm, from its start.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from jobs.context import Context
from mlops.alerts import ALERTS
from mlops.web.watch import NOT_YET, OK, Watch

log = structlog.get_logger()
PATIENCE_S = 4.0  # a failure that the next looks repair is no alert
EVERY_S = 1.0  # between two looks at the loops
AGAIN_S = 5.0  # between two starts of a loop that ends


@dataclass
class Loops:
    """Loops in a thread each, which run until `stop`; one that ends or cannot start has failed and is started again."""

    works: Mapping[str, Callable[[], object]]
    watch: Watch
    stop: threading.Event
    clock: Callable[[], float] = time.monotonic
    _threads: dict[str, threading.Thread] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)
    _endings: dict[str, str] = field(default_factory=dict)

    def keep(self) -> None:
        """Start each loop that does not run."""
        for name in self.works:
            thread = self._threads.get(name)
            if self.stop.is_set() or (thread is not None and thread.is_alive()):
                continue
            if thread is not None:
                self.watch.failed(name, self._endings.get(name, "ended"))
            if self.clock() - self._started.get(name, -math.inf) >= AGAIN_S:
                self._start(name)

    def _start(self, name: str) -> None:
        self._started[name] = self.clock()
        thread = threading.Thread(target=self._run, args=(name,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread for it
            log.error("loop cannot start", loop=name, error=str(error))
            self.watch.failed(name, type(error).__name__)
        else:
            self._threads[name] = thread

    def _run(self, name: str) -> None:
        self._endings.pop(name, None)
        try:
            self.works[name]()
        except Exception as error:  # the edge of a thread: it is started again
            log.exception("loop ended", loop=name)
            self._endings[name] = type(error).__name__


@dataclass
class Alarm:
    """Alerts about loops: opened once a loop was not well for PATIENCE_S, closed when it is well again."""

    context: Context
    watch: Watch
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)

    def settle(self, at: datetime) -> None:
        """Hold the alerts that are open against what the loops say."""
        parts, now = self.watch.parts(), self.clock()
        self._since = {
            name: self._since.get(name, now) for name, why in parts.items() if why != OK and name != "mlflow"
        }
        kind, soon = ALERTS["loop_failed"], set[str]()
        for name, since in self._since.items():
            patience = self.watch.within(name) if parts[name] == NOT_YET else PATIENCE_S
            if now - since < patience:
                soon.add(name)
        wanted = [
            kind.alert(at, {"loop": name, "time": at.isoformat(), "why": parts[name]}, details={"loop": name})
            for name in self._since.keys() - soon
        ]
        self.context.ledger.alerts.settle(
            kind.name, wanted, at, looked_at=lambda alert: alert.details.get("loop") not in soon
        )

    def run(self, stop: threading.Event, now: Callable[[], datetime], keep: Callable[[], None] = lambda: None) -> None:
        """Look every second until told to stop; `keep` the loops running before each look."""
        while True:
            for work in (keep, lambda: self.settle(now())):
                try:
                    work()
                except Exception:  # the ledger is away: `/readyz` says it, and the next second may be good
                    log.exception("loops not looked at")
            if stop.wait(EVERY_S):
                return
