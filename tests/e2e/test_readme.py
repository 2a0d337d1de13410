"""The README's blocks, as pasted after `make up`, with accounts in MLflow; also in a set-up that had none before."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from place import ROOT

from jobs.context import opened
from mlops.types import Role
from registry_hooks import aliases

pytestmark = pytest.mark.e2e
SMALL = {"MLOPS_TRAIN__TRIALS": "1", "MLOPS_TRAIN__FOLDS": "2", "MLOPS_TRAIN__MIN_BARS": "100"}


def _block(having):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (found,) = [block for block in re.findall(r"```(?:console|python)\n(.*?)```", text, re.S) if having in block]
    return found.replace(".venv/bin/", f"{Path(sys.executable).parent}/")


def _paste(block, place, **more):
    """As a shell without any account in its environment; every line has to work."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
    mine = {name: value for name, value in place.environment.items() if name.startswith("MLOPS")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=ROOT,
        env={**own, **mine, **SMALL, **more},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert 0 == done.returncode, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


def test_the_jobs_of_the_readme_run_as_pasted_in_a_set_up_that_had_no_accounts(place, monkeypatch):
    place.environment["MLOPS_TRACKING_AUTH"] = "false"
    assert "account" not in place.call("up")
    uri = place.environment["MLOPS_TRACKING_URI"]
    assert 200 == httpx.get(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1").status_code
    place.call("down")
    del place.environment["MLOPS_TRACKING_AUTH"]

    assert "account admin, password in" in place.call("up")
    assert 401 == httpx.get(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1").status_code
    _paste(_block("mlflow run ."), place)
    status, _, explain = (
        line.replace("trader-mlops", _program()) for line in _block("trader-mlops explain").splitlines()[:3]
    )
    status = _paste(f"{status}\n{explain}", place)

    assert str(place.state / "secrets" / "mlflow-admin") in status
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with opened(place.settings) as context:
        assert {Role.CHAMPION: 1} == aliases.read(context.client, "volatility")
        experiments = [e.experiment_id for e in context.client.search_experiments()]
        runs = context.client.search_runs(experiments, "tags.mlflow.project.entryPoint != ''")
        assert {"FINISHED"} == {run.info.status for run in runs}
        assert {"train", "promote", "monitor", "compare"} == {
            run.data.tags["mlflow.project.entryPoint"] for run in runs
        }
    assert "[]" == _paste(f"{sys.executable} -c {_quoted(_BOT)}", place).strip()


_BOT = """
from mlops import settings
from registry_hooks.account import connect
from registry_hooks.bot.client import Bot
s = settings.read()
registry = connect(s)
with Bot("volatility", registry, settings=s.bot) as bot:
    assert bot.champion == 1
print(registry.ledger.alerts.newest())
"""


def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def _program():
    return f"{sys.executable} -m jobs.cli.main"
