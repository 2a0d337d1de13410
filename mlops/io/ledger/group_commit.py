"""One thread that writes for many: whatever waits is committed together, and every caller learns of his own rows.

A commit costs the same for one row and for a thousand, and SQLite lets one writer in at a time. So callers hand their
rows over and wait for a `Future`; while one commit runs, the next group gathers (waiting longer for company was
measured to lose: 1 ms a fifth of the commits per second, 3 ms a half). What someone relies on (fills) is on
disk when its future is done; telemetry goes in groups of its own, which do not wait for the disk.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import MlopsError, StorageError
from mlops.io.storage.insert import Rows, fill_rows, outcome_rows, prediction_rows, quote_rows

if TYPE_CHECKING:
    import pandas as pd

if TYPE_CHECKING:
    from mlops.io.ledger import Ledger

GROUP_ROWS = 1_000  # rows a commit (past it the gain is small); one larger submission is a group of its own
WAITING_ROWS = 200_000  # ten batches; about 100 MB with twenty features
PATIENCE_S = 30.0  # as long as a SQLite writer waits for another


@dataclass(frozen=True, slots=True)
class Submission:
    """Rows on their way, and who waits for them."""

    rows: Rows
    done: Future[int] = field(default_factory=Future)


class Writer:
    """Group commit. A context manager; `close` writes what still waits.

    A future's result is the number of rows that were new. Its exception is `DataError` where the rows broke their
    contract (others in the group are stored nevertheless), `StorageError` where the ledger could not take them; then
    nothing of them was stored, except whole batches of a submission of more than 20,000 rows: submit it again, what is
    there stays as it is.

    Parameters
    ----------
    waiting_rows : int
        Rows that may wait; past it `submit` blocks.
    patience_s : float
        How long `submit` blocks before it raises.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        group_rows: int = GROUP_ROWS,
        waiting_rows: int = WAITING_ROWS,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._ledger, self._group_rows = ledger, group_rows
        self._waiting_rows, self._patience_s = waiting_rows, patience_s
        self._queue: deque[Submission] = deque()
        self._queued = 0  # rows
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit_predictions(
        self, frame: pd.DataFrame, features: NDArray[np.float32], names: Sequence[str], correlation_id: str = ""
    ) -> Future[int]:
        """Submit what `Ledger.telemetry.add_predictions` takes."""
        return self.submit(prediction_rows(frame, features, names, correlation_id))

    def submit_outcomes(self, frame: pd.DataFrame) -> Future[int]:
        """Submit what `Ledger.telemetry.add_outcomes` takes."""
        return self.submit(outcome_rows(frame))

    def submit_fills(self, frame: pd.DataFrame) -> Future[int]:
        """Submit what `Ledger.telemetry.add_fills` takes; it is on disk when the future is done."""
        return self.submit(fill_rows(frame))

    def submit_quotes(self, frame: pd.DataFrame) -> Future[int]:
        """Submit what `Ledger.quotes.add` takes."""
        return self.submit(quote_rows(frame))

    def submit(self, rows: Rows) -> Future[int]:
        """Hand checked rows over. `submit_...` check theirs first, in the caller's thread, and raise `DataError`.

        Raises
        ------
        StorageError
            The writer is closed, or so many rows wait that there was no place within `patience_s`.
        """
        submission = Submission(rows)
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._room(len(rows)), self._patience_s):
                raise StorageError(
                    f"writer must have room for {len(rows)} rows within {self._patience_s} s, got {self._queued} rows "
                    "waiting. Send less, or later."
                )
            if self._closed:
                raise StorageError("writer must be open to take rows, got a closed one. Open another.")
            self._queue.append(submission)
            self._queued += len(rows)
            self._changed.notify_all()
        return submission.done

    def waiting(self) -> int:
        """Rows that were submitted and not yet taken into a commit."""
        return self._queued

    def close(self) -> None:
        """Write what waits, then end. Safe to repeat."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _room(self, n: int) -> bool:
        return self._queued == 0 or self._queued + n <= self._waiting_rows

    def _run(self) -> None:
        group: list[Submission] = []
        try:
            while group := self._gather():
                live = [s for s in group if s.done.set_running_or_notify_cancel()]
                for durable in (True, False):
                    if alike := [s for s in live if s.rows.durable == durable]:
                        self._commit(alike)
        finally:  # whatever ended the thread: nobody waits for ever
            self._abandon(group)

    def _abandon(self, group: list[Submission]) -> None:
        with self._changed:
            self._closed = True
            for submission in [*group, *self._queue]:
                if not submission.done.done():
                    submission.done.set_exception(StorageError("writer must run, got an end. Submit the rows again."))
            self._queue.clear()
            self._changed.notify_all()

    def _gather(self) -> list[Submission]:
        """The next group; empty when closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._queue)
            group: list[Submission] = []
            n = 0
            while self._queue and (not group or n + len(self._queue[0].rows) <= self._group_rows):
                group.append(self._queue.popleft())
                n += len(group[-1].rows)
            self._queued -= n
            self._changed.notify_all()
            return group

    def _commit(self, group: list[Submission]) -> None:
        """Together; where that fails, one by one, so that a bad submission fails alone."""
        try:
            if len(group) == 1:
                counts = [self._ledger.telemetry.store(group[0].rows)]
            else:
                counts = self._ledger.telemetry.store_together([s.rows for s in group])
        except (MlopsError, SQLAlchemyError, sqlite3.Error) as error:
            if len(group) == 1:
                group[0].done.set_exception(_told(error))
            else:
                for submission in group:
                    self._commit([submission])
        else:
            for submission, new in zip(group, counts, strict=True):
                submission.done.set_result(new)


def _told(error: Exception) -> MlopsError:
    if isinstance(error, MlopsError):
        return error
    refusal = StorageError(f"ledger must take the rows, got {error}. Nothing of them was stored: submit them again.")
    refusal.__cause__ = error
    return refusal
