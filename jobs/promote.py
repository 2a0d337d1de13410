"""A person moves the champion: promote a version, or roll back in one call."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime
from typing import Annotated

import structlog
import typer
from mlflow import MlflowException

from jobs.cli.number_options import whole
from jobs.context import House, moment, run
from mlops.io import record
from mlops.io.ledger import Promotion
from mlops.types import Decision, ModelRef, Report, Verdict
from registry_hooks import aliases, apply

log = structlog.get_logger()


def promote(house: House, target: ModelRef, *, reason: str, actor: str, at: datetime) -> Promotion:
    """Make `target` the champion whatever the gates said; the log keeps who and why, and the watch starts.

    Raises
    ------
    DataError, RegistryError
        Nobody trained that model here, or that version of it, or it is the champion already. Nothing was changed, and
        MLflow has no run of it.
    """
    house.known(target.name)
    expected = house.ledger.champion(target.name)
    aliases.must_move(target.name, expected, target.version)
    apply.prove_loadable(house.registry, target)
    against = None if expected is None else ModelRef(target.name, expected)
    decision = Decision(Verdict.PROMOTE, target, (), against, reason)
    with record.run(house.client, "promote", target.name, at, house.run_id) as run_id:
        entry = apply.promote(house.registry, target, reason, house.act(actor, at, run_id), expected=expected)
        _write(house, decision, actor, at, run_id)
    return entry


def rollback(house: House, model: str, *, reason: str, actor: str, at: datetime) -> Promotion:
    """Bring the previous champion of `model` back; while MLflow does not answer, by the log alone (`apply.rollback`).

    Raises
    ------
    DataError, RegistryError
        Nobody trained that model here, or there is no champion to go back to. Nothing was changed.
    """
    house.known(model)
    leaves = ModelRef(model, house.ledger.champion(model) or 0)
    decision = Decision(Verdict.ROLLBACK, leaves, (), leaves, reason)
    with ExitStack() as stack:
        try:
            run_id = stack.enter_context(record.run(house.client, "promote", model, at, house.run_id))
        except MlflowException as error:
            log.warning("rollback without a run: MLflow does not answer", model=model, error=str(error))
            return apply.rollback(house.registry, model, reason, house.act(actor, at), away=True)
        entry = apply.rollback(house.registry, model, reason, house.act(actor, at, run_id))
        _write(house, decision, actor, at, run_id)
    return entry


def _write(house: House, decision: Decision, actor: str, at: datetime, run_id: str) -> None:
    """The evidence of a move that was made; MLflow that went away meanwhile does not take the move back."""
    evidence = record.Evidence("promote", Report(decision.model, at, ()), decision, tags={"actor": actor})
    try:
        record.emit(house.client, evidence, run_id)
    except MlflowException as error:
        log.warning("evidence of a move not written", model=decision.model.name, error=str(error))


def main(
    model: Annotated[str, typer.Option(help="Registered model.")],
    reason: Annotated[str, typer.Option(help="Why; kept for ever in the promotion log.")],
    version: Annotated[
        int, typer.Option(help="Version to promote; 0 rolls back to the previous champion.", parser=whole(0))
    ] = 0,
    actor: Annotated[str, typer.Option(help="Who.")] = "operator",
    as_of: str = "now",
) -> None:
    def body(house: House) -> None:
        at = moment(as_of)
        if version:
            promote(house, ModelRef(model, version), reason=reason, actor=actor, at=at)
        else:
            rollback(house, model, reason=reason, actor=actor, at=at)

    run("promote", body, model)


if __name__ == "__main__":
    typer.run(main)
