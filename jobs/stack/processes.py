"""What a set-up consists of: the parts that `make up` keeps running, and the environment that all of them get."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from jobs.stack.servers import mlflow_command, own_secret
from mlops import settings as settings_room
from mlops.errors import SettingsError
from mlops.settings import ServiceSettings, Settings
from registry_hooks.account import PASSWORD_FILE, credentials, tracking_port

SERVICES = ("service", "standby")
BACKLOG = 2048  # callers who may wait while one service takes over from the other
MARK = "TRADER_MLOPS_UP"  # in the environment of every process of a set-up: its state folder. What has it is ours.
# Two threads in BLAS or OpenMP on a busy two-core machine made the 95th percentile 150 times worse.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SILENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@dataclass(frozen=True, slots=True)
class Part:
    """A process that must be there.

    `health` answers 200 while it is well (empty: it is well while it lives); `needs` names parts that should be up
    before its first start; `port` is what it listens on; `peer` takes its place as soon as it ends.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: str = ""
    needs: tuple[str, ...] = ()
    port: int | None = None
    remedy: str = ""  # what to do when its port is taken
    sockets: tuple[int, ...] = ()  # file descriptors that it gets
    peer: str = ""


def live(settings: Settings | None = None) -> Settings:
    """The settings of a set-up, with the secrets that it made for itself.

    Raises
    ------
    SettingsError
        MLflow is no server: without one there are no webhooks.
    """
    settings = settings or settings_room.read()
    if urlsplit(settings.tracking_uri).scheme not in ("http", "https"):
        rule = "tracking_uri must be the address of an MLflow server"
        raise SettingsError(f"{rule}, got {settings.tracking_uri!r}. Set MLOPS_TRACKING_URI=http://127.0.0.1:5000.")
    service = settings.service
    if not service.webhook_secret.get_secret_value():
        service = service.model_copy(update={"webhook_secret": SecretStr(own_secret(settings.state, "webhook"))})
    return settings.model_copy(update={"state": settings.state.absolute(), "service": service})


def environment(settings: Settings) -> dict[str, str]:
    """What every part gets: all of them, and what they start, see one and the same set-up."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # for `mlflow run`
    return {
        **ONE_THREAD,
        **os.environ,
        **SILENT,
        **credentials(settings),
        MARK: str(settings.state),
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "MLOPS_STATE": str(settings.state),
        "MLOPS_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLOPS_SERVICE__WEBHOOK_SECRET": settings.service.webhook_secret.get_secret_value(),
    }


def _mlflow(settings: Settings, base: Mapping[str, str]) -> Part | None:
    port = tracking_port(settings)
    if port is None:
        return None
    command, extra = mlflow_command(settings.state, port, auth=settings.tracking_auth)
    remedy = f"Stop that program, or choose another port: MLOPS_TRACKING_URI=http://127.0.0.1:{port + 1}"
    health = f"http://127.0.0.1:{port}/health"
    return Part("mlflow", tuple(command), {**base, **extra}, health, port=port, remedy=remedy)


def _service(settings: Settings, base: Mapping[str, str]) -> Part:
    port = settings.service.port
    remedy = f"Stop that program, or choose another port: MLOPS_SERVICE__PORT={port + 1}"
    health, command = f"http://{settings.service.host}:{port}/healthz", (sys.executable, "-m", "jobs.serve")
    return Part("service", command, base, health, ("mlflow",), port, remedy, peer="standby")


def _standby(_: Settings, base: Mapping[str, str]) -> Part:
    """A second service, which takes the first one's place within a moment when that ends."""
    return Part("standby", (sys.executable, "-m", "jobs.serve"), base, needs=("service",), peer="service")


def bound(parts: Sequence[Part], service: ServiceSettings) -> tuple[Part, ...]:
    """The parts with the sockets that they listen on, which stay open as long as this process lives.

    Both services get the socket that callers use, so that callers wait in its queue while one takes over from the
    other, and each gets one of its own, at which its health is asked for.
    """
    family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
    shared = socket.create_server((service.host, service.port), family=family, backlog=BACKLOG).detach()
    return tuple(_handed(part, shared) if part.name in SERVICES else part for part in parts)


def _handed(part: Part, shared: int) -> Part:
    own = socket.create_server(("127.0.0.1", 0))
    health = f"http://127.0.0.1:{own.getsockname()[1]}/healthz"
    sockets = (shared, own.detach())
    command = (*part.command, "--sockets", ",".join(map(str, sockets)))
    return replace(part, command=command, health=health, sockets=sockets)


def _scheduler(settings: Settings, base: Mapping[str, str]) -> Part:
    return Part("scheduler", (sys.executable, "-m", "jobs.worker"), base, needs=("mlflow",))


PARTS: tuple[Callable[[Settings, Mapping[str, str]], Part | None], ...] = (_mlflow, _service, _standby, _scheduler)


def parts(settings: Settings) -> tuple[Part, ...]:
    """The parts of a set-up, in the order in which they start."""
    if settings.tracking_auth and tracking_port(settings) is not None:
        own_secret(settings.state, PASSWORD_FILE)
    base = environment(settings)
    return tuple(part for make in PARTS if (part := make(settings, base)) is not None)
