"""A person moves the champion: promote a version, or roll back in one call."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from jobs.house import House, moment, run
from mlops.io import record
from mlops.io.ledger import Promotion
from mlops.types import Decision, ModelRef, Report, Verdict
from registry_hooks import apply


def promote(house: House, target: ModelRef, *, reason: str, actor: str, at: datetime) -> Promotion:
    """Make `target` the champion whatever the gates said; the log keeps who and why, and the watch starts."""
    expected = house.ledger.champion(target.name)
    against = None if expected is None else ModelRef(target.name, expected)
    decision = Decision(Verdict.PROMOTE, target, (), against, reason)
    evidence = record.Evidence("promote", Report(target, at, ()), decision, tags={"actor": actor})
    run_id = record.emit(house.client, evidence, house.run_id)
    return apply.promote(house.registry, target, reason, house.act(actor, at, run_id), expected=expected)


def rollback(house: House, model: str, *, reason: str, actor: str, at: datetime) -> Promotion:
    """Bring the previous champion of `model` back."""
    leaves = ModelRef(model, house.ledger.champion(model) or 0)
    decision = Decision(Verdict.ROLLBACK, leaves, (), leaves, reason)
    evidence = record.Evidence("promote", Report(leaves, at, ()), decision, tags={"actor": actor})
    run_id = record.emit(house.client, evidence, house.run_id)
    return apply.rollback(house.registry, model, reason, house.act(actor, at, run_id))


def main(
    model: Annotated[str, typer.Option(help="Registered model.")],
    reason: Annotated[str, typer.Option(help="Why; kept for ever in the promotion log.")],
    version: Annotated[int, typer.Option(help="Version to promote; 0 rolls back to the previous champion.")] = 0,
    actor: Annotated[str, typer.Option(help="Who.")] = "operator",
    as_of: str = "now",
) -> None:
    def body(house: House) -> None:
        at = moment(as_of)
        if version:
            promote(house, ModelRef(model, version), reason=reason, actor=actor, at=at)
        else:
            rollback(house, model, reason=reason, actor=actor, at=at)

    run("promote", body)


if __name__ == "__main__":
    typer.run(main)
