"""What a bot hears from the ledger and what it has to tell: neither is lost while the ledger is away."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime

import mlflow
import structlog
from sqlalchemy.exc import SQLAlchemyError

from mlops.alerts import ALERTS
from mlops.errors import MlopsError
from mlops.types import Alert
from registry_hooks.aliases import Registry

log = structlog.get_logger()
AWAY = (mlflow.MlflowException, SQLAlchemyError, MlopsError, OSError)  # the platform, or a part of it, does not answer
MOST = 1000  # alerts that wait; past it the oldest are forgotten (they are in the log)


class News:
    """Hints that the registry changed, one way; alerts, the other.

    Parameters
    ----------
    poll_s : float
        Seconds between two readings of the registry when no hint came.
    at_once : bool
        Alerts are told when they are raised, by whoever raises them; else at the next `tell_all`.
    """

    def __init__(self, model: str, registry: Registry, poll_s: float, *, at_once: bool) -> None:
        self._model, self._ledger, self._poll_s, self._at_once = model, registry.ledger, poll_s, at_once
        self._cut: dict[int, str] = {}  # version -> key of the alert that says so
        self._untold: deque[Alert | str] = deque(maxlen=MOST)  # alerts, and keys of those that are over
        self._polled, (self._seen, self._last) = time.monotonic(), self._newest()

    def due(self) -> bool:
        """Whether it is time to read the registry: the champion was moved, a hint came, or the last reading is old.

        A bot that trades by the clock of others (`at_once`) waits for hints, as its replay counts them.
        """
        hints = self._ledger.deliveries.settled(self._model, after=self._seen)
        last = self._last if self._at_once else self._ledger.registry.last_move(self._model)
        late = time.monotonic() - self._polled >= self._poll_s
        moved, self._last = last != self._last, last
        if hints:
            self._seen = hints[-1].id
        if late:
            self._polled = time.monotonic()
        return moved or bool(hints) or late

    def cause(self) -> str:
        """The correlation id of the last transition."""
        entry = self._ledger.registry.promotions(self._model)[-1:]
        return entry[0].correlation_id if entry else ""

    def tell(self, alert: Alert) -> None:
        """Have a person told, also if the ledger is away now."""
        self._untold.append(alert)
        if self._at_once:
            self.tell_all()

    def take_back(self, key: str) -> None:
        """Have an alert closed: what it told of is over."""
        self._untold.append(key)
        if self._at_once:
            self.tell_all()

    def tell_all(self) -> None:
        """Put what waits into the ledger; where it does not answer, nothing is forgotten."""
        while self._untold:
            first = self._untold[0]
            if isinstance(first, str):
                self._ledger.alerts.resolve(first, datetime.now(UTC))
            else:
                self._ledger.alerts.add(first)
            self._untold.popleft()

    def cut_off(self, version: int, why: str, bars: int) -> None:
        """Tell that an arm is not scored for so many bars."""
        log.error("shadow_cut_off", model=self._model, version=version, why=why, bars=bars)
        now = datetime.now(UTC)
        words = {"model": self._model, "version": version, "day": f"{now:%Y-%m-%d}", "bars": bars, "why": why}
        alert = ALERTS["shadow_cut_off"].alert(now, words)
        self._cut[version] = alert.key
        self.tell(alert)

    def mended(self, version: int) -> None:
        """Take back that an arm is not scored: it scores again."""
        log.info("scored again after it was cut off", model=self._model, version=version)
        if (key := self._cut.pop(version, None)) is not None:
            self.take_back(key)

    def _newest(self) -> tuple[int, int]:
        try:
            hints = self._ledger.deliveries.settled(self._model, after=0)
            return max((hint.id for hint in hints), default=0), self._ledger.registry.last_move(self._model)
        except AWAY:
            return 0, 0
