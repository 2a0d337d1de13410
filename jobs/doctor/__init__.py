"""What can be wrong with a set-up: one function a check, given a `Setup`, that yields what it found wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy import Engine, Row, Select, create_engine

from mlops.io.ledger import Ledger
from mlops.settings import Settings
from mlops.types import Level
from registry_hooks.account import credentials

if TYPE_CHECKING:
    from registry_hooks.aliases import Registry

QUESTION = "/api/2.0/mlflow/registered-models/search"  # guarded by accounts and host names, as all of the API is
TIMEOUT_S = 8.0  # under a check's limit; a cold MLflow answers its first request in 2 s


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, and how to mend it.

    `level` is ALERT (it does not work), WARN (it may not, or will not for long), UNKNOWN (it could not be looked at),
    or OK: nothing is wrong, and this is what was seen. `none`: there is nothing yet to look at, which is not the same.
    """

    what: str
    remedy: str
    level: Level = Level.ALERT
    none: bool = False


NO_SERVER = Problem("not looked at: MLflow's server does not let us ask", "Mend that first", Level.UNKNOWN)
NO_LEDGER = Problem("not looked at: there is no ledger of this release", "Mend that first", Level.UNKNOWN)


def nothing(thing: str) -> Problem:
    """There is nothing yet to look at: no `thing`. That is neither wrong nor well."""
    return Problem(f"no {thing} yet: nothing to look at", "", Level.OK, none=True)


@dataclass
class Setup:
    """What a check may look at. Opened when first asked for; nothing is made or migrated by looking.

    `clock` says the time here; `environment` are the variables that the set-up was started with.
    """

    settings: Settings
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @cached_property
    def server(self) -> httpx.Client:
        """MLflow's REST API, signed in as the platform does."""
        known = {**credentials(self.settings), **self.environment}
        name, password = known.get("MLFLOW_TRACKING_USERNAME"), known.get("MLFLOW_TRACKING_PASSWORD")
        auth = (name, password) if name and password else None
        return httpx.Client(base_url=self.settings.tracking_uri, auth=auth, timeout=TIMEOUT_S)

    @cached_property
    def answer(self) -> httpx.Response | None:
        """What MLflow says to a simple question; None where it says nothing."""
        try:
            return self.server.get(QUESTION, params={"max_results": 1})
        except httpx.HTTPError:
            return None

    @property
    def answers(self) -> bool:
        """Whether MLflow talks to us: without it, checks that ask it are pointless."""
        return self.answer is not None and self.answer.status_code == 200

    @cached_property
    def service(self) -> httpx.Client:
        service = self.settings.service
        return httpx.Client(base_url=f"http://{service.host}:{service.port}", timeout=TIMEOUT_S, trust_env=False)

    @cached_property
    def engine(self) -> Engine:
        """The ledger's database, as it is."""
        return create_engine(self.settings.ledger)

    def rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self.engine.connect() as connection:
            return connection.execute(query).all()

    @cached_property
    def registry(self) -> Registry:
        """Opens, and so migrates, the ledger: only where `current` says that there is nothing to migrate."""
        from mlflow import MlflowClient

        from registry_hooks.aliases import Registry

        uri = self.settings.tracking_uri
        client = MlflowClient(uri, registry_uri=uri)
        return Registry(
            client, Ledger(self.settings.ledger), self.settings.state / "bundles", self.settings.experiment.common_units
        )

    current: bool = False  # the ledger is there, and of this release; the check of the ledger finds out

    def close(self) -> None:
        for name in ("server", "service"):
            if name in self.__dict__:
                self.__dict__[name].close()
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "registry" in self.__dict__:
            self.registry.ledger.close()


Check = Callable[[Setup], Iterator[Problem]]


def own_file(state: Path, name: str) -> str:
    """A secret that the set-up made, if it made one. Looking makes none."""
    path = state / "secrets" / name
    return path.read_text(encoding="ascii") if path.exists() else ""
