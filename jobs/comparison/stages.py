"""Where a challenger stands between shadow and champion, and what the gates of its stage say: read from the ledger."""

from __future__ import annotations

from datetime import datetime

from jobs.context import Context
from mlops.experiment import stages as gates
from mlops.io.ledger import ComparisonRow
from mlops.policy import Place
from mlops.types import Finding, Stage
from registry_hooks import stages


def findings(context: Context, comparison: ComparisonRow, as_of: datetime) -> tuple[Finding, ...]:
    """The gates of the stages of one challenger, with what was known at `as_of`."""
    s, record = context.settings.experiment, scoring_record(context, comparison, as_of)
    since, units = _since(context, comparison, as_of), _units(context, comparison, as_of)
    return (*_scored(context, record), gates.trading(record, since, s.ab_bars, units=units, least=s.ab_units))


def scored(context: Context, comparison: ComparisonRow, as_of: datetime) -> tuple[Finding, ...]:
    """Findings about how it scored: all that takes a share away between two weekly looks."""
    return _scored(context, scoring_record(context, comparison, as_of))


def _scored(context: Context, record: gates.ScoringRecord) -> tuple[Finding, ...]:
    s, limits = context.settings.experiment, context.settings.limits
    needed, unseen = s.shadow_bars, s.shadow_unreported
    return (
        gates.shadow_bars(record, needed),
        gates.shadow_failures(record, needed, limits.failures),
        gates.shadow_latency(record, limits.latency_s, needed=needed, window=limits.window, accepted=unseen),
    )


def scoring_record(context: Context, comparison: ComparisonRow, as_of: datetime) -> gates.ScoringRecord:
    """How the challenger scored beside the champion since their comparison began."""
    ledger, model, since = context.ledger, comparison.model, comparison.started_at
    asked, scored = (
        ledger.latest.scored_bars(model, version, start=since, as_of=as_of)
        for version in (comparison.champion, comparison.challenger)
    )
    scorings = ledger.scorings.between(model, since, as_of)
    return gates.ScoringRecord(asked, scored, scorings[scorings["version"] == comparison.challenger])


def place(context: Context, comparison: ComparisonRow, as_of: datetime) -> Place:
    """Whether the challenger trades, and what keeps a job from giving it a share of the units."""
    stage = Stage.SHADOW if _since(context, comparison, as_of) is None else Stage.AB
    runs = comparison.ended_at is None and stage is Stage.SHADOW
    split = context.settings.experiment.split
    held = stages.held(context.ledger, comparison.model, comparison.challenger, split) if runs else ""
    return Place(stage, waits=comparison.kind == "shadow", held=held)


def _since(context: Context, comparison: ComparisonRow, as_of: datetime) -> datetime | None:
    return stages.trading_since(context.ledger, comparison.model, (comparison.champion, comparison.challenger), as_of)


def _units(context: Context, comparison: ComparisonRow, as_of: datetime) -> int:
    """Units that were assigned to the challenger in the running comparison, or in its own that ended."""
    assigned = comparison if comparison.kind == "compare" else stages.running(context.ledger, comparison.model)
    epochs = () if assigned is None else context.ledger.assignments.by_epoch(assigned, as_of)
    return sum(epoch.counts.get(comparison.challenger, 0) for epoch in epochs)
