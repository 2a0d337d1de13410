"""`trader-mlops`: what stands, why it stands, and the two things a person may do about it."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import mlflow
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from jobs import promote as promotion
from jobs.house import House, opened
from mlops import settings as settings_room
from mlops.errors import MlopsError
from mlops.io import logs, record
from mlops.io.ledger import Promotion
from mlops.types import ModelRef
from registry_hooks import aliases

app = typer.Typer(help="Keep the models of a trading bot honest.", no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
Reason = Annotated[str, typer.Option(help="Why; kept for ever in the promotion log.")]
Actor = Annotated[str, typer.Option(help="Who.", envvar="USER")]


@app.command()
def status() -> None:
    """Which version of each model trades, what is compared with it, and what is open."""
    with opened() as house:
        table = Table("model", "champion", "since", "previous", "under comparison", "pending labels", title="Models")
        for model in _models(house):
            table.add_row(*_status_row(house, model))
        console.print(table)
        for alert in house.ledger.alerts():
            console.print(f"[bold]{alert.priority.value.upper()}[/] {alert.as_of:%Y-%m-%d %H:%M} {alert.title}")


@app.command()
def explain(model: str) -> None:
    """Every transition of a model: when, from, to, who, why, and the run that holds the evidence."""
    with opened() as house:
        table = Table("time (UTC)", "what", "from", "to", "by", "why", "evidence", title=f"Promotion log of {model}")
        for entry in house.ledger.promotions(model):
            table.add_row(*_log_row(house, entry))
        console.print(table)
        for trial in house.ledger.experiments(model):
            verdict = trial.verdict or "running"
            pair = f"v{trial.champion} against v{trial.challenger}"
            console.print(f"{trial.started_at:%Y-%m-%d} {trial.kind} {pair}: {verdict}")


@app.command()
def promote(model: str, version: int, reason: Reason, actor: Actor = "") -> None:
    """Make VERSION the champion of MODEL by hand. No gate is asked; the new champion is watched."""
    with opened() as house:
        target = ModelRef(model, version)
        entry = promotion.promote(house, target, reason=reason, actor=actor or getpass.getuser(), at=datetime.now(UTC))
        console.print(f"{model}: champion is v{entry.to_version} now (was v{entry.from_version}).")


@app.command()
def rollback(model: str, reason: Reason, actor: Actor = "") -> None:
    """Bring the previous champion of MODEL back. Verified loadable before anything moves; trains nothing."""
    with opened() as house:
        entry = promotion.rollback(house, model, reason=reason, actor=actor or getpass.getuser(), at=datetime.now(UTC))
        console.print(f"{model}: champion is v{entry.to_version} again (left v{entry.from_version}).")


@app.command()
def prune() -> None:
    """Delete predictions and outcomes older than the setting `retention_days`; the logs are kept for ever."""
    with opened() as house:
        before = datetime.now(UTC) - timedelta(days=house.settings.retention_days)
        gone = house.ledger.prune(before=before)
        console.print(
            f"Before {before:%Y-%m-%d}: " + ", ".join(f"{n} {table}" for table, n in gone.items()) + " deleted."
        )


def evidence_link(house: House, model: str, run_id: str) -> str:
    """Where a browser shows the run."""
    experiment = record.experiment_id(house.client, model)
    return f"{mlflow.get_tracking_uri()}/#/experiments/{experiment}/runs/{run_id}"


def main() -> None:
    """Entry point: errors that we raise on purpose are said in one line, without a trace."""
    settings = settings_room.read()
    logs.configure(settings.state / "logs" / "command.jsonl")
    try:
        app()
    except (MlopsError, mlflow.MlflowException, SQLAlchemyError) as error:
        console.print(f"[red]{type(error).__name__}[/]: {error}", soft_wrap=True)
        raise SystemExit(1) from error


def _models(house: House) -> list[str]:
    return sorted(model.name for model in house.client.search_registered_models())


def _status_row(house: House, model: str) -> tuple[str, ...]:
    entries = [e for e in house.ledger.promotions(model) if e.state != "undone"]
    stack = aliases.standing(entries)
    trials = "; ".join(
        f"v{t.challenger} ({t.kind} since {t.started_at:%Y-%m-%d})" for t in house.ledger.open_experiments(model)
    )
    latest = house.ledger.latest_event_time(model)
    pending = house.ledger.pending(model, as_of=latest, version=stack[-1]) if latest and stack else 0
    return (
        model,
        f"v{stack[-1]}" if stack else "none",
        f"{entries[-1].created_at:%Y-%m-%d}" if entries else "",
        f"v{stack[-2]}" if len(stack) > 1 else "",
        trials,
        str(pending),
    )


def _log_row(house: House, entry: Promotion) -> tuple[str, ...]:
    left = "" if entry.from_version is None else f"v{entry.from_version}"
    link = evidence_link(house, entry.model, entry.evidence_run) if entry.evidence_run else ""
    when = f"{entry.created_at:%Y-%m-%d %H:%M}"
    return (when, f"{entry.kind} ({entry.state})", left, f"v{entry.to_version}", entry.actor, entry.reason, link)


if __name__ == "__main__":
    main()
