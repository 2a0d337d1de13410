"""`trader-mlops price`: prices that are not confirmed, and a person's word on what a unit is worth."""

from __future__ import annotations

import getpass
import math
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated

import typer

from jobs.cli.number_options import decimal
from jobs.cli.tables import SECONDS, AsJson, show
from jobs.cli.terminal import console
from jobs.context import Context, moment, opened, store
from jobs.portfolio import splits
from jobs.portfolio.positions import Holdings, positions
from jobs.portfolio.price_jumps import notes
from mlops.errors import DataError, StorageError
from mlops.risk.prices import Mark, jumped
from mlops.types import Kind

app = typer.Typer(help="What units are worth: prices that are not confirmed.", no_args_is_help=True)
CHANGES = ("model", "book", "quantity", "price", "value", "quantity_then", "price_then", "value_then")


@app.command("list")
def listed(as_json: AsJson = False) -> None:
    """Prices that jumped and are not confirmed yet."""
    with opened() as context:
        held = positions(context, datetime.now(UTC))
        waiting = notes(held, timedelta(seconds=context.settings.risk.price_confirm_s))
    if as_json:
        show([{"unit": unit, "note": waiting[unit]} for unit in sorted(waiting)], ("unit", "note"), as_json=True)
        return
    for unit in sorted(waiting):
        console.print(waiting[unit], markup=False, soft_wrap=True)
    if not waiting:
        console.print("Every price is confirmed.")


@app.command("log")
def log(as_json: AsJson = False) -> None:
    """Every price that a person confirmed."""
    columns = ("confirmed_at", "unit", "price", "actor", "reason")
    with store() as here:
        rows = [{name: getattr(entry, name) for name in columns} for entry in here.ledger.confirmed_prices.log()]
    show(rows, columns, as_json=as_json, formats={"confirmed_at": SECONDS})


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
    with opened() as context:
        for _ in range(splits.TRIES):
            now = datetime.now(UTC)
            asked = moment(at, "--at").replace(microsecond=0) if at else None
            known = splits.told(context, unit, by, asked, now)
            if known is not None:
                console.print(f"{known.name} is booked already; nothing was changed.", markup=False, soft_wrap=True)
                return
            held = positions(context, now)
            when = asked or splits.instant(context, held, unit, by)
            plan = splits.plan(context, held, unit, by, when, who, reason)
            _show(plan, splits.options(held, unit))
            if not yes:
                typer.confirm("Book it?", abort=True)
                yes = True
            if splits.book(context, plan):
                name = plan.split.name
                console.print(f"Booked. To take it back: trader-mlops fill void {name}", markup=False, soft_wrap=True)
                return
    raise StorageError("books must stand still while a split is booked, got changes. Try again.")


def _show(plan: splits.Plan, options: list[str]) -> None:
    booked = plan.split
    when = f"{booked.event_time:%Y-%m-%d %H:%M:%S} UTC"
    console.print(f"{booked.unit}: {booked.new} new for {booked.old} old since {when}.", markup=False, soft_wrap=True)
    rows = [
        {
            "model": change.model,
            "book": change.book,
            "quantity": change.before,
            "price": change.price,
            "value": change.before * change.price * change.multiplier,
            "quantity_then": change.after,
            "price_then": change.new_price,
            "value_then": change.after * change.new_price * change.multiplier,
        }
        for change in plan.changes
    ]
    formats = {"quantity": ",.10g", "quantity_then": ",.10g", "value": ",.2f", "value_then": ",.2f"}
    show(rows, CHANGES, formats=formats)
    if any(change.fraction for change in plan.changes):
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
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
) -> None:
    """Say that UNIT is worth PRICE now, what it was before the jump or any other price; later prices go on from it.

    Asks first where that is far from all that is known of its price.
    """
    with opened() as context:
        now = datetime.now(UTC)
        if far := surprise(context, unit, price, now):
            console.print(f"{unit} at {price:g} {far}", markup=False, soft_wrap=True)
            if not yes:
                typer.confirm("Is it worth that?", abort=True)
        context.ledger.confirmed_prices.add(unit, price, actor or getpass.getuser(), reason, datetime.now(UTC))
    console.print(f"{unit}: {price:g} is confirmed.", markup=False)


def surprise(context: Context, unit: str, price: float, now: datetime) -> str:
    """What speaks against a price of a unit: it would be a jump from the mark and from what was quoted; empty if not.

    Raises
    ------
    DataError
        No book, quote, fill or instrument has a unit of that name.
    """
    holdings, ledger = Holdings(context), context.ledger
    held, instruments = holdings.at(now), ledger.instruments.frame()
    quotes = ledger.risk.latest_quotes([unit], as_of=now)
    kinds = dict(zip(instruments["unit"], instruments["kind"], strict=True))
    _known(context, unit, {*held.frame["unit"], *held.frame["underlying"], *held.prices, *kinds, *quotes["unit"]}, now)
    trust = holdings.marks.trust(unit, kinds.get(unit, Kind.SPOT.value))
    marks = dict[str, Mark]()
    if (mark := held.prices.get(unit)) is not None:
        marks["its mark"] = mark
    if (jump := held.jumps.get(unit)) is not None:
        marks["the price that waits to be confirmed"] = Mark(jump.value, jump.at)
    for at, bid, ask in zip(quotes["event_time"], quotes["bid"], quotes["ask"], strict=True):
        marks |= {"the bid": Mark(bid, at.to_pydatetime()), "the ask": Mark(ask, at.to_pydatetime())}
    marks = {name: level for name, level in marks.items() if math.isfinite(level.value)}
    if any(not jumped(level, Mark(price, now), trust) for level in marks.values()):
        return ""
    waits = "" if jump is not None else " No price of it waits to be confirmed."
    names = ", ".join(f"{name} ({level.value:g}, {level.at:%Y-%m-%d %H:%M:%S} UTC)" for name, level in marks.items())
    return (f"is a jump from {names}." if marks else "is held against nothing: no price of it is known.") + waits


def _known(context: Context, unit: str, units: set[str], now: datetime) -> None:
    """Refuse a unit of which nothing was ever told, with names near it."""
    if unit in units or (context.ledger.voids.newest_fills(limit=splits.RECENT)["unit"] == unit).any():
        return
    near = get_close_matches(unit, sorted(map(str, units | set(context.ledger.latest.quoted_last(as_of=now)))), n=3)
    remedy = f"Did you mean {', '.join(near)}?" if near else "See the live page for the names."
    raise DataError(f"unit must be one that was quoted, traded or loaded as an instrument, got {unit!r}. {remedy}")
