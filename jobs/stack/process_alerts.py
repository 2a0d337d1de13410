"""Says in the ledger which parts of a set-up are down and that its disk is full, and takes it back when it is over.

It is said in the system's log and in the supervisor's own first, for which no ledger is needed: one whose disk is full
or whose server is away can take half a minute to say that it takes nothing. It is told as soon as it does.
"""

from __future__ import annotations

import syslog
import threading
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.stack.status_board import Board, Standing
from mlops.alerts import ALERTS
from mlops.errors import MlopsError
from mlops.io.ledger import Ledger
from mlops.io.storage.disk import Disk
from mlops.types import Alert

log = structlog.get_logger()
TELL_S = 1.0  # between two looks at what to say
LOOP = 5  # failures in a row from which it is a crash loop
KINDS = ("part_down", "part_down:loop", "disk_low")


class PartAlerts:
    """Keeps the ledger's alerts saying what stands, also when the ledger was away for a while.

    Parameters
    ----------
    disk : Disk, optional
        Of the state folder, with the ballast that makes room for an alert.
    """

    def __init__(self, url: str, board: Board, disk: Disk | None = None) -> None:
        self._url, self._board, self._disk = url, board, disk
        self._low_since: datetime | None = None
        self._told: dict[str, str] = {}  # by what it is about: the key in the ledger
        self._shouted: dict[str, str] = {}  # likewise, elsewhere

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(TELL_S):
            for topic, alert in self._wanted().items():
                key = alert.key if alert else ""
                if self._told.get(topic) == key:
                    continue
                self._shout(topic, alert)
                with suppress(MlopsError, SQLAlchemyError, OSError):  # told at the next look
                    self._tell(topic, alert)
                    self._told[topic] = key

    def _wanted(self) -> dict[str, Alert | None]:
        """What should be open now, by the beginning of its key."""
        parts = {f"part_down:{standing.name}:": about(standing) for standing in self._board.all()}
        return parts if self._disk is None else parts | {"disk_low:": self._low(self._disk)}

    def _low(self, disk: Disk) -> Alert | None:
        why = disk.degraded() or self._board.flush()
        if not why:
            self._low_since = None
            return None
        self._low_since = self._low_since or datetime.now(UTC)
        since = f"{self._low_since:%Y-%m-%dT%H:%M:%S}"
        return ALERTS["disk_low"].alert(self._low_since, {"since": since}, details={"why": why})

    def _tell(self, topic: str, alert: Alert | None) -> None:
        with Ledger(self._url, self._disk) as ledger:
            wanted, now = () if alert is None else (alert,), datetime.now(UTC)
            ledger.alerts.settle(KINDS, wanted, now, looked_at=lambda known: known.key.startswith(topic))

    def _shout(self, topic: str, alert: Alert | None) -> None:
        """Say it where no disk and no database is needed, once."""
        if alert is None or self._shouted.get(topic) == alert.key:
            return
        self._shouted[topic] = alert.key
        log.error(alert.title, alert=alert.key, details=dict(alert.details))
        syslog.syslog(syslog.LOG_CRIT, f"trader-mlops: {alert.title} ({alert.key})")


def about(standing: Standing) -> Alert | None:
    """What a person must know of a part; None while it is well. A crash loop stays open until the part is steady."""
    name, details = standing.name, {"why": standing.why, "failures": standing.failures}
    if standing.failures >= LOOP:
        since = standing.trouble or standing.since
        at = datetime.fromisoformat(since)
        return ALERTS["part_down:loop"].alert(
            at, {"part": name, "since": since, "failures": standing.failures}, details=details
        )
    if standing.failures == 0 or standing.state != "down":
        return None
    at = datetime.fromisoformat(standing.since)
    return ALERTS["part_down"].alert(at, {"part": name, "since": standing.since, "why": standing.why}, details=details)
