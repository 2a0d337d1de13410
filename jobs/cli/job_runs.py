"""`trader-mlops job`: what was planned, what ran, what failed, and the three things a person may do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from jobs import schedule as calendar
from jobs.cli.tables import EXACT, SECONDS, AsJson, show
from jobs.cli.terminal import console
from jobs.context import moment, store
from mlops.errors import DataError
from mlops.io.ledger.job_runs import STATES

app = typer.Typer(help="Runs of scheduled jobs: list, retry, skip, run now.", no_args_is_help=True)
Job = Annotated[str, typer.Argument(help="As the list names it, such as monitor:volatility.")]
Slot = Annotated[str, typer.Argument(help="Its scheduled time, as the list shows it.")]
MOST = 40  # runs in a list
COLUMNS = ("job", "scheduled_for", "state", "attempts", "ended_at", "error")


@app.command("list")
def listed(
    state: Annotated[str, typer.Option(help=f"One of {', '.join(STATES)}; default: all.")] = "",
    job: Annotated[str, typer.Option(help="Only this job.")] = "",
    as_json: AsJson = False,
) -> None:
    """The newest runs."""
    with store() as opened:
        runs = opened.ledger.job_runs.all(job or None, states=(state,) if state else STATES)[-MOST:]
    rows = [
        {name: getattr(run, name) for name in COLUMNS} | {"error": (run.error.strip().splitlines() or [""])[-1]}
        for run in runs
    ]
    styles = ["red" if run.state == "dead" else "" for run in runs]
    formats = {"scheduled_for": EXACT, "ended_at": SECONDS}
    show(rows, COLUMNS, as_json=as_json, formats=formats, styles=styles)


@app.command()
def retry(job: Job, scheduled_for: Slot) -> None:
    """Run a dead, failed, parked or skipped run again, with all its attempts."""
    with store() as opened:
        opened.ledger.job_runs.retry(job, moment(scheduled_for))
    console.print(f"{job} of {scheduled_for} is due again.")


@app.command()
def skip(job: Job, scheduled_for: Slot, reason: Annotated[str, typer.Option(help="Why; kept with the run.")]) -> None:
    """Do without a run."""
    with store() as opened:
        opened.ledger.job_runs.skip(job, moment(scheduled_for), datetime.now(UTC), reason)
    console.print(f"{job} of {scheduled_for} is skipped.")


@app.command("run")
def run_now(job: Job) -> None:
    """Have the scheduler run a job now, besides its schedule."""
    line = calendar.line_of(job)
    if line is None:
        known = ", ".join(entry.job for entry in calendar.SCHEDULE)
        raise DataError(f"job must be in the schedule ({known}), got {job!r}. Write train:volatility, say.")
    with store() as opened:
        if line[0].per_model:
            opened.known(line[1])
        opened.ledger.job_runs.plan(job, datetime.now(UTC).replace(microsecond=0))
    console.print(f"{job} is due; the scheduler takes it within a second if it is up.")
