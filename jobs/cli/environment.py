"""`trader-mlops environment`: what a shell needs for `mlflow run`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import typer

from mlops import settings as settings_module
from registry_hooks.account import PASSWORD, USERNAME, credentials, tracking_port


def environment() -> None:
    """Print what lets `mlflow` in this shell reach the set-up: eval "$(.venv/bin/trader-mlops environment)"."""
    settings = settings_module.read()
    account = credentials(settings)
    about = {"MLOPS_STATE": str(settings.state.absolute()), "MLFLOW_TRACKING_URI": settings.tracking_uri, **account}
    for name, value in about.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    if not account and tracking_port(settings) is not None:  # an account of another set-up is none of this one
        typer.echo(f"unset {USERNAME} {PASSWORD}")
    typer.echo(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
