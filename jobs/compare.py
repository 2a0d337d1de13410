"""Champion against challenger, and the watch on a new champion: once a week, on the bars that both have matured.

Load: the matured predictions of both since the comparison began. Compute: gates and shadow books. Log: a step of the
run of the comparison, with the verdict, its reasons and plots. Act: promote, hold or roll back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jobs import schedule
from jobs.books import VIRTUAL
from jobs.cli.terminal import start_job
from jobs.comparison import plans, stages
from jobs.context import Context
from jobs.monitoring import bar_frequency, overdue_labels
from jobs.reports import live_evidence, mlflow_runs
from mlops import policy
from mlops.alerts import ALERTS
from mlops.experiment import ArmUnits, Plan, ab, arms_of, measure
from mlops.experiment.metrics import BARS_PER_YEAR
from mlops.io.ledger import ComparisonRow
from mlops.kinds import KINDS
from mlops.monitor import accuracy_change, chart_power
from mlops.plots import evidence
from mlops.policy import Place
from mlops.types import Decision, Finding, Level, ModelRef, Report, Role, Stage, Verdict
from registry_hooks import aliases, apply

RUINED = 1e-9  # equity of a book that lost all or more: a return of -100 %, and nothing after it
PLOT_EVERY = 4  # weekly looks between two sets of plots; a verdict always has its own


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one comparison: what was found, what follows, and what it was found in."""

    comparison: ComparisonRow
    other: ModelRef
    report: Report
    decision: Decision
    matured: pd.DataFrame
    curves: Mapping[int, pd.DataFrame]
    place: Place

    @property
    def proof(self) -> Finding:
        return next(f for f in self.report.findings if f.name == "paired_log_loss")

    @property
    def tags(self) -> dict[str, str]:
        """What its run says of it; a watch has no stage."""
        stage = {} if self.comparison.kind == "watch" else {"stage": self.place.stage.value}
        return {"kind": self.comparison.kind, "against": str(self.other), **stage}


def at(context: Context, model: str, as_of: datetime) -> list[Decision]:
    """Judge every open comparison of `model`; whoever waits for a free place gets it.

    Everything is looked at before anything is done. Of several challengers that passed, the one that gains most is
    promoted; that ends the comparisons of the others.
    """
    apply.nominate_next(context.registry, model, context.act("jobs.compare", as_of))
    comparisons = [c for c in context.ledger.registry.open_comparisons(model) if _stands(context, c)]
    looks = [look(context, plans.keep(context, c), as_of) for c in comparisons]
    looks.sort(key=lambda each: (each.decision.verdict is Verdict.PROMOTE, each.proof.value), reverse=True)
    decisions: list[Decision] = []
    live = dict[int, dict[str, Any]]()
    for each in looks:
        # The run that launched the job takes the first verdict; each other one has a run of its own.
        own = replace(context, run_id=None) if decisions else context
        decisions.append(act(own, each, as_of, live))
    apply.nominate_next(context.registry, model, context.act("jobs.compare", as_of))  # at once: what it trades goes on
    live_evidence.keep(context, "compare", model, live, as_of)
    return decisions


def look(context: Context, comparison: ComparisonRow, as_of: datetime) -> Look:
    """Look at one comparison. Changes nothing."""
    champion = ModelRef(comparison.model, comparison.champion, Role.CHAMPION)
    other = ModelRef(comparison.model, comparison.challenger, aliases.ROLES[comparison.kind])
    matured = _matured(context, comparison, as_of)
    bar_frequency.daily(comparison.model, matured)
    curves = {
        v: book(context, comparison.model, v, comparison.started_at, as_of)
        for v in (comparison.champion, comparison.challenger)
    }
    planned = plans.plan(context, comparison)
    pending = overdue_labels.look(context, champion, plans.horizon(context, comparison), as_of, comparison.started_at)
    findings = (*_findings(context, comparison, planned, matured, curves, as_of), pending)
    if comparison.kind == "watch":
        chart = _collapse(context, champion, planned, matured[matured.version == comparison.champion])
        chart = overdue_labels.unknown(chart, pending)
        rng = np.random.default_rng(context.settings.train.seed)
        findings = (*findings, chart, chart_power(context.bundle(champion).held_out(), chart, rng=rng))
        place, report = Place(), Report(champion, as_of, findings)
        decision = policy.on_watch(report, other)
    else:
        place = stages.place(context, comparison, as_of)
        report = Report(champion, as_of, (*findings, *stages.findings(context, comparison, as_of)))
        gate = KINDS[context.kind(comparison.model)].gate
        decision = gate(report, other, place, resting=_resting(context, comparison.model, as_of))
    return Look(comparison, other, report, decision, matured, curves, place)


def _matured(context: Context, comparison: ComparisonRow, as_of: datetime) -> pd.DataFrame:
    """Rows of the two versions of a comparison since it began, by time, version and unit."""
    span = {"start": comparison.started_at, "end": as_of, "as_of": as_of}
    arms = [
        context.ledger.telemetry.matured(comparison.model, version=v, **span)
        for v in sorted((comparison.champion, comparison.challenger))
    ]
    return pd.concat(arms).sort_values("event_time", kind="stable", ignore_index=True)


def act(context: Context, look: Look, as_of: datetime, live: dict[int, dict[str, Any]]) -> Decision:
    """Log the evidence of a look and do what follows from it; `live` gets how the challenger does."""
    comparison, decision = look.comparison, look.decision
    if gone := _gone(context, look):  # by another decision of this very look
        reason = f"Hold: {look.other} was compared with {look.report.model}, {gone}."
        decision = Decision(Verdict.HOLD, look.report.model, decision.because, look.report.model, reason)
    figures, headline = (
        _figures(look),
        mlflow_runs.comparison_headline(look.report, decision, look.tags.get("stage", "")),
    )
    matured = look.matured[look.matured.version == look.other.version]
    gain = look.proof.value if look.proof.n else math.nan
    row = live_evidence.row(matured, comparison.started_at, as_of, headline, gain)
    context.conclude(
        "compare",
        look.report,
        decision,
        figures=figures,
        tags=look.tags,
        plotted=mlflow_runs.comparison_metrics(look.report, _measured(context, look, as_of)),
        headline=headline,
        series=mlflow_runs.comparison(comparison),
        then=lambda run: live.update({look.other.version: row | {"run": run}}),
    )
    _tell_broken(context, look, as_of)
    _tell_unreported(context, look, decision, as_of)
    _end(context, look, decision, as_of)
    return decision


def _resting(context: Context, model: str, as_of: datetime) -> str:
    """Why no job should promote now."""
    s, moves = context.settings.experiment, context.ledger.registry.promotions(model)
    done = [entry.created_at for entry in moves if entry.state != "undone" and entry.from_version is not None]
    return policy.resting(done, as_of, cool_down=timedelta(days=s.cool_down_days), most_a_day=s.transitions_per_day)


def _gone(context: Context, look: Look) -> str:
    """What a decision that was carried out since the look took from under this one; empty where nothing."""
    if not _stands(context, look.comparison):
        return "which is not the champion any more"
    if look.decision.verdict is not Verdict.ADVANCE:
        return ""
    held = stages.place(context, look.comparison, look.report.as_of).held
    return f"and gets no share of the units: {held}" if held else ""


def _stands(context: Context, comparison: ComparisonRow) -> bool:
    return context.ledger.registry.champion(comparison.model) == comparison.champion


def book(context: Context, model: str, version: int, since: datetime, as_of: datetime) -> pd.DataFrame:
    """The virtual book of a version since the comparison began, its equity 1 at the first bar of it."""
    curve = context.ledger.books.curve(model, VIRTUAL, version, start=since, as_of=as_of).set_index("event_time")
    first = curve["equity"].iloc[0] if len(curve) else 1.0
    equity = (curve["equity"] / first).clip(lower=RUINED)
    columns = {
        "equity": equity,
        "traded": curve["traded"].diff().fillna(0.0) / first,
        "exposure": curve["gross"] / first / equity,
        "fees": curve["fees"].diff().fillna(0.0) / first,
    }
    return pd.DataFrame(columns)


def scorings(context: Context, comparison: ComparisonRow, until: datetime) -> dict[int, Any]:
    """Seconds that each successful scoring took, by version; a bot that does not report them has none."""
    asked = context.ledger.scorings.between(comparison.model, comparison.started_at, until)
    done = asked[asked["failed"] == 0]
    return {int(str(v)): rows["seconds"].to_numpy(dtype=np.float64) for v, rows in done.groupby("version")}


def _findings(
    context: Context,
    comparison: ComparisonRow,
    planned: Plan,
    matured: pd.DataFrame,
    curves: Mapping[int, pd.DataFrame],
    as_of: datetime,
) -> tuple[Finding, ...]:
    return ab.compare(
        matured,
        champion=comparison.champion,
        challenger=comparison.challenger,
        settings=planned,
        joined=plans.joined(context, comparison),
        base_rate=context.bundle(ModelRef(comparison.model, comparison.challenger)).meta["base_rate"],
        books={v: book["equity"].pct_change().dropna() for v, book in curves.items()},
        assigned=_assigned(context, comparison, as_of) if comparison.kind == "compare" else None,
        rng=np.random.default_rng(context.settings.train.seed),
    )


def _assigned(context: Context, comparison: ComparisonRow, as_of: datetime) -> ArmUnits:
    """Keys that were assigned to each version so far, by the weights that held when they were."""
    epochs = [epoch for epoch in context.ledger.assignments.by_epoch(comparison, as_of) if any(epoch.counts.values())]
    versions = tuple(sorted({version for epoch in epochs for version in epoch.weights}))
    counts = tuple(tuple(epoch.counts.get(version, 0) for version in versions) for epoch in epochs)
    return ArmUnits(versions, counts, tuple(tuple(epoch.weights.get(v, 0.0) for v in versions) for epoch in epochs))


def _collapse(context: Context, champion: ModelRef, planned: Plan, rows: pd.DataFrame) -> Finding:
    """The new champion's accuracy against that on bars held out, at half of the watch's chance of a false alarm."""
    alarms = planned.chart_alarms
    assert alarms is not None  # of a watch
    return accuracy_change(
        context.bundle(champion).held_out(),
        rows,
        false_alarms_per_year=alarms * BARS_PER_YEAR / planned.horizon_bars,
        rng=np.random.default_rng(context.settings.train.seed),
    )


def _measured(context: Context, look: Look, as_of: datetime) -> dict[str, dict[str, float]]:
    """The same metrics of both arms, on the bars since the comparison began."""
    table = measure(arms_of(look.matured, look.curves, scorings=scorings(context, look.comparison, as_of)))
    roles = {"champion": look.comparison.champion, "challenger": look.comparison.challenger}
    values = {role: table.values.get(version, {}) for role, version in roles.items()}
    return {role: {name: known.value for name, known in metrics.items()} for role, metrics in values.items()}


def _figures(look: Look) -> dict[str, Figure]:
    comparison, verdict = look.comparison, look.decision.verdict
    daily = ab.pairs(look.matured, champion=comparison.champion, challenger=comparison.challenger)["difference"]
    quiet = verdict in (Verdict.HOLD, Verdict.INCONCLUSIVE)
    if daily.empty or (quiet and (len(daily) // 5) % PLOT_EVERY):
        return {}
    pair = f"{comparison.model}: v{comparison.challenger} against champion v{comparison.champion}"
    named = {f"v{version}": curve["equity"] for version, curve in look.curves.items()}
    return {
        "paired_log_loss": evidence.paired_evidence(daily, pair, verdict.value.upper()),
        "equity": evidence.equity(named, f"{comparison.model}: shadow books"),
    }


def _tell_broken(context: Context, look: Look, as_of: datetime) -> None:
    """A comparison that is itself broken wakes a person: nothing that it says may decide, and it says so once."""
    broken = [f for f in look.report.findings if f.name in policy.BROKEN and f.level is Level.ALERT]
    if broken:
        why = "; ".join(f"{f.name}: {f.note}" for f in broken)
        words = {"model": look.comparison.model, "experiment": look.comparison.id, "challenger": look.other, "why": why}
        alert = ALERTS["comparison_broken"].alert(as_of, words | {"champion": look.report.model})
        context.ledger.alerts.add(alert)


def _tell_unreported(context: Context, look: Look, decision: Decision, as_of: datetime) -> None:
    """A challenger that only waits for what nobody reports would wait for ever: a person is told, once."""
    lacks = [f for f in decision.because if f.level is not Level.OK and f.name in policy.TO_TRADE]
    enough = any(f.name == "shadow_bars" and f.level is Level.OK for f in look.report.findings)
    if [f.name for f in lacks] == ["shadow_latency"] and lacks[0].level is Level.UNKNOWN and enough:
        words = {
            "model": look.comparison.model,
            "comparison": look.comparison.id,
            "challenger": look.other,
            "why": lacks[0].note,
        }
        context.ledger.alerts.add(ALERTS["shadow_unreported"].alert(as_of, words))


def _end(context: Context, look: Look, decision: Decision, at: datetime) -> None:
    """Close what is decided: proven worse, or the horizon reached without every gate passed.

    One that passed waits for its turn, and trades its share meanwhile where it has not for long enough.
    """
    comparison, proof, place = look.comparison, look.proof, look.place
    goes_on = place.stage is Stage.AB or place.held or look.decision.verdict is Verdict.ADVANCE
    passed = comparison.kind != "watch" and policy.proven(look.report) and goes_on
    over = bool(proof.params["finished"]) or (proof.level is Level.ALERT and comparison.kind != "watch")
    if decision.verdict in (Verdict.PROMOTE, Verdict.ROLLBACK) or passed or not over:
        return
    if comparison.kind == "watch":
        context.ledger.registry.close_comparison(comparison.id, "passed", at)
    else:
        apply.retire(context.registry, look.other, decision.verdict.value, at)


def main(model: str = "volatility", as_of: str = "now") -> None:
    schedule.main("compare", model, as_of)


if __name__ == "__main__":
    start_job(main)
