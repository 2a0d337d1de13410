"""Keeps the parts of a set-up running: one that dies or hangs is ended with its whole group and started again.

One thread a part, so that none waits for another; a thread that ends is replaced. Nothing here needs room on the disk.
What stands is in `run/up.json`, and in the ledger's alerts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import structlog

from jobs.doctor import part_health
from jobs.stack.processes import Part
from jobs.stack.servers import end_group
from jobs.stack.status_board import Board, now
from mlops.io import private_files

log = structlog.get_logger()
PR_SET_PDEATHSIG = 1  # prctl(2)
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
LOG_BYTES = 20 * 2**20  # a part's log is put aside at its next start when it is larger
LOOK_S = 0.5  # between two looks at the keepers themselves
Beside = Callable[[threading.Event], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may take (seconds)."""

    start_s: float = 180.0  # until the first answer: a cold MLflow needs 6 to 40 s, more on a busy machine
    hang_s: float = 60.0  # without an answer before it counts as hung
    beside_s: float = 8.0  # likewise, of one whose peer answers and so can take its place: callers wait
    misses: int = 3  # checks in a row that must fail, however slow the machine is
    first_wait_s: float = 0.5  # before the first restart; doubles
    longest_wait_s: float = 60.0
    beside_wait_s: float = 5.0  # likewise, of one that takes the place of its peer: until it stands by nobody can
    settle_s: float = 3.0  # alive for so long, and a part that answers no health check counts as up
    steady_s: float = 60.0  # so long up, and earlier failures are forgotten
    look_s: float = 0.25
    check_s: float = 2.0  # between two health checks of a part that is up
    answer_s: float = 5.0  # for the answer to one
    quick_s: float = 2.0  # likewise, of a part with a peer


class Keeper:
    """Keeps one part running until told to stop."""

    def __init__(self, part: Part, board: Board, logs: Path, patience: Patience) -> None:
        self.part, self.patience, self._board, self._log = part, patience, board, logs / f"{part.name}.log"
        self._stop = threading.Event()
        timeout = patience.quick_s if part.peer else patience.answer_s
        self._client = httpx.Client(timeout=timeout, trust_env=False)  # a proxy has no business on loopback
        self._hung = False
        self._thread = threading.Thread(target=self._run, name=part.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def lost(self) -> bool:
        """Whether its thread ended and nobody asked for it: then nobody keeps the part."""
        return not self._stop.is_set() and not self._thread.is_alive()

    def stop(self) -> None:
        """End the part, whole group, and wait until it is gone."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        self._wait_for_needs()
        while not self._stop.is_set():
            try:
                why, lasted = self._life()
                why += self._taken()
            except Exception as error:  # the edge of this thread: a part is kept, whatever goes wrong with keeping it
                log.exception("part could not be watched", part=self.part.name)
                why, lasted = f"could not be watched: {type(error).__name__}: {error}", 0.0
            if self._stop.is_set():
                break
            before = self._board[self.part.name]
            failures = 1 if lasted >= self.patience.steady_s else before.failures + 1
            trouble = before.trouble if failures > 1 else now()
            wait = self._wait(failures, lasted)
            again = {"failures": failures, "trouble": trouble, "restarts": before.restarts + 1}
            self._board.put(self.part.name, state="down", pid=0, why=why, **again)
            log.warning("part down", part=self.part.name, why=why, failures=failures, again_in_s=wait)
            self._stop.wait(wait)
        self._board.put(self.part.name, state="stopped", pid=0)
        self._client.close()

    def _wait(self, failures: int, lasted: float) -> float:
        """Seconds until the next start. One that was well and has a peer is started soon, however often it ends."""
        patience, peer = self.patience, self.part.peer
        if peer and lasted >= patience.settle_s:
            return patience.first_wait_s
        longest = patience.beside_wait_s if peer else patience.longest_wait_s
        return min(patience.first_wait_s * 2.0 ** min(failures - 1, 30), longest)

    def _wait_for_needs(self) -> None:
        """Until they are up; not for ever: who waits for a part that never comes might do without."""
        deadline = time.monotonic() + self.patience.start_s
        known = {standing.name for standing in self._board.all()}
        while not self._stop.is_set() and time.monotonic() < deadline:
            if all(self._board[name].state == "up" for name in self.part.needs if name in known):
                return
            self._stop.wait(self.patience.look_s)

    def _life(self) -> tuple[str, float]:
        """From start to end: why it ended, and for how many seconds it had been up."""
        try:
            child = self._started()
        except OSError as error:
            return f"cannot be started: {error}", 0.0
        try:
            return self._watched(child)
        finally:
            end_group(child.pid, at_once=self._hung)  # also when the leader is dead: what it started may live
            child.wait()

    def _taken(self, leader: int = 0) -> str:
        """Name the program on its port, where that is neither `leader` nor what it started."""
        if self.part.port is None or self.part.sockets:
            return ""
        who = part_health.occupant(self.part.port, leader)
        return f": port {self.part.port} is taken by {who}" if who else ""

    def _started(self) -> subprocess.Popen[bytes]:
        with output(self._log) as sink:
            child = subprocess.Popen(  # noqa: S603
                self.part.command,
                env=dict(self.part.environment),
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                umask=private_files.MASK,
                pass_fds=self.part.sockets,
                preexec_fn=die_with_parent,
            )
        self._board.put(self.part.name, pid=child.pid)
        return child

    def _watched(self, child: subprocess.Popen[bytes]) -> tuple[str, float]:
        up_at, checked_at, misses, self._hung = 0.0, 0.0, 0, False
        began = well_at = time.monotonic()
        while not self._stop.is_set():
            looked_at = time.monotonic()
            lasted = looked_at - up_at if up_at else 0.0
            if child.poll() is not None:
                return _ending(child.returncode), lasted
            if not up_at or looked_at - checked_at >= self.patience.check_s:
                checked_at, misses = looked_at, misses + 1
                if self._well(looked_at - began) and (up_at or not self._taken(child.pid)):
                    well_at, misses = time.monotonic(), 0
                    self._board.well_at[self.part.name] = well_at
                    up_at = up_at or self._now_up(child.pid)
            limit = self._limit(misses) if up_at else self.patience.start_s
            if time.monotonic() - well_at > limit:
                self._hung = True
                return f"gave no answer for {time.monotonic() - well_at:.0f} s", lasted
            if lasted >= self.patience.steady_s and self._board[self.part.name].failures:
                self._board.put(self.part.name, failures=0, trouble="")
            self._stop.wait(self.patience.look_s)
        return "told to stop", 0.0

    def _limit(self, misses: int) -> float:
        """How long it may give no answer: not for long while its peer answers, so that the machine is not to blame."""
        patience, peer = self.patience, self.part.peer
        if not peer or misses < patience.misses or self._board[peer].state != "up":
            return patience.hang_s
        recent = patience.check_s + patience.quick_s + patience.look_s
        return patience.beside_s if time.monotonic() - self._board.well_at.get(peer, 0.0) < recent else patience.hang_s

    def _now_up(self, pid: int) -> float:
        self._board.put(self.part.name, state="up", why="")
        log.info("part up", part=self.part.name, pid=pid)
        return time.monotonic()

    def _well(self, age: float) -> bool:
        if not self.part.health:
            return age >= self.patience.settle_s
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
    beside: Beside | None = None,
) -> None:
    """Keep all parts running until `stop`; then end them, last started first. `beside` runs in a thread of its own."""
    keepers = [Keeper(part, board, logs, patience or Patience()) for part in parts]
    company = threading.Thread(target=_again, args=(beside, stop), name="beside", daemon=True) if beside else None
    for keeper in keepers:
        keeper.start()
    if company is not None:
        company.start()
    while not stop.wait(LOOK_S):
        board.flush()
        keepers = [_replaced(keeper, board, logs) if keeper.lost() else keeper for keeper in keepers]
    for keeper in reversed(keepers):
        keeper.stop()


def _replaced(lost: Keeper, board: Board, logs: Path) -> Keeper:
    """A new keeper for a part whose keeper is gone; what the old one left running is ended first."""
    name = lost.part.name
    log.error("keeper of a part was lost and is replaced", part=name)
    if pid := board[name].pid:
        end_group(pid)
    board.put(name, state="down", pid=0, why="was not watched for a moment", restarts=board[name].restarts + 1)
    keeper = Keeper(lost.part, board, logs, lost.patience)
    keeper.start()
    return keeper


def _again(beside: Beside, stop: threading.Event) -> None:
    """Do `beside` until `stop`, whatever it raises."""
    while not stop.is_set():
        try:
            beside(stop)
        except Exception:  # the edge of this thread
            log.exception("what runs beside the parts failed and is started again")
            stop.wait(LOOK_S)


@contextmanager
def output(path: Path) -> Iterator[IO[bytes]]:
    """The log of a process, opened to append; a large one is put aside. A log that cannot be opened stops nothing."""
    try:
        private_files.folder(path.parent)
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        sink = private_files.file(path).open("ab")
    except OSError as error:
        log.warning("what a part prints is not kept", log=str(path), error=str(error))
        sink = Path(os.devnull).open("ab")  # noqa: SIM115
    with sink:
        yield sink


def die_with_parent() -> None:
    """Linux: ask the kernel to end this process when whoever started it dies, also by kill -9."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _ending(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended by itself with status {status}"
