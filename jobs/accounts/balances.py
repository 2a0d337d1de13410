"""`trader-mlops balance`: what accounts are worth, and a person's word on a balance that nothing explains."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandas as pd
import typer

from jobs.accounts.equity import Account, tolerance
from jobs.cli.number_options import decimal, whole
from jobs.cli.tables import EXACT, SECONDS, AsJson, show
from jobs.cli.terminal import console
from jobs.context import Context, moment, opened, store
from jobs.portfolio.positions import Holdings, positions
from mlops.alerts import ALERTS
from mlops.errors import DataError
from mlops.io.ledger import Balance, BookKey

app = typer.Typer(help="What the accounts behind books are worth.", no_args_is_help=True)
COLUMNS = ("model", "book", "told_at", "by", "balance", "equity", "notional", "departs")
FAR = 3.0  # an amount that is so many times the equity, or a part of it, is asked for twice
MOST = 10  # balances that are tried as wrong, the newest
Because = Annotated[str, typer.Option(help="Why; kept for ever.")]
Of = Annotated[str, typer.Option(help="Which of the model's books.")]
Who = Annotated[str, typer.Option(help="Who.", envvar="USER")]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a confirmation does: it takes back `wrong` balances, and `flow` counts as paid in.

    `equity`: what counts before; None where nothing is known.
    """

    equity: float | None
    wrong: tuple[datetime, ...]
    flow: float

    def doubts(self, amount: float) -> Iterator[str]:
        """What a person should be asked."""
        near = self.equity == amount or (self.equity and 1 / FAR < amount / self.equity < FAR)
        if self.equity is not None and not near:
            yield f"{self.equity:,.2f} counts now, and {amount:,.2f} is far from it"
        for at in self.wrong:
            yield f"the balance of {at.isoformat()} is taken back as wrong, with the loss or the flow that it made"


@app.command("list")
def listed(as_json: AsJson = False) -> None:
    """The newest balance of each book, what counts, and how far it departs from what trades and flows explain."""
    with opened() as context:
        held = positions(context, datetime.now(UTC))
    equities = held.equities()
    rows = [
        {
            "model": key.model,
            "book": key.book,
            "told_at": known and known.at,
            "by": known and known.source,
            "balance": known and known.amount,
            "equity": equities[key],
            "notional": "notional" if known is None else "",
            "departs": (known and known.departs) or None,
        }
        for key, known in held.accounts.items()
    ]
    formats = {"told_at": SECONDS, "balance": ",.2f", "equity": ",.2f", "departs": "+,.2f"}
    show(rows, COLUMNS, as_json=as_json, formats=formats)


@app.command("confirm", context_settings={"ignore_unknown_options": True})  # -500 is an amount
def confirm(
    model: str,
    amount: Annotated[
        float, typer.Argument(parser=decimal, help="What the account is worth now, open positions included.")
    ],
    reason: Because,
    book: Of = "live",
    actor: Who = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Say that the account behind a book of MODEL is worth AMOUNT: what is more than expected counts as paid in.

    A balance that is plainly wrong by that is taken back: without it the account is worth AMOUNT, and lost less.
    """
    with opened() as context:
        key, now = BookKey(model, book), datetime.now(UTC)
        doubts = list(_plan(context, key, amount, now).doubts(amount))
        for doubt in doubts:
            console.print(f"{doubt}.", markup=False, soft_wrap=True)
        if doubts and not yes:
            typer.confirm("Is that right?", abort=True)
        flow = confirmed(context, key, amount, actor or getpass.getuser(), reason, now)
    more = f"; {flow:,.2f} counts as paid in" if flow else ""
    console.print(f"{model}/{book}: {amount:,.2f} is confirmed{more}.", markup=False)


@app.command("told")
def told(
    model: str,
    book: Of = "live",
    limit: Annotated[int, typer.Option(help="How many, newest first.", parser=whole(1, 100_000))] = 20,
    as_json: AsJson = False,
) -> None:
    """The balances that were told of a book of MODEL, without those that were taken back."""
    with store() as here:
        newest = here.ledger.balances.of(model, book, as_of=datetime.now(UTC), last=limit)
    rows = [
        {"time": row.at, "balance": row.amount, "paid_in_or_out": row.flow or None, "by": row.source}
        for row in reversed(newest)
    ]
    formats = {"time": EXACT, "balance": ",.2f", "paid_in_or_out": "+,.2f"}
    show(rows, ("time", "balance", "paid_in_or_out", "by"), as_json=as_json, formats=formats)


@app.command("void")
def void(
    model: str,
    time: Annotated[str, typer.Argument(help="Of the balance, as `balance told` shows it.")],
    reason: Because,
    book: Of = "live",
    actor: Who = "",
) -> None:
    """Take a balance back that was wrong: it stays in the ledger, and equity, peak and losses are as without it."""
    with opened() as context:
        key, now = BookKey(model, book), datetime.now(UTC)
        take_back(context, key, _told_at(context, key, moment(time), now), actor or getpass.getuser(), reason, now)
    console.print(f"The balance of {model}/{book} of {time} is void.", markup=False, soft_wrap=True)


def _told_at(context: Context, key: BookKey, at: datetime, now: datetime) -> datetime:
    """The only balance of that second, where no instant is exactly that."""
    rows = context.ledger.balances.of(key.model, key.book, as_of=now, since=at)
    times = [balance.at for balance in rows if balance.at < at + timedelta(seconds=1)]
    return times[0] if len(times) == 1 and not at.microsecond else at


def take_back(context: Context, key: BookKey, told_at: datetime, actor: str, reason: str, at: datetime) -> None:
    """Void a balance, and close the alert of the loss that it made."""
    context.ledger.balances.void(key.model, key.book, told_at, actor, reason, at)
    context.ledger.alerts.resolve(f"balance_departs:{key.model}:{key.book}:less:{told_at:%Y-%m-%dT%H:%M:%S}", at)


def confirmed(context: Context, key: BookKey, amount: float, actor: str, reason: str, at: datetime) -> float:
    """Append a person's balance, with what it is more than expected as a flow, which is given back.

    Balances that are plainly wrong by it are taken back before.

    Raises
    ------
    DataError
        There is no such book or no reason, or a price of the book is not confirmed.
    """
    if not (reason.strip() and actor.strip()):
        raise DataError(f"reason and actor must be texts, got {reason!r} and {actor!r}. Give both.")
    plan = _plan(context, key, amount, at)
    for wrong in plan.wrong:
        take_back(context, key, wrong, actor, reason, at)
    flow = plan.flow
    row = {"model": key.model, "book": key.book, "event_time": at, "known_at": at, "amount": amount, "flow": flow}
    context.ledger.balances.add(pd.DataFrame([row]), source=actor)
    words = {"model": key.model, "book": key.book, "time": at.isoformat(), "amount": amount}
    reasons = {"actor": actor, "reason": reason}
    context.ledger.alerts.add(ALERTS["balance_confirmed"].alert(at, words | reasons, details=reasons | {"flow": flow}))
    return flow


def _plan(context: Context, key: BookKey, amount: float, at: datetime) -> Plan:
    holdings = Holdings(context)
    held = holdings.at(at)
    if key not in held.accounts:
        rule = f"book must be one that a bot trades, got {key.model}/{key.book}"
        raise DataError(f"{rule}. See `trader-mlops balance list`.")
    rows = held.frame[(held.frame["strategy"] == key.model) & (held.frame["book"] == key.book)]
    if waits := sorted({*rows["unit"], *rows["underlying"]} & held.jumps.keys()):
        rule = f"prices of {key.model}/{key.book} must be confirmed before its balance"
        raise DataError(f"{rule}, got {', '.join(waits)}. `trader-mlops price list` says what is told of them.")
    known, equity = held.accounts[key], held.equities()[key]
    if known is None:
        return Plan(None, (), 0.0)
    near = tolerance(context, amount)
    for wrong in _choices(context, key, known, at):
        other = holdings.supposed(key, at, wrong)
        if other is None:
            continue
        worth = equity + other.offset - known.offset
        better = other.lost < known.lost - near or (abs(amount - equity) > near and other.lost <= known.lost)
        if better and abs(amount - worth) <= near:
            return Plan(equity, wrong, max(0.0, amount - worth))
    return Plan(equity, (), max(0.0, amount - equity))


def _choices(context: Context, key: BookKey, known: Account, at: datetime) -> list[tuple[datetime, ...]]:
    """Balances that may be wrong, newest first, each alone and all since: an unexplained loss, a person's flow.

    A flow that a bot declared is taken back by name only.
    """
    times = {anchor.at for anchor in known.known.anchors if anchor.lost}
    times |= {flow.at for flow in known.flows if _by_person(context, key, flow)}
    newest = sorted(times, reverse=True)[:MOST]
    return [*((when,) for when in newest), *(tuple(newest[:n]) for n in range(2, len(newest) + 1))]


def _by_person(context: Context, key: BookKey, flow: Balance) -> bool:
    return context.ledger.alerts.get(f"balance_confirmed:{key.model}:{key.book}:{flow.at.isoformat()}") is not None
