"""`trader-mlops key`: who may write through the HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from jobs.cli.number_options import whole
from jobs.cli.tables import AsJson, show
from jobs.cli.terminal import console
from jobs.context import store
from mlops.io.ledger.api_keys import SCOPES

app = typer.Typer(help="API keys: add, list, revoke.", no_args_is_help=True)
COLUMNS = ("id", "label", "scopes", "created_at", "expires_at", "revoked_at")


@app.command()
def add(
    label: Annotated[str, typer.Argument(help="Whose it is; shown in logs and in the list.")],
    scope: Annotated[list[str], typer.Option(help=f"What it may do: {', '.join(SCOPES)}. May be repeated.")],
    days: Annotated[int, typer.Option(help="Valid for so long; 0: until it is revoked.", parser=whole(0, 36_500))] = 0,
) -> None:
    """Make a key. It is shown once and kept nowhere."""
    now = datetime.now(UTC)
    with store() as opened:
        token = opened.ledger.api_keys.add(label, scope, now, now + timedelta(days=days) if days else None)
    console.print(token, soft_wrap=True, highlight=False, markup=False)


@app.command("list")
def listed(as_json: AsJson = False) -> None:
    """All keys, without their secrets."""
    with store() as opened:
        rows = [{name: getattr(key, name) for name in COLUMNS} for key in opened.ledger.api_keys.all()]
    show(rows, COLUMNS, as_json=as_json)


@app.command(context_settings={"ignore_unknown_options": True})  # ids of older keys may begin with "-"
def revoke(key_id: Annotated[str, typer.Argument(help="The part before the dot.")]) -> None:
    """Take a key away; it is refused within five seconds."""
    with store() as opened:
        opened.ledger.api_keys.revoke(key_id, datetime.now(UTC))
    console.print(f"{key_id} is revoked.")
