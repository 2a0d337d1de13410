"""The instant that is looked at: never earlier than one before, for a clock that was set back makes nothing undone.

While the clock is behind, the newest instant that was looked at stands, and with it all that was known then. What a
line crossed stays crossed; what it did not cross is unknown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from jobs.accounts import anchors, doubtful_fills, peak
from jobs.live import fields
from jobs.portfolio import confirmed_prices
from mlops.alerts import ALERTS
from mlops.errors import DataError
from mlops.io.ledger import Ledger
from mlops.io.ledger.voids import named
from mlops.risk.limits import Measured

KINDS = (
    anchors.STATE,
    doubtful_fills.STATE,
    confirmed_prices.STATE,
    peak.STATE,
)  # of the states that looks leave in the ledger
USUAL = timedelta(seconds=2)  # by which two processes or a clock that is being set may well differ


@dataclass
class Instants:
    """The newest instant that was looked at, by this process or before a restart; for all loops of a process.

    `accepted` counts how often the clock was set back and a person said that it is right.
    """

    ledger: Ledger
    newest: datetime | None = None
    accepted: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, now: datetime) -> datetime:
        """The instant to look at."""
        with self._lock:
            if self.newest is None:
                self.newest = self.ledger.risk.newest_state(KINDS)
            self.newest = now if self.newest is None else max(now, self.newest)
            if (
                self.newest - now > USUAL
                and self.ledger.alerts.get(f"clock_accepted:{_second(self.newest)}") is not None
            ):
                self.ledger.risk.redate_states(KINDS, now)
                self.newest, self.accepted = now, self.accepted + 1
            return self.newest

    def why(self, now: datetime) -> str:
        """Why what stands is not known to be so still; empty where the clock is right."""
        if self.newest is None or self.newest - now <= USUAL:
            return ""
        behind = fields.age((self.newest - now).total_seconds())
        return f"the clock was set back, {behind} behind the look of {self.newest:%Y-%m-%d %H:%M:%S} UTC that stands"

    def bounded(self, measures: Iterable[Measured], now: datetime) -> list[Measured]:
        """Measures as lines may be held against them: what is crossed is crossed, and nothing else is known."""
        why = self.why(now)
        if not why:
            return list(measures)
        return [
            replace(
                measure,
                why="; ".join(filter(None, (measure.why, why))),
                at_least=measure.at_least or not measure.why,
                words=measure.words if measure.why else "when last looked at",
            )
            for measure in measures
        ]

    def settle(self, now: datetime) -> None:
        """Tell of a clock that was set back, once, and close that when it has caught up."""
        wanted, why = [], self.why(now)
        if why and self.newest is not None:
            wanted = [ALERTS["clock_back"].alert(self.newest, {"instant": _second(self.newest), "why": why})]
        self.ledger.alerts.settle("clock_back", wanted, now)


def accept(ledger: Ledger, actor: str, reason: str, now: datetime) -> datetime:
    """Say that the clock is right and was ahead before: looks go on from `now`; the instant that stood.

    What looks left in the ledger is dated to `now`: peaks, prices, doubts. A running service takes it up at its next
    look; so does one that starts, if this was killed before it was done.

    Raises
    ------
    DataError
        Nobody or nothing is named as actor or reason, the clock is not behind, or a fill or a balance is dated after
        it: that would count no more.
    """
    named(actor, reason, "a clock that is accepted")
    alerts = ledger.alerts.newest("clock_back")
    stands = [at for at in (ledger.risk.newest_state(KINDS), *(alert.as_of for alert in alerts)) if at is not None]
    newest = max(stands, default=now)
    if newest - now <= USUAL:
        got = f"{now:%F %T} UTC, and nothing later was looked at"
        raise DataError(f"clock must be behind a look to be accepted, got {got}. There is nothing to do.")
    ahead = {kind: n for kind, n in ledger.balances.dated_after(now + USUAL).items() if n}
    if ahead:
        got = " and ".join(f"{n} {kind}" for kind, n in ahead.items())
        remedy = "Void them (`fill void`, `balance void`) and send them again with the right time"
        raise DataError(f"fills and balances must be dated before {now:%F %T} UTC, got {got} after it. {remedy}.")
    words = {"actor": actor, "reason": reason}
    kind, details = ALERTS["clock_accepted"], words | {"stood": newest.isoformat()}
    ledger.alerts.add(
        kind.alert(now, words | {"instant": _second(newest), "now": now, "newest": newest}, details=details)
    )
    ledger.risk.redate_states(KINDS, now)
    ledger.alerts.settle("clock_back", (), now)
    return newest


def _second(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}"
