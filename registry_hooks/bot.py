"""What a Python bot embeds: it scores with the champion, lets challengers score beside it, and swaps models safely.

    with Bot("volatility", registry, features=feature_code, names=feature_names) as bot:
        for bars in feed:                           # one bar a symbol, closed
            bot.boundary(now)                       # the only place where a model is swapped
            scored = bot.score(units, values, event_time=..., known_at=..., matures_at=...)
            trade(scored.units, scored.probability)

Nothing here waits for the ledger or for MLflow. Scores go to a spool on disk, from which a process of their own carries
them into the ledger; shadows score in a thread; another thread hears of transitions (the service leaves what a webhook
told in the ledger's inbox, and every `poll_s` seconds the registry is read anyway), loads the new bundle beside the old
one, checks its digest, proves feature code and scores on its probe and on the last real bar, and only then lets
`boundary` swap one reference. On any failure the old one stays, and an alert says so.

`background=False` does all of it in the caller's thread, for replays.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import mlflow
import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import BundleError, MlopsError, RegistryError
from mlops.io import logs
from mlops.io.spool import Spool, SpoolFull
from mlops.settings import BotSettings
from mlops.types import Alert, ModelRef, Priority, Role
from registry_hooks import aliases, courier, lastknown
from registry_hooks.aliases import Lineup, Registry
from registry_hooks.apply import prove_loadable
from registry_hooks.bundle import Bundle
from registry_hooks.courier import Scores
from registry_hooks.shadows import Shadows, Strikes, Task

log = structlog.get_logger()
WATCH_S = 0.25  # between two looks at the inbox: one indexed read
TRADES = (Role.CHAMPION, Role.CHALLENGER)
MIB = 2**20
Probe = Callable[[pd.DataFrame], tuple[Sequence[str], NDArray[np.float32]]]
AWAY = (mlflow.MlflowException, SQLAlchemyError, MlopsError, OSError)


@dataclass(frozen=True, slots=True)
class Arms:
    """Everything that one bar is scored with: one object, one reference, so that no bar sees half a swap."""

    lineup: Lineup
    bundles: Mapping[int, Bundle]

    def trading(self) -> list[int]:
        """Versions whose scores may be traded, champion first."""
        shared = self.lineup.split < 1.0
        others = [
            v for v, role in self.lineup.roles.items() if role is Role.CHALLENGER and shared and v in self.bundles
        ]
        return [self.lineup.champion, *others]


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of one bar. `probability` and `version` are what to trade; `by_version` is what each arm said by now:
    all of them without background threads, else those that trade.
    """

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
        Seconds between two readings of the registry when no hint came.
    settings : BotSettings
        Bounds of the spool and of shadows.
    background : bool
        False: everything happens in the caller's thread, and scores are in the ledger when `score` returns.

    Raises
    ------
    RegistryError
        The model has no champion, or the champion's bundle cannot be proven: without one there is nothing to trade.
    """

    def __init__(
        self,
        model: str,
        registry: Registry,
        *,
        features: Probe,
        names: Sequence[str],
        poll_s: float = 10.0,
        settings: BotSettings | None = None,
        background: bool = True,
    ) -> None:
        self.model, self.poll_s, self.names = model, poll_s, tuple(names)
        self._registry, self._features, self._background = registry, features, background
        self._settings = settings or BotSettings()
        self._rejected: set[tuple[int, str]] = set()
        self._untold: deque[Alert] = deque(maxlen=1000)
        self._last: NDArray[np.float32] | None = None  # the last real bar: the canary of a new bundle
        self._ready: Arms | None = None
        self._refused = 0  # scores that the spool had no room for
        self._strikes = Strikes(self._settings.shadow_budget_ms / 1e3, self._cut_off)
        self._polled, self._seen = time.monotonic(), self._newest_hint()
        self._arms = self._first()
        self._stop = threading.Event()
        if background:
            self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def champion(self) -> int:
        """The version that trades now."""
        return self._arms.lineup.champion

    @property
    def lineup(self) -> Lineup:
        return self._arms.lineup

    @property
    def cut_off(self) -> Mapping[int, str]:
        """Versions that are not scored any more, and why."""
        return dict(self._strikes.cut)

    def boundary(self, now: datetime) -> int | None:
        """Between two bars: take up what is ready by now. The new champion's version where it changed."""
        if not self._background:
            return self.refresh(now) if self._due() else None
        ready, self._ready = self._ready, None
        return None if ready is None else self._swap(ready)

    def refresh(self, now: datetime) -> int | None:
        """Read the registry, load and prove what is new, swap one reference: all of it here and now."""
        ready = self._prepared(now)
        return None if ready is None else self._swap(ready)

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
        """Score one bar with every arm and keep all of it.

        Parameters
        ----------
        units : sequence of str, length n
        values : float32 ndarray of shape (n, k), columns as `names` given to the bot.
        keys : sequence of str, length n, optional
            What sticks to an arm (default: the unit itself). The same key always gets the same arm in one experiment.

        Raises
        ------
        BundleError
            The champion gives no finite score for each unit: there is nothing to trade by. Other arms never raise.
        """
        arms, times = self._arms, (event_time, known_at, matures_at)
        asked = arms.trading() if self._background else list(arms.bundles)
        by_version = self._scores(arms, asked, values, len(units))
        version = arms.lineup.deal(keys or units, by_version)
        probability = by_version[arms.lineup.champion]
        for other in by_version.keys() - {arms.lineup.champion}:
            probability = np.where(version == other, by_version[other], probability)
        roles = {v: arms.lineup.roles[v] for v in by_version}
        stacked = np.stack(list(by_version.values()))
        said = Scores(self.model, self.names, tuple(units), roles, times, logs.correlation_id(), stacked, values)
        self._keep(said)
        if self._background:
            self._have_shadowed(arms, by_version, said)
            self._last = values
        return Scored(tuple(units), probability, version, by_version, roles)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything that was scored is in the ledger; False where it is not by then."""
        deadline = time.monotonic() + timeout
        while self._background and not (self._shadows.idle() and self._spool.empty()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def close(self, timeout: float = 30.0) -> None:
        """Stop all threads; the courier ends by itself when it has taken everything. Safe to repeat."""
        if not self._background or self._stop.is_set():
            return
        self._stop.set()
        self._shadows.close()
        self._spool.close()
        if self._courier.stdin is not None:
            self._courier.stdin.close()
        try:
            self._courier.wait(timeout)
        except subprocess.TimeoutExpired:
            log.warning("the courier still carries", model=self.model)

    def _begin(self) -> None:
        folder = self._registry.cache.parent / "spool"
        self._spool = Spool(folder, self._settings.spool_mib * MIB)
        self._shadows = Shadows(self._strikes, self._keep)
        self._courier = courier.start(folder, self._registry.ledger.url)
        threading.Thread(target=self._watch, name=f"watch-{self.model}", daemon=True).start()

    def _scores(
        self, arms: Arms, asked: Sequence[int], values: NDArray[np.float32], n: int
    ) -> dict[int, NDArray[np.float64]]:
        """What the champion says, and each other arm that was asked, is not cut off, and can."""
        found = {arms.lineup.champion: _sound(arms.bundles[arms.lineup.champion].score(values, self.names), n)}
        for version in asked[:]:
            if version in found or version in self._strikes.cut:
                continue
            began = time.monotonic()
            try:
                found[version] = _sound(arms.bundles[version].score(values, self.names), n)
            except Exception as error:  # noqa: BLE001 - a challenger's own code may raise anything; the champion trades on
                self._strikes.strike(version, f"{type(error).__name__}: {error}")
            else:
                self._strikes.took(version, time.monotonic() - began)
        return found

    def _have_shadowed(self, arms: Arms, by_version: Mapping[int, NDArray[np.float64]], said: Scores) -> None:
        others = {v: b for v, b in arms.bundles.items() if v not in by_version and v not in self._strikes.cut}
        if others:
            roles = {v: arms.lineup.roles[v] for v in others}
            blank = np.empty((0, len(said.units)))
            task = Scores(
                said.model, said.names, said.units, roles, said.times, said.correlation_id, blank, said.values
            )
            self._shadows.add(Task(task, others))

    def _keep(self, said: Scores) -> None:
        if not self._background:
            self._registry.ledger.add_predictions(said.frame(), said.matrix(), said.names, said.correlation_id)
            return
        try:
            self._spool.append(said.record())
        except SpoolFull as error:
            self._refused += said.probability.size
            log.error("score not kept", model=self.model, error=str(error))

    def _watch(self) -> None:
        """Hear of transitions and prepare for them; report what waits to be reported."""
        while not self._stop.wait(WATCH_S):
            self._shadows.look()
            if self._courier.poll() is not None:  # it was killed; what is spooled waits for another one
                self._courier = courier.start(self._registry.cache.parent / "spool", self._registry.ledger.url)
            now = datetime.now(UTC)
            try:
                self._report(now)
                if self._due() and (ready := self._prepared(now)) is not None:
                    self._ready = ready
            except AWAY as error:
                log.warning("bot cannot reach the platform and goes on", model=self.model, error=str(error))

    def _report(self, now: datetime) -> None:
        if self._refused:
            n, self._refused = self._refused, 0
            title = (
                f"spool_full: {n} scores of {self.model} were not kept: the spool had no room while the ledger was away"
            )
            self._tell(f"spool_full:{self.model}:{now:%Y-%m-%dT%H:%M:%S}", title, Priority.HIGH, now)
        while self._untold:
            self._registry.ledger.add_alert(self._untold[0])
            self._untold.popleft()

    def _newest_hint(self) -> int:
        try:
            return max((d.id for d in self._registry.ledger.settled_deliveries(self.model, after=0)), default=0)
        except AWAY:
            return 0

    def _first(self) -> Arms:
        """What to start with: the registry's word, or while it is away the last one that was heard here."""
        try:
            wanted = aliases.lineup(self._registry, self.model)
        except (mlflow.MlflowException, SQLAlchemyError) as error:
            log.warning("registry not read; starting with what was known last", model=self.model, error=str(error))
            wanted = lastknown.read(self._registry.cache, self.model)
        arms = self._load(wanted, {})
        if arms.lineup.champion not in arms.bundles:
            raise RegistryError(f"champion of {self.model} must be provable, got none. See the alerts for the reason.")
        lastknown.write(self._registry.cache, self.model, wanted)
        return arms

    def _prepared(self, now: datetime) -> Arms | None:
        """The arms that the registry wants, loaded and proven; None where there is nothing new, or it cannot be had."""
        try:
            wanted = aliases.lineup(self._registry, self.model)
        except (mlflow.MlflowException, SQLAlchemyError, RegistryError) as error:
            log.warning("registry not read; the models at hand stay", model=self.model, error=str(error))
            return None
        have = self._ready or self._arms
        if wanted == have.lineup and wanted.roles.keys() == have.bundles.keys():
            return None
        fresh = self._load(wanted, have.bundles, now)
        if wanted.champion not in fresh.bundles:
            return None
        lastknown.write(self._registry.cache, self.model, wanted)
        return fresh

    def _swap(self, fresh: Arms) -> int | None:
        before, self._arms = self._arms, fresh
        self._strikes.forget(fresh.bundles)
        if fresh.lineup.champion == before.lineup.champion:
            return None
        with logs.bind(correlation_id=self._cause() or logs.correlation_id()):
            to = fresh.lineup.champion
            log.info("swapped", model=self.model, from_version=before.lineup.champion, to_version=to)
        return to

    def _due(self) -> bool:
        hints = self._registry.ledger.settled_deliveries(self.model, after=self._seen)
        late = time.monotonic() - self._polled >= self.poll_s
        if hints:
            self._seen = hints[-1].id
        if late:
            self._polled = time.monotonic()
        return bool(hints) or late

    def _cause(self) -> str:
        if self._background:  # the caller must not wait for the ledger
            return ""
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
            found.prove(self._features, self.names)
            if self._last is not None:
                _sound(found.score(self._last, self.names), len(self._last))
        except AWAY as error:
            self._reject(ref, str(error), now)
            return None
        return found

    def _reject(self, ref: ModelRef, why: str, now: datetime | None) -> None:
        log.error("swap_rejected", model=ref.name, version=ref.version, why=why)
        if now is not None and (ref.version, why) not in self._rejected:
            self._rejected.add((ref.version, why))
            title = f"swap_rejected: {ref} was not taken up, the old model trades on: {why}"
            self._tell(f"swap_rejected:{ref.name}:{ref.version}", title, Priority.HIGH, now)

    def _cut_off(self, version: int, why: str) -> None:
        log.error("shadow_cut_off", model=self.model, version=version, why=why)
        title = f"shadow_cut_off: {self.model} v{version} is not scored any more: {why}"
        now = datetime.now(UTC)
        self._tell(f"shadow_cut_off:{self.model}:{version}:{now:%Y-%m-%d}", title, Priority.MEDIUM, now)

    def _tell(self, key: str, title: str, priority: Priority, now: datetime) -> None:
        """Report when the ledger next answers; at once without background threads."""
        self._untold.append(Alert(key, priority, self.model, title, now))
        if not self._background:
            self._registry.ledger.add_alert(self._untold.popleft())


def _sound(score: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    if score.shape != (n,) or not np.isfinite(score).all() or ((score < 0) | (score > 1)).any():
        raise BundleError(f"model must give {n} probabilities within 0 and 1, got {score!r}. Do not trade by it.")
    return score
