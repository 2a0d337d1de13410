"""The plan of a comparison: read from the settings at its first look, and stored with it from then on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jobs.context import Context
from mlops.errors import DataError
from mlops.experiment import Plan, ab
from mlops.experiment.watch import simulated_budget
from mlops.io.ledger import Experiment
from registry_hooks import aliases

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
LABELS_APART = 8  # labels one after the other before the first look


def keep(context: Context, trial: Experiment) -> Experiment:
    """The comparison with its plan: the stored one, or, at its first look, that of the settings, which is stored.

    One that goes on under another kind (a version that waited is nominated) has the plan that it had.
    """
    if trial.plan is not None:
        return trial
    earlier = (other.plan for other in context.ledger.registry.experiments(trial.model) if _goes_on(other, trial))
    planned = next((stored for stored in earlier if stored is not None), None) or _first(context, trial).stored()
    return replace(trial, plan=context.ledger.registry.keep_plan(trial.id, planned))


def _goes_on(a: Experiment, b: Experiment) -> bool:
    """Whether both are one comparison, told by two rows: of one pair, begun at one time."""
    same = (a.champion, a.challenger, a.started_at) == (b.champion, b.challenger, b.started_at)
    return same and {a.kind, b.kind} <= {*aliases.COMPARED}


def plan(context: Context, trial: Experiment) -> Plan:
    """What a comparison must show: as stored with it; by the settings where it was never looked at.

    `arms` are all challengers that share its error by now; each takes its part from when it `joined` on.

    Raises
    ------
    DataError
        The stored plan is none that this product writes, or nobody can follow it.
    """
    if trial.plan is None:
        return _first(context, trial)
    try:
        return _charted(trial, Plan.read(trial.plan, arms=_arms(context, trial)))
    except DataError as error:
        remedy = "Restore the column `plan` of the ledger's table `experiments` from a backup; no job writes it twice"
        raise DataError(
            f"comparison {trial.id} of {trial.model} (v{trial.challenger} against v{trial.champion}) must have the "
            f"plan that its first look stored, got: {error} {remedy}."
        ) from error


def _charted(trial: Experiment, planned: Plan) -> Plan:
    """With its chart, where the plan of a watch was stored without: half of the budget, as the paired test has."""
    if trial.kind != "watch" or planned.chart_alarms is not None:
        return planned
    return replace(planned, chart_alarms=1 - planned.confidence)


def _first(context: Context, trial: Experiment) -> Plan:
    """Plan by the settings; of a watch, simulated on the record of its two models where that is asked for."""
    planned = of_kind(context, trial.kind, horizon=horizon(context, trial), arms=_arms(context, trial))
    if trial.kind != "watch" or not context.settings.experiment.watch_simulated:
        return planned
    before = context.ledger.telemetry.matured(trial.model, start=LONG_AGO, end=trial.started_at, as_of=trial.started_at)
    record = ab.pairs(before, champion=trial.champion, challenger=trial.challenger)["difference"]
    return simulated_budget(record.to_numpy(), planned, np.random.default_rng(context.settings.train.seed))[0]


def of_kind(context: Context, kind: str, *, horizon: int, arms: int = 1) -> Plan:
    """What the settings ask of a comparison of a kind, where labels span `horizon` bars and nothing is stored yet."""
    return _later(_by_settings(context, kind, arms=arms), horizon)


def _by_settings(context: Context, kind: str, *, arms: int) -> Plan:
    s = context.settings.experiment
    common: dict[str, Any] = {name: getattr(s, name) for name in ("look_every", "min_bars", "min_events", "evidence")}
    common |= {name: getattr(s, name) for name in ("drawdown_margin", "drawdown_volatility", "drawdown_confidence")}
    if kind == "watch":  # alpha spent evenly, for a bad champion costs money every day; the chart has the other half
        share = (1 + s.watch_confidence) / 2
        common["min_bars"] = min(s.min_bars, s.watch_bars)
        return Plan(share, 1, s.watch_bars, power=1.0, chart_alarms=1 - share, **common)
    return Plan(s.confidence, s.min_samples, s.horizon_bars, margin=s.margin, arms=arms, **common)


def _later(planned: Plan, horizon: int) -> Plan:
    """With its first look after so many labels that do not overlap: fewer do not tell dependence from a mean."""
    return replace(planned, min_bars=min(planned.horizon_bars, max(planned.min_bars, LABELS_APART * horizon)))


def horizon(context: Context, trial: Experiment) -> int:
    """Bars that a label of either version spans."""
    known = (context.ledger.registry.bundle(trial.model, version) for version in (trial.champion, trial.challenger))
    return max((row.horizon_bars for row in known if row is not None), default=1)


def joined(context: Context, trial: Experiment) -> tuple[datetime, ...]:
    """When each other challenger joined that was compared with this champion while `trial` ran, dropped ones too."""
    if trial.kind not in aliases.COMPARED:
        return ()
    began: dict[int, datetime] = {}
    for other in context.ledger.registry.experiments(trial.model):
        beside = other.kind in aliases.COMPARED and other.champion == trial.champion and _overlap(other, trial)
        if beside and other.challenger != trial.challenger:
            began[other.challenger] = min(other.started_at, began.get(other.challenger, other.started_at))
    return tuple(sorted(began.values()))


def _arms(context: Context, trial: Experiment) -> int:
    """Challengers that share the error of `trial` by now."""
    return 1 + len(joined(context, trial))


def _overlap(first: Experiment, second: Experiment) -> bool:
    """Whether two comparisons ever ran at the same time."""
    return all(a.ended_at is None or a.ended_at > b.started_at for a, b in ((first, second), (second, first)))
