"""`trader-mlops weights`: who trades which share of the keys that are assigned from now on."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from jobs.cli.tables import SECONDS, AsJson, show
from jobs.cli.terminal import console
from jobs.context import Context, opened
from mlops.errors import DataError
from mlops.numerals import decimal, whole
from mlops.types import Stage
from registry_hooks import assignment, stages

COLUMNS = ("since", "version", "weight", "keys_assigned", "by", "why")


def weights(
    model: str,
    given: Annotated[list[str] | None, typer.Argument(metavar="[VERSION=WEIGHT]...", help="Such as 7=0.05.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept for ever in the log of the weights.")] = "",
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the weights of a comparison and what was assigned by them. With VERSION=WEIGHT, change them first.

    A weight is a share of the keys assigned from now on; the champion has the rest. Keys that were assigned stay
    with their version. 0 takes a version out of trading. A weight puts a version into A/B past the gate of the shadow
    stage; no job gives one to whom a person took it from.
    """
    with opened() as context:
        if given:
            change(context, model, given, reason=reason, actor=actor or getpass.getuser(), at=datetime.now(UTC))
        comparison = stages.comparison(context.ledger, model)
        title = f"Weights of {model}, champion v{comparison.champion}, since {comparison.started_at:%Y-%m-%d %H:%M}"
        show(rows(context, model), COLUMNS, as_json=as_json, title=title, formats={"since": SECONDS})
        if not as_json:
            console.print(staged(context, model), markup=False, soft_wrap=True)


def staged(context: Context, model: str) -> str:
    """The stage of each version that is compared with the champion, in words."""
    words = {Stage.AB: "in A/B: it trades its share", Stage.SHADOW: "in shadow: it trades nothing"}
    by_version = stages.stages(context.ledger, model)
    return "; ".join(f"v{version} is {words[stage]}" for version, stage in sorted(by_version.items()))


def change(context: Context, model: str, given: Sequence[str], *, reason: str, actor: str, at: datetime) -> None:
    """Set them; raises DataError where they cannot be read or nobody says why."""
    if not reason.strip():
        raise DataError("reason of other weights must be given, got none. Add --reason.")
    assignment.set_weights(context.registry, model, read(given), reason, context.act(actor, at))


def read(given: Sequence[str]) -> dict[int, float]:
    """`7=0.05 8=0.1` as a mapping; raises DataError."""
    shares: dict[int, float] = {}
    for text in given:
        version, _, weight = text.partition("=")
        try:
            shares[whole("version", version.removeprefix("v"))] = decimal("weight", weight)
        except DataError as error:
            raise DataError(f"weight must be written as version=share, got {text!r}. Write 7=0.05.") from error
    return shares


def rows(context: Context, model: str) -> list[dict[str, Any]]:
    """A row for each version in each epoch of the weights."""
    return [
        {
            "since": epoch.at,
            "version": f"v{version}",
            "weight": weight,
            "keys_assigned": epoch.counts[version],
            "by": epoch.actor,
            "why": epoch.reason,
        }
        for epoch in context.ledger.assignments.by_epoch(stages.comparison(context.ledger, model))
        for version, weight in sorted(epoch.weights.items())
    ]
