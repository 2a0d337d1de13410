"""The instant that is looked at: never earlier than one before, for a clock that was set back makes nothing undone.

While the clock is behind, the newest instant that was looked at stands, and with it all that was known then. What a
line crossed stays crossed; what it did not cross is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from jobs import anchors, doubts, marks, peak, shown
from mlops.io.ledger import Ledger
from mlops.risk.limits import Measured
from mlops.types import Alert, Priority

ALERT = "clock_back:"
KINDS = (anchors.STATE, doubts.STATE, marks.STATE, peak.STATE)  # of the states that looks leave in the ledger
USUAL = timedelta(seconds=2)  # by which two processes or a clock that is being set may well differ


@dataclass
class Instants:
    """The newest instant that was looked at, by this process or before a restart."""

    ledger: Ledger
    newest: datetime | None = None

    def at(self, now: datetime) -> datetime:
        """The instant to look at."""
        if self.newest is None:
            self.newest = self.ledger.newest_risk_state(KINDS)
        self.newest = now if self.newest is None else max(now, self.newest)
        return self.newest

    def why(self, now: datetime) -> str:
        """Why what stands is not known to be so still; empty where the clock is right."""
        if self.newest is None or self.newest - now <= USUAL:
            return ""
        behind = shown.age((self.newest - now).total_seconds())
        return f"the clock was set back, {behind} behind the look of {self.newest:%Y-%m-%d %H:%M:%S} UTC that stands"

    def bounded(self, measures: Iterable[Measured], now: datetime) -> list[Measured]:
        """Measures as lines may be held against them: what is crossed is crossed, and nothing else is known."""
        why = self.why(now)
        if not why:
            return list(measures)
        return [
            replace(
                one,
                why="; ".join(filter(None, (one.why, why))),
                at_least=one.at_least or not one.why,
                words=one.words if one.why else "when last looked at",
            )
            for one in measures
        ]

    def settle(self, now: datetime) -> None:
        """Tell of a clock that was set back, once, and close that when it has caught up."""
        why, keys = self.why(now), [alert.key for alert in self.ledger.alerts() if alert.key.startswith(ALERT)]
        if why and not keys and self.newest is not None:
            key = f"{ALERT}{self.newest:%Y-%m-%dT%H:%M:%S}"
            self.ledger.add_alert(Alert(key, Priority.CRITICAL, "", f"clock_back: {why}", self.newest, {}))
        for key in () if why else keys:
            self.ledger.resolve_alert(key, now)
