"""The commands of `trader-mlops`: where each is and a line about it; a module is imported once its command is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# name -> (module:attribute, the first line of its help)
COMMANDS = {
    "status": (
        "jobs.cli.status:status",
        "Show what trades, since when and why; what is compared, and how far; what is open; what came last.",
    ),
    "alert": ("jobs.cli.alerts:app", "Alerts: list, close."),
    "job": ("jobs.cli.job_runs:app", "Runs of scheduled jobs: list, retry, skip, run now."),
    "doctor": ("jobs.doctor.command:report", "Tell what is wrong with this set-up, and how to mend it."),
    "up": ("jobs.stack.up:main", "Start MLflow, the service and the scheduler, and keep them running."),
    "down": (
        "jobs.stack.up:stop_all",
        "End MLflow, the service and the scheduler, and what an earlier supervisor left.",
    ),
    "environment": ("jobs.cli.environment:environment", "Print what lets `mlflow` in this shell reach the set-up."),
    "explain": (
        "jobs.cli.champions:explain",
        "Every transition of a model: when, from, to, who, why, and the run that holds the evidence.",
    ),
    "report": (
        "jobs.cli.champions:report",
        "Tell a comparison of MODEL on one page for people, here and in a run of MLflow.",
    ),
    "promote": ("jobs.cli.champions:promote", "Make VERSION the champion of MODEL by hand."),
    "rollback": ("jobs.cli.champions:rollback", "Bring the previous champion of MODEL back."),
    "weights": ("jobs.cli.arm_weights:weights", "Show the weights of a comparison and what was assigned by them."),
    "trading-state": ("jobs.cli.trading_state:app", "The switch above all models: may the bot trade?"),
    "fill": ("jobs.cli.fills:app", "Fills: list, void, confirm."),
    "price": ("jobs.cli.prices:app", "What units are worth: prices that are not confirmed."),
    "balance": ("jobs.accounts.balances:app", "What the accounts behind books are worth."),
    "instrument": ("jobs.cli.instruments:app", "What units are: sector, currency, and the terms of options."),
    "bars": ("jobs.bars:app", "Files of bars: what was read of them, and changes of it."),
    "clock": ("jobs.cli.clock:app", "The clock that risk is looked at by."),
    "hook": ("jobs.cli.hooks:app", "Outgoing hooks: whom the platform tells."),
    "key": ("jobs.cli.keys:app", "API keys: add, list, revoke."),
    "backup": ("jobs.stack.backup:back_up", "Copy everything that the set-up keeps, secrets too, while it runs."),
    "restore": ("jobs.stack.backup:put_back", "Check a backup to the last byte, then put it into the state folder."),
    "verify": ("jobs.cli.retention:verify", "Read all of the ledger and its archive against their checksums."),
    "prune": (
        "jobs.cli.retention:prune",
        "Archive, then delete predictions, outcomes and quotes older than `retention_days`.",
    ),
}


def load(name: str) -> TyperCommand | TyperGroup:
    """Import a command, or a group of them."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        command: Any = typer.main.get_group(target)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name)(target)
        command = typer.main.get_command(alone)
    command.name = name
    return command  # type: ignore[no-any-return]


class LazyGroup(TyperGroup):
    """`trader-mlops` itself: its help and its completion need the table alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=line) for name, (_, line) in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is called, or completed, in place of its line of help."""
        if args[0] in COMMANDS:
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)
