"""Doors for what others send: MLflow's webhooks, and freqtrade's as they are.

What was verified is committed, raw and with its delivery id, before it is acknowledged. What comes of it follows, also
after a crash (`webhook.catch_up`, `freqtrade.catch_up`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from fastapi import APIRouter, BackgroundTasks, HTTPException, Request
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import StorageError
from mlops.settings import Settings
from mlops.web.access import LATER, Gate
from mlops.web.lanes import Lanes
from registry_hooks.aliases import Registry
from registry_hooks.unknown_models import UnknownModels
from registry_hooks.webhooks import freqtrade, mlflow_events

log = structlog.get_logger()
MAX_BODY = 64 * 1024  # an alias event has about 200 bytes, a freqtrade message under 2,000
SCOPE = "hooks"


def router(
    registry: Registry, settings: Settings, clock: Callable[[], datetime], gate: Gate, lanes: Lanes
) -> APIRouter:
    """POST /hooks/mlflow and POST /hooks/freqtrade. `clock` says the time."""
    routes, unknown = APIRouter(prefix="/hooks", tags=["hooks"]), UnknownModels(registry.ledger)

    @routes.post("/mlflow", status_code=202)
    async def mlflow_hook(request: Request, tasks: BackgroundTasks) -> dict[str, Any]:
        """A signed hint of MLflow that an alias moved; we look for ourselves."""
        now = clock()
        async with gate.body(request, MAX_BODY) as body:
            hint = _verified(settings, _single(request), body, now)
            fresh = await lanes.hooks.run(_kept, registry.ledger.deliveries.add, hint.delivery_id, "mlflow", body, now)

        def follow() -> None:
            mode, split = settings.on_manual_move, settings.experiment.split
            mlflow_events.handle(registry, hint, now, on_manual_move=mode, split=split)

        if fresh:
            tasks.add_task(lanes.registry.run, follow)
        return {"accepted": fresh}

    @routes.post("/freqtrade", status_code=202)
    async def freqtrade_hook(request: Request) -> dict[str, Any]:
        """A message of freqtrade's webhook, in any of its three formats; the API key travels as the password."""
        key, now = await gate.admit(_token(request.headers.get("authorization", "")), request, SCOPE), clock()
        async with gate.body(request, MAX_BODY) as body:
            letter = freqtrade.Letter.of(key.label, request.headers.get("content-type", ""), body)
            return await lanes.fills.run(_kept, freqtrade.receive, registry.ledger, letter, now, unknown)

    return routes


def _verified(settings: Settings, headers: dict[str, str], body: bytes, now: datetime) -> mlflow_events.Hint:
    service = settings.service
    secrets = (service.webhook_secret.get_secret_value(), service.webhook_secret_previous.get_secret_value())
    try:
        return mlflow_events.verify(headers, body, secret=secrets, now=now, tolerance_s=service.webhook_tolerance_s)
    except mlflow_events.HookRefused as error:
        log.warning("hook refused", error=str(error))
        raise HTTPException(401, str(error)) from error


def _single(request: Request) -> dict[str, str]:
    """Headers by lower-case name. One that is given twice is joined, so that neither copy is believed."""
    headers = request.headers
    return {name: ", ".join(headers.getlist(name)) for name in headers.keys()}  # noqa: SIM118  values() has copies


def _kept(write: Callable[..., Any], *arguments: Any) -> Any:
    """Do it, or tell the sender to come again: nothing is acknowledged that is not on disk."""
    try:
        return write(*arguments)
    except (StorageError, SQLAlchemyError) as error:
        log.error("hook not kept", error=type(error).__name__)
        raise HTTPException(503, "ledger must be writable, got an error. Send it again.", LATER) from error


def _token(header: str) -> str:
    """The key in `Bearer key` or in `Basic base64(anything:key)`; empty where there is none."""
    scheme, _, text = header.partition(" ")
    try:
        key = base64.b64decode(text, validate=True).decode().partition(":")[2] if scheme.lower() == "basic" else text
    except ValueError:  # no base64, no UTF-8
        return ""
    return key if scheme.lower() in ("basic", "bearer") and key.isascii() and key.isprintable() else ""
