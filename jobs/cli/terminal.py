"""The edge between a person's terminal and a program of ours: errors in a line, progress, and views that renew."""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mlops.errors import MlopsError

console = Console(emoji=False, highlight=False)  # a key such as rollback:m:7 is no smiley
errors = Console(stderr=True, emoji=False, highlight=False)
DEBUG = "TRADER_MLOPS_DEBUG"  # the environment's name for --debug: also for what `mlflow run` starts
WATCH_S = 2.0
WIDE = 10_000  # columns of a file or a pipe
FORESEEN = ("mlflow", "sqlalchemy")  # packages whose errors say what is wrong outside of this program
Watch = Annotated[bool, typer.Option("--watch", help=f"Look again every {WATCH_S:.0f} s, until Ctrl-C.")]


def start(program: Callable[[], object]) -> None:
    """Run a program: whatever it raises is said in one line, with status 1; `--debug` anywhere shows the trace too."""
    if "--debug" in sys.argv[1:]:
        sys.argv.remove("--debug")
        os.environ[DEBUG] = "1"
    try:
        program()
    except Exception as error:  # noqa: BLE001 (the edge of a process)
        tell(error)
        raise SystemExit(1) from None


def start_job(main: Callable[..., object]) -> None:
    """Run the `main` of `python -m jobs.X` with its options from the command line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


def tell(error: Exception, lead: str = "") -> None:
    """Say an error on standard error: what was raised on purpose in its own words, a defect as one."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    package = type(error).__module__.partition(".")[0]
    text = f"{lead or type(error).__name__}: {error}"
    if package == "mlflow":
        rule = "MLflow must answer in time and do what it is asked, got"
        text = f"{lead or type(error).__name__}: {rule} {error}. `trader-mlops doctor` says what it lacks."
    elif not isinstance(error, MlopsError | OSError) and package not in FORESEEN:
        text = f"{text.rstrip('.')} ({type(error).__name__}). That is a defect: --debug shows where."
    errors.print(text, style="red", markup=False, soft_wrap=True)


def put(view: RenderableType) -> None:
    """Print a view at the width of the terminal; words that are longer are not broken, for somebody copies them."""
    console.width = width()
    console.print(view, soft_wrap=not isinstance(view, Table))


def width() -> int:
    """Columns of the terminal; very many where a program reads: a row is a line there."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal():
        return int(given)
    return shutil.get_terminal_size().columns if console.is_terminal else WIDE


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that something takes its time: a line with a clock on standard error, if that and the output are seen."""
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    seen = errors.is_terminal and sys.stdout.isatty()
    with Progress(*columns, console=errors, transient=True, disable=not seen) as progress:
        progress.add_task(text, total=None)
        yield


def watch(look: Callable[[], RenderableType]) -> None:
    """Show a view, and again every two seconds, until Ctrl-C.

    Raises
    ------
    typer.BadParameter
        The output is no terminal.
    """
    if not console.is_terminal:
        raise typer.BadParameter("--watch must have a terminal, got none. Leave it out, or use --json.")
    with suppress(KeyboardInterrupt), Live(look(), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_S)
            live.update(look(), refresh=True)
