"""One at a time, across processes and machines: whoever holds a turn is alone among all that ask for the same name.

The registry needs it because MLflow has no compare-and-set: a process that read the promotion log, fell asleep and
then moved an alias would overwrite what came after it. The turn ends with its holder, also by kill -9: it is a lock of
the operating system (SQLite) or of the database session (PostgreSQL), never a row that somebody must tidy up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import tenacity
from filelock import FileLock, Timeout
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import RegistryError
from mlops.io import private_files
from mlops.io.storage.database import Tables

PATIENCE_S = 30.0  # a transition takes well under a second; one that waits for an MLflow that is away takes minutes
LOCK_SPACE = 7_230_001  # our half of PostgreSQL's two-key advisory locks; the one-key space is the journal's


class TurnTaken(RegistryError):
    """Somebody else holds the turn; nothing was done."""


class Locks(Tables):
    """Locks by name, next to the database."""

    @contextmanager
    def turn(self, name: str, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Be alone among those that ask for `name` on this ledger. Not reentrant.

        Raises
        ------
        TurnTaken
            Another holder did not let go for `patience_s` seconds.
        """
        if self._engine.dialect.name == "sqlite":
            with self._file_turn(name, patience_s):
                yield
            return
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            _take(connection, name, patience_s)
            try:
                yield
            finally:
                with suppress(SQLAlchemyError):  # the session is gone, and the lock with it
                    connection.execute(select(func.pg_advisory_unlock(LOCK_SPACE, func.hashtext(name))))

    @contextmanager
    def _file_turn(self, name: str, patience_s: float) -> Iterator[None]:
        folder = Path(f"{self._engine.url.database}.turns").expanduser()
        private_files.folder(folder)
        lock = FileLock(folder / quote(name, safe=""), timeout=patience_s, mode=private_files.FILE, poll_interval=0.01)
        try:
            lock.acquire()
        except Timeout as error:
            raise TurnTaken(_taken(name, patience_s)) from error
        try:
            yield
        finally:
            lock.release()


def _take(connection: Connection, name: str, patience_s: float) -> None:
    ask = select(func.pg_try_advisory_lock(LOCK_SPACE, func.hashtext(name)))
    again = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda got: not got),
        wait=tenacity.wait_random(0.005, 0.05),
        stop=tenacity.stop_after_delay(patience_s),
    )
    try:
        again(connection.scalar, ask)
    except tenacity.RetryError as error:
        raise TurnTaken(_taken(name, patience_s)) from error


def _taken(name: str, patience_s: float) -> str:
    return f"turn {name} must be free within {patience_s:g} s, got another holder. Try again when it is done."
