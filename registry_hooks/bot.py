"""What a Python bot embeds: it scores with the champion, lets challengers score beside it, and swaps models safely.

    bot = Bot("volatility", registry, features=stream_of_the_strategy)
    for bars in feed:                           # one bar a symbol, closed
        bot.boundary(now)                       # the only place where a model is swapped
        scored = bot.score(units, values, event_time=..., known_at=..., matures_at=...)
        trade(scored.units, scored.probability)

Webhooks are hints: the service leaves what it re-read in the ledger's inbox, `boundary` sees it there, and every
`poll_s` seconds the aliases are read anyway. A new bundle is loaded beside the old one, its digest checked, its feature
code and its scores proven on the probe that it carries; on any failure the old one stays and an alert says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import mlflow
import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import MlopsError, RegistryError
from mlops.experiment.assignment import assign
from mlops.io import logs
from mlops.types import Alert, ModelRef, Priority, Role
from registry_hooks import aliases
from registry_hooks.aliases import Lineup, Registry
from registry_hooks.apply import prove_loadable
from registry_hooks.bundle import Bundle

log = structlog.get_logger()
Probe = Callable[[pd.DataFrame], tuple[Sequence[str], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Arms:
    """Everything that one bar is scored with: one object, one reference, so that no bar sees half a swap."""

    lineup: Lineup
    bundles: Mapping[int, Bundle]


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of one bar. `probability` and `version` are what to trade; `by_version` is what every arm said."""

    units: tuple[str, ...]
    probability: NDArray[np.float64]
    version: NDArray[np.int64]
    by_version: Mapping[int, NDArray[np.float64]]
    roles: Mapping[int, Role] = field(default_factory=dict)


class Bot:
    """One model of a bot.

    Parameters
    ----------
    model : str
        Name in the registry.
    features : callable
        Bars of a probe -> (units, float32 matrix): the bot's own feature code, proven against each new bundle.
    names : sequence of str
        The features, in the order of the columns that `score` will be given.
    poll_s : float
        Seconds between two readings of the aliases when no hint came.

    Raises
    ------
    RegistryError
        The model has no champion, or the champion's bundle cannot be proven: without one there is nothing to trade.
    """

    def __init__(
        self, model: str, registry: Registry, *, features: Probe, names: Sequence[str], poll_s: float = 30.0
    ) -> None:
        self.model, self.poll_s = model, poll_s
        self._registry, self._features, self._names = registry, features, tuple(names)
        self._seen = max((d.id for d in registry.ledger.settled_deliveries(model, after=0)), default=0)
        self._rejected: set[tuple[int, str]] = set()
        self._polled = time.monotonic()
        self._arms = self._load(aliases.lineup(registry, model), {})
        if self._arms.lineup.champion not in self._arms.bundles:
            raise RegistryError(f"champion of {model} must be provable, got none. See the alerts for the reason.")

    @property
    def champion(self) -> int:
        """The version that trades now."""
        return self._arms.lineup.champion

    @property
    def lineup(self) -> Lineup:
        return self._arms.lineup

    def boundary(self, now: datetime) -> int | None:
        """Between two bars: take up what the registry says by now. The new champion's version where it changed."""
        if not self._due():
            return None
        return self.refresh(now)

    def refresh(self, now: datetime) -> int | None:
        """Read the registry, load what is new beside the old, swap one reference."""
        try:
            wanted = aliases.lineup(self._registry, self.model)
        except (mlflow.MlflowException, SQLAlchemyError, RegistryError) as error:
            log.warning("registry not read; the models at hand stay", model=self.model, error=str(error))
            return None
        before, fresh = self._arms, self._load(wanted, self._arms.bundles, now)
        if wanted.champion not in fresh.bundles:
            return None
        self._arms = fresh
        if wanted.champion == before.lineup.champion:
            return None
        with logs.bind(correlation_id=self._cause() or logs.correlation_id()):
            log.info("swapped", model=self.model, from_version=before.lineup.champion, to_version=wanted.champion)
        return wanted.champion

    def score(
        self,
        units: Sequence[str],
        values: NDArray[np.float32],
        *,
        event_time: datetime,
        known_at: datetime,
        matures_at: datetime,
        keys: Sequence[str] | None = None,
    ) -> Scored:
        """Score one bar with every arm and keep all of it in the ledger.

        Parameters
        ----------
        units : sequence of str, length n
        values : float32 ndarray of shape (n, k), columns as `names` given to the bot.
        keys : sequence of str, length n, optional
            What sticks to an arm (default: the unit itself). The same key always gets the same arm in one experiment.
        """
        arms = self._arms
        by_version = {version: one.score(values, self._names) for version, one in arms.bundles.items()}
        version = self._traded(arms, keys or units)
        probability = by_version[arms.lineup.champion]
        for other in set(version.tolist()) - {arms.lineup.champion}:
            probability = np.where(version == other, by_version[other], probability)
        times = {"event_time": event_time, "known_at": known_at, "matures_at": matures_at}
        self._keep(arms, units, values, by_version, times)
        roles = {v: arms.lineup.roles[v] for v in by_version}
        return Scored(tuple(units), probability, version, by_version, roles)

    def _due(self) -> bool:
        hints = self._registry.ledger.settled_deliveries(self.model, after=self._seen)
        late = time.monotonic() - self._polled >= self.poll_s
        if hints:
            self._seen = hints[-1].id
        if late:
            self._polled = time.monotonic()
        return bool(hints) or late

    def _cause(self) -> str:
        entry = self._registry.ledger.promotions(self.model)[-1:]
        return entry[0].correlation_id if entry else ""

    def _load(self, wanted: Lineup, have: Mapping[int, Bundle], now: datetime | None = None) -> Arms:
        bundles = {v: have.get(v) or self._proven(v, now) for v in wanted.roles}
        return Arms(wanted, {v: b for v, b in bundles.items() if b is not None})

    def _proven(self, version: int, now: datetime | None) -> Bundle | None:
        """Fetch, verify and prove one version; None, with an alert, where it fails."""
        ref = ModelRef(self.model, version)
        try:
            found = prove_loadable(self._registry, ref)
            found.prove(self._features, self._names)
        except (MlopsError, mlflow.MlflowException, OSError) as error:
            self._reject(ref, str(error), now)
            return None
        return found

    def _reject(self, ref: ModelRef, why: str, now: datetime | None) -> None:
        log.error("swap_rejected", model=ref.name, version=ref.version, why=why)
        if now is not None and (ref.version, why) not in self._rejected:
            self._rejected.add((ref.version, why))
            title = f"swap_rejected: {ref} was not taken up, the old model trades on: {why}"
            key = f"swap_rejected:{ref.name}:{ref.version}"
            self._registry.ledger.add_alert(Alert(key, Priority.HIGH, ref.name, title, now))

    def _traded(self, arms: Arms, keys: Sequence[str]) -> NDArray[np.int64]:
        """The version that trades each unit: the champion's, or the challenger's for its share of the keys."""
        champion = np.full(len(keys), arms.lineup.champion, dtype=np.int64)
        challenger = [v for v, role in arms.lineup.roles.items() if role is Role.CHALLENGER and v in arms.bundles]
        if not challenger or arms.lineup.split >= 1.0:
            return champion
        stays = assign(keys, salt=arms.lineup.salt, split=arms.lineup.split)
        return np.where(stays, champion, challenger[0])

    def _keep(
        self,
        arms: Arms,
        units: Sequence[str],
        values: NDArray[np.float32],
        by_version: Mapping[int, NDArray[np.float64]],
        times: Mapping[str, datetime],
    ) -> None:
        n, m = len(units), len(by_version)
        frame = pd.DataFrame(
            {
                "model": self.model,
                "version": np.repeat(list(by_version), n),
                "unit": list(units) * m,
                **times,
                "role": np.repeat([arms.lineup.roles[v].value for v in by_version], n),
                "probability": np.concatenate(list(by_version.values())),
            }
        )
        self._registry.ledger.add_predictions(frame, np.tile(values, (m, 1)), self._names, logs.correlation_id())
