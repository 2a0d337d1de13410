"""What all books would lose in crises that were, in those that may come, and which move would cost a fifth. Weekly.

Load: positions now, all bars. Compute: named scenarios, the worst windows, simulations, shocks. Log: an MLflow run with
the page, the table and the numbers; and the scenarios, by which the live page multiplies what is held each second.
Act: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from jobs import schedule
from jobs.cli.terminal import start_job
from jobs.context import Context
from jobs.portfolio.stress import StressRun, compute
from jobs.reports import mlflow_runs, stress_page
from mlops.io import record
from mlops.plots import page
from mlops.risk.limits import Line, Measured, judge
from mlops.risk.stress.episodes import EPISODES
from mlops.risk.stress.summary import ALL
from mlops.types import Decision, Finding, Level, Report, Verdict

KIND = "stress"  # of the state in the ledger


@dataclass(frozen=True, slots=True)
class Written:
    """The page, what it shows, and the run that keeps both."""

    html: str
    stressed: StressRun
    run_id: str


def at(context: Context, bars: pd.DataFrame, as_of: datetime, out: str = "") -> list[Decision]:
    """One look at all books; `out`: where to write the page, too."""
    written = write(context, bars, as_of)
    if out:
        Path(out).write_text(written.html, encoding="utf-8")
    return []


def write(context: Context, bars: pd.DataFrame, as_of: datetime) -> Written:
    """Compute, store what the live page needs, log the run."""
    look = compute(context, bars, as_of)
    s = look.scenarios
    body = {"scenarios": s.names, "units": s.units, "missing": look.missing, "about": stress_page.about(look)}
    context.ledger.risk.put_state(KIND, ALL, as_of, body, {"returns": s.returns, "proxied": s.proxied})
    html = page.render("stress.html", stress_page.context(look, context.settings.risk.currency))
    report = Report(record.BOOKS, as_of, _findings(context, look))
    numbers = stress_page.numbers(look)
    evidence = record.Evidence(
        "stress",
        report,
        Decision(Verdict.HOLD, record.BOOKS, report.findings, reason=report.findings[0].note),
        figures=stress_page.figures(look),
        numbers=numbers,
        plotted=mlflow_runs.chosen(mlflow_runs.STRESS, record.measured(report.findings), numbers),
        headline=f"worst scenario costs {report.findings[0].value:.1%}",
        series=mlflow_runs.year("stress", as_of),
        pages={"stress.html": html, "scenarios.csv": look.table.to_csv(index=False)},
    )
    return Written(html, look, context.emit(evidence))


def _findings(context: Context, look: StressRun) -> tuple[Finding, ...]:
    """The worst named scenario, against the line that a person drew if there is one."""
    why = f"{len(look.missing)} units are not in it" if look.missing else ""
    value = float("nan") if look.worst is None else float(look.worst["loss"])
    lines = [line for line in context.settings.risk.limits if line.measure == KIND and line.scope == ALL]
    if lines:
        drawn = [Line(row.measure, row.warning, row.soft, row.hard, row.owner, row.scope) for row in lines]
        return tuple(judge(drawn, [Measured(KIND, value, ALL, len(EPISODES), why)]))
    level = Level.UNKNOWN if look.worst is None or why else Level.OK
    note = stress_page.headline(look) + (f" {why}." if why else "")
    return (Finding(KIND, value, float("nan"), level, len(EPISODES), note=note),)


def main(
    out: Annotated[str, typer.Option(help="Also write the page there.")] = "",
    as_of: str = "now",
) -> None:
    schedule.main("stress", "", as_of, out=out)


if __name__ == "__main__":
    start_job(main)
