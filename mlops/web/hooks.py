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
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from mlops.settings import Settings
from registry_hooks import freqtrade, webhook
from registry_hooks.aliases import Registry

log = structlog.get_logger()
MAX_BODY = 64 * 1024  # an alias event has about 200 bytes, a freqtrade message under 2,000
SCOPE = "hooks"


def router(registry: Registry, settings: Settings, clock: Callable[[], datetime]) -> APIRouter:
    """POST /hooks/mlflow and POST /hooks/freqtrade. `clock` says the time."""
    routes = APIRouter(prefix="/hooks", tags=["hooks"])

    @routes.post("/mlflow", status_code=202)
    async def mlflow_hook(request: Request, tasks: BackgroundTasks) -> dict[str, Any]:
        """A signed hint of MLflow that an alias moved; we look for ourselves."""
        body, now = await _body(request), clock()
        hint = _verified(settings, _single(request), body, now)
        fresh = await run_in_threadpool(_kept, registry.ledger.add_delivery, hint.delivery_id, "mlflow", body, now)
        if fresh:
            mode, split = settings.on_manual_move, settings.experiment.split
            tasks.add_task(webhook.handle, registry, hint, now, on_manual_move=mode, split=split)
        return {"accepted": fresh}

    @routes.post("/freqtrade", status_code=202)
    async def freqtrade_hook(request: Request) -> dict[str, Any]:
        """A message of freqtrade's webhook, in any of its three formats; the API key travels as the password."""
        body, now = await _body(request), clock()
        key = await run_in_threadpool(_kept, registry.ledger.key, _token(request.headers.get("authorization", "")), now)
        if key is None or SCOPE not in key.scopes:
            raise HTTPException(401, f"API key must be valid and have scope {SCOPE}, got another or none. Add one.")
        letter = freqtrade.Letter.of(key.label, request.headers.get("content-type", ""), body)
        return await run_in_threadpool(_kept, freqtrade.receive, registry.ledger, letter, now)

    return routes


def _verified(settings: Settings, headers: dict[str, str], body: bytes, now: datetime) -> webhook.Hint:
    service = settings.service
    secrets = (service.webhook_secret.get_secret_value(), service.webhook_secret_previous.get_secret_value())
    try:
        return webhook.verify(headers, body, secret=secrets, now=now, tolerance_s=service.webhook_tolerance_s)
    except webhook.HookRefused as error:
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
    except SQLAlchemyError as error:
        log.error("hook not kept", error=type(error).__name__)
        raise HTTPException(503, "ledger must be writable, got an error. Send it again.") from error


async def _body(request: Request) -> bytes:
    """The raw body; past the limit it is read no further."""
    got = bytearray()
    try:
        async for chunk in request.stream():
            got += chunk
            if len(got) > MAX_BODY:
                raise HTTPException(413, f"body must be at most {MAX_BODY} bytes, got more. Check the sender.")
    except ClientDisconnect as error:
        raise HTTPException(400, "body must arrive whole, got a part of it. Send it again.") from error
    return bytes(got)


def _token(header: str) -> str:
    """The key in `Bearer key` or in `Basic base64(anything:key)`; empty where there is none."""
    scheme, _, said = header.partition(" ")
    try:
        key = base64.b64decode(said, validate=True).decode().partition(":")[2] if scheme.lower() == "basic" else said
    except ValueError:  # no base64, no UTF-8
        return ""
    return key if scheme.lower() in ("basic", "bearer") and key.isascii() and key.isprintable() else ""
