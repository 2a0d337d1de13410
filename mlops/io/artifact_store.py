"""Whether files in MLflow lie in its own store. Whoever reaches MLflow may name another place for an experiment or a
version; our uploads would go there, and with them, to an address of MLflow's own kind, the account of the platform."""

from __future__ import annotations

from urllib.parse import urlsplit

from mlflow import MlflowClient, MlflowException

from mlops.errors import RegistryError

DEFAULT_EXPERIMENT = "0"  # made by MLflow at its first start, in the store that it was started with


def check(client: MlflowClient, location: str, thing: str) -> None:
    """Refuse a place outside of MLflow's own store.

    Raises
    ------
    RegistryError
        Another kind of store, another host or another bucket.
    """
    try:
        own = client.get_experiment(DEFAULT_EXPERIMENT).artifact_location
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        own = "mlflow-artifacts:/"
    if _store(location) != _store(own):
        raise RegistryError(
            f"files of {thing} must lie in MLflow's own store ({own}), got {location}. Somebody planted it: delete it."
        )


def _store(location: str) -> tuple[str, str]:
    place = urlsplit(location)
    return place.scheme or "file", place.netloc
