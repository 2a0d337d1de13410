"""The versions that a bot scores with: what the registry wants, and what of it was proven on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import mlflow
import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

import registry_hooks.bot.last_lineup as last_lineup
from mlops.alerts import ALERTS
from mlops.errors import RegistryError
from mlops.types import ModelRef, Role
from registry_hooks import aliases
from registry_hooks.aliases import Lineup, Registry
from registry_hooks.apply import prove_loadable
from registry_hooks.assignment import Assigner
from registry_hooks.bot.notifications import News
from registry_hooks.bot.scoring import sound
from registry_hooks.bundle import Bundle

log = structlog.get_logger()
Probe = Callable[[pd.DataFrame], tuple[Sequence[str], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Arms:
    """Everything that one bar is scored with: one object, one reference, so that no bar sees half a swap."""

    lineup: Lineup
    bundles: Mapping[int, Bundle]

    @property
    def champion(self) -> Bundle:
        return self.bundles[self.lineup.champion]

    def challengers(self) -> list[int]:
        """Versions beside the champion whose scores may be traded."""
        return [version for version in self.lineup.weights if version in self.bundles]


class Prover:
    """Loads what the registry wants beside what is there, and lets nothing pass that is not proven.

    Parameters
    ----------
    features : callable, optional
        The bot's own feature code; None where features come from elsewhere, ready: then only scores are proven.
    names : sequence of str, optional
        Columns of what will be scored; None: the features of the champion that is found first.
    news : News
        Takes the alert of a version that was refused, and takes it back.
    assigner : Assigner
        Settles what it assigned by the weights at hand before others are taken up, and learns what others assigned.
    """

    def __init__(
        self,
        model: str,
        registry: Registry,
        features: Probe | None,
        names: Sequence[str] | None,
        news: News,
        assigner: Assigner,
    ) -> None:
        self._model, self._registry, self._features, self._news = model, registry, features, news
        self._assigner = assigner
        self.names = None if names is None else tuple(names)
        self._refused: dict[int, str] = {}  # version -> why
        self._told: dict[int, str] = {}  # version -> key of its alert

    def first(self, now: datetime) -> Arms:
        """What to start with: the registry's word, or while MLflow is away the last one that was heard here.

        Raises
        ------
        RegistryError
            There is no champion, or it cannot be proven.
        """
        try:
            wanted = aliases.lineup(self._registry, self._model)
        except mlflow.MlflowException as error:
            log.warning("MLflow not read; starting by the ledger", model=self._model, error=str(error))
            wanted = aliases.lineup(self._registry, self._model, self._heard_last())
        except SQLAlchemyError as error:
            log.warning("ledger not read; starting with what was known last", model=self._model, error=str(error))
            wanted = last_lineup.read(self._registry.cache, self._model)
        champion_first = [wanted.champion, *(v for v in wanted.roles if v != wanted.champion)]
        bundles = {v: bundle for v in champion_first if (bundle := self._proven(v, None, now)) is not None}
        if wanted.champion not in bundles:
            why = self._refused.get(wanted.champion)
            raise RegistryError(f"champion v{wanted.champion} of {self._model} must be provable, got: {why}")
        last_lineup.write(self._registry.cache, self._model, wanted)
        self._assigner.learn(wanted)
        return Arms(wanted, bundles)

    def next(self, have: Arms, canary: NDArray[np.float32] | None, now: datetime) -> Arms | None:
        """The arms that the registry wants by now, proven; None where nothing is new, or it cannot be had.

        `canary`: a bar of real features that a new version has to score, too.
        """
        try:
            self._assigner.settle()
            wanted = self._wanted(have)
            if (wanted.salt, wanted.epoch) != (have.lineup.salt, have.lineup.epoch):
                self._assigner.learn(wanted)
        except (mlflow.MlflowException, SQLAlchemyError, RegistryError) as error:
            log.warning("registry not read; the models at hand stay", model=self._model, error=str(error))
            return None
        if wanted == have.lineup and wanted.roles.keys() == have.bundles.keys():
            return None
        both = {v: have.bundles.get(v) or self._proven(v, canary, now) for v in wanted.roles}
        bundles = {v: bundle for v, bundle in both.items() if bundle is not None}
        if wanted.champion not in bundles or (wanted == have.lineup and bundles.keys() == have.bundles.keys()):
            return None
        last_lineup.write(self._registry.cache, self._model, wanted)
        return Arms(wanted, bundles)

    def _wanted(self, have: Arms) -> Lineup:
        """What the registry wants. Another champion is the ledger's to tell: a rollback waits for no MLflow."""
        moved = self._registry.ledger.registry.champion(self._model) not in (None, have.lineup.champion)
        return aliases.lineup(self._registry, self._model, have.lineup.roles if moved else None)

    def _heard_last(self) -> Mapping[int, Role]:
        try:
            return last_lineup.read(self._registry.cache, self._model).roles
        except RegistryError:
            return {}

    def _proven(self, version: int, canary: NDArray[np.float32] | None, now: datetime) -> Bundle | None:
        """Fetch, verify and prove one version; None, with an alert, where it fails."""
        ref = ModelRef(self._model, version)
        try:
            bundle = prove_loadable(self._registry, ref)
            self.names = self.names or bundle.names
            bundle.prove(self._features, self.names)
            if canary is not None:
                sound(bundle.score(canary, self.names), len(canary))
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything; the old one trades on
            self._refuse(ref, f"{type(error).__name__}: {error}", now)
            return None
        if self._refused.pop(version, None) is not None:
            self._news.take_back(self._told.pop(version))
        return bundle

    def _refuse(self, ref: ModelRef, why: str, now: datetime) -> None:
        log.error("swap_rejected", model=ref.name, version=ref.version, why=why)
        if self._refused.get(ref.version) != why:
            self._refused[ref.version] = why
            words = {"model": ref.name, "version": ref.version, "day": f"{now:%Y-%m-%d}", "ref": ref, "why": why}
            alert = ALERTS["swap_rejected"].alert(now, words)
            self._told[ref.version] = alert.key
            self._news.tell(alert)
