"""The platform's service: hears MLflow's webhooks, and repairs by polling what a webhook lost."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import mlflow
import structlog
import typer
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from jobs.house import House, run
from mlops.errors import MlopsError
from mlops.io import logs
from mlops.web import app
from registry_hooks import webhook
from registry_hooks.reconcile import reconcile

log = structlog.get_logger()


def serve(house: House) -> None:
    """Subscribe to MLflow's webhooks, then serve until stopped."""
    service, stop = house.settings.service, threading.Event()
    _subscribe(house)
    poll = threading.Thread(target=_poll, args=(house, stop), name="reconcile", daemon=True)
    poll.start()
    server = app.build(house.registry, house.settings, lambda: datetime.now(UTC))
    uvicorn.run(server, host=service.host, port=service.port, log_level="warning", access_log=False)
    stop.set()


@retry(
    retry=retry_if_exception_type(mlflow.MlflowException),
    stop=stop_after_delay(120),
    wait=wait_exponential(max=5),
    reraise=True,
)
def _subscribe(house: House) -> None:
    service = house.settings.service
    url = f"http://{service.host}:{service.port}/hooks/mlflow"
    webhook.subscribe(house.client, url, service.webhook_secret.get_secret_value())


def _poll(house: House, stop: threading.Event) -> None:
    while not stop.wait(house.settings.service.poll_s):
        try:
            for model in house.client.search_registered_models():
                with logs.bind(correlation_id=f"poll:{model.name}"):
                    mode = house.settings.on_manual_move
                    reconcile(house.registry, model.name, datetime.now(UTC), on_manual_move=mode)
        except (mlflow.MlflowException, MlopsError, SQLAlchemyError) as error:
            log.warning("poll failed", error=str(error))


if __name__ == "__main__":
    typer.run(lambda: run("serve", serve))
