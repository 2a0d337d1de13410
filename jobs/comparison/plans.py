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
from mlops.io.ledger import ComparisonRow
from registry_hooks import aliases

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
LABELS_APART = 8  # labels one after the other before the first look


def keep(context: Context, comparison: ComparisonRow) -> ComparisonRow:
    """The comparison with its plan: the stored one, or, at its first look, that of the settings, which is stored.

    One that goes on under another kind (a version that waited is nominated) has the plan that it had.
    """
    if comparison.plan is not None:
        return comparison
    earlier = (
        other.plan for other in context.ledger.registry.comparisons(comparison.model) if _goes_on(other, comparison)
    )
    planned = next((stored for stored in earlier if stored is not None), None) or _first(context, comparison).stored()
    return replace(comparison, plan=context.ledger.registry.keep_plan(comparison.id, planned))


def _goes_on(a: ComparisonRow, b: ComparisonRow) -> bool:
    """Whether both are one comparison, told by two rows: of one pair, begun at one time."""
    same = (a.champion, a.challenger, a.started_at) == (b.champion, b.challenger, b.started_at)
    return same and {a.kind, b.kind} <= {*aliases.COMPARED}


def plan(context: Context, comparison: ComparisonRow) -> Plan:
    """What a comparison must show: as stored with it; by the settings where it was never looked at.

    `arms` are all challengers that share its error by now; each takes its part from when it `joined` on.

    Raises
    ------
    DataError
        The stored plan is none that this product writes, or nobody can follow it.
    """
    if comparison.plan is None:
        return _first(context, comparison)
    try:
        return _charted(comparison, Plan.read(comparison.plan, arms=_arms(context, comparison)))
    except DataError as error:
        remedy = "Restore the column `plan` of the ledger's table `experiments` from a backup; no job writes it twice"
        raise DataError(
            f"comparison {comparison.id} of {comparison.model} (v{comparison.challenger} against "
            f"v{comparison.champion}) must have the plan that its first look stored, got: {error} {remedy}."
        ) from error


def _charted(comparison: ComparisonRow, planned: Plan) -> Plan:
    """With its chart, where the plan of a watch was stored without: half of the budget, as the paired test has."""
    if comparison.kind != "watch" or planned.chart_alarms is not None:
        return planned
    return replace(planned, chart_alarms=1 - planned.confidence)


def _first(context: Context, comparison: ComparisonRow) -> Plan:
    """Plan by the settings; of a watch, simulated on the record of its two models where that is asked for."""
    planned = of_kind(context, comparison.kind, horizon=horizon(context, comparison), arms=_arms(context, comparison))
    if comparison.kind != "watch" or not context.settings.experiment.watch_simulated:
        return planned
    before = context.ledger.telemetry.matured(
        comparison.model, start=LONG_AGO, end=comparison.started_at, as_of=comparison.started_at
    )
    record = ab.pairs(before, champion=comparison.champion, challenger=comparison.challenger)["difference"]
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


def horizon(context: Context, comparison: ComparisonRow) -> int:
    """Bars that a label of either version spans."""
    known = (
        context.ledger.registry.bundle(comparison.model, version)
        for version in (comparison.champion, comparison.challenger)
    )
    return max((row.horizon_bars for row in known if row is not None), default=1)


def joined(context: Context, comparison: ComparisonRow) -> tuple[datetime, ...]:
    """When each other challenger joined that was compared with this champion while it ran, dropped ones too."""
    if comparison.kind not in aliases.COMPARED:
        return ()
    began: dict[int, datetime] = {}
    for other in context.ledger.registry.comparisons(comparison.model):
        beside = (
            other.kind in aliases.COMPARED and other.champion == comparison.champion and _overlap(other, comparison)
        )
        if beside and other.challenger != comparison.challenger:
            began[other.challenger] = min(other.started_at, began.get(other.challenger, other.started_at))
    return tuple(sorted(began.values()))


def _arms(context: Context, comparison: ComparisonRow) -> int:
    """Challengers that share the error of a comparison by now."""
    return 1 + len(joined(context, comparison))


def _overlap(first: ComparisonRow, second: ComparisonRow) -> bool:
    """Whether two comparisons ever ran at the same time."""
    return all(a.ended_at is None or a.ended_at > b.started_at for a, b in ((first, second), (second, first)))
