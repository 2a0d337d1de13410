"""Carries what bots spooled into the ledger: a process of its own, so that no bot waits for it, not even for its GIL.

It ends with the bot that started it (also with one that was killed), after it has taken everything. The service keeps
one, too, for what a bot left behind. One carries at a time; the others wait for its end. Records that it cannot bring
stay where they are; rows that the ledger refuses are kept among the rejections.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import structlog
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from mlops.alerts import ALERTS
from mlops.errors import DataError, StorageError
from mlops.io import private_files
from mlops.io.ledger import Ledger
from mlops.io.spool import Reader
from mlops.io.storage.insert import Rows, prediction_rows, scoring_rows
from mlops.types import SCORING_COLUMNS, Role

log = structlog.get_logger()
LOOK_S = 0.2  # between two looks at the spool
AGAIN_S = 1.0  # after the ledger did not answer
RESTART_S = 5.0  # before another one is started in the place of one that ended
LAST_TRIES = 5  # of a courier whose bot has ended; the next one goes on
URL = "SPOOL_LEDGER_URL"  # in the environment and not among the arguments: it may carry a password
NICE = 5  # the bot comes first
LOG = "courier.log"  # in the spool's folder: what it says when it fails
LENGTH = 4  # bytes that say how long the head of a record is


@dataclass(frozen=True, slots=True)
class Scores:
    """What was scored with some versions at one bar. `probability` has shape (versions, units), `values` (units, k)."""

    model: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    roles: Mapping[int, Role]
    times: tuple[datetime, datetime, datetime]  # event_time, known_at, matures_at
    correlation_id: str
    probability: NDArray[np.float64]
    values: NDArray[np.float32]
    scorings: tuple[tuple[int, float, bool], ...] = ()  # version, seconds, whether it failed

    def of(self, version: int, probability: NDArray[np.float64] | None, seconds: float) -> Scores:
        """What one version said of this bar, and after how long; None: it failed."""
        roles = {} if probability is None else {version: self.roles[version]}
        p = np.empty((0, len(self.units))) if probability is None else probability[None, :]
        return replace(self, roles=roles, probability=p, scorings=((version, seconds, probability is None),))

    def record(self) -> bytes:
        """Bytes of it, for the spool."""
        head = orjson.dumps(
            {
                "model": self.model,
                "names": self.names,
                "units": self.units,
                "roles": [[version, role.value] for version, role in self.roles.items()],
                "times": [at.isoformat(timespec="microseconds") for at in self.times],
                "id": self.correlation_id,
                "scorings": self.scorings,
            }
        )
        parts = (len(head).to_bytes(LENGTH), head, self.probability.astype("<f8", copy=False).tobytes())
        return b"".join((*parts, self.values.astype("<f4", copy=False).tobytes()))

    @classmethod
    def read(cls, record: bytes) -> Scores:
        """The inverse of `record`."""
        end = LENGTH + int.from_bytes(record[:LENGTH])
        head: dict[str, Any] = orjson.loads(record[LENGTH:end])
        n, m, k = len(head["units"]), len(head["roles"]), len(head["names"])
        probability = np.frombuffer(record, "<f8", n * m, end).reshape(m, n)
        values = np.frombuffer(record, "<f4", n * k, end + 8 * n * m).reshape(n, k)
        event, known, matures = (datetime.fromisoformat(at) for at in head["times"])
        roles = {int(version): Role(role) for version, role in head["roles"]}
        names, units = tuple(head["names"]), tuple(head["units"])
        scorings = tuple((int(v), float(s), bool(f)) for v, s, f in head.get("scorings", ()))  # 0.1 wrote none
        times = (event, known, matures)
        return cls(head["model"], names, units, roles, times, head["id"], probability, values, scorings)

    def frame(self) -> pd.DataFrame:
        """A row for each version and unit, as the ledger wants it."""
        n, m = len(self.units), len(self.roles)
        event, known, matures = self.times
        times = {"event_time": event, "known_at": known, "matures_at": matures}
        return pd.DataFrame(
            {
                "model": self.model,
                "version": np.repeat(np.array(list(self.roles), dtype=np.int64), n),
                "unit": list(self.units) * m,
                **{name: pd.Timestamp(at) for name, at in times.items()},
                "role": np.repeat([role.value for role in self.roles.values()], n),
                "probability": self.probability.ravel(),
            }
        )

    def matrix(self) -> NDArray[np.float32]:
        """The features of each row of `frame`."""
        return np.tile(self.values, (len(self.roles), 1))

    def asked(self) -> pd.DataFrame:
        """How the versions were asked, as the ledger wants it; the batch is a digest of the units."""
        batch = blake2b("\0".join(self.units).encode("utf-8", "replace"), digest_size=8).hexdigest()
        rows = [
            (self.model, pd.Timestamp(self.times[0]), version, batch, int(failed), len(self.units), seconds)
            for version, seconds, failed in self.scorings
        ]
        return pd.DataFrame(rows, columns=list(SCORING_COLUMNS))

    def rows(self) -> list[Rows]:
        """All of it, ready to be stored together."""
        lots = [scoring_rows(self.asked())] if self.scorings else []
        if self.roles:
            lots.append(prediction_rows(self.frame(), self.matrix(), self.names, self.correlation_id))
        return lots


def bring(ledger: Ledger, records: Sequence[bytes]) -> None:
    """Put records into the ledger, many at once; where rows are refused, one record at a time."""
    groups: dict[tuple[tuple[str, ...], str], list[Scores]] = {}
    for record in records:
        try:
            scores = Scores.read(record)
        except (ValueError, KeyError, TypeError) as error:  # of another release
            _refuse(ledger, "", record.hex(), f"record must be of this release, got {error!r}. Bring it by hand.")
            continue
        groups.setdefault((scores.names, scores.correlation_id), []).append(scores)
    _add_scorings(ledger, [bar for many in groups.values() for bar in many])
    for (names, correlation), many in groups.items():
        try:
            _add(ledger, many, names, correlation)
        except DataError:
            for bar in many:
                _add_or_reject(ledger, bar)


def _add_scorings(ledger: Ledger, many: Sequence[Scores]) -> None:
    asked = [scores.asked() for scores in many if scores.scorings]
    if asked:
        ledger.scorings.add(pd.concat(asked, ignore_index=True))


def _add(ledger: Ledger, many: Sequence[Scores], names: Sequence[str], correlation: str) -> None:
    many = [scores for scores in many if scores.roles]
    if not many:
        return
    frame = pd.concat([scores.frame() for scores in many], ignore_index=True)
    ledger.telemetry.add_predictions(frame, np.concatenate([scores.matrix() for scores in many]), names, correlation)


def _add_or_reject(ledger: Ledger, scores: Scores) -> None:
    try:
        _add(ledger, [scores], scores.names, scores.correlation_id)
    except DataError as error:
        _refuse(ledger, scores.model, scores.frame().to_json(orient="records", date_format="iso"), str(error))


def _refuse(ledger: Ledger, model: str, text: str, why: str) -> None:
    """Keep it where a person can see it, and say so."""
    now = datetime.now(UTC)
    ledger.rejections.add("predictions", f"bot:{model}", [(text, why)], now)
    words = {"model": model, "day": f"{now:%Y-%m-%d}", "bot": model or "a bot", "why": why}
    ledger.alerts.add(ALERTS["predictions_refused"].alert(now, words))


def carry(folder: Path, url: str, ended: threading.Event) -> None:
    """Carry until the bot has ended and all is taken, or another courier has the folder."""
    reader, tries = Reader(folder), 0
    while reader.locked() is None:  # another bot's courier carries ours too; should it end first, we are there
        if ended.wait(AGAIN_S):
            return
    while tries < LAST_TRIES:
        over = ended.is_set()
        try:
            with Ledger(url) as ledger:
                while True:
                    over = ended.is_set()
                    reader.take(lambda records: bring(ledger, records))
                    _tell_of_damage(ledger, reader)
                    if over:
                        return
                    ended.wait(LOOK_S)
        except (SQLAlchemyError, StorageError, OSError):
            tries += over
            time.sleep(AGAIN_S)


def _tell_of_damage(ledger: Ledger, reader: Reader) -> None:
    if not reader.bad:
        return
    now = datetime.now(UTC)
    words = {"hour": f"{now:%Y-%m-%dT%H}", "n": reader.bad, "folder": reader.folder}
    ledger.alerts.add(ALERTS["spool_damaged"].alert(now, words))
    reader.bad = 0


class Courier:
    """A courier for `folder`, in a process of its own that is replaced when it is killed.

    It ends when its standard input is closed: by `close`, or by our death.
    """

    def __init__(self, folder: Path, url: str) -> None:
        private_files.folder(folder)
        self._folder, self._url = folder, url
        self._begin()

    def look(self) -> None:
        """Start another one in the place of one that ended, not more often than every few seconds."""
        if self._process.poll() is not None and time.monotonic() - self._since > RESTART_S:
            self._release()
            self._begin()

    def close(self, timeout: float) -> None:
        """Let it end when it has taken everything; wait for it no longer than `timeout` seconds."""
        self._release()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            log.warning("the courier still carries", folder=str(self._folder))

    def _release(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _begin(self) -> None:
        command = [sys.executable, "-m", "registry_hooks.bot.courier", str(self._folder)]
        with private_files.file(self._folder / LOG).open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                umask=private_files.MASK,
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                env={**os.environ, URL: self._url},
                start_new_session=True,
            )
        self._since = time.monotonic()


def _until_closed(ended: threading.Event) -> None:
    while select.select([sys.stdin], [], [])[0] and os.read(sys.stdin.fileno(), 1):
        pass
    ended.set()


if __name__ == "__main__":
    os.nice(NICE)
    over = threading.Event()
    threading.Thread(target=_until_closed, args=(over,), daemon=True).start()
    carry(Path(sys.argv[1]), os.environ[URL], over)
