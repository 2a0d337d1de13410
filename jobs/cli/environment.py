"""`trader-mlops environment`: what a shell needs for `mlflow run`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import typer

from mlops import settings as settings_module
from registry_hooks.account import credentials


def environment() -> None:
    """Print what lets `mlflow` in this shell reach the set-up: eval "$(.venv/bin/trader-mlops environment)"."""
    settings = settings_module.read()
    given = {
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLOPS_STATE": str(settings.state.absolute()),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **credentials(settings),
    }
    for name, value in given.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
