"""The disk under the ledger: how much is left, a ballast to throw out when it is full, and how the ledger is doing.

On a full disk not even a DELETE goes through (measured), so a file of nothing is kept beside the ledger. When a write
fails for lack of space the ballast goes, telemetry is refused from then on, and the room that it leaves is for what
someone relies on: alerts, transitions, fills, and the retention that tidies up. When there is space again the ballast
is put back and all is as before; nobody has to restart anything.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from mlops.errors import CorruptionError, DiskFull, StorageError
from mlops.io import private_files

MIB = 2**20
CHECK_S = 1.0  # how often the disk is looked at: the flag is up within 5 s and down within 10 s of the event
MARGIN = MIB  # beside the ballast, before a disk that was full counts as well again
LAPSE_S = 5.0  # a full disk of a PostgreSQL server, which cannot be looked at from here, is tried again after this
FULL, CORRUPT, NOT_A_DATABASE, IO_ERROR, CANNOT_OPEN = 13, 11, 26, 10, 14  # primary result codes of SQLite
UNDECODABLE = "Could not decode to UTF-8"  # Python's own, without a code
NO_ROOM = "53100"  # PostgreSQL's disk_full
DAMAGED = ("XX001", "XX002")  # PostgreSQL's data_corrupted, index_corrupted


class LedgerFull(DiskFull, SQLAlchemyError):
    """Also SQLAlchemy's: whoever bears with a ledger that is away bears with one that is full."""


class LedgerAway(StorageError, SQLAlchemyError):
    """No connection, a lock for too long, or the disk refused."""


class Disk:
    """The disk of a folder. Usable from several threads; several processes may share the ballast.

    Parameters
    ----------
    folder : Path or None
        None: the disk is another machine's; only failed writes tell of it.
    ballast_mib : int
        Size of the file that is kept aside; 0 for none.
    min_free_mib : int
        Less than this is reported, though writes go on.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        ballast_mib: int = 0,
        min_free_mib: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._clock = folder, clock
        self._ballast, self._min_free = ballast_mib * MIB, min_free_mib * MIB
        self._turn = threading.Lock()
        self._failed = ""  # why a write failed for lack of space, until there is space again
        self._failed_at = self._looked_at = -float("inf")
        self._low = ""

    @property
    def ballast(self) -> Path | None:
        """Where the ballast lies, if there is one."""
        return self._folder / "ballast" if self._folder is not None and self._ballast else None

    def degraded(self) -> str:
        """State what is wrong with the disk; empty when all is well."""
        with self._turn:
            if self._clock() - self._looked_at >= CHECK_S:
                self._looked_at = self._clock()
                self._look()
            return self._failed or self._low

    def refuses(self) -> str:
        """Why telemetry is not taken now; empty when it is."""
        self.degraded()
        return self._failed

    def failed(self, error: BaseException) -> None:
        """A write failed for lack of space: throw out the ballast, and say so until there is space again."""
        with self._turn:
            self._failed, self._failed_at = f"disk of the ledger is full ({error})", self._clock()
            self._looked_at = self._clock()
            if self.ballast is not None:
                self.ballast.unlink(missing_ok=True)

    def free(self) -> int | None:
        """Bytes that are free, as far as can be seen from here."""
        return None if self._folder is None else shutil.disk_usage(self._folder).free

    def _look(self) -> None:
        free = self.free()
        if free is None:
            if self._clock() - self._failed_at >= LAPSE_S:
                self._failed = ""
            return
        missing = self.ballast is not None and not self.ballast.exists()
        if (self._failed or missing) and free >= MARGIN + (self._ballast if missing else 0) and self._aside():
            self._failed = ""
        least = self._min_free // MIB
        self._low = f"disk of the ledger has {free // MIB} MiB free, less than {least}" if free < self._min_free else ""

    def _aside(self) -> bool:
        """Put the ballast back; whether it lies there."""
        if self.ballast is None or self.ballast.exists():
            return True
        try:
            with private_files.file(self.ballast).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._ballast)
        except OSError:
            self.ballast.unlink(missing_ok=True)
            return False
        return True


def translated(error: sqlite3.Error | DBAPIError, disk: Disk) -> Exception:
    """The error of a database in our words; what is neither about storage nor about damage stays what it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
    state = getattr(cause, "sqlstate", None)
    if code in (CORRUPT, NOT_A_DATABASE) or state in DAMAGED or UNDECODABLE in str(cause):
        return CorruptionError(
            f"ledger must be readable, got {cause}. Restore the last backup, then the archived hours."
        )
    free = disk.free()
    if code == FULL or state == NO_ROOM or (code in (IO_ERROR, CANNOT_OPEN) and free is not None and free < MARGIN):
        disk.failed(cause or error)
        return LedgerFull(f"disk of the ledger must have room, got {cause}. Free some space; nothing was stored.")
    if isinstance(error, sqlite3.OperationalError | OperationalError):
        return LedgerAway(f"ledger must be within reach, got {cause}. Nothing was stored: try again.")
    return error
