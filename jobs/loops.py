"""Alerts about the loops beside the HTTP service: one that fails is loud within seconds.

Each loop says after every look whether all went well (`mlops/web/watch.py`); `/readyz` shows it, and this thread makes
alerts of it, so that a loop that hangs or whose thread died is told of like one that raises.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from jobs.house import House
from mlops.types import Alert, Priority
from mlops.web.watch import NOT_YET, OK, Watch

log = structlog.get_logger()
KIND = "loop_failed:"
PATIENCE_S = 4.0  # a failure that the next looks repair is no alert
EVERY_S = 1.0  # between two looks at the loops


@dataclass
class Alarm:
    """Alerts about loops: opened once a loop was not well for PATIENCE_S, closed when it is well again."""

    house: House
    watch: Watch
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)

    def settle(self, at: datetime) -> None:
        """Hold the alerts that are open against what the loops say."""
        parts, now = self.watch.parts(), self.clock()
        self._since = {
            name: self._since.get(name, now) for name, why in parts.items() if why != OK and name != "mlflow"
        }
        told = {
            a.key.removeprefix(KIND).partition("@")[0]: a.key
            for a in self.house.ledger.alerts()
            if a.key.startswith(KIND)
        }
        for name, since in self._since.items():
            patience = self.watch.within(name) if parts[name] == NOT_YET else PATIENCE_S
            if name not in told and now - since >= patience:
                title = f"loop {name} of the service does not do its work: {parts[name]}"
                key = f"loop_failed:{name}@{at.isoformat()}"
                self.house.ledger.add_alert(Alert(key, Priority.CRITICAL, "", title, at, {"loop": name}))
        for name in told.keys() - self._since.keys():
            self.house.ledger.resolve_alert(told[name], at)

    def run(self, stop: threading.Event, now: Callable[[], datetime]) -> None:
        """Until told to stop."""
        while not stop.wait(EVERY_S):
            try:
                self.settle(now())
            except Exception:  # the ledger is away: `/readyz` says it, and the next second may be good
                log.exception("loops not looked at")
