"""`trader-mlops price`: prices that are not confirmed, and a person's word on what a unit is worth."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from jobs import splits
from jobs.house import moment, opened
from jobs.jumps import notes
from jobs.listing import listing
from jobs.numbers import decimal
from jobs.positions import positions
from mlops.errors import StorageError

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
        table = listing("time (UTC)", "unit", "price", "by", "why")
        for one in house.ledger.price_log():
            when = f"{one.confirmed_at:%Y-%m-%d %H:%M:%S}"
            table.add_row(when, escape(one.unit), f"{one.price:g}", escape(one.actor), escape(one.reason))
    console.print(table)


@app.command("split")
def split(
    unit: str,
    ratio: Annotated[str, typer.Argument(help="New for old: 2:1, 1:10, or a number.")],
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    at: Annotated[str, typer.Option(help="When it took place (default: when prices jumped).")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
) -> None:
    """Say that UNIT was split: quantities of all books change, what they are worth and cost does not."""
    by, who = splits.ratio(ratio), actor or getpass.getuser()
    with opened() as house:
        for _ in range(splits.TRIES):
            now = datetime.now(UTC)
            asked = moment(at, "--at").replace(microsecond=0) if at else None
            known = splits.told(house, unit, by, asked, now)
            if known is not None:
                console.print(f"{known.name} is booked already; nothing was changed.", markup=False, soft_wrap=True)
                return
            held = positions(house, now)
            when = asked or splits.instant(house, held, unit, by)
            plan = splits.plan(house, held, unit, by, when, who, reason)
            _show(plan, splits.options(held, unit))
            if not yes:
                typer.confirm("Book it?", abort=True)
                yes = True
            if splits.book(house, plan):
                name = plan.split.name
                console.print(f"Booked. To take it back: trader-mlops fill void {name}", markup=False, soft_wrap=True)
                return
    raise StorageError("books must stand still while a split is booked, got changes. Try again.")


def _show(plan: splits.Plan, options: list[str]) -> None:
    told = plan.split
    when = f"{told.event_time:%Y-%m-%d %H:%M:%S} UTC"
    console.print(f"{told.unit}: {told.new} new for {told.old} old since {when}.", markup=False, soft_wrap=True)
    table = listing("model", "book", "quantity", "price", "value", "quantity then", "price then", "value then")
    for one in plan.changes:
        values = (one.before * one.price * one.multiplier, one.after * one.new_price * one.multiplier)
        before = f"{one.before:,.10g}", f"{one.price:g}", f"{values[0]:,.2f}"
        after = f"{one.after:,.10g}", f"{one.new_price:g}", f"{values[1]:,.2f}"
        table.add_row(escape(one.model), escape(one.book), *before, *after)
    console.print(table)
    if any(one.fraction for one in plan.changes):
        console.print(
            "Parts of a unit stay in the books. Where the broker pays them in cash, send a fill that sells them at "
            "what was paid.",
            soft_wrap=True,
        )
    if options:
        names = ", ".join(options)
        console.print(
            f"Options on it stay as they are: {names}. Load what the exchange made of them with "
            "`trader-mlops instrument load`.",
            markup=False,
            soft_wrap=True,
        )


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
