"""The platform's HTTP service: the bot API, the hooks, and whether all is well. It computes nothing."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mlops.errors import StorageError
from mlops.io import logs
from mlops.io.ledger import Ledger
from mlops.settings import Settings
from mlops.web import api, feed, hooks, login, reference, shell
from mlops.web.access import LATER, Gate
from mlops.web.feed import Hub
from mlops.web.lanes import Lanes
from mlops.web.login import PageAccess
from mlops.web.metrics import CONTENT_TYPE, Meters
from mlops.web.pages import PAGES
from mlops.web.scoring import Scorers
from mlops.web.watch import OK, Watch
from registry_hooks.aliases import Registry

log = structlog.get_logger()
CORRELATION = "X-Correlation-Id"
SANE_ID = re.compile(r"[A-Za-z0-9:._+@/-]{1,128}")
HEADERS = {  # https://owasp.org/www-project-secure-headers/
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def build(
    registry: Registry,
    settings: Settings,
    clock: Callable[[], datetime],
    scorers: Scorers | None = None,
    hub: Hub | None = None,
    watch: Watch | None = None,
) -> FastAPI:
    """The application. `clock` says the time; everything else it needs is in its arguments.

    Parameters
    ----------
    scorers : callable, optional
        Model -> what scores it for bots without Python, or None for a model that this service does not score.
    hub : Hub, optional
        Where the risk state is published: with it come the feed and the pages.
    watch : Watch, optional
        The loops beside it, which `/readyz` tells of.
    """
    app = FastAPI(title="gpt-trader-mlops", version="1", docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*settings.service.allowed_hosts])
    meters, lanes, watch = Meters(registry.ledger), Lanes(), watch or Watch()
    gate = Gate(registry.ledger, settings.service, clock, lanes)
    app.add_exception_handler(RequestValidationError, _wrong)
    for kind in (StorageError, SQLAlchemyError):
        app.add_exception_handler(kind, _away)

    @app.middleware("http")
    async def around(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get(CORRELATION, "")
        correlation = given if SANE_ID.fullmatch(given) else uuid.uuid4().hex
        began = time.perf_counter()
        with logs.bind(correlation_id=correlation):
            response = await go_on(request)
        route = getattr(request.scope.get("route"), "path", "none")
        meters.answered(
            route, request.method if route != "none" else "any", response.status_code, time.perf_counter() - began
        )
        for name, value in (HEADERS | {CORRELATION: correlation}).items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses={503: {"model": dict[str, str], "description": "It cannot."}})
    async def readyz(response: Response) -> dict[str, str]:
        """Whether it can do its work: 503 while any part does not, with what is wrong of each."""
        parts = {"ledger": await lanes.health.run(_ledger, registry.ledger)} | watch.parts()
        if set(parts.values()) != {OK}:
            response.status_code = 503
        return parts

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus exposition."""
        return Response(await lanes.meters.run(meters.text), media_type=CONTENT_TYPE)

    app.include_router(hooks.router(registry, settings, clock, gate, lanes))
    moved = hub.news.set if hub is not None else _nobody
    app.include_router(api.router(registry.ledger, settings, clock, meters, scorers, moved, gate, lanes))
    if hub is not None:
        _show(app, hub, PageAccess(gate, settings, clock), settings)
    _describe(app)
    app.include_router(reference.router(app.openapi))
    return app


def _ledger(ledger: Ledger) -> str:
    """State what is wrong with the ledger, or OK."""
    try:
        ledger.trading.state()
        return ledger.degraded() or OK
    except (StorageError, SQLAlchemyError) as error:
        return type(error).__name__


def _nobody() -> None:
    """Hears that prices moved where no risk is shown."""


def _show(app: FastAPI, hub: Hub, door: PageAccess, settings: Settings) -> None:
    """The live feed and the pages that are drawn from it."""
    app.include_router(feed.router(hub, door))
    app.include_router(login.router(door))
    app.include_router(shell.router(PAGES, door.visitor, settings.risk))
    shell.mount(app)


def _wrong(_: Request, error: Exception) -> Response:
    """A parameter that breaks its contract, in the words of every other error."""
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    why = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors[:3])
    return JSONResponse({"detail": why}, 422)


def _away(_: Request, error: Exception) -> Response:
    """What asked the ledger and got no answer."""
    log.error("ledger away", error=str(error))
    return JSONResponse({"detail": "ledger must answer, got an error. Try again."}, 503, LATER)


def _describe(app: FastAPI) -> None:
    """OpenAPI with the key's scheme and the bodies that are read raw, made once."""

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            parts = schema.setdefault("components", {})
            parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            contracts: list[tuple[type[BaseModel], JsonSchemaMode]] = [(body, "validation") for body in api.BODIES]
            parts["schemas"] |= models_json_schema(contracts, ref_template="#/components/schemas/{model}")[1]["$defs"]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
