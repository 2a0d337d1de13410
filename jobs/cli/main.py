"""`trader-mlops`: what stands, why it stands, and what a person may do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.commands import LazyGroup
from jobs.cli.terminal import start
from mlops.io import private_files

app = typer.Typer(cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def begin(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from; may stand last.")] = False,
) -> None:
    """Keep the models of a trading bot honest."""
    if context.invoked_subcommand == "doctor":  # it says itself what is wrong with the settings
        return
    from jobs.context import wait_at_most
    from mlops import settings
    from mlops.io import logs

    logs.configure(settings.read().state / "logs" / "command.jsonl")
    context.call_on_close(logs.close)
    wait_at_most()


def main() -> None:
    """Entry point."""
    private_files.umask()
    start(app)


if __name__ == "__main__":
    main()
