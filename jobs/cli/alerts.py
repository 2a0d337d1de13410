"""`trader-mlops alert`: what is open, and closing what was seen to."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
import typer

from jobs.cli.tables import AsJson, listing, show
from jobs.cli.terminal import Watch, console, watch
from jobs.context import store
from mlops.errors import DataError
from mlops.types import Alert, Priority

app = typer.Typer(help="Alerts: list, close.", no_args_is_help=True)
log = structlog.get_logger()
COLUMNS = ("key", "priority", "as_of", "title")
ORDER = [*Priority]
STYLES = {Priority.CRITICAL: "bold red", Priority.HIGH: "yellow"}


@app.command("list")
def listed(
    every: Annotated[bool, typer.Option("--all", help="Those that were closed, too.")] = False,
    as_json: AsJson = False,
    again: Watch = False,
) -> None:
    """Open alerts, the most urgent first; of equal ones the oldest."""
    columns = (*COLUMNS, "model", "closed_at") if every or as_json else COLUMNS
    with store() as opened:

        def look() -> list[dict[str, Any]]:
            return rows(opened.ledger.alerts.newest(open_only=not every))

        if again:
            watch(lambda: listing(rows_now := look(), columns, styles=styles(rows_now)))
        else:
            show(rows_now := look(), columns, as_json=as_json, styles=styles(rows_now))


def rows(alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    """Alerts as rows, the most urgent first."""
    ordered = sorted(alerts, key=lambda alert: (ORDER.index(alert.priority), alert.as_of))
    names = ("key", "priority", "as_of", "title", "model", "closed_at")
    return [{name: getattr(alert, name) for name in names} for alert in ordered]


def styles(rows_now: Iterable[dict[str, Any]]) -> list[str]:
    """How each row of alerts is written."""
    return [STYLES.get(row["priority"], "") for row in rows_now]


@app.command()
def close(
    key: Annotated[str, typer.Argument(help="As the list shows it.")],
    reason: Annotated[str, typer.Option(help="What was done about it; kept in the log.")],
) -> None:
    """Close an alert that was seen to. What is still wrong is told again, under another key or by the doctor."""
    with store() as opened:
        if key not in {alert.key for alert in opened.ledger.alerts.newest()}:
            raise DataError(f"alert must be an open one, got {key!r}. See `trader-mlops alert list`.")
        opened.ledger.alerts.resolve(key, datetime.now(UTC))
    log.info("alert closed by hand", key=key, by=getpass.getuser(), reason=reason)
    console.print(f"{key} is closed.", markup=False, soft_wrap=True)
