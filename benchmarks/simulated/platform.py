"""The platform on a simulated world: a real ledger on a RAM disk, MLflow in memory, the jobs at their scheduled times.

What decides is what ships. In place of training there is a step that registers the next version as training would, and
in place of a bot rows of what it would have scored; pictures for people are not drawn.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import mlflow
import numpy as np
import pandas as pd
import structlog
from mlflow import MlflowClient

from benchmarks.simulated.registry import MemoryClient
from benchmarks.simulated.stages import assign, moves_at
from benchmarks.simulated.world import FEATURES, Floats, Reference, World
from jobs import compare, monitor
from jobs.books import VIRTUAL
from jobs.comparison import plans
from jobs.context import Context
from jobs.reports import monitor_figures
from jobs.reports.evidently import When
from jobs.schedule import due
from mlops.books.book import SCALE
from mlops.experiment import Plan, ab
from mlops.experiment.events import enough_at, happened
from mlops.experiment.gates import paired_log_loss
from mlops.io.ledger import BookKey, BookRows, BundleRow, ComparisonRow, Ledger
from mlops.io.ledger.books import STATE
from mlops.monitor import kept_summary
from mlops.settings import Settings
from mlops.stats import by_bar, log_losses
from mlops.types import SCORING_COLUMNS, Decision, Level, ModelRef, Role, Verdict
from registry_hooks import apply, bundle
from registry_hooks.aliases import Registry

START = datetime(2007, 6, 4, 21, tzinfo=UTC)  # a Monday: daily bars at New York's close, five a week; July is near
TRAININGS = ("train", "train-recent")
DECISIONS = ("monitor", "compare", *TRAININGS)
PLACE = Path("/dev/shm")
SCRIPT = Path(__file__).with_name("model.py")
CASH = 1_000_000
HELD_OUT = 756  # bars of a record, as a training on 15 years holds out
TOOK_S = 0.001  # a scoring
Job = Callable[[Context, str, datetime], Sequence[Decision]]
JOBS: Mapping[str, Job] = {"monitor": partial(monitor.at, page=When.NEVER), "compare": compare.at}
ACTOR = "jobs.train"
SPOKEN = ("warn", "alert")


@dataclass(frozen=True, slots=True)
class Event:
    """A decision of a job, at its scheduled time."""

    at: datetime
    job: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class LookRow:
    """What a look of the monitor said: the level of its verdict in words, and the findings at WARN or ALERT."""

    at: datetime
    level: str
    loud: tuple[str, ...]


@dataclass
class Platform:
    """One model on one world.

    Parameters
    ----------
    known : bool
        Whether versions have the record of their out-of-fold forecasts: what the monitor and the chart of a watch hold
        them against. Without it neither can be asked.
    thorough : bool
        Run also the looks that can change nothing.
    line : bool
        Whether versions may wait for a free place, which a look gives them.
    reports : bool
        Whether the bot tells how long each scoring took.
    """

    context: Context
    world: World
    model: str
    known: bool = True
    versions: dict[int, int] = field(default_factory=dict)  # version -> bar from which it scores
    events: list[Event] = field(default_factory=list)
    said: list[LookRow] = field(default_factory=list)
    thorough: bool = False
    line: bool = True
    reports: bool = True
    _decided: dict[tuple[int, Plan], int] = field(default_factory=dict)
    _losses: dict[int, Floats] = field(default_factory=dict)
    _forecasts: dict[int, Floats] = field(default_factory=dict)
    _changed: bool = True  # since the ledger was looked at last
    _now: int = 0  # first bar of the looks to come
    _champion: int | None = None
    _silent_until: int = 0
    _returns: dict[int, Floats] = field(default_factory=dict)

    @property
    def client(self) -> MemoryClient:
        return cast(MemoryClient, self.context.client)

    def begin(self) -> None:
        """Store what comes true, register version 1 and make it the champion before the first bar."""
        self._outcomes()
        before = START - timedelta(days=2)
        first = self.train(before)
        act = self.context.act("benchmarks", before)
        apply.promote(self.context.registry, first, "the first version", act, expected=None)

    def train(self, at: datetime) -> ModelRef:
        """Register the next version as a training at `at` would; it scores from the next bar on."""
        self._changed = True
        number, start = self.client.add_version(self.model), self._first_bar(at)
        ref = ModelRef(self.model, number)
        digest = self._bundled(ref)
        row = BundleRow(self.model, number, digest, "", "", at - timedelta(days=1500), at, self.world.law.horizon, at)
        self.context.ledger.registry.add_bundle(row)
        self.versions[number] = start
        self._scores(number, start)
        return ref

    def challenge(self, at: datetime) -> ModelRef:
        """Train, and enlist what was trained."""
        ref = self.train(at)
        apply.enlist(self.context.registry, ref, self.context.act(ACTOR, at))
        return ref

    def run(
        self,
        bars: int,
        jobs: Sequence[str] = DECISIONS,
        *,
        also: Sequence[datetime] = (),
        enough: Callable[[Platform], bool] = lambda one: False,
    ) -> None:
        """Every job of `jobs` that is due in so many bars, in order of time, until it is `enough`.

        `also`: times of trainings that are not in the schedule.
        """
        fires = [(at, job) for at, job in _calendar(bars) if job in jobs]
        for at, job in sorted([*fires, *((at, "train") for at in also)], key=lambda fire: fire[0]):
            if enough(self):
                return
            if job in TRAININGS:
                self.challenge(at)
            elif not self._quiet(job, at):
                self.job(job, at)

    def job(self, job: str, at: datetime) -> None:
        """One job at its time; where it asks for a retrain, that follows."""
        decisions = self.decide(job, at)
        if any(decision.verdict is Verdict.RETRAIN for decision in decisions):
            self.challenge(at)

    def findings(self) -> list[dict[str, Any]]:
        """Those of the newest look of the monitor."""
        found: list[dict[str, Any]] = self.client.documents["monitor.json"]["findings"]
        return found

    def decide(self, job: str, at: datetime) -> Sequence[Decision]:
        """What one job decides and does at its time."""
        self._changed, self._now = True, self._first_bar(at) + 1
        decisions = JOBS[job](self.context, self.model, at)
        self.events += [Event(at, job, decision) for decision in decisions]
        if any(decision.verdict is Verdict.ADVANCE for decision in decisions):
            assign(self.context, self.model, _keys("", _times(1), self.world.law.units)["unit"].tolist(), at)
        if job == "monitor" and decisions:
            levels = [(f["name"], f["finding_level"]) for f in self.findings()]
            loud = tuple(name for name, level in levels if level in SPOKEN and not name.startswith("layer_"))
            self.said.append(LookRow(at, dict(levels)["layer_verdict"], loud))
        return decisions

    @property
    def champion(self) -> int | None:
        """As the log says it; asked for again once something was done."""
        self._look_up()
        return self._champion

    def _look_up(self) -> None:
        if self._changed:
            self._champion = self.context.ledger.registry.champion(self.model)
            self._silent_until, self._changed = self._silence(), False

    def _quiet(self, job: str, at: datetime) -> bool:
        """Whether a look at comparisons can change nothing yet: no place is free, and every test that decides is open.

        tests/test_decisions.py holds years with and without these looks against each other.
        """
        if job != "compare" or self.thorough:
            return False
        self._look_up()
        return self._first_bar(at) < self._silent_until

    def _silence(self) -> int:
        """Bar until which no test or chart of the open comparisons speaks or ends; 0 where a place is free."""
        trials = self.context.ledger.registry.open_comparisons(self.model)
        standing = [trial for trial in trials if trial.champion == self._champion]
        if self.line and not any(trial.kind == "compare" for trial in trials):
            return 0
        return min((self._decides(trial) for trial in standing), default=0)

    def _decides(self, trial: ComparisonRow) -> int:
        """Bar at which a look sees that a comparison has ended, or what may decide it."""
        plan, start = plans.plan(self.context, trial), self._first_bar(trial.started_at)
        joined = ab.bars_before(_times(self.world.bars)[start:], plans.joined(self.context, trial))
        plan = replace(plan, joined=joined)
        key = (trial.id, plan)
        if key not in self._decided:
            units, labels = self.world.law.units, self.world.labels[start:]
            seen = happened(labels.ravel(), np.repeat(np.arange(len(labels)), units))
            difference = self._difference(trial.champion, trial.challenger)[start:]
            proof = paired_log_loss(difference, plan, enough_at(seen, plan))
            crossed = proof.params["crossed_at"]
            settled = proof.level is not Level.UNKNOWN
            bars = crossed if settled else plan.horizon_bars if crossed is None else 0
            if trial.kind == "watch":
                bars = min(bars, self._collapsed(trial, plan, start))
            self._decided[key] = bars
        decides = start + self.world.law.horizon + self._decided[key]
        if trial.kind == "watch":
            return decides
        returns = self._returns[trial.champion], self._returns[trial.challenger]
        return min(decides, moves_at(self.context, trial, start, self._now, returns))

    def _collapsed(self, trial: ComparisonRow, plan: Plan, start: int) -> int:
        """Matured bars at which the accuracy chart of a watch has its alarm."""
        times, units = _times(self.world.bars)[start:], self.world.law.units
        rows = _keys(self.model, times, units)
        rows["probability"] = self._forecasts[trial.champion][start:].ravel()
        rows["label"] = self.world.labels[start:].ravel()
        chart = compare._collapse(self.context, ModelRef(self.model, trial.champion), plan, rows)
        if chart.level is not Level.ALERT:
            return len(times)
        return int(times.searchsorted(pd.Timestamp(chart.params["alarm_at"]))) + 1

    def _difference(self, champion: int, challenger: int) -> Floats:
        """Log-loss of the champion less the challenger's, the mean of each bar's units, as `ab.pairs` has it."""
        bar = np.repeat(np.arange(self.world.bars), self.world.law.units)
        return by_bar(bar, self._losses[champion] - self._losses[challenger])

    def _first_bar(self, at: datetime) -> int:
        return int(np.searchsorted(_stamps(self.world.bars), np.datetime64(at.replace(tzinfo=None), "us"), "right"))

    def _outcomes(self) -> None:
        world, h = self.world, self.world.law.horizon
        times = _times(world.bars + h)
        frame = _keys(self.model, times[: world.bars], world.law.units)
        frame["known_at"] = np.repeat(times[h:], world.law.units)
        frame["label"] = world.labels.ravel()
        frame["value"] = world.innovations[1 : world.bars + 1].ravel() * 0.01
        self.context.ledger.telemetry.add_outcomes(frame)

    def _scores(self, number: int, start: int) -> None:
        """What the bot will have scored and what the book will have been worth, from `start` on."""
        world, h = self.world, self.world.law.horizon
        forecasts = world.forecasts(number, trained_at=start)
        self._forecasts[number] = forecasts
        self._losses[number] = log_losses(forecasts.ravel(), world.labels.ravel())
        times = _times(world.bars + h)
        frame = _keys(self.model, times[start : world.bars], world.law.units)
        frame["version"], frame["known_at"] = number, frame["event_time"]
        frame["matures_at"] = np.repeat(times[start + h :], world.law.units)
        frame["role"] = Role.CHAMPION.value
        frame["probability"] = forecasts[start:].ravel()
        seen = world.features[start:].reshape(-1, len(FEATURES)) if self.known else np.empty((len(frame), 0), "f4")
        self.context.ledger.telemetry.add_predictions(frame, seen, FEATURES if self.known else ())
        self._returns[number] = world.returns(number, forecasts)
        self._book(number, start, self._returns[number][start:])
        asked = {"model": self.model, "event_time": times[start : world.bars], "version": number, "batch": "all"}
        asked |= {"failed": 0, "rows": world.law.units, "seconds": TOOK_S}
        if self.reports:
            self.context.ledger.scorings.add(pd.DataFrame(asked)[list(SCORING_COLUMNS)])

    def _book(self, number: int, start: int, returns: Floats) -> None:
        equity = np.rint(CASH * SCALE * np.cumprod(1 + returns)).astype(np.int64)
        peak = np.maximum.accumulate(equity)
        states = []
        for at, worth, most in zip(_clock(self.world.bars)[start:], equity.tolist(), peak.tolist(), strict=True):
            state = dict.fromkeys(STATE, 0) | {"event_time": at, "known_at": at, "positions": {}}
            states.append(state | {"start": CASH * SCALE, "equity": worth, "cash": worth, "peak": most})
        self.context.ledger.books.append([BookRows(BookKey(self.model, VIRTUAL, number), None, [], states)])

    def _bundled(self, ref: ModelRef) -> str:
        """Write a bundle where downloads go; its digest."""
        law, place = self.world.law, self.context.registry.cache / ref.name / str(ref.version)
        shutil.copytree(_template(), place)
        record = self.world.record(ref.version, ref.version) if self.known else None
        base = 0.5 if record is None else float(record.labels.mean())
        meta = {"format": bundle.FORMAT, "features": list(FEATURES), "horizon_bars": law.horizon, "base_rate": base}
        if record is not None:
            rows = reference_rows(record)
            meta["held_out"] = {"from": str(rows["event_time"].unique()[-HELD_OUT]), "bars_needed": 460}
            rows.to_parquet(place / "artifacts" / "reference.parquet", index=False)
            s = self.context.settings.monitor
            stored = kept_summary(rows, FEATURES, window=s.window, window_bars=s.window_bars)
            (place / "artifacts" / "summary.npz").write_bytes(stored.to_bytes())
        (place / "artifacts" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        return bundle.digest(place)


def provable(context: Context, world: World) -> bool:
    """Whether the paired test of version 2 against version 1 proves it better at any look of its plan."""
    plan = plans.of_kind(context, "compare", horizon=world.law.horizon)
    bar = np.repeat(np.arange(world.bars), world.law.units)
    one, other = (log_losses(world.forecasts(v, 0).ravel(), world.labels.ravel()) for v in (1, 2))
    proof = paired_log_loss(by_bar(bar, one - other), plan, enough_at(happened(world.labels.ravel(), bar), plan))
    return proof.level is Level.OK


def reference_rows(record: Reference) -> pd.DataFrame:
    """A record as a bundle holds it, on bars that end before the first bar of the world."""
    bars, units = record.labels.shape
    frame = _keys("", pd.bdate_range(end=START - timedelta(days=3), periods=bars), units).drop(columns="model")
    for i, name in enumerate(FEATURES):
        frame[name] = record.features[:, :, i].ravel()
    return frame.assign(label=record.labels.ravel(), probability=record.forecasts.ravel())


def quiet() -> None:
    """Findings are written to no log here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@contextmanager
def undrawn() -> Iterator[None]:
    """Without pictures, which decide nothing and take most of a look."""
    kept = monitor_figures.figures, compare._figures
    monitor_figures.figures, compare._figures = (lambda *a, **k: {}), (lambda one: {})
    try:
        yield
    finally:
        monitor_figures.figures, compare._figures = kept


@contextmanager
def platforms(settings: Settings | None = None) -> Iterator[Context]:
    """An empty set-up on the RAM disk, for as many models as one likes; gone afterwards."""
    place = PLACE if PLACE.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        path = Path(folder)
        s = (settings or Settings()).model_copy(update={"state": path, "ledger": f"sqlite:///{path}/ledger.db"})
        with undrawn(), Ledger(s.ledger) as ledger:
            registry = Registry(cast(MlflowClient, MemoryClient()), ledger, path / "bundles")
            yield Context(s, registry)


def bar_at(number: int) -> datetime:
    """When a bar closes."""
    return _clock(number + 1)[number]


@cache
def _clock(bars: int) -> list[datetime]:
    return [at.to_pydatetime() for at in _times(bars)]


@cache
def _times(bars: int) -> pd.DatetimeIndex:
    return pd.bdate_range(START, periods=bars, normalize=False)


@cache
def _stamps(bars: int) -> Any:
    return _times(bars).tz_localize(None).to_numpy(dtype="datetime64[us]")


@cache
def _calendar(bars: int) -> list[tuple[datetime, str]]:
    """What is due until the evening of the last bar."""
    fires = due(START - timedelta(hours=1), bar_at(bars - 1) + timedelta(hours=2))
    return [(at, entry.job) for at, entry in fires]


@cache
def _template() -> Path:
    """Files of a bundle that are the same in all of them."""
    folder = Path(tempfile.mkdtemp())
    (folder / "meta.json").write_text("{}", encoding="utf-8")
    mlflow.pyfunc.save_model(
        folder / "model",
        python_model=str(SCRIPT),
        artifacts={"meta": str(folder / "meta.json")},
        pip_requirements=["mlflow"],
    )
    return folder / "model"


def _keys(model: str, times: pd.DatetimeIndex, units: int) -> pd.DataFrame:
    names = np.array([f"U{i:03d}" for i in range(units)], dtype=object)
    return pd.DataFrame({"model": model, "unit": np.tile(names, len(times)), "event_time": np.repeat(times, units)})
