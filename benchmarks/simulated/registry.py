"""MLflow's tracking server and registry in memory: the part of `MlflowClient` that the jobs use, and its answers.

Of the evidence only the newest document of each name is kept: no decision reads it. Versions, aliases and
tags behave as MLflow's do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

from mlflow import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

NAMED = re.compile(r"name = '([^']*)'")
TAGGED = re.compile(r"tag\.(\w+) = '([^']*)'")
STORE = "memory:/"
F = TypeVar("F")


@dataclass
class Version:
    """A registered version, as MLflow hands it out."""

    name: str
    version: str
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass
class Model:
    """A registered model: its versions, aliases and tags."""

    name: str
    versions: dict[str, Version] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""


class MemoryClient:
    """In place of `MlflowClient`."""

    tracking_uri = STORE

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._runs = 0
        self.documents: dict[str, Any] = {}  # the newest of each name

    def add_version(self, name: str) -> int:
        """Register the next version of a model, which is made by its first one."""
        model = self._models.setdefault(name, Model(name))
        number = str(len(model.versions) + 1)
        model.versions[number] = Version(name, number)
        return int(number)

    def get_registered_model(self, name: str) -> Model:
        return self._found(self._models.get(name), name)

    def get_model_version(self, name: str, version: str) -> Version:
        model = self._models.get(name)
        return self._found(None if model is None else model.versions.get(version), f"{name} v{version}")

    def search_model_versions(self, filter_string: str) -> list[Version]:
        name, tags = NAMED.search(filter_string), TAGGED.findall(filter_string)
        model = None if name is None else self._models.get(name.group(1))
        every = [] if model is None else list(model.versions.values())
        return [one for one in every if all(one.tags.get(key) == value for key, value in tags)]

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.get_registered_model(name).aliases[str(alias)] = version

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self.get_registered_model(name).aliases.pop(str(alias), None)

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self.get_registered_model(name).tags[key] = value

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self.get_registered_model(name).tags.pop(key, None)

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self.get_model_version(name, version).tags[key] = value

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        self.get_model_version(name, version).tags.pop(key, None)

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name, artifact_location=STORE, tags={})

    def get_experiment(self, experiment_id: str) -> Any:
        return SimpleNamespace(experiment_id=experiment_id, artifact_location=STORE)

    def create_run(self, experiment_id: str, *args: Any, **kwargs: Any) -> Any:
        self._runs += 1
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run{self._runs}"), data=SimpleNamespace(tags={}))

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        return []

    def search_runs(self, *args: Any, **kwargs: Any) -> list[Any]:
        return []

    def _thrown_away(self, *args: Any, **kwargs: Any) -> None:
        """What only people read."""

    def log_dict(self, run_id: str, dictionary: Any, artifact_file: str) -> None:
        self.documents[artifact_file] = dictionary

    log_batch = log_text = log_figure = set_terminated = set_tag = update_run = set_experiment_tag = _thrown_away
    update_model_version = update_registered_model = set_logged_model_tags = _thrown_away

    def _found(self, found: F | None, thing: str) -> F:
        if found is None:
            raise MlflowException(f"{thing} not found", RESOURCE_DOES_NOT_EXIST)
        return found
