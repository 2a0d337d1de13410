"""Health of the parts of a set-up now, whatever their supervisor saw last, and how to mend them."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace

import httpx
import psutil

from jobs.stack.status_board import Standing
from mlops.settings import Settings
from registry_hooks.account import tracking_port

ANSWER_S = 5.0  # for the answer to a health check
LOOPBACK = ("127.0.0.1", "0.0.0.0", "::")  # noqa: S104 (where somebody may listen who keeps a part from its port)
ROW = "docs/runbook.md, `part_down`"


def looked(parts: Sequence[Standing], settings: Settings) -> tuple[Standing, ...]:
    """The parts as they stand now: what is frozen, does not answer or has lost its port to another is not up."""
    return tuple(_looked(part, settings) for part in parts)


def told(part: Standing) -> str:
    """A part's standing in words."""
    since = f" since {part.since}" if part.since else ""
    failures = f" ({part.failures} failures)" if part.failures else ""
    why = part.why or ("" if part.state == "up" else "not yet up")
    return f"{part.name} is {part.state}{since}{f': {why}' if why else ''}{failures}"


def remedy(part: Standing, settings: Settings) -> str:
    """What to do about a part that is not up."""
    log = settings.state / "logs" / f"{part.name}.log"
    if part.state == "frozen":
        again = f"kill -9 {part.pid} and it is started again"
        return f"kill -CONT {part.pid} lets it go on, or {again}. {ROW}"
    port = tracking_port(settings) if part.name == "mlflow" else None
    if port is not None and occupant(port, part.pid):
        other = f"MLOPS_TRACKING_URI=http://127.0.0.1:{port + 1} for platform and bots, then `make down up`"
        return f"Stop that program, and it is started by itself within a minute; or {other}. {ROW}"
    return f"It is tried again; read {log}. {ROW}"


def frozen(pid: int) -> bool:
    """Whether a process was stopped by a signal, and not yet told to go on."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except (psutil.Error, ValueError):
        return False


def occupant(port: int, leader: int = 0) -> str:
    """Which program listens on a port, in words; empty where none does, or only the process group of `leader`."""
    try:
        bound = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
    except psutil.Error:
        return ""
    others = {c.pid for c in bound if c.laddr.ip in LOOPBACK and not (leader and c.pid and _group(c.pid) == leader)}
    pid = min((pid for pid in others if pid), default=None)
    return "" if not others else f"{name(pid)}, process {pid}" if pid else "a program of somebody else"


def answers(port: int) -> bool:
    """Whether anybody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def name(pid: int) -> str:
    """What a process is called."""
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return "a process that has ended"


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _looked(part: Standing, settings: Settings) -> Standing:
    port = tracking_port(settings) if part.name == "mlflow" else None
    who = occupant(port, part.pid) if port is not None else ""
    if who and who not in part.why:
        also = f"port {port} is taken by {who}"
        part = replace(part, state="down", why=f"{part.why}; {also}" if part.why else also)
    if part.state != "up":
        return part
    if frozen(part.pid):
        return replace(part, state="frozen", since="", why=f"process {part.pid} was stopped by a signal")
    why = _silence(part, settings)
    return replace(part, state="not well", since="", why=why) if why else part


def _silence(part: Standing, settings: Settings) -> str:
    """Why a part that should answer a health check does not; empty where it does, or has none."""
    service = settings.service
    checks = {"mlflow": f"{settings.tracking_uri}/health", "service": f"http://{service.host}:{service.port}/healthz"}
    if part.name not in checks:
        return ""
    try:
        status = httpx.get(checks[part.name], timeout=ANSWER_S, trust_env=False).status_code
    except httpx.HTTPError as error:
        return f"it runs and does not answer ({type(error).__name__})"
    return "" if status == httpx.codes.OK else f"it runs and answers {status}"
