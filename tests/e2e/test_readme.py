"""The command blocks of README and install.md, pasted in order into one shell, with accounts in MLflow.

A block with a comment before it that says why is not pasted: what needs the network, or another server.
"""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from place import ROOT, Place

from jobs import train
from jobs.context import opened
from mlops.io import bar_feed
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import Role
from registry_hooks import aliases, apply

pytestmark = pytest.mark.e2e
SMALL = {"MLOPS_TRAIN__TRIALS": "1", "MLOPS_TRAIN__FOLDS": "2", "MLOPS_TRAIN__MIN_BARS": "100"}
FENCE = re.compile(r"(?:<!-- (.*?) -->\n)?^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SKIPPED = {"README.md": 1, "docs/install.md": 2}  # blocks that are not pasted


def blocks(document, *, demo=False):
    """The blocks of a document that are pasted, in order; `demo`: with those that are about the demo."""
    pairs = FENCE.findall((ROOT / document).read_text(encoding="utf-8"))
    assert SKIPPED[document] == len([comment for comment, _ in pairs if comment.startswith("not pasted")])
    return [code for comment, code in pairs if not comment or (demo and comment.startswith("pasted"))]


class Clone(Place):
    """A fresh clone of the repository with its `.venv`, and the shell of whoever reads the README in it."""

    def __init__(self, folder):
        super().__init__(folder / ".state" / "live")
        self.folder = folder
        folder.mkdir()
        for entry in ROOT.iterdir():
            if not entry.name.startswith(".") and entry.name not in ("mlruns", "mlops.toml"):
                (folder / entry.name).symlink_to(entry)
        (folder / ".venv").symlink_to(Path(sys.executable).parents[1])

    def paste(self, code, **more):
        """What a shell prints without any account or set-up in its environment; every line has to work."""
        own = {name: value for name, value in self.environment.items() if not name.startswith(("MLFLOW_", "MLOPS_"))}
        ports = {"MLOPS_TRACKING_URI": self.environment["MLOPS_TRACKING_URI"]}
        ports["MLOPS_SERVICE__PORT"] = self.environment["MLOPS_SERVICE__PORT"]
        make = 'make() { command make -o install "$@"; }\n'  # the packages are there
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", make + code],
            cwd=self.folder,
            env={**own, **ports, **SMALL, "HOME": str(self.folder), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert 0 == done.returncode, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stdout


@pytest.fixture
def clone(tmp_path):
    made = Clone(tmp_path / "clone")
    yield made
    made.call("down")


def leave_a_demo(state):
    """Leave what a demo leaves: a set-up of its own with a model and its champion, and MLflow down."""
    small = TrainSettings(trials=1, folds=2, min_bars=100)
    end = datetime(2006, 1, 1, tzinfo=UTC)
    bars = bar_feed.load_bars("sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=end).frame
    bars = bars[bars.symbol.isin(["AAPL", "GE"])]
    with opened(Settings(state=state, tracking_uri=f"sqlite:///{state}/mlflow.db", train=small)) as context:
        ref = train.train(context, STRATEGIES["volatility"], bars, as_of=end, start=None)
        apply.promote(context.registry, ref, "first champion", context.act("demo", end), expected=None)


@pytest.mark.parametrize("demo", [False, True], ids=["at once", "after the demo"])
def test_the_blocks_of_the_readme_run_as_pasted_in_order(clone, demo, monkeypatch):
    if demo:
        leave_a_demo(clone.folder / ".state" / "demo")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    printed = clone.paste("\n".join(blocks("README.md", demo=demo)), MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")

    assert ("first champion, trained" in printed or "by demo: first champion" in printed) is demo
    assert "account admin, password in" in printed
    assert (clone.folder / "report.html").exists()
    assert (clone.folder / "monday.tar.zst").exists()
    uri = clone.environment["MLOPS_TRACKING_URI"]
    assert 401 == httpx.get(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1").status_code
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with opened(clone.settings) as context:
        assert 1 == aliases.read(context.client, "volatility")[Role.CHAMPION]
        assert ["promote", "promote", "rollback"] == [e.kind for e in context.ledger.registry.promotions("volatility")]
        experiments = [e.experiment_id for e in context.client.search_experiments()]
        runs = context.client.search_runs(experiments, "tags.mlflow.project.entryPoint != ''")
        assert {"FINISHED"} == {run.info.status for run in runs}
        assert {"train", "promote", "monitor", "compare"} == {
            run.data.tags["mlflow.project.entryPoint"] for run in runs
        }


def test_the_blocks_of_the_installation_run_as_pasted_in_order_and_a_bot_finds_the_champion(clone):
    printed = clone.paste("\n".join(blocks("docs/install.md")) + f"\npython -c {_quoted(_BOT)}")

    assert "champion is v1 now" in printed
    assert "the bot trades v1, alerts: []" in printed
    assert list(clone.folder.glob("bot-*.tar.zst"))


def test_a_set_up_that_had_no_accounts_gets_them_at_its_next_start(clone):
    clone.environment["MLOPS_TRACKING_AUTH"] = "false"
    assert "account" not in clone.call("up")
    uri = clone.environment["MLOPS_TRACKING_URI"]
    assert 200 == httpx.get(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1").status_code
    clone.call("down")
    del clone.environment["MLOPS_TRACKING_AUTH"]

    assert "account admin, password in" in clone.call("up")
    assert 401 == httpx.get(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1").status_code


_BOT = """
from mlops import settings
from registry_hooks.account import connect
from registry_hooks.bot.client import Bot
s = settings.read()
registry = connect(s)
with Bot("volatility", registry, settings=s.bot) as bot:
    print(f"the bot trades v{bot.champion}, alerts: {registry.ledger.alerts.newest()}")
"""


def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"
