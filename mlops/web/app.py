"""The platform's HTTP service: it hears MLflow's webhooks and says whether it is well. It computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fastapi import FastAPI, Response
from sqlalchemy.exc import SQLAlchemyError

from mlops.settings import Settings
from mlops.web import hooks
from registry_hooks.aliases import Registry


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

    app.include_router(hooks.router(registry, settings, clock))
    return app
