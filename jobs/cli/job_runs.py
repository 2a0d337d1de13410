"""`trader-mlops job`: what was planned, what ran, what failed, and the three things a person may do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from jobs import schedule as calendar
from jobs.cli.tables import listing
from jobs.context import moment, opened
from mlops.errors import DataError
from mlops.io.ledger.job_runs import STATES

app = typer.Typer(help="Runs of scheduled jobs: list, retry, skip, run now.", no_args_is_help=True)
console = Console(emoji=False)
Job = Annotated[str, typer.Argument(help="As the list names it, such as monitor:volatility.")]
Slot = Annotated[str, typer.Argument(help="Its scheduled time, as the list shows it.")]
SHOWN = 40  # runs in a list


@app.command("list")
def show(
    state: Annotated[str, typer.Option(help=f"One of {', '.join(STATES)}; default: all.")] = "",
    job: Annotated[str, typer.Option(help="Only this job.")] = "",
) -> None:
    """The newest runs."""
    with opened() as context:
        runs = context.ledger.job_runs.all(job or None, states=(state,) if state else STATES)[-SHOWN:]
    table = listing("job", "scheduled for", "state", "attempts", "ended", "error")
    for run in runs:
        ended = f"{run.ended_at:%Y-%m-%d %H:%M:%S}" if run.ended_at else ""
        error = run.error.strip().splitlines()[-1:] or [""]
        table.add_row(run.job, run.scheduled_for.isoformat(), run.state, str(run.attempts), ended, error[0][:80])
    console.print(table)


@app.command()
def retry(job: Job, scheduled_for: Slot) -> None:
    """Run a dead, failed, parked or skipped run again, with all its attempts."""
    with opened() as context:
        context.ledger.job_runs.retry(job, moment(scheduled_for))
    console.print(f"{job} of {scheduled_for} is due again.")


@app.command()
def skip(job: Job, scheduled_for: Slot, reason: Annotated[str, typer.Option(help="Why; kept with the run.")]) -> None:
    """Do without a run."""
    with opened() as context:
        context.ledger.job_runs.skip(job, moment(scheduled_for), datetime.now(UTC), reason)
    console.print(f"{job} of {scheduled_for} is skipped.")


@app.command("run")
def run_now(job: Job) -> None:
    """Have the scheduler run a job now, besides its schedule."""
    entry = calendar.entry_of(job)
    if entry is None:
        known = ", ".join(entry.job for entry in calendar.SCHEDULE)
        raise DataError(f"job must be in the schedule ({known}), got {job!r}. Write train:volatility, say.")
    with opened() as context:
        if entry.each_model:
            context.known(job.partition(":")[2])
        context.ledger.job_runs.plan(job, datetime.now(UTC).replace(microsecond=0))
    console.print(f"{job} is due; the scheduler takes it within a second if it is up.")
