"""`trader-mlops key`: who may write through the HTTP doors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from jobs.cli.number_options import whole
from jobs.cli.tables import listing
from jobs.context import opened
from mlops.io.ledger.api_keys import SCOPES

app = typer.Typer(help="API keys: add, list, revoke.", no_args_is_help=True)
console = Console(emoji=False)


@app.command()
def add(
    label: Annotated[str, typer.Argument(help="Whose it is; shown in logs and in the list.")],
    scope: Annotated[list[str], typer.Option(help=f"What it may do: {', '.join(SCOPES)}. May be repeated.")],
    days: Annotated[int, typer.Option(help="Valid for so long; 0: until it is revoked.", parser=whole(0, 36_500))] = 0,
) -> None:
    """Make a key. It is shown once and kept nowhere."""
    now = datetime.now(UTC)
    with opened() as context:
        token = context.ledger.api_keys.add(label, scope, now, now + timedelta(days=days) if days else None)
    console.print(token, soft_wrap=True, highlight=False, markup=False)


@app.command("list")
def show() -> None:
    """All keys, without their secrets."""
    table = listing("id", "label", "scopes", "made", "expires", "revoked")
    with opened() as context:
        for key in context.ledger.api_keys.all():
            times = [f"{at:%Y-%m-%d %H:%M}" if at else "" for at in (key.created_at, key.expires_at, key.revoked_at)]
            table.add_row(key.id, key.label, " ".join(key.scopes), *times)
    console.print(table)


@app.command(context_settings={"ignore_unknown_options": True})  # ids of older keys may begin with "-"
def revoke(key_id: Annotated[str, typer.Argument(help="The part before the dot.")]) -> None:
    """Take a key away; it is refused within five seconds."""
    with opened() as context:
        context.ledger.api_keys.revoke(key_id, datetime.now(UTC))
    console.print(f"{key_id} is revoked.")
