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
from mlops.errors import MlopsError
from mlops.io.ledger import Ledger
from mlops.io.storage.disk import Disk
from mlops.types import Alert, Priority

log = structlog.get_logger()
TELL_S = 1.0  # between two looks at what to say
LOOP = 5  # failures in a row from which it is a crash loop
ABOUT_PARTS = "part_down:"
ABOUT_DISK = "disk_low:"


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
        parts = {f"{ABOUT_PARTS}{standing.name}:": about(standing) for standing in self._board.all()}
        return parts if self._disk is None else parts | {ABOUT_DISK: self._low(self._disk)}

    def _low(self, disk: Disk) -> Alert | None:
        why = disk.degraded() or self._board.flush()
        if not why:
            self._low_since = None
            return None
        self._low_since = self._low_since or datetime.now(UTC)
        key, title = f"{ABOUT_DISK}{self._low_since:%Y-%m-%dT%H:%M:%S}", "disk of the state folder has too little room"
        return Alert(key, Priority.CRITICAL, "", title, self._low_since, {"why": why})

    def _tell(self, topic: str, alert: Alert | None) -> None:
        with Ledger(self._url, self._disk) as ledger:
            if alert is not None:
                ledger.alerts.add(alert)
            for known in ledger.alerts.newest():
                if known.key.startswith(topic) and (alert is None or known.key != alert.key):
                    ledger.alerts.resolve(known.key, datetime.now(UTC))

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
        title = f"{name} keeps ending ({standing.failures} times in a row); it is tried again, ever later"
        since = standing.trouble or standing.since
        return Alert(
            f"{ABOUT_PARTS}{name}:{since}:loop", Priority.CRITICAL, "", title, datetime.fromisoformat(since), details
        )
    if standing.failures == 0 or standing.state != "down":
        return None
    title = f"{name} {standing.why}; it is being started again"
    at = datetime.fromisoformat(standing.since)
    return Alert(f"{ABOUT_PARTS}{name}:{standing.since}", Priority.HIGH, "", title, at, details)
