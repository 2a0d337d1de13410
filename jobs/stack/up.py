"""`make up` and `make down`: MLflow, the service and the scheduler for a real bot, kept running.

`up` puts a supervisor into the background and returns when every part is well; `down` ends all of it. Whether a set-up
is up is a lock that its supervisor holds: it ends with its holder, also by kill -9. What a dead supervisor left running
is found by a mark in its environment and ended by the next `up` or `down`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import psutil
import structlog
import typer
from filelock import FileLock, Timeout

from jobs.cli.terminal import console, start_job, working
from jobs.doctor import part_health
from jobs.stack import status_board
from jobs.stack.process_alerts import PartAlerts
from jobs.stack.processes import MARK, Part, bound, live, parts
from jobs.stack.servers import alive, end
from jobs.stack.status_board import Board, Standing
from jobs.stack.supervisor import Patience, supervise
from mlops import settings as settings_room
from mlops.errors import SettingsError
from mlops.io import logs, private_files
from mlops.io.storage.disk import Disk
from mlops.settings import Settings
from registry_hooks.account import ADMIN, PASSWORD_FILE, credentials

log = structlog.get_logger()
READY_LIMIT_S = 300.0  # MLflow, then what needs it
STOP_LIMIT_S = 120.0  # three parts, one after the other, each asked first and then made to
PROBED_S = 3.0  # whoever asks whether it is up holds the lock for a moment


@dataclass(frozen=True, slots=True)
class Present:
    """State of a set-up seen from outside. `running`: its supervisor lives."""

    running: bool
    pid: int
    parts: tuple[Standing, ...]

    @property
    def died(self) -> bool:
        """Whether a supervisor ended without ending its parts."""
        return not self.running and any(part.state != "stopped" for part in self.parts)


def present(state: Path) -> Present:
    """How the set-up in `state` is doing."""
    if not (state / "run").is_dir():
        return Present(False, 0, ())
    running, (pid, parts) = _locked(state), status_board.read(state / "run" / "up.json")
    return Present(running, pid, tuple(map(_seen, parts)) if running else parts)


def _seen(part: Standing) -> Standing:
    """What a part's standing says, unless its process is not there: the file may be older than the truth."""
    with suppress(psutil.NoSuchProcess):
        if part.state != "up" or alive(psutil.Process(part.pid)):
            return part
    return replace(part, state="down", why=f"process {part.pid} is gone")


def run(settings: Settings) -> None:
    """Be the supervisor, until SIGTERM or Ctrl-C.

    Raises
    ------
    SettingsError
        It is up already, or a port is taken.
    """
    state, stop = settings.state, threading.Event()
    lock = _lock(state)
    try:
        lock.acquire(timeout=PROBED_S)
    except Timeout as error:
        raise SettingsError(f"set-up in {state} must be down, got one that is up. Use it, or `make down`.") from error
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stop.set())
    try:
        _closed(state)
        end(leftovers(state))
        processes = parts(settings)
        for part in processes:
            _free(part)
        processes = bound(processes, settings.service)
        standings = Board(state / "run" / "up.json", [part.name for part in processes])
        storage = settings.storage
        disk = Disk(state, ballast_mib=storage.ballast_mib, min_free_mib=storage.min_free_mib)
        alerts = PartAlerts(settings.ledger, standings, disk)
        supervise(processes, standings, state / "logs", stop, Patience(), alerts.run)
    finally:
        lock.release()


def _closed(state: Path) -> None:
    """Take the rights of others from what an earlier release left open."""
    private_files.umask()
    try:
        if count := private_files.close_to_others(state):
            log.warning("others had rights to files of the state folder", closed=count)
    except OSError as error:
        log.error("others may have rights to files of the state folder", error=str(error))


def up(settings: Settings) -> Present:
    """Start a supervisor in the background and wait until all is well.

    Raises
    ------
    SettingsError
        The supervisor gave up (the message says why), or a part is not well after `READY_LIMIT_S`.
    """
    output = private_files.file(settings.state / "logs" / "up.log")
    with output.open("wb") as sink:
        child = subprocess.Popen(
            (sys.executable, "-m", "jobs.stack.up", "--foreground"),
            env={**os.environ, MARK: str(settings.state), "MLOPS_STATE": str(settings.state)},
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            text = output.read_text(encoding="utf-8", errors="replace").strip()
            raise SettingsError(f"supervisor must stay up, got status {child.returncode}: {text[-2000:]}")
        now = present(settings.state)
        if now.running and now.pid == child.pid and all(part.state == "up" for part in now.parts):
            return now
        time.sleep(0.2)
    late = ", ".join(f"{p.name} ({p.state} {p.why})" for p in present(settings.state).parts if p.state != "up")
    rule = f"every part must be up within {READY_LIMIT_S:.0f} s"
    raise SettingsError(f"{rule}, got {late}. It keeps trying: read {settings.state / 'logs'}, or `make down`.")


def already(settings: Settings, now: Present) -> None:
    """Refuse to call a set-up up, of which a part is not; one that just starts gets the time for it.

    Raises
    ------
    SettingsError
        A part is not well, or the supervisor is frozen: the message says which, since when, why, and what to do.
    """
    if part_health.frozen(now.pid):
        rule = f"supervisor {now.pid} must run, got one that a signal stopped: it restarts nothing"
        raise SettingsError(f"{rule}. kill -CONT {now.pid}, or `make down up`.")
    deadline = time.monotonic() + READY_LIMIT_S
    while now.running and any(part.state == "starting" for part in now.parts) and time.monotonic() < deadline:
        time.sleep(0.2)
        now = present(settings.state)
    ill = [part for part in part_health.looked(now.parts, settings) if part.state != "up"]
    if ill or not (now.running and now.parts):
        got = "; ".join(map(part_health.told, ill)) or "no supervisor, or no run/up.json that can be read"
        remedies = " ".join(f"{part.name}: {part_health.remedy(part, settings)}." for part in ill) or "`make down up`."
        raise SettingsError(f"every part must be up, got {got}. {remedies}")


def down(state: Path) -> list[str]:
    """End the set-up in `state`, and whatever an earlier one left; what was ended."""
    now, ended = present(state), []
    if now.running:
        with suppress(psutil.NoSuchProcess):
            end([psutil.Process(now.pid)], STOP_LIMIT_S)
        ended = ["supervisor", *(part.name for part in now.parts if part.pid)]
    left = leftovers(state)
    names = [f"{part_health.name(process.pid)} (process {process.pid})" for process in left]
    end(left)
    return ended + names


def leftovers(state: Path) -> list[psutil.Process]:
    """Processes of the set-up in `state`, except this one and those that it descends from."""
    me = psutil.Process()
    family = {me.pid, *(parent.pid for parent in me.parents())}
    return [p for p in psutil.process_iter() if p.pid not in family and _environment(p).get(MARK) == str(state)]


def main(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay; for systemd and containers.")] = False,
) -> None:
    """Start MLflow, the service and the scheduler, and keep them running."""
    settings = live()
    if foreground:
        logs.configure(settings.state / "logs" / "supervisor.jsonl")
        run(settings)
        return
    now = present(settings.state)
    if now.running:
        already(settings, now)
        console.print(f"It is up already, supervisor {now.pid}.")
    else:
        with working("starting MLflow, service and scheduler"):
            up(settings)
    addresses(settings)


def addresses(settings: Settings) -> None:
    """Where everything is."""
    service = settings.service
    for label, where in (
        ("MLflow", f"{settings.tracking_uri}  (press “Model training” on its first page{_signing_in(settings)})"),
        ("risk", f"http://{service.host}:{service.port}/risk  (log in: trader-mlops key add desk --scope risk:read)"),
        ("service", f"http://{service.host}:{service.port}  (its API: /docs)"),
        ("state", str(settings.state)),
        ("logs", str(settings.state / "logs")),
    ):
        console.print(f"  {label:<8} {where}", soft_wrap=True, highlight=False)


def _signing_in(settings: Settings) -> str:
    if not credentials(settings):
        return ""
    return f"; account {ADMIN}, password in {settings.state / 'secrets' / PASSWORD_FILE}"


def stop_all() -> None:
    """End MLflow, the service and the scheduler, and what an earlier supervisor left."""
    state = settings_room.read().state.absolute()
    with working("ending MLflow, service and scheduler"):
        ended = down(state)
    console.print(f"Ended: {', '.join(ended)}." if ended else f"Nothing runs in {state}.", soft_wrap=True)


def _lock(state: Path) -> FileLock:
    return FileLock(private_files.folder(state / "run") / "up.lock", mode=private_files.FILE)


def _locked(state: Path) -> bool:
    lock = _lock(state)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _free(part: Part) -> None:
    """Refuse to start while somebody else listens on a part's port: its health check would praise the wrong one."""
    if part.port is None or not part_health.answers(part.port):
        return
    who = part_health.occupant(part.port)
    rule = f"port {part.port} of {part.name} must be free, got another program{f' ({who})' if who else ''}"
    raise SettingsError(f"{rule} that listens on it. {part.remedy}.")


def _environment(process: psutil.Process) -> Mapping[str, str]:
    with suppress(psutil.Error, OSError):
        return dict(process.environ())
    return {}


if __name__ == "__main__":
    start_job(main)
