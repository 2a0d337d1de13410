"""The two servers that a set-up on one machine needs, each in its own process group: no child is left behind."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from mlops.errors import MlopsError, SettingsError
from mlops.io import private_files
from registry_hooks.account import AUTHORIZE

START_LIMIT_S = 120.0  # a cold MLflow server needs 6 to 40 s, more on a busy machine
STOP_LIMIT_S = 20.0  # MLflow with one worker ends in 2 s; a job gets the time to hand its run back


class ServerDied(MlopsError):
    """A server ended instead of answering; the message names its log."""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def own_secret(folder: Path, name: str) -> str:
    """A secret of this set-up, made at first use and kept in a file that only its owner can read."""
    path = folder / "secrets" / name
    private_files.folder(path.parent)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii")
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())  # also a valid Fernet key
    return path.read_text(encoding="ascii")


@contextmanager
def mlflow_server(folder: Path, port: int, *, auth: bool = False) -> Iterator[str]:
    """A real MLflow server on SQLite, and its address, until the block ends."""
    command, settings = mlflow_command(folder, port, auth=auth)
    with _process(command, settings, folder / "mlflow.log", f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


def mlflow_command(folder: Path, port: int, *, auth: bool = False) -> tuple[list[str], dict[str, str]]:
    """What starts MLflow on SQLite in `folder`, and its variables. One worker, job runner off: 0.5 GB, not 2.2.

    `auth`: it asks who calls. Everybody with an account may read, only the admin (the platform) writes.
    A webhook needs the REST server and, on loopback, the two settings that allow http and private addresses.
    """
    store = private_files.file(folder / "mlflow.db")
    if auth:
        private_files.file(folder / "basic_auth.db")
    with closing(sqlite3.connect(store)) as connection:  # persists in the file; small writes 2 to 4 times faster
        connection.execute("PRAGMA journal_mode=WAL")
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{store.absolute()}"),
        *("--artifacts-destination", str((folder / "artifacts").absolute()), "--serve-artifacts"),
    ]
    settings = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": own_secret(folder, "webhook-encryption"),
        "MLFLOW_WEBHOOK_CACHE_TTL": "1",  # the default of 60 s keeps a new webhook silent
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    }
    if auth:
        command += ["--app-name", "basic-auth"]
        settings |= _basic_auth(folder)
    return command, settings


def _basic_auth(folder: Path) -> dict[str, str]:
    """What MLflow's basic-auth app needs. Hashing a password costs half a second a request, hence the cache."""
    config = private_files.file(folder / "basic_auth.ini")
    config.write_text(
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = sqlite:///{(folder / 'basic_auth.db').absolute()}\n"
        "admin_username = admin\n"
        f"authorization_function = {AUTHORIZE}\n"
        "auth_cache_ttl_seconds = 60\n",
        encoding="utf-8",
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(config.absolute()),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": own_secret(folder, "flask"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": own_secret(folder, "mlflow-admin"),
    }


@contextmanager
def platform_service(folder: Path, port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """The platform's own service (`jobs.serve`), and its address."""
    command = [sys.executable, "-m", "jobs.serve"]
    with _process(command, environment, folder / "serve.log", f"http://127.0.0.1:{port}/healthz"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _process(command: list[str], extra: Mapping[str, str], log: Path, health: str) -> Iterator[None]:
    if _answers(health):
        raise SettingsError(f"port of {health} must be free, got a server that answers. Stop it or choose another.")
    with private_files.file(log).open("ab") as sink:
        child = subprocess.Popen(  # noqa: S603
            command,
            env={**os.environ, **extra},
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=private_files.MASK,
        )
    try:
        _wait(child, health, log)
        yield
    finally:
        _stop(child)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@retry(
    retry=retry_if_exception_type(TimeoutError),
    stop=stop_after_delay(START_LIMIT_S),
    wait=wait_fixed(0.2),
    reraise=True,
)
def _wait(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    if child.poll() is not None:
        raise ServerDied(f"server must stay up, got exit status {child.returncode}. Read {log}.")
    if not _answers(url):
        raise TimeoutError(f"{url} must answer within {START_LIMIT_S:.0f} s, got nothing. Read {log}.")


def _stop(child: subprocess.Popen[bytes]) -> None:
    end_group(child.pid)
    child.wait()


def end_group(leader: int, *, at_once: bool = False) -> list[psutil.Process]:
    """End a whole process group, asked first, then made to (`at_once`: a hung one hears nothing); who was in it.

    Killing only the leader leaves MLflow's worker serving, and its port taken.
    """
    return end([p for p in psutil.process_iter() if _in_group(p, leader)], at_once=at_once)


def end(
    processes: list[psutil.Process], limit_s: float | None = None, *, at_once: bool = False
) -> list[psutil.Process]:
    """End processes: asked first, killed if they are still there after a while (`STOP_LIMIT_S`), or `at_once`."""
    for sign in (signal.SIGTERM, signal.SIGKILL)[at_once:]:
        _signalled([process for process in processes if alive(process)], sign)
        deadline = time.monotonic() + (limit_s or STOP_LIMIT_S)
        while any(map(alive, processes)) and time.monotonic() < deadline:
            time.sleep(0.05)
    return processes


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs. A zombie does not, though a container without an init keeps it for ever."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signalled(processes: list[psutil.Process], sign: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(sign)


def _in_group(process: psutil.Process, leader: int) -> bool:
    try:
        return os.getpgid(process.pid) == leader and alive(process)
    except (ProcessLookupError, PermissionError):
        return False
