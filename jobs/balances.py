"""`trader-mlops balance`: what accounts are worth, and a person's word on a balance that nothing explains."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.house import House, opened
from jobs.positions import positions
from mlops.errors import DataError
from mlops.io.ledger import BookKey
from mlops.types import Alert, Priority

app = typer.Typer(help="What the accounts behind books are worth.", no_args_is_help=True)
console = Console(emoji=False)


@app.command("list")
def listed() -> None:
    """The newest balance of each book, what counts, and how far it departs from what trades and flows explain."""
    table = Table("model", "book", "told (UTC)", "by", "balance", "counts", "departs")
    with opened() as house:
        held = positions(house, datetime.now(UTC))
    equities = held.equities()
    for key, known in held.accounts.items():
        counts = f"{equities[key]:,.2f}"
        row = (
            ("", "", "", f"{counts} (notional)", "")
            if known is None
            else (
                "" if known.at is None else f"{known.at:%Y-%m-%d %H:%M:%S}",
                escape(known.source),
                f"{known.amount:,.2f}",
                counts,
                f"{known.departs:+,.2f}" if known.departs else "",
            )
        )
        table.add_row(escape(key.model), escape(key.book), *row)
    console.print(table)


@app.command("confirm")
def confirm(
    model: str,
    amount: Annotated[float, typer.Argument(help="What the account is worth now, open positions included.")],
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    book: Annotated[str, typer.Option(help="Which of the model's books.")] = "live",
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
) -> None:
    """Say that the account behind a book of MODEL is worth AMOUNT: what is more than expected counts as paid in."""
    with opened() as house:
        flow = confirmed(house, BookKey(model, book), amount, actor or getpass.getuser(), reason, datetime.now(UTC))
    more = f"; {flow:,.2f} counts as paid in" if flow else ""
    console.print(f"{model}/{book}: {amount:,.2f} is confirmed{more}.", markup=False)


def confirmed(house: House, key: BookKey, amount: float, actor: str, reason: str, at: datetime) -> float:
    """Append a person's balance, with what it is more than expected as a flow, which is given back.

    Raises
    ------
    DataError
        There is no such book or no reason, or a price of the book is not confirmed.
    """
    if not (reason.strip() and actor.strip()):
        raise DataError(f"reason and actor must be texts, got {reason!r} and {actor!r}. Give both.")
    held = positions(house, at)
    if key not in held.accounts:
        rule = f"book must be one that a bot trades, got {key.model}/{key.book}"
        raise DataError(f"{rule}. See `trader-mlops balance list`.")
    mine = held.frame[(held.frame["strategy"] == key.model) & (held.frame["book"] == key.book)]
    if waits := sorted({*mine["unit"], *mine["underlying"]} & held.jumps.keys()):
        rule = f"prices of {key.model}/{key.book} must be confirmed before its balance"
        raise DataError(f"{rule}, got {', '.join(waits)}. `trader-mlops price list` says what is told of them.")
    known, equity = held.accounts[key], held.equities()[key]
    flow = 0.0 if known is None else max(0.0, amount - equity)
    row = {"model": key.model, "book": key.book, "event_time": at, "known_at": at, "amount": amount, "flow": flow}
    house.ledger.add_balances(pd.DataFrame([row]), source=actor)
    title = f"{actor} confirmed {amount:,.2f} as the balance of {key.model}/{key.book}: {reason}"
    name, details = f"{key.model}:{key.book}:{at.isoformat()}", {"actor": actor, "reason": reason, "flow": flow}
    house.ledger.add_alert(Alert(f"balance_confirmed:{name}", Priority.LOW, key.model, title, at, details))
    house.ledger.resolve_alert(f"balance_confirmed:{name}", at)
    return flow
