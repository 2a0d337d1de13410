"""`trader-mlops alert`: what is open, and closing what was seen to."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.markup import escape

from jobs.cli.tables import listing
from jobs.context import opened
from mlops.errors import DataError

app = typer.Typer(help="Alerts: list, close.", no_args_is_help=True)
console = Console(emoji=False)  # a key such as rollback:m:7 is no smiley
log = structlog.get_logger()


@app.command("list")
def show(every: Annotated[bool, typer.Option("--all", help="Those that were closed, too.")] = False) -> None:
    """Open alerts, oldest first."""
    with opened() as context:
        alerts = context.ledger.alerts.newest(open_only=not every)
    table = listing("key", "priority", "as of (UTC)", "what")
    for alert in alerts:
        table.add_row(escape(alert.key), alert.priority.value, f"{alert.as_of:%Y-%m-%d %H:%M}", escape(alert.title))
    console.print(table)


@app.command()
def close(
    key: Annotated[str, typer.Argument(help="As the list shows it.")],
    reason: Annotated[str, typer.Option(help="What was done about it; kept in the log.")],
) -> None:
    """Close an alert that was seen to. What is still wrong is told again, under another key or by the doctor."""
    with opened() as context:
        if key not in {alert.key for alert in context.ledger.alerts.newest()}:
            raise DataError(f"alert must be an open one, got {key!r}. See `trader-mlops alert list`.")
        context.ledger.alerts.resolve(key, datetime.now(UTC))
    log.info("alert closed by hand", key=key, by=getpass.getuser(), reason=reason)
    console.print(f"{key} is closed.")
