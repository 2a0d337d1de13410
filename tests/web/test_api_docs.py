"""The examples of docs/api.md, run as they are written against a real server."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from mlops.learn import STRATEGIES
from mlops.settings import Settings
from mlops.types import Role
from mlops.web import app
from registry_hooks.aliases import Registry
from registry_hooks.bot.client import Scored

T0 = datetime(2026, 3, 2, tzinfo=UTC)
TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
SCOPES = ("predictions:write", "outcomes:write", "fills:write", "quotes:write", "score")


class Half:
    """A scorer with the features of the model in the document."""

    names = STRATEGIES["volatility"].feature_names

    def score(self, units, values, *, event_time, known_at, matures_at, keys=None):
        n = len(units)
        return Scored(tuple(units), np.full(n, 0.5), np.full(n, 1), {}, {1: Role.CHAMPION})


def examples(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(sqlite_ledger, mlflow_client, tmp_path):
    """What the document's reader has exported, with a server behind it."""
    why = {"actor": "t", "reason": "t", "evidence_run": "", "correlation_id": "", "at": T0}
    sqlite_ledger.registry.append_promotion("volatility", expected=None, to=1, kind="promote", **why)
    registry, scorers = Registry(mlflow_client, sqlite_ledger, tmp_path), {"volatility": Half()}
    built = app.build(registry, Settings(), lambda: datetime.now(UTC), scorers.get)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(built, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    api = f"http://127.0.0.1:{listening.getsockname()[1]}"
    while not server.started:
        time.sleep(0.01)
    yield {**os.environ, "API": api, "KEY": sqlite_ledger.api_keys.add("my-bot", SCOPES, T0)}
    server.should_exit = True
    thread.join()
    listening.close()


def held(ledger):
    with ledger.reading() as connection:
        kinds = ("predictions", "outcomes", "fills", "quotes", "rejections")
        return [connection.exec_driver_sql(f"SELECT count(*) FROM {kind}").scalar() for kind in kinds]


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
def test_the_shell_examples_do_what_the_document_says(environment, sqlite_ledger):
    script = "set -eu -o pipefail\n" + "\necho\n".join(examples("sh"))

    for _ in range(2):  # safe to repeat
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120)

        assert 0 == done.returncode, done.stdout + done.stderr
        assert "" == done.stderr
        assert '"detail"' not in done.stdout
        assert [2, 1, 3, 1, 0] == held(sqlite_ledger)
    assert '"arms":[{"key":"AAPL","version":1,"role":"champion"}' in done.stdout
    assert '"scores":[{"unit":"AAPL","version":1,"role":"champion","probability":0.5}]' in done.stdout
    assert 'mlops_rows_total{became="stored",kind="fills"} 3.0' in done.stdout


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_the_bot_in_javascript_brings_its_rows(environment, sqlite_ledger, tmp_path):
    (code,) = examples("js")
    (tmp_path / "bot.mjs").write_text(code)

    done = subprocess.run(["node", tmp_path / "bot.mjs"], env=environment, capture_output=True, text=True, timeout=120)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "fills: 2 stored, 0 known\n" == done.stdout
    assert [0, 0, 2, 0, 0] == held(sqlite_ledger)


def test_every_path_and_metric_of_the_service_is_in_the_document(environment):
    paths = {
        re.sub(r"\{\w+\}", "{model}", path) for path in httpx.get(environment["API"] + "/openapi.json").json()["paths"]
    }
    metrics = set(re.findall(r"^# TYPE (\w+)", httpx.get(environment["API"] + "/metrics").text, re.MULTILINE))

    assert {path for path in paths if path not in TEXT} <= {"/hooks/mlflow"}
    assert {name for name in metrics if name not in TEXT} <= {
        "mlops_requests_created",
        "mlops_rows_created",
        "mlops_request_seconds_created",
    }
