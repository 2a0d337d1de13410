"""`trader-mlops explain`, `report`, `promote` and `rollback`: who is champion, why, and a person's own move."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import mlflow
import typer

from jobs import promote as promotion
from jobs.cli.number_options import whole
from jobs.cli.tables import AsJson, print_json, show
from jobs.cli.terminal import console, working
from jobs.context import PATIENCE_S, Context, moment, opened
from mlops.io import record
from mlops.types import ModelRef

Reason = Annotated[str, typer.Option(help="Why; kept for ever in the promotion log.")]
Actor = Annotated[str, typer.Option(help="Who.", envvar="USER")]
TRANSITION = ("time", "what", "state", "from", "to", "by", "why", "evidence")
COMPARISON = ("number", "kind", "champion", "challenger", "since", "until", "verdict")


def explain(model: str, as_json: AsJson = False) -> None:
    """Every transition of a model: when, from, to, who, why, and the run that holds the evidence. Its comparisons."""
    with working(f"asking MLflow of {model}"), opened() as context:
        context.known(model)
        address = _links(context, model)
        moves = [
            {
                "time": entry.created_at,
                "what": entry.kind,
                "state": entry.state,
                "from": entry.from_version,
                "to": entry.to_version,
                "by": entry.actor,
                "why": entry.reason,
                "evidence": address(entry.evidence_run) or None,
            }
            for entry in context.ledger.registry.promotions(model)
        ]
        compared = [
            {
                "number": c.id,
                "kind": c.kind,
                "champion": c.champion,
                "challenger": c.challenger,
                "since": c.started_at,
                "until": c.ended_at,
                "verdict": c.verdict or "running",
            }
            for c in context.ledger.registry.comparisons(model)
        ]
    if as_json:
        print_json({"transitions": moves, "comparisons": compared})
        return
    show(moves, TRANSITION, title=f"Promotion log of {model}")
    show(compared, COMPARISON, title=f"Comparisons of {model}")


def report(
    model: str,
    experiment: Annotated[
        int, typer.Option(help="Number of the comparison, as `explain` lists it; 0: latest.", parser=whole(0))
    ] = 0,
    out: Annotated[Path, typer.Option(help="Where to write the page.", dir_okay=False)] = Path("report.html"),
    as_of: Annotated[str, typer.Option(help="What was known then: `now`, or an ISO instant.")] = "now",
) -> None:
    """Tell a comparison of MODEL on one page for people, here and in a run of MLflow. Changes nothing."""
    from jobs import report as reporting

    with working(f"report on {model}"), opened() as context:
        written = reporting.at(context, model, moment(as_of), experiment)
        out.write_text(written.html, encoding="utf-8")
        link = _link(context, model, written.run_id)
    answer = written.account.answer
    console.print(f"{answer.label}: {answer.sentence}", markup=False, soft_wrap=True)
    console.print(f"{out} and {link}", markup=False, soft_wrap=True)


def promote(
    model: str,
    version: Annotated[int, typer.Argument(parser=whole(1))],
    reason: Reason,
    actor: Actor = "",
) -> None:
    """Make VERSION the champion of MODEL by hand. No gate is asked; the new champion is watched."""
    with working(f"promote {model} v{version}"), opened() as context:
        target = ModelRef(model, version)
        who, now = actor or getpass.getuser(), datetime.now(UTC)
        entry = promotion.promote(context, target, reason=reason, actor=who, at=now)
    was = "the first one" if entry.from_version is None else f"was v{entry.from_version}"
    console.print(f"{model}: champion is v{entry.to_version} now ({was}).")


def rollback(model: str, reason: Reason, actor: Actor = "") -> None:
    """Bring the previous champion of MODEL back. Verified loadable before anything moves; trains nothing."""
    with working(f"roll back {model}"), opened() as context:
        who, now = actor or getpass.getuser(), datetime.now(UTC)
        entry = promotion.rollback(context, model, reason=reason, actor=who, at=now)
    console.print(f"{model}: champion is v{entry.to_version} again (left v{entry.from_version}).")
    if entry.state == "pending":
        why = f"MLflow does not answer within {PATIENCE_S} s: the log has it and bots go by the log"
        console.print(f"{why}; the aliases in MLflow follow by themselves. Do not repeat it.", soft_wrap=True)


def _link(context: Context, model: str, run_id: str) -> str:
    """Where a browser shows the run; its id alone while MLflow does not answer."""
    try:
        return record.link(context.client, model, run_id)
    except mlflow.MlflowException:
        return f"run {run_id} (MLflow does not answer within {PATIENCE_S} s)"


def _links(context: Context, model: str) -> Callable[[str], str]:
    """The same for many runs, with one question."""
    address = _link(context, model, "{run}")
    return lambda run_id: address.replace("{run}", run_id) if run_id else ""
