"""The account by which the platform's own processes speak with an MLflow that `make up` runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlops.settings import Settings

if TYPE_CHECKING:
    from registry_hooks.aliases import Registry

ADMIN = "admin"
PASSWORD_FILE = "mlflow-admin"  # noqa: S105 - in the folder `secrets` of the state
AUTHORIZE = "registry_hooks.mlflow_auth:authorize"  # what our MLflow asks of each request
USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
LOOPBACK = ("127.0.0.1", "localhost")


def tracking_port(settings: Settings) -> int | None:
    """Port of the MLflow server that is ours to run; None where the setting names one that runs elsewhere."""
    place = urlsplit(settings.tracking_uri)
    return (place.port or 80) if place.scheme == "http" and place.hostname in LOOPBACK else None


def credentials(settings: Settings) -> dict[str, str]:
    """How the platform signs in to an MLflow with accounts that it runs itself; nothing before its first start."""
    path = settings.state / "secrets" / PASSWORD_FILE
    if not settings.tracking_auth or tracking_port(settings) is None or not path.exists():
        return {}
    return {USERNAME: ADMIN, PASSWORD: path.read_text(encoding="ascii")}


def sign_in(settings: Settings) -> None:
    """Let this process's MLflow client use the set-up's own account, unless its environment names another one."""
    if os.environ.get(USERNAME, ADMIN) == ADMIN:
        os.environ.update(credentials(settings))


def connect(settings: Settings) -> Registry:
    """The registry of a set-up, for a bot on the same machine; the ledger is opened, close it at the end."""
    from mlflow import MlflowClient

    from mlops.io.ledger import Ledger
    from registry_hooks.aliases import Registry

    sign_in(settings)
    client = MlflowClient(settings.tracking_uri, registry_uri=settings.tracking_uri)
    ledger = Ledger(settings.ledger)
    ledger.telemetry.most_books = (settings.service.max_books, settings.service.max_books_all)
    return Registry(client, ledger, settings.state / "bundles", settings.experiment.common_units)
