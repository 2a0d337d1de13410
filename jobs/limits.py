"""Is the champion still within the lines that a person drew? Every few seconds, in the service.

Load: its books since it became champion, and how its last scorings went. Compute: hard limits, no statistics. Log: a
run, when one broke. Act: roll back at once, and wake a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import pandas as pd
import typer

from jobs import schedule
from jobs.books import VIRTUAL
from jobs.cli.terminal import start_job
from jobs.comparison.stages import scored
from jobs.context import Context
from jobs.reports import mlflow_runs
from mlops import policy
from mlops.alerts import ALERTS
from mlops.experiment.limits import Limits, book_limits, previous_limits, scoring_limits
from mlops.io.ledger import Promotion
from mlops.types import Alert, Decision, Finding, Level, ModelRef, Report, Role, Stage, Verdict
from registry_hooks import aliases, apply, stages


def at(context: Context, model: str, as_of: datetime) -> list[Decision]:
    """One look at the champion of `model`, and at challengers that trade; nothing is logged while every limit is kept.

    A person is told before anything is tried. A rollback that did not come off is tried again at each look.
    """
    entries = [entry for entry in context.ledger.registry.promotions(model) if entry.state != "undone"]
    if not entries:
        return []
    return [*_champion(context, entries, as_of), *_challengers(context, entries[-1], as_of)]


def _challengers(context: Context, entry: Promotion, as_of: datetime) -> list[Decision]:
    """Take back to shadow who trades a share of the units and fails or is slow; needs no MLflow, an alert says why."""
    decisions, champion = [], ModelRef(entry.model, entry.to_version, Role.CHAMPION)
    trading = stages.stages(context.ledger, entry.model)
    for row in context.ledger.registry.open_comparisons(entry.model):
        if row.champion != champion.version or trading.get(row.challenger) is not Stage.AB:
            continue
        report = Report(champion, as_of, scored(context, row, as_of))
        decision = policy.on_comparison(report, ModelRef(entry.model, row.challenger, aliases.ROLES[row.kind]))
        if decision.verdict is Verdict.WITHDRAW:
            apply.apply(decision, context.registry, context.act("jobs.limits", as_of))
            decisions.append(decision)
    return decisions


def _champion(context: Context, entries: Sequence[Promotion], as_of: datetime) -> list[Decision]:
    entry, model = entries[-1], entries[-1].model
    _take_back(context, model, entry.seq, as_of)
    report, previous = held(context, entries, as_of)
    decision = policy.on_limits(report, previous)
    if not decision.because:
        return []
    moves = decision.verdict is Verdict.ROLLBACK
    then = "it is taken back" if moves else "IT STILL TRADES"
    details = {"verdict": decision.verdict.value}
    words = {"model": model, "seq": entry.seq, "then": then, "reason": decision.reason}
    if context.ledger.alerts.add(ALERTS["limit"].alert(as_of, words, details=details)):
        context.conclude(
            "limits",
            report,
            decision,
            headline=f"v{entry.to_version}: {decision.verdict.value}",
            series=mlflow_runs.reign(report.model, entry.created_at),
            beside=True,
        )
    elif moves:
        apply.apply(decision, context.registry, context.act("jobs.limits", as_of))
    return [decision] if moves else []


def held(context: Context, entries: Sequence[Promotion], as_of: datetime) -> tuple[Report, ModelRef | None]:
    """The champion of a promotion log against its limits, and the one before it; by the log, for MLflow may be away."""
    entry, stack = entries[-1], aliases.standing(entries)
    champion = ModelRef(entry.model, entry.to_version, Role.CHAMPION)
    previous = ModelRef(entry.model, stack[-2], Role.PREVIOUS) if len(stack) > 1 else None
    return Report(champion, as_of, _findings(context, champion, previous, entry.created_at, as_of)), previous


def _take_back(context: Context, model: str, seq: int, as_of: datetime) -> None:
    """Close what says of an earlier champion that it still trades."""

    def trades(alert: Alert) -> bool:
        earlier = alert.model == model and alert.key != f"limit:{model}:{seq}"
        return earlier and alert.details.get("verdict") == Verdict.HOLD

    context.ledger.alerts.settle("limit", (), as_of, looked_at=trades)


def _findings(
    context: Context, champion: ModelRef, previous: ModelRef | None, since: datetime, as_of: datetime
) -> tuple[Finding, ...]:
    limits, window = _limits(context), context.settings.limits.window
    returns = _returns(context, champion, since, as_of)
    findings = book_limits(returns, limits)
    scorings = context.ledger.scorings.between(champion.name, since, as_of)
    findings = (*findings, *scoring_limits(scorings[scorings.version == champion.version].tail(window), limits))
    if previous is None or not any(f.level is Level.ALERT for f in findings):
        return findings
    before = _returns(context, previous, since, as_of)
    return (*findings, *previous_limits(returns, before, subject=policy.PREVIOUS))


def _limits(context: Context) -> Limits:
    s = context.settings.limits
    return Limits(s.drawdown, s.loss, s.error_rate, s.latency_s, s.failures)


def _returns(context: Context, ref: ModelRef, since: datetime, as_of: datetime) -> pd.Series:
    """Returns of the version's virtual book over the bars since it became champion."""
    curve = context.ledger.books.curve(ref.name, VIRTUAL, ref.version, start=since, as_of=as_of)
    return curve.set_index("event_time")["equity"].pct_change().dropna()


def main(model: Annotated[str, typer.Option(help="Registered model.")] = "volatility", as_of: str = "now") -> None:
    schedule.main("limits", model, as_of)


if __name__ == "__main__":
    start_job(main)
