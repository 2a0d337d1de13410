"""Keeps the parts of a set-up running: one that dies or hangs is ended with its whole group and started again.

One thread a part, so that none waits for another. What stands is in `run/up.json`, and in the ledger's alerts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import structlog

from jobs.parts import Part
from jobs.servers import end_group

log = structlog.get_logger()
PR_SET_PDEATHSIG = 1  # prctl(2)
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
LOG_BYTES = 20 * 2**20  # a part's log is put aside at its next start when it is larger


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may take (seconds)."""

    start_s: float = 180.0  # until the first answer: a cold MLflow needs 6 to 40 s, more on a busy machine
    hang_s: float = 60.0  # without an answer before it counts as hung
    first_wait_s: float = 0.5  # before the first restart; doubles
    longest_wait_s: float = 60.0
    settle_s: float = 3.0  # alive for so long, and a part that answers no health check counts as up
    steady_s: float = 60.0  # so long up, and earlier failures are forgotten
    look_s: float = 0.25
    check_s: float = 2.0  # between two health checks of a part that is up


@dataclass(frozen=True, slots=True)
class Standing:
    """How a part is doing. `failures` in a row without a steady time in between."""

    name: str
    state: str = "starting"  # starting, up, down, stopped
    pid: int = 0
    since: str = ""
    failures: int = 0
    restarts: int = 0
    trouble: str = ""  # since when it has been failing
    why: str = ""


class Board:
    """What stands, in memory and in a file that others read.

    Parameters
    ----------
    path : Path
        Written whole or not at all, at every change.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._turn = path, threading.Lock()
        self._standings = {name: Standing(name, since=_now()) for name in names}
        self._write()

    def __getitem__(self, name: str) -> Standing:
        with self._turn:
            return self._standings[name]

    def all(self) -> tuple[Standing, ...]:
        with self._turn:
            return tuple(self._standings.values())

    def put(self, name: str, **changes: Any) -> Standing:
        """Change a part's standing; a new state begins now."""
        with self._turn:
            before = self._standings[name]
            if changes.get("state", before.state) != before.state:
                changes.setdefault("since", _now())
            self._standings[name] = replace(before, **changes)
            self._write()
            return self._standings[name]

    def _write(self) -> None:
        content = {"pid": os.getpid(), "parts": [asdict(standing) for standing in self._standings.values()]}
        part = self._path.with_suffix(".part")
        part.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        part.replace(self._path)


class Keeper:
    """Keeps one part running until told to stop."""

    def __init__(self, part: Part, board: Board, logs: Path, patience: Patience) -> None:
        self.part, self._board, self._log, self._patience = part, board, logs / f"{part.name}.log", patience
        self._stop = threading.Event()
        self._client = httpx.Client(timeout=5, trust_env=False)  # a proxy has no business on loopback
        self._thread = threading.Thread(target=self._run, name=part.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the part, whole group, and wait until it is gone."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        self._wait_for_needs()
        while not self._stop.is_set():
            why, lasted = self._life()
            if self._stop.is_set():
                break
            before = self._board[self.part.name]
            failures = 1 if lasted >= self._patience.steady_s else before.failures + 1
            trouble = before.trouble if failures > 1 else _now()
            wait = min(self._patience.first_wait_s * 2.0 ** min(failures - 1, 30), self._patience.longest_wait_s)
            again = {"failures": failures, "trouble": trouble, "restarts": before.restarts + 1}
            self._board.put(self.part.name, state="down", pid=0, why=why, **again)
            log.warning("part down", part=self.part.name, why=why, failures=failures, again_in_s=wait)
            self._stop.wait(wait)
        self._board.put(self.part.name, state="stopped", pid=0)
        self._client.close()

    def _wait_for_needs(self) -> None:
        """Until they are up; not for ever: who waits for a part that never comes might do without."""
        deadline = time.monotonic() + self._patience.start_s
        known = {standing.name for standing in self._board.all()}
        while not self._stop.is_set() and time.monotonic() < deadline:
            if all(self._board[name].state == "up" for name in self.part.needs if name in known):
                return
            self._stop.wait(self._patience.look_s)

    def _life(self) -> tuple[str, float]:
        """From start to end: why it ended, and for how many seconds it had been up."""
        try:
            child = self._started()
        except OSError as error:
            return f"cannot be started: {error}", 0.0
        try:
            return self._watched(child)
        finally:
            end_group(child.pid)  # also when the leader is dead: what it started may live
            child.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as sink:
            child = subprocess.Popen(  # noqa: S603
                self.part.command,
                env=dict(self.part.environment),
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._board.put(self.part.name, pid=child.pid)
        return child

    def _watched(self, child: subprocess.Popen[bytes]) -> tuple[str, float]:
        up_at, checked_at = 0.0, 0.0
        began = well_at = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            lasted = now - up_at if up_at else 0.0
            if child.poll() is not None:
                return _ending(child.returncode), lasted
            if not up_at or now - checked_at >= self._patience.check_s:
                checked_at = now
                if self._well(now - began):
                    well_at = time.monotonic()
                    up_at = up_at or self._now_up(child.pid)
            limit = self._patience.hang_s if up_at else self._patience.start_s
            if time.monotonic() - well_at > limit:
                return f"gave no answer for {limit:.0f} s", lasted
            if lasted >= self._patience.steady_s and self._board[self.part.name].failures:
                self._board.put(self.part.name, failures=0, trouble="")
            self._stop.wait(self._patience.look_s)
        return "told to stop", 0.0

    def _now_up(self, pid: int) -> float:
        self._board.put(self.part.name, state="up", why="")
        log.info("part up", part=self.part.name, pid=pid)
        return time.monotonic()

    def _well(self, age: float) -> bool:
        if not self.part.health:
            return age >= self._patience.settle_s
        try:
            return self._client.get(self.part.health).status_code == 200
        except httpx.HTTPError:
            return False


def supervise(
    parts: Sequence[Part],
    board: Board,
    logs: Path,
    stop: threading.Event,
    patience: Patience | None = None,
    beside: Callable[[threading.Event], None] | None = None,
) -> None:
    """Keep all parts running until `stop`; then end them, last started first. `beside` runs in a thread of its own."""
    logs.mkdir(parents=True, exist_ok=True)
    keepers = [Keeper(part, board, logs, patience or Patience()) for part in parts]
    company = threading.Thread(target=beside, args=(stop,), name="beside", daemon=True) if beside else None
    for keeper in keepers:
        keeper.start()
    if company is not None:
        company.start()
    stop.wait()
    for keeper in reversed(keepers):
        keeper.stop()


def die_with_parent() -> None:
    """Linux: ask the kernel to end this process when whoever started it dies, also by kill -9."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _ending(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended by itself with status {status}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
