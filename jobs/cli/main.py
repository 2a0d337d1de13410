"""`trader-mlops`: what stands, why it stands, and what a person may do about it."""

from __future__ import annotations

import getpass
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import httpx
import mlflow
import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from jobs import bars
from jobs import promote as promotion
from jobs import report as reporting
from jobs.accounts import balances
from jobs.cli import alerts, arm_weights, clock, fills, hooks, instruments, job_runs, keys, lift, prices
from jobs.cli.number_options import whole
from jobs.cli.tables import listing
from jobs.context import PATIENCE_S, Context, moment, opened, wait_at_most
from jobs.doctor import command, part_health
from jobs.live import freshness, model_status
from jobs.stack import backup, up
from mlops import settings as settings_room
from mlops.errors import MlopsError
from mlops.io import logs, private_files, record
from mlops.io.ledger import Promotion
from mlops.settings import Settings
from mlops.types import Level, ModelRef, Stage, TradingState
from mlops.web.watch import OK
from registry_hooks import aliases, stages
from registry_hooks.account import ADMIN, PASSWORD_FILE, credentials

app = typer.Typer(help="Keep the models of a trading bot honest.", no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(emoji=False)
READY_S = 5.0  # for the answer of the service
trading = typer.Typer(help="The switch above all models: may the bot trade?", no_args_is_help=True)
for group in (up.app, command.app, backup.app):
    app.add_typer(group)
app.add_typer(trading, name="trading-state")
app.add_typer(job_runs.app, name="job")
app.add_typer(keys.app, name="key")
app.add_typer(hooks.app, name="hook")
app.add_typer(alerts.app, name="alert")
app.add_typer(instruments.app, name="instrument")
app.add_typer(fills.app, name="fill")
app.add_typer(prices.app, name="price")
app.add_typer(balances.app, name="balance")
app.add_typer(clock.app, name="clock")
app.add_typer(bars.app, name="bars")
app.command()(arm_weights.weights)
Reason = Annotated[str, typer.Option(help="Why; kept for ever in the promotion log.")]
Actor = Annotated[str, typer.Option(help="Who.", envvar="USER")]


@app.command()
def status() -> None:
    """Which version of each model trades, what is compared with it, what is up, and what is open."""
    with opened() as context:
        _say_health(context)
        table = listing("model", "champion", "since", "previous", "under comparison", "pending labels", title="Models")
        for model in context.ledger.registry.models():
            table.add_row(*_status_row(context, model))
        console.print(table)
        _say_freshness(context, datetime.now(UTC))
        for alert in context.ledger.alerts.newest():
            line = f"{alert.as_of:%Y-%m-%d %H:%M} {escape(alert.title)} [dim]{escape(alert.key)}[/]"
            console.print(f"[bold]{alert.priority.value.upper()}[/] {line}", soft_wrap=True)


@app.command()
def environment() -> None:
    """Print what lets `mlflow` in this shell reach the set-up: eval "$(.venv/bin/trader-mlops environment)"."""
    settings = settings_room.read()
    given = {"MLFLOW_TRACKING_URI": settings.tracking_uri, **credentials(settings)}
    for name, value in given.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')


@app.command()
def explain(model: str) -> None:
    """Every transition of a model: when, from, to, who, why, and the run that holds the evidence."""
    with opened() as context:
        table = listing("time (UTC)", "what", "from", "to", "by", "why", "evidence", title=f"Promotion log of {model}")
        context.known(model)
        address = _links(context, model)
        for entry in context.ledger.registry.promotions(model):
            table.add_row(*_log_row(entry, address))
        console.print(table)
        for trial in context.ledger.registry.experiments(model):
            verdict = trial.verdict or "running"
            pair = f"v{trial.champion} against v{trial.challenger}"
            console.print(f"{trial.started_at:%Y-%m-%d} {trial.kind} {trial.id}, {pair}: {verdict}")


@app.command()
def report(
    model: str,
    experiment: Annotated[
        int, typer.Option(help="Number of the comparison, as `explain` lists it; 0: latest.", parser=whole(0))
    ] = 0,
    out: Annotated[Path, typer.Option(help="Where to write the page.", dir_okay=False)] = Path("report.html"),
    as_of: Annotated[str, typer.Option(help="What was known then: `now`, or an ISO instant.")] = "now",
) -> None:
    """Tell a comparison of MODEL on one page for people, here and in a run of MLflow. Changes nothing."""
    with opened() as context:
        written = reporting.at(context, model, moment(as_of), experiment)
        out.write_text(written.html, encoding="utf-8")
        answer = written.account.answer
        console.print(f"[bold]{answer.label}[/] {escape(answer.sentence)}", soft_wrap=True)
        console.print(f"{out} and {_link(context, model, written.run_id)}", soft_wrap=True)


@app.command()
def promote(
    model: str,
    version: Annotated[int, typer.Argument(parser=whole(1))],
    reason: Reason,
    actor: Actor = "",
) -> None:
    """Make VERSION the champion of MODEL by hand. No gate is asked; the new champion is watched."""
    with opened() as context:
        target = ModelRef(model, version)
        entry = promotion.promote(
            context, target, reason=reason, actor=actor or getpass.getuser(), at=datetime.now(UTC)
        )
        was = "the first one" if entry.from_version is None else f"was v{entry.from_version}"
        console.print(f"{model}: champion is v{entry.to_version} now ({was}).")


@app.command()
def rollback(model: str, reason: Reason, actor: Actor = "") -> None:
    """Bring the previous champion of MODEL back. Verified loadable before anything moves; trains nothing."""
    with opened() as context:
        entry = promotion.rollback(
            context, model, reason=reason, actor=actor or getpass.getuser(), at=datetime.now(UTC)
        )
        console.print(f"{model}: champion is v{entry.to_version} again (left v{entry.from_version}).")
        if entry.state == "pending":
            why = f"MLflow does not answer within {PATIENCE_S} s: the log has it and bots go by the log"
            console.print(f"{why}; the aliases in MLflow follow by themselves. Do not repeat it.", soft_wrap=True)


@trading.command("show")
def show_trading() -> None:
    """The trading state, and every change of it."""
    with opened() as context:
        table = listing(
            "time (UTC)", "state", "by", "why", title=f"Trading is {context.ledger.trading.state().value} now"
        )
        for change in context.ledger.trading.log():
            table.add_row(f"{change.created_at:%Y-%m-%d %H:%M:%S}", change.state.value, change.actor, change.reason)
        console.print(table)


@trading.command("set")
def set_trading(
    state: TradingState,
    reason: Reason,
    actor: Actor = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """`active`; `reducing`: no new positions, open ones may only shrink; `halted`: no orders at all, not even to close.

    None of them closes a position: what is open stays open until you or the bot send an order. Hard lines that are
    crossed when you loosen it are shown, asked for, and accepted as they are then; it is refused while a price is not
    confirmed.
    """

    def show(crossed: Sequence[str]) -> None:
        for line in crossed:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if not yes:
            typer.confirm("Let this stand, and trade on?", abort=True)

    with opened() as context:
        changed = lift.set_state(context, state, actor or getpass.getuser(), reason, datetime.now(UTC), show)
        console.print(f"Trading is {state.value} {'now' if changed else 'already'}: {state.meaning}.")


@app.command()
def prune() -> None:
    """Archive, then delete predictions, outcomes and quotes older than `retention_days`; logs are kept for ever."""
    with opened() as context:
        now = datetime.now(UTC)
        before = now - timedelta(days=context.settings.retention_days)
        gone = context.ledger.archive.prune(context.settings.state / "archive", before=before, at=now)
        console.print(
            f"Before {before:%Y-%m-%d}: " + ", ".join(f"{n} {table}" for table, n in gone.items()) + " deleted."
        )


@app.command()
def verify() -> None:
    """Read all of the ledger and its archive against their checksums: about a second for 300,000 rows."""
    with opened() as context:
        problems = [*context.ledger.audit.verify(), *context.ledger.archive.verify(context.settings.state / "archive")]
    for problem in problems:
        console.print(f"[red]damaged[/] {escape(problem)}", soft_wrap=True)
    console.print(f"{len(problems)} problems.")
    if problems:
        raise typer.Exit(1)


def _link(context: Context, model: str, run_id: str) -> str:
    """Where a browser shows the run; its id alone while MLflow does not answer."""
    try:
        return record.link(context.client, model, run_id, mlflow.get_tracking_uri())
    except mlflow.MlflowException:
        return f"run {run_id} (MLflow does not answer within {PATIENCE_S} s)"


def _links(context: Context, model: str) -> Callable[[str], str]:
    """The same for many runs, with one question."""
    address = _link(context, model, "{run}")
    return lambda run_id: address.replace("{run}", run_id) if run_id else ""


def main() -> None:
    """Entry point: errors that we raise on purpose are said in one line, without a trace."""
    private_files.umask()
    try:
        settings = settings_room.read() if "doctor" not in sys.argv[1:2] else None  # it says what is wrong with them
        if settings is not None:
            logs.configure(settings.state / "logs" / "command.jsonl")
            wait_at_most()
        app()
    except mlflow.MlflowException as error:
        rule = f"MLflow must answer within {PATIENCE_S} s and do what it is asked, got"
        console.print(f"[red]{type(error).__name__}[/]: {rule} {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from error
    except (MlopsError, SQLAlchemyError, OSError) as error:
        console.print(f"[red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from error


def _say_health(context: Context) -> None:
    """What a person wants to know before any model: may it trade, is it up, does anything lie about."""
    now, state = up.present(context.settings.state.absolute()), context.ledger.trading.state()
    console.print(f"Trading: {'' if state is TradingState.ACTIVE else '[bold red]'}{state.value}")
    if now.running and not now.parts:
        console.print(f"[bold red]Parts: not known[/], {context.settings.state / 'run' / 'up.json'} cannot be read.")
    if now.running and part_health.frozen(now.pid):
        console.print(f"[bold red]Parts: supervisor {now.pid} is frozen[/], nothing restarts what ends.")
    for part in part_health.looked(now.parts, context.settings) if now.running else ():
        again = f", restarted {part.restarts} times" if part.restarts else ""
        console.print(f"{escape(part_health.told(part))}{again}", highlight=False, soft_wrap=True)
    _say_readiness(context.settings)
    if now.died:
        console.print(f"[bold red]Parts: supervisor {now.pid} died[/], nothing restarts what ends. `make up`.")
    elif not now.running:
        console.print("Parts: not run by `make up`.")
    if credentials(context.settings):
        place = context.settings.state / "secrets" / PASSWORD_FILE
        console.print(f"MLflow: account {ADMIN}, password in {place}", soft_wrap=True, highlight=False)
    if degraded := context.ledger.degraded():
        console.print(f"[bold red]DEGRADED[/] {degraded}")
    for label, n in (
        ("dead letters of outgoing hooks (trader-mlops hook dead)", len(context.ledger.dispatches.all(state="dead"))),
        (
            "jobs that failed at every attempt (trader-mlops job list)",
            len(context.ledger.job_runs.all(states=("dead",))),
        ),
    ):
        if n:
            console.print(f"[bold red]{n}[/] {label}")


def _say_readiness(settings: Settings) -> None:
    """Whether the service can do its work, and why not: that it answers is not that."""
    address = f"http://{settings.service.host}:{settings.service.port}/readyz"
    try:
        answer = httpx.get(address, timeout=READY_S, trust_env=False)
        parts = {str(part): str(state) for part, state in dict(answer.json()).items()}
    except (httpx.HTTPError, ValueError, TypeError) as error:
        console.print(f"[bold red]service: readiness not known[/], {address} does not tell ({type(error).__name__})")
        return
    wrong = ", ".join(f"{part} ({state})" for part, state in parts.items() if state != OK)
    if answer.status_code == httpx.codes.OK and not wrong:
        console.print("service: ready")
    else:
        console.print(f"[bold red]service: NOT READY[/] {escape(wrong or str(answer.status_code))}", soft_wrap=True)


def _say_freshness(context: Context, now: datetime) -> None:
    """What came last of each model. A bot that never spoke is not known to be well."""
    known = freshness.Freshness(context)
    for model, fresh in known.models(now).items():
        word = {Level.OK: "", Level.ALERT: "[bold red]SILENT[/], "}.get(
            fresh.silence.level, "[bold]never predicted[/], "
        )
        console.print(f"{escape(model)}: {word}{model_status.told(fresh)}", highlight=False, soft_wrap=True)
    for source, finding in known.feeds(now).items():
        word = "[bold red]STALE[/] " if finding.level is Level.ALERT else ""
        console.print(f"{source}: {word}{finding.note}", highlight=False, soft_wrap=True)


def _status_row(context: Context, model: str) -> tuple[str, ...]:
    entries = [e for e in context.ledger.registry.promotions(model) if e.state != "undone"]
    stack = aliases.standing(entries)
    staged = {
        v: "A/B, " if stage is Stage.AB else "in shadow, " for v, stage in stages.stages(context.ledger, model).items()
    }
    trials = "; ".join(
        f"v{t.challenger} ({staged.get(t.challenger, '')}{t.kind} since {t.started_at:%Y-%m-%d})"
        for t in context.ledger.registry.open_experiments(model)
    )
    latest = context.ledger.telemetry.latest_event_time(model)
    pending = context.ledger.telemetry.pending(model, as_of=latest, version=stack[-1]) if latest and stack else 0
    return (
        model,
        f"v{stack[-1]}" if stack else "none",
        f"{entries[-1].created_at:%Y-%m-%d}" if entries else "",
        f"v{stack[-2]}" if len(stack) > 1 else "",
        trials,
        str(pending),
    )


def _log_row(entry: Promotion, address: Callable[[str], str]) -> tuple[str, ...]:
    left = "" if entry.from_version is None else f"v{entry.from_version}"
    when = f"{entry.created_at:%Y-%m-%d %H:%M}"
    return (
        when,
        f"{entry.kind} ({entry.state})",
        left,
        f"v{entry.to_version}",
        escape(entry.actor),
        escape(entry.reason),
        address(entry.evidence_run),
    )


if __name__ == "__main__":
    main()
