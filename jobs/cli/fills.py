"""`trader-mlops fill`: what was traded; a fill taken back that should not be there, one in doubt confirmed."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import structlog
import typer

from jobs.accounts import doubtful_fills
from jobs.cli.number_options import whole
from jobs.cli.tables import SECONDS, AsJson, show
from jobs.cli.terminal import console
from jobs.context import Context, opened, store
from jobs.portfolio import restatement, splits, twins
from mlops.io.ledger import BookKey
from mlops.io.ledger.splits import PREFIX
from mlops.types import FILL_COLUMNS

app = typer.Typer(help="Fills: list, void, confirm.", no_args_is_help=True)
log = structlog.get_logger()


@app.command("list")
def listed(
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    book: Annotated[str | None, typer.Option(help="Of this book only.")] = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", parser=whole(1, 100_000))] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest fills; those that were voided say why."""
    with store() as here:
        fills = here.ledger.voids.newest_fills(model, book, limit)
    show(fills.to_dict("records"), (*FILL_COLUMNS, "void"), as_json=as_json, formats={"event_time": SECONDS})


@app.command()
def void(
    fill_id: Annotated[str, typer.Argument(help="As the list shows it.")],
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
) -> None:
    """Take a fill back: it stays in the ledger, and books are made anew without it. Safe to repeat."""
    with opened() as context:
        who, now = actor or getpass.getuser(), datetime.now(UTC)
        if fill_id.startswith(PREFIX):
            new = splits.take_back(context, fill_id, who, reason, now)
            console.print(f"{fill_id} is taken back{'' if new else ' already'}.", markup=False, soft_wrap=True)
            return
        new = context.ledger.voids.void_fill(fill_id, who, reason, now)
        restated = _restated(context)
    log.info("fill voided", fill=fill_id, by=who, reason=reason, new=new)
    booked = f"; {restated} {'book was' if restated == 1 else 'books were'} made anew" if restated else ""
    console.print(f"{fill_id} is void{'' if new else ' already'} and counts nowhere{booked}.", soft_wrap=True)


@app.command()
def confirm(
    fill_id: Annotated[str, typer.Argument(help="As the list shows it.")],
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
) -> None:
    """Say that a doubtful fill is right as it was told: what it gained counts from now on."""
    with opened() as context:
        doubtful_fills.confirm(context.ledger, fill_id, actor or getpass.getuser(), reason, datetime.now(UTC))
    console.print(f"{fill_id} counts at its price.", soft_wrap=True)


def _restated(context: Context) -> int:
    """Bring every book up to the voids that there are; also to those of a run that was killed."""
    own = [key for key in context.ledger.voids.books_with_voids() if not key.book.startswith(twins.TWIN)]
    units = restatement.units(context)
    return sum(restatement.restate(context, BookKey(*key), units) for key in own)
