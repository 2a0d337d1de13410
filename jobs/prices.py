"""`trader-mlops price`: prices that are not confirmed, and a person's word on what a unit is worth."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.house import opened
from jobs.jumps import notes
from jobs.numbers import decimal
from jobs.positions import positions

app = typer.Typer(help="What units are worth: prices that are not confirmed.", no_args_is_help=True)
console = Console(emoji=False)


@app.command("list")
def listed() -> None:
    """Prices that jumped and are not confirmed yet."""
    with opened() as house:
        held = positions(house, datetime.now(UTC))
        told = notes(held, timedelta(seconds=house.settings.risk.price_confirm_s))
    for unit in sorted(told):
        console.print(escape(told[unit]), soft_wrap=True)
    if not told:
        console.print("Every price is confirmed.")


@app.command("log")
def log() -> None:
    """Every price that a person confirmed."""
    with opened() as house:
        table = Table("time (UTC)", "unit", "price", "by", "why")
        for one in house.ledger.price_log():
            when = f"{one.confirmed_at:%Y-%m-%d %H:%M:%S}"
            table.add_row(when, escape(one.unit), f"{one.price:g}", escape(one.actor), escape(one.reason))
    console.print(table)


@app.command("confirm")
def confirm(
    unit: str,
    price: Annotated[float, typer.Argument(parser=decimal)],
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
) -> None:
    """Say that UNIT is worth PRICE now, what it was before the jump or any other price; later prices go on from it."""
    with opened() as house:
        house.ledger.confirm_price(unit, price, actor or getpass.getuser(), reason, datetime.now(UTC))
    console.print(f"{unit}: {price:g} is confirmed.", markup=False)
