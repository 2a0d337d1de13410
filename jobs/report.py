"""One comparison told to a person who has never seen the system: a page in an MLflow run, and its numbers as metrics.

Load: what both predicted and what came true, as far as it was known when the comparison ended (or is known now).
Compute: the account. Log: a run with the page. Act: nothing; a report changes no alias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from importlib.metadata import version as installed
from math import nan
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from jobs import compare
from jobs.cli.number_options import whole
from jobs.cli.terminal import start_job
from jobs.context import Context, moment, run
from jobs.reports import mlflow_runs
from mlops import policy
from mlops.errors import DataError
from mlops.experiment.answer import NAMES
from mlops.experiment.battery import MetricTest
from mlops.experiment.comparison import Comparison
from mlops.experiment.metrics import METRICS
from mlops.experiment.numbers import numbers
from mlops.experiment.plan import Plan
from mlops.experiment.summary import TESTED, UNTESTED, Summary, summarise
from mlops.io import record
from mlops.io.ledger import ComparisonRow
from mlops.monitor import reliability
from mlops.plots import page, svg
from mlops.stats import Estimate
from mlops.types import Decision

NAME = "report.html"
LEAST_FOR_PICTURES = 10  # bars


@dataclass(frozen=True, slots=True)
class Written:
    """The page, the account that it shows, and the run that keeps both."""

    html: str
    account: Summary
    run_id: str


def at(context: Context, model: str, as_of: datetime, experiment: int = 0) -> Written:
    """Report on a comparison of `model`: on number `experiment`, or on the latest that began before `as_of`.

    Raises
    ------
    DataError
        There is no such comparison.
    """
    comparison = _chosen(context, model, as_of, experiment)
    until = min(as_of, comparison.ended_at or as_of)
    look = compare.look(context, comparison, until)
    matured = context.ledger.telemetry.matured(
        model, start=comparison.started_at, end=until, as_of=until
    )  # of the shadows, too
    # What has ended is judged as it was: moves made since then hold nobody back.
    decision = look.decision if comparison.ended_at is None or until < comparison.ended_at else _judged(look)
    compared = Comparison(
        id=comparison.id,
        model=model,
        kind=comparison.kind,
        champion=comparison.champion,
        challenger=comparison.challenger,
        started_at=comparison.started_at,
        as_of=until,
        plan=Plan(**{field.name: look.proof.params[field.name] for field in fields(Plan)}),
        ended_at=comparison.ended_at if until == comparison.ended_at else None,
        verdict=comparison.verdict if until == comparison.ended_at else None,
    )
    summary = summarise(
        compared,
        matured,
        _books(context, comparison, matured, until),
        findings=look.report.findings,
        decision=decision,
        tried=max(len([b for b in context.ledger.registry.bundles(model) if b.registered_at <= until]) - 1, 1),
        rng=np.random.default_rng(context.settings.train.seed),
        scorings=compare.scorings(context, comparison, until),
    )
    html = page.render("experiment.html", _context(context, summary, matured) | {"stage": look.place.stage.value})
    known = numbers(summary)
    series = mlflow_runs.comparison(comparison)
    evidence = record.Evidence(
        "report",
        look.report,
        decision,
        tags={**look.tags, "trial": str(comparison.id)},
        numbers=known,
        pages={NAME: html},
        plotted=mlflow_runs.report_metrics(known, comparison.challenger),
        headline=f"v{comparison.champion} → v{comparison.challenger}: "
        + mlflow_runs.comparison_headline(look.report, decision),
        series=series,
        beside=True,
    )
    return Written(html, summary, context.emit(evidence))


def _chosen(context: Context, model: str, as_of: datetime, experiment: int) -> ComparisonRow:
    known = [e for e in context.ledger.registry.comparisons(model) if e.started_at <= as_of]
    chosen = [e for e in known if e.id == experiment] if experiment else known[-1:]
    if not known:
        remedy = "Train a challenger, and look again when it has scored"
        raise DataError(f"report of {model} must have a comparison to be about, got a model without one. {remedy}.")
    if not chosen:
        ids = ", ".join(str(e.id) for e in known)
        raise DataError(f"experiment of {model} must be one of its comparisons ({ids}), got {experiment}. Name one.")
    return chosen[0]


def _judged(look: compare.Look) -> Decision:
    if look.comparison.kind == "watch":
        return policy.on_watch(look.report, look.other)
    return policy.on_comparison(look.report, look.other, look.place)


def _books(
    context: Context, comparison: ComparisonRow, matured: pd.DataFrame, until: datetime
) -> dict[int, pd.DataFrame]:
    """The virtual book of every version that predicted, and an empty one of a version that has not yet."""
    versions = {*matured["version"].astype(int), comparison.champion, comparison.challenger}
    return {v: compare.book(context, comparison.model, v, comparison.started_at, until) for v in sorted(versions)}


def _context(context: Context, summary: Summary, matured: pd.DataFrame) -> dict[str, Any]:
    """What the template reads beside the account."""
    compared = summary.comparison
    bundles = {b.version: b for b in context.ledger.registry.bundles(compared.model)}
    known = {v: matured[matured["version"] == v] for v in summary.arms}
    curves = {v: reliability(rows) for v, rows in known.items() if len(rows)}
    spans = {v: bundles[v] for v in summary.arms if v in bundles}
    return {
        "a": summary,
        "metrics": METRICS,
        "untested": UNTESTED,
        "gates": {*policy.GATES, "accuracy_change"} if compared.watch else policy.GATES,
        "names": NAMES,
        "gains": _gains(summary),
        "shown": _by_metric(summary),
        "proof": next((f for f in summary.findings if f.name == "paired_log_loss"), None),
        "calibration": curves,
        "pictures": _pictures(summary, curves),
        "trained": {v: f"{page.day(b.train_start)} to {page.day(b.train_end)}" for v, b in spans.items()},
        "registered": {v: page.day(b.registered_at) for v, b in spans.items()},
        "level": "95 %",
        "alpha": "5 %",
        "nan": nan,
        "made": compared.as_of,
        "version": installed("gpt-trader-mlops"),
    }


def _by_metric(summary: Summary) -> dict[str, list[MetricTest]]:
    return {name: rows for name in TESTED if (rows := [s for s in summary.tests if s.metric == name])}


def _gains(summary: Summary) -> dict[str, Estimate]:
    """Gain of the challenger at each metric; without an interval where no test holds."""
    old, new = (summary.table.values[v] for v in (summary.comparison.champion, summary.comparison.challenger))
    plain = {
        name: Estimate(name, METRICS[name].sign * (new[name].value - old[name].value), nan, nan, new[name].n)
        for name in old
    }
    tests = [s for s in summary.tests if s.method == "ewc" and s.challenger == summary.comparison.challenger]
    return plain | {s.metric: s.gain for s in tests if s.gain.known}


def _pictures(summary: Summary, curves: Mapping[int, pd.DataFrame]) -> dict[str, str]:
    """SVG of our own making, which stands in the page as it is; empty where there is too little to draw."""
    if summary.bars < LEAST_FOR_PICTURES:
        return {"evidence": "", "equity": "", "reliability": ""}
    names = {v: f"v{v}" + (" (champion)" if v == summary.comparison.champion else "") for v in summary.arms}
    proof = next(f for f in summary.findings if f.name == "paired_log_loss")
    path = {"mean": summary.evidence.estimate, "low": summary.evidence.lower, "high": summary.evidence.upper}
    boundary = summary.boundary
    looks = {"bars": np.array(boundary.bars, dtype=np.float64), "better": boundary.better, "worse": boundary.worse}
    bands = summary.bands
    equity, relative = (
        {names[v]: (band.curve, band.low, band.high) for v, band in table.items()}
        for table in (bands.equity, bands.relative)
    )
    crossed = proof.params.get("crossed_at")
    return {
        "evidence": svg.evidence(summary.times, path, looks, crossed, summary.comparison.plan.margin),
        "equity": svg.equity(bands.times, equity, relative) if equity else "",
        "reliability": svg.reliability({names[v]: curve for v, curve in curves.items()}) if curves else "",
    }


def main(
    model: str = "volatility",
    experiment: Annotated[int, typer.Option(help="Number of the comparison; 0: the latest.", parser=whole(0))] = 0,
    out: Annotated[str, typer.Option(help="Also write the page there.")] = "",
    as_of: str = "now",
) -> None:
    def body(context: Context) -> None:
        written = at(context, model, moment(as_of), experiment)
        if out:
            Path(out).write_text(written.html, encoding="utf-8")

    run("report", body, model)


if __name__ == "__main__":
    start_job(main)
