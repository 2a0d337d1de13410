"""Keeps what was scored without waiting for the ledger: a spool on disk, and a courier that is looked after."""

from __future__ import annotations

import time
from datetime import datetime

import structlog

from mlops.alerts import ALERTS
from mlops.io.spool import Spool, SpoolFull
from mlops.types import Alert
from registry_hooks.aliases import Registry
from registry_hooks.bot.courier import Courier, Scores

log = structlog.get_logger()
TELL_AGAIN_S = 60.0
MIB = 2**20


class Recorder:
    """The scores of one bot on their way. Usable from several threads.

    Parameters
    ----------
    spool_mib : int
        Disk that they may take while the ledger is away.
    """

    def __init__(self, registry: Registry, model: str, spool_mib: int) -> None:
        folder, self._model = registry.cache.parent / "spool", model
        self._spool, self._refused, self._told_at = Spool(folder, spool_mib * MIB), 0, float("-inf")
        self._courier = Courier(folder, registry.ledger.url)

    def keep(self, scores: Scores) -> None:
        """Take them; where there is no room for them, that is counted and will be told."""
        try:
            self._spool.append(scores.record())
        except SpoolFull as error:
            self._refused += scores.probability.size
            log.error("score not kept", model=self._model, error=str(error))

    def look(self) -> None:
        """Replace a courier that was killed: what is spooled waits for another one."""
        self._courier.look()

    def told(self, now: datetime, *, last: bool = False) -> Alert | None:
        """What a person must hear of scores that were not kept; at most once a minute, and at the `last` time."""
        if not self._refused or (time.monotonic() - self._told_at < TELL_AGAIN_S and not last):
            return None
        n, self._refused, self._told_at = self._refused, 0, time.monotonic()
        return ALERTS["spool_full"].alert(now, {"model": self._model, "time": now.isoformat(), "n": n})

    def empty(self) -> bool:
        """Whether the ledger has all of it."""
        return self._spool.empty()

    def close(self, timeout: float) -> None:
        """Let the courier end when it has taken everything; wait for it no longer than `timeout` seconds."""
        self._spool.close()
        self._courier.close(timeout)
