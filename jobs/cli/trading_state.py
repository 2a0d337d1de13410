"""`trader-mlops trading-state`: the switch above all models."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from jobs.cli.tables import SECONDS, AsJson, show
from jobs.cli.terminal import console
from jobs.context import opened, store
from mlops.types import TradingState

app = typer.Typer(help="The switch above all models: may the bot trade?", no_args_is_help=True)


@app.command("show")
def show_trading(as_json: AsJson = False) -> None:
    """The trading state, and every change of it."""
    with store() as here:
        state, changes = here.ledger.trading.state(), here.ledger.trading.log()
    rows = [{"time": c.created_at, "state": c.state.value, "by": c.actor, "why": c.reason} for c in changes]
    columns, title = ("time", "state", "by", "why"), f"Trading is {state.value} now"
    show(rows, columns, as_json=as_json, title=title, formats={"time": SECONDS})


@app.command("set")
def set_trading(
    state: TradingState,
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """`active`; `reducing`: no new positions, open ones may only shrink; `halted`: no orders at all, not even to close.

    None of them closes a position: what is open stays open until you or the bot send an order. Hard lines that are
    crossed when you loosen it are shown, asked for, and accepted as they are then; it is refused while a price is not
    confirmed.
    """
    from jobs.live import trading_state

    def ask(crossed: Sequence[str]) -> None:
        for line in crossed:
            console.print(line, markup=False, soft_wrap=True)
        if not yes:
            typer.confirm("Let this stand, and trade on?", abort=True)

    with opened() as context:
        changed = trading_state.set_state(context, state, actor or getpass.getuser(), reason, datetime.now(UTC), ask)
        console.print(f"Trading is {state.value} {'now' if changed else 'already'}: {state.meaning}.")
