"""The platform's HTTP service: it hears MLflow's webhooks and says whether it is well. It computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from fastapi import BackgroundTasks, FastAPI, Request, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from mlops.settings import Settings
from registry_hooks import webhook
from registry_hooks.aliases import Registry

log = structlog.get_logger()
MAX_BODY = 64 * 1024  # an alias event has about 200 bytes


def build(registry: Registry, settings: Settings, clock: Callable[[], datetime]) -> FastAPI:
    """The application. `clock` says the time; everything else it needs is in its arguments."""
    app = FastAPI(title="gpt-trader-mlops", version="1", docs_url="/docs")

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz(response: Response) -> dict[str, str]:
        try:
            registry.ledger.alerts()
        except SQLAlchemyError as error:
            response.status_code = 503
            return {"ledger": type(error).__name__}
        return {"ledger": "ok"}

    @app.post("/hooks/mlflow", status_code=202)
    async def mlflow_hook(request: Request, tasks: BackgroundTasks, response: Response) -> dict[str, Any]:
        body = await _body(request)
        if body is None:
            response.status_code = 413
            return {"detail": f"body must be at most {MAX_BODY} bytes. Check the sender."}
        secret = settings.service.webhook_secret.get_secret_value()
        tolerance = settings.service.webhook_tolerance_s
        try:
            hint = webhook.verify(dict(request.headers), body, secret=secret, now=clock(), tolerance_s=tolerance)
        except webhook.HookRefused as error:
            log.warning("hook refused", error=str(error))
            response.status_code = 401
            return {"detail": str(error)}
        fresh = await run_in_threadpool(registry.ledger.add_delivery, hint.delivery_id, "mlflow", body, clock())
        if fresh:
            tasks.add_task(webhook.handle, registry, hint, clock(), on_manual_move=settings.on_manual_move)
        return {"accepted": fresh}

    return app


async def _body(request: Request) -> bytes | None:
    """The raw body, or None past the limit (read no further than that)."""
    got = bytearray()
    async for chunk in request.stream():
        got += chunk
        if len(got) > MAX_BODY:
            return None
    return bytes(got)
