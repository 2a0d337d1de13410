"""A person moves the champion: promote a version, or roll back in one call."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime
from typing import Annotated

import structlog
import typer
from mlflow import MlflowException

from jobs.cli.number_options import whole
from jobs.cli.terminal import start_job
from jobs.context import Context, moment, run
from mlops.io import record
from mlops.io.ledger import Promotion
from mlops.types import Decision, ModelRef, Report, Verdict
from registry_hooks import aliases, apply

log = structlog.get_logger()


def promote(context: Context, target: ModelRef, *, reason: str, actor: str, at: datetime) -> Promotion:
    """Make `target` the champion whatever the gates said; the log keeps who and why, and the watch starts.

    Raises
    ------
    DataError, RegistryError
        Nobody trained that model here, or that version of it, or it is the champion already. Nothing was changed, and
        MLflow has no run of it.
    """
    context.known(target.name)
    expected = context.ledger.registry.champion(target.name)
    aliases.must_move(target.name, expected, target.version)
    apply.prove_loadable(context.registry, target)
    against = None if expected is None else ModelRef(target.name, expected)
    decision = Decision(Verdict.PROMOTE, target, (), against, reason)
    with record.run(context.client, f"promote v{target.version} by {actor}", target.name, at, context.run_id) as run_id:
        entry = apply.promote(context.registry, target, reason, context.act(actor, at, run_id), expected=expected)
        _write(context, decision, actor, at, run_id)
    return entry


def rollback(context: Context, model: str, *, reason: str, actor: str, at: datetime) -> Promotion:
    """Bring the previous champion of `model` back; while MLflow does not answer, by the log alone (`apply.rollback`).

    Raises
    ------
    DataError, RegistryError
        Nobody trained that model here, or there is no champion to go back to. Nothing was changed.
    """
    context.known(model)
    leaves = ModelRef(model, context.ledger.registry.champion(model) or 0)
    decision = Decision(Verdict.ROLLBACK, leaves, (), leaves, reason)
    with ExitStack() as stack:
        try:
            name = f"roll back v{leaves.version} by {actor}"
            run_id = stack.enter_context(record.run(context.client, name, model, at, context.run_id))
        except MlflowException as error:
            log.warning("rollback without a run: MLflow does not answer", model=model, error=str(error))
            return apply.rollback(context.registry, model, reason, context.act(actor, at), away=True)
        entry = apply.rollback(context.registry, model, reason, context.act(actor, at, run_id))
        _write(context, decision, actor, at, run_id)
    return entry


def _write(context: Context, decision: Decision, actor: str, at: datetime, run_id: str) -> None:
    """The evidence of a move that was made; MLflow that went away meanwhile does not take the move back."""
    evidence = record.Evidence("promote", Report(decision.model, at, ()), decision, tags={"actor": actor})
    try:
        record.write(context.client, run_id, evidence)
        context.tell(evidence, run_id)
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
    def body(context: Context) -> None:
        at = moment(as_of)
        if version:
            promote(context, ModelRef(model, version), reason=reason, actor=actor, at=at)
        else:
            rollback(context, model, reason=reason, actor=actor, at=at)

    run("promote", body, model)


if __name__ == "__main__":
    start_job(main)
