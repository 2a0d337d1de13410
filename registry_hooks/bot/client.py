"""What a Python bot embeds: it scores with the champion, lets challengers score beside it, and swaps models safely.

    with Bot("volatility", registry, features=feature_code, names=feature_names) as bot:
        for bars in feed:                           # one bar a symbol, closed
            bot.boundary(now)                       # the only place where a model is swapped
            scored = bot.score(units, values, event_time=..., known_at=..., matures_at=...)
            trade(scored.units, scored.probability)

Nothing here waits for the ledger or for MLflow. Scores go to a spool on disk, from which a process of their own carries
them into the ledger; other arms score in threads; another thread hears of transitions (the service leaves what a
webhook told in the ledger's inbox, and every `poll_s` seconds the registry is read anyway), loads the new bundle beside
the old one, checks its digest, proves feature code and scores on its probe and on the last real bar, and only then lets
`boundary` swap one reference. On any failure the old one stays, and an alert says so.

`background=False` does all of it in the caller's thread, for replays.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import numpy as np
import structlog
from numpy.typing import NDArray

from mlops.errors import BundleError, DataError, StorageError
from mlops.io import logs
from mlops.settings import BotSettings
from mlops.types import Role, TradingState
from registry_hooks.aliases import Lineup, Registry
from registry_hooks.assignment import Assigner
from registry_hooks.bot.arms import Arms, Probe, Prover
from registry_hooks.bot.courier import Scores
from registry_hooks.bot.notifications import AWAY, News
from registry_hooks.bot.recorder import Recorder
from registry_hooks.bot.scoring import ask
from registry_hooks.bot.shadows import AnswerSink, Shadows, Strikes, Task
from registry_hooks.bundle import Bundle

log = structlog.get_logger()
UNSCORED = np.empty((0, 0))  # of a bar that no version was asked for yet
WATCH_S = 0.25  # between two looks at the inbox: one indexed read
# MLflow's own defaults (7 tries, 120 s each) would keep a start, or the watch, busy for minutes while it is away.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}


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
    """One model of a bot. Usable from several threads; a context manager.

    Parameters
    ----------
    model : str
        Name in the registry.
    features : callable, optional
        Bars of a probe -> (units, float32 matrix): the bot's own feature code, proven against each new bundle. None
        where rows come from elsewhere, ready: then only the scores of a new bundle are proven.
    names : sequence of str, optional
        The features, in the order of the columns that `score` will be given. None: those of the first champion.
    poll_s : float
        Seconds between two readings of the registry when no hint came.
    settings : BotSettings
        Bounds of the spool and of other arms.
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
        features: Probe | None = None,
        names: Sequence[str] | None = None,
        poll_s: float = 10.0,
        settings: BotSettings | None = None,
        background: bool = True,
    ) -> None:
        self.model, self._registry, self._background = model, registry, background
        self._settings = settings or BotSettings()
        self._trading = registry.ledger.trading.state()
        self._turn = threading.Lock()  # of what `boundary` and the watch hand each other
        self._ready: Arms | None = None
        self._last: NDArray[np.float32] | None = None  # the last real bar: the canary of a new bundle
        if background:
            for name, value in PATIENCE.items():
                os.environ.setdefault(name, value)
        self._news = News(model, registry, poll_s, at_once=not background)
        budget_s = self._settings.shadow_budget_ms / 1e3 if background else math.inf  # else nobody waits by the clock
        self._strikes = Strikes(budget_s, self._news.cut_off, self._news.mended)
        self._desk = AnswerSink(self._strikes, self._keep)
        self._assigner = Assigner(model, registry.ledger)
        self._prover = Prover(model, registry, features, names, self._news, self._assigner)
        self._arms = self._prover.first(datetime.now(UTC))
        self.names = self._prover.names or self._arms.champion.names
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
    def trading(self) -> TradingState:
        """What the bot may do, as it heard last; asks nobody. REDUCING: no new positions, open ones may only shrink.
        HALTED: no orders at all, not even to close.
        """
        return self._trading

    @property
    def lineup(self) -> Lineup:
        return self._arms.lineup

    @property
    def cut_off(self) -> Mapping[int, str]:
        """Versions that are not scored now, and why; each has another chance after a while."""
        return dict(self._strikes.cut)

    def boundary(self, now: datetime) -> int | None:
        """Between two bars: take up what is ready by now. The new champion's version where it changed."""
        if not self._background:
            self._hear()
            return self.refresh(now) if self._news.due() else None
        if self._ready is None:
            return None
        with self._turn:
            ready, self._ready = self._ready, None
            return None if ready is None else self._swap(ready)

    def refresh(self, now: datetime) -> int | None:
        """Read the registry, load and prove what is new, swap one reference: all of it here and now."""
        fresh = self._prover.next(self._arms, self._last, now)
        if fresh is None:
            return None
        with self._turn:
            self._ready = None
            return self._swap(fresh)

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
        values : float32 ndarray of shape (n, k), columns as `names`.
        event_time, known_at, matures_at : aware datetime
            When the bar closed, when it was known, when the label can be known at the earliest.
        keys : sequence of str, length n, optional
            What sticks to an arm (default: the unit itself). The same key always gets the same arm in one experiment.

        Returns
        -------
        Scored
            A unit that was assigned to a challenger is traded by the champion where the challenger is late or fails.

        Raises
        ------
        DataError
            The rows do not fit `units` and `names`, an instant is naive or before the bar, or a value is not finite and
            the champion refuses it.
        BundleError
            The champion gives no probability for each unit: there is nothing to trade by. Other arms never raise.
        StorageError
            The bot was closed.
        """
        if self._stop.is_set():
            raise StorageError(f"bot of {self.model} must be open to score, got a closed one. Open another.")
        arms, times = self._arms, (event_time, known_at, matures_at)
        _check(units, values, self.names, times)
        champion, roles = arms.lineup.champion, arms.lineup.roles
        others = {v: b for v, b in arms.bundles.items() if v != champion and self._strikes.asks(v)}
        bar = Scores(self.model, self.names, tuple(units), roles, times, logs.correlation_id(), UNSCORED, values)
        by_version = {champion: self._by_champion(arms.champion, champion, bar)}
        if others:
            by_version |= self._beside(arms, replace(bar, values=values.copy()), others)
        assign = self._assigner.assign if self._background else self._assigner.assign_now
        version = assign(arms.lineup, keys or units, known_at, by_version)
        probability = by_version[champion]
        for other in by_version.keys() - {champion}:
            probability = np.where(version == other, by_version[other], probability)
        self._last = values
        return Scored(bar.units, probability, version, by_version, {v: roles[v] for v in by_version})

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything that was scored is in the ledger; False where it is not by then."""
        deadline = time.monotonic() + timeout
        while self._background and not self._carried():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def close(self, timeout: float = 30.0) -> None:
        """Stop all threads; the courier ends by itself when it has taken everything. Safe to repeat."""
        if not self._background or self._stop.is_set():
            return
        self._stop.set()
        for thread in self._threads:
            thread.close(timeout / 3)
        self._watcher.join(timeout / 3)
        self._recorder.close(timeout)

    def _carried(self) -> bool:
        """Whether all that was scored and assigned is in the ledger."""
        return all(thread.idle() for thread in self._threads) and self._recorder.empty() and not self._assigner.pending

    def _begin(self) -> None:
        self._recorder = Recorder(self._registry, self.model, self._settings.spool_mib)
        # Two threads: a rival that trades does not wait for a shadow that is slow.
        self._challengers, self._shadows = Shadows(self._desk), Shadows(self._desk)
        self._threads = (self._challengers, self._shadows)
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{self.model}", daemon=True)
        self._watcher.start()

    def _by_champion(self, bundle: Bundle, version: int, bar: Scores) -> NDArray[np.float64]:
        answer = ask(bundle, bar.values, bar.names)
        error = answer.error
        if error is not None and not isinstance(error, BundleError) and not np.isfinite(bar.values).all():
            row, column = (int(i[0]) for i in np.nonzero(~np.isfinite(bar.values)))
            rule = (
                f"{self.names[column]} of row {row} must be finite, got {bar.values[row, column]}. Leave the row out."
            )
            raise DataError(rule) from error  # no failure of the model
        self._keep(bar.of(version, answer.probability, answer.seconds))
        if answer.probability is not None:
            return answer.probability
        if isinstance(error, BundleError):
            raise error
        rule = f"champion of {self.model} must score every row, got {type(error).__name__}: {error}. Roll it back."
        raise BundleError(rule) from error

    def _beside(self, arms: Arms, bar: Scores, others: Mapping[int, Bundle]) -> dict[int, NDArray[np.float64]]:
        """Have the other arms score; what is there in time of those that may trade (of all, without background)."""
        if not self._background:
            return self._here(bar, others)
        trading = {v: others[v] for v in arms.challengers() if v in others}
        task = Task(bar, trading)
        if trading:
            self._challengers.add(task)
        if rest := {v: b for v, b in others.items() if v not in trading}:
            self._shadows.add(Task(bar, rest))
        if trading and not task.over.wait(self._settings.shadow_budget_ms / 1e3):
            log.warning("challenger late, the champion trades its units", model=self.model)
            self._challengers.look()  # the watch may be waiting for the ledger
        return dict(task.probabilities)

    def _here(self, bar: Scores, others: Mapping[int, Bundle]) -> dict[int, NDArray[np.float64]]:
        """All other arms, in the caller's thread."""
        probabilities = {}
        for version, bundle in others.items():
            answer = ask(bundle, bar.values, bar.names)
            self._desk.take(bar, version, answer)
            if answer.probability is not None:
                probabilities[version] = answer.probability
        return probabilities

    def _keep(self, scores: Scores) -> None:
        if not self._background:
            self._registry.ledger.telemetry.store_together(scores.rows())
        else:
            self._recorder.keep(scores)

    def _watch(self) -> None:
        """Hear of transitions and prepare for them; report what waits to be reported, at the end once more."""
        while not self._stop.wait(WATCH_S):
            self._looked(self._look)
            self._looked(self._hear)
        self._looked(lambda: self._tell(last=True))
        self._looked(self._assigner.settle)

    def _looked(self, step: Callable[[], None]) -> None:
        """Do a step of the watch; nothing that goes wrong in it ends the watch."""
        try:
            step()
        except AWAY as error:
            log.warning("bot cannot reach the platform and goes on", model=self.model, error=str(error))
        except Exception:
            log.exception("bot's watch failed and goes on", model=self.model)

    def _hear(self) -> None:
        self._trading = self._registry.ledger.trading.state()

    def _look(self) -> None:
        for thread in self._threads:
            thread.look()
        self._recorder.look()
        self._tell()
        self._assigner.settle()
        if self._news.due():
            fresh = self._prover.next(self._ready or self._arms, self._last, datetime.now(UTC))
            if fresh is not None:
                with self._turn:
                    self._ready = fresh

    def _tell(self, *, last: bool = False) -> None:
        self._news.tell_all()  # first what waits: a ledger that is away is not given more to wait for
        if (lost := self._recorder.told(datetime.now(UTC), last=last)) is not None:
            self._news.tell(lost)
            self._news.tell_all()

    def _swap(self, fresh: Arms) -> int | None:
        before, self._arms = self._arms, fresh
        self._strikes.forget(fresh.bundles)
        to = fresh.lineup.champion
        if to == before.lineup.champion:
            return None
        cause = "" if self._background else self._news.cause()  # the caller must not wait for the ledger
        with logs.bind(correlation_id=cause or logs.correlation_id()):
            log.info("swapped", model=self.model, from_version=before.lineup.champion, to_version=to)
        return to


def _check(
    units: Sequence[str], values: NDArray[np.float32], names: Sequence[str], times: tuple[datetime, ...]
) -> None:
    """What would be refused by the ledger later is refused now; raises DataError."""
    if values.dtype != np.float32 or values.shape != (len(units), len(names)):
        wanted = f"float32 of shape ({len(units)}, {len(names)})"
        raise DataError(f"features must be {wanted}, got {values.dtype} {values.shape}. A row a unit, a column a name.")
    if any(at.tzinfo is None for at in times):
        raise DataError(f"instants must carry their time zone, got {times}. Use datetime(..., tzinfo=UTC).")
    if times[1] < times[0]:
        raise DataError(f"known_at must not lie before event_time, got {times[1]} before {times[0]}. Check the clock.")
