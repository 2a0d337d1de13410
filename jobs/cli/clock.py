"""`trader-mlops clock`: a person's word on a clock that was ahead and was put right."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from jobs.cli.terminal import console
from jobs.context import store
from jobs.live import monotonic_clock

app = typer.Typer(help="The clock that risk is looked at by.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `accept` a command of its own while it is the only one."""


@app.command("accept")
def accept(
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
) -> None:
    """Say that the clock is right now and was ahead before: lines are held against new prices again, at once."""
    with store() as opened:
        now = datetime.now(UTC)
        if not yes:
            typer.confirm(f"It is {now:%Y-%m-%d %H:%M:%S} UTC. Is that right?", abort=True)
        stood = monotonic_clock.accept(opened.ledger, actor or getpass.getuser(), reason, now)
    console.print(f"Looks go on from {now:%Y-%m-%d %H:%M:%S} UTC; that of {stood:%Y-%m-%d %H:%M:%S} UTC stood.")
