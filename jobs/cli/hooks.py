"""`trader-mlops hook`: whom the platform tells, what did not get through, and sending it again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from jobs.cli.number_options import whole
from jobs.cli.tables import AsJson, show
from jobs.cli.terminal import console
from jobs.context import Store, store
from mlops.errors import DataError

app = typer.Typer(help="Outgoing hooks: whom the platform tells.", no_args_is_help=True)
COLUMNS = ("endpoint", "sending", "circuit", "delivered", "pending", "dead", "last_error")
DEAD = ("endpoint", "seq", "settled_at", "attempts", "last_status", "last_error")


@app.command("list")
def listed(as_json: AsJson = False) -> None:
    """Every endpoint that was ever configured: whether it is sent to, and what waits for it."""
    rows = []
    with store() as opened:
        for endpoint in opened.ledger.dispatches.endpoints():
            sent = opened.ledger.dispatches.all(endpoint.name)
            states = Counter(dispatch.state for dispatch in sent)
            row: dict[str, Any] = {
                "endpoint": endpoint.name,
                "sending": _sending(opened, endpoint.name, endpoint.disabled),
            }
            row |= {state: states[state] for state in ("delivered", "pending", "dead")}
            row["circuit"] = endpoint.circuit(datetime.now(UTC))
            row["last_error"] = next((d.last_error for d in sent if d.state == "pending"), "")
            rows.append(row)
    show(rows, COLUMNS, as_json=as_json)


@app.command()
def dead(
    endpoint: Annotated[str | None, typer.Argument(help="Of one endpoint only.")] = None, as_json: AsJson = False
) -> None:
    """Dead letters: what was given up, and how the last attempt ended."""
    with store() as opened:
        rows = [{name: getattr(d, name) for name in DEAD} for d in opened.ledger.dispatches.all(endpoint, "dead")]
    show(rows, DEAD, as_json=as_json)


@app.command()
def resend(
    endpoint: str,
    seq: Annotated[int | None, typer.Argument(help="Number of the event.", parser=whole(0))] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters of the endpoint.")] = False,
) -> None:
    """Send a dead letter again, before anything newer. The running service does it within a second."""
    with store() as opened:
        seqs = [d.seq for d in opened.ledger.dispatches.all(endpoint, "dead")] if every else [seq]
        for number in seqs:
            if number is None:
                raise DataError("event must be named by its number, got none. Add it, or --all.")
            opened.ledger.dispatches.redeliver(endpoint, number, datetime.now(UTC))
        console.print(f"{len(seqs)} to be sent to {endpoint} again.")


@app.command()
def test(endpoint: str) -> None:
    """Send a signed event of type `test` to ENDPOINT now, and say what it answered."""
    from registry_hooks.webhooks.outgoing import Sender

    with store() as opened:
        answer = Sender(opened.ledger, opened.settings.outgoing, lambda: datetime.now(UTC)).test(endpoint)
        console.print(f"{endpoint}: {answer.status or 'no answer'} {answer.text}".strip(), markup=False, soft_wrap=True)
        if not answer.accepted:
            raise typer.Exit(1)


def _sending(opened: Store, name: str, disabled: str) -> str:
    if name not in {hook.name for hook in opened.settings.outgoing.hooks}:
        return "not configured"
    return disabled or "yes"
