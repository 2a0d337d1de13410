"""Says in the ledger which parts of a set-up are down, and takes it back when they are up again."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from jobs.supervisor import Board, Standing
from mlops.errors import MlopsError
from mlops.io.ledger import Ledger
from mlops.types import Alert, Priority

TELL_S = 1.0  # between two looks at what to say
LOOP = 5  # failures in a row from which it is a crash loop
ABOUT_PARTS = "part_down:"


class Teller:
    """Keeps the ledger's alerts saying what stands, also when the ledger was away for a while."""

    def __init__(self, url: str, board: Board) -> None:
        self._url, self._board = url, board
        self._told: dict[str, str] = {}

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(TELL_S):
            for standing in self._board.all():
                alert = about(standing)
                key = alert.key if alert else ""
                if self._told.get(standing.name) == key:
                    continue
                with suppress(MlopsError, SQLAlchemyError, OSError):  # told at the next look
                    self._tell(standing.name, alert)
                    self._told[standing.name] = key

    def _tell(self, name: str, alert: Alert | None) -> None:
        with Ledger(self._url) as ledger:
            if alert is not None:
                ledger.add_alert(alert)
            for known in ledger.alerts():
                if known.key.startswith(f"{ABOUT_PARTS}{name}:") and (alert is None or known.key != alert.key):
                    ledger.resolve_alert(known.key, datetime.now(UTC))


def about(standing: Standing) -> Alert | None:
    """What a person must know of a part; None while it is well. A crash loop stays open until the part is steady."""
    name, details = standing.name, {"why": standing.why, "failures": standing.failures}
    if standing.failures >= LOOP:
        title = f"{name} keeps ending ({standing.failures} times in a row); it is tried again, ever later"
        key, at = f"{ABOUT_PARTS}{name}:{standing.trouble}:loop", datetime.fromisoformat(standing.trouble)
        return Alert(key, Priority.CRITICAL, "", title, at, {"failures": standing.failures})
    if standing.failures == 0 or standing.state != "down":
        return None
    title = f"{name} {standing.why}; it is being started again"
    at = datetime.fromisoformat(standing.since)
    return Alert(f"{ABOUT_PARTS}{name}:{standing.since}", Priority.HIGH, "", title, at, details)
