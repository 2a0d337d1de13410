"""`trader-mlops hook`: whom the platform tells, what did not get through, and sending it again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from jobs.cli.number_options import whole
from jobs.cli.tables import listing
from jobs.context import Context, opened
from mlops.errors import DataError
from registry_hooks.webhooks.outgoing import Sender

app = typer.Typer(help="Outgoing hooks: whom the platform tells.", no_args_is_help=True)
console = Console(emoji=False)


@app.command("list")
def listed() -> None:
    """Every endpoint that was ever configured: whether it is sent to, and what waits for it."""
    with opened() as context:
        table = listing("endpoint", "sending", "circuit", "delivered", "pending", "dead", "last error")
        for endpoint in context.ledger.dispatches.endpoints():
            sent = context.ledger.dispatches.all(endpoint.name)
            states = Counter(dispatch.state for dispatch in sent)
            waiting = next((d.last_error for d in sent if d.state == "pending"), "")
            numbers = (str(states[state]) for state in ("delivered", "pending", "dead"))
            sending = _sending(context, endpoint.name, endpoint.disabled)
            table.add_row(endpoint.name, sending, endpoint.circuit(datetime.now(UTC)), *numbers, waiting)
        console.print(table)


@app.command()
def dead(endpoint: Annotated[str | None, typer.Argument(help="Of one endpoint only.")] = None) -> None:
    """Dead letters: what was given up, and how the last attempt ended."""
    with opened() as context:
        table = listing("endpoint", "seq", "given up (UTC)", "attempts", "status", "last error")
        for d in context.ledger.dispatches.all(endpoint, "dead"):
            when = f"{d.settled_at:%Y-%m-%d %H:%M}" if d.settled_at else ""
            table.add_row(d.endpoint, str(d.seq), when, str(d.attempts), str(d.last_status or ""), d.last_error)
        console.print(table)


@app.command()
def resend(
    endpoint: str,
    seq: Annotated[int | None, typer.Argument(help="Number of the event.", parser=whole(0))] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters of the endpoint.")] = False,
) -> None:
    """Send a dead letter again, before anything newer. The running service does it within a second."""
    with opened() as context:
        seqs = [d.seq for d in context.ledger.dispatches.all(endpoint, "dead")] if every else [seq]
        for number in seqs:
            if number is None:
                raise DataError("event must be named by its number, got none. Add it, or --all.")
            context.ledger.dispatches.redeliver(endpoint, number, datetime.now(UTC))
        console.print(f"{len(seqs)} to be sent to {endpoint} again.")


@app.command()
def test(endpoint: str) -> None:
    """Send a signed event of type `test` to ENDPOINT now, and say what it answered."""
    with opened() as context:
        answer = Sender(context.ledger, context.settings.outgoing, lambda: datetime.now(UTC)).test(endpoint)
        console.print(f"{endpoint}: {answer.status or 'no answer'} {answer.said}".strip(), markup=False, soft_wrap=True)
        if not answer.accepted:
            raise typer.Exit(1)


def _sending(context: Context, name: str, disabled: str) -> str:
    if name not in {hook.name for hook in context.settings.outgoing.hooks}:
        return "not configured"
    return disabled or "yes"
