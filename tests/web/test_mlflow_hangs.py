"""An MLflow that takes connections and never answers: bots hear what they may do, and their rows are taken, meanwhile."""

import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest
from mlflow import MlflowClient
from serving import Service

from registry_hooks.aliases import Registry
from registry_hooks.bot.hosted import Scorers
from registry_hooks.webhooks import mlflow_events

AT = datetime(2026, 3, 2, 21, tzinfo=UTC)
SECRET = "s" * 32


@pytest.fixture
def hung():
    """The address of a server that never answers; nobody takes its connections, the system does."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def service(sqlite_ledger, tmp_path, hung):
    why = {"actor": "t", "reason": "t", "evidence_run": "", "correlation_id": "", "at": AT}
    sqlite_ledger.registry.append_promotion("m", expected=None, to=1, kind="promote", **why)
    registry = Registry(MlflowClient(hung, registry_uri=hung), sqlite_ledger, tmp_path)
    scorers = Scorers(registry, lambda: datetime.now(UTC), 10.0)
    running = Service(sqlite_ledger, tmp_path, registry=registry, scorers=scorers)
    running.key = sqlite_ledger.api_keys.add("bot", ["score", "fills:write"], AT)
    yield running
    running.stop()


def hint():
    """A webhook that MLflow signed before it hung: following it asks MLflow."""
    body = json.dumps({"entity": "model_version_alias", "data": {"name": "m", "alias": "champion"}}).encode()
    delivery, stamp = uuid.uuid4().hex, int(time.time())
    signed = mlflow_events.sign(SECRET, delivery, stamp, body)
    names = ("X-MLflow-Delivery-Id", "X-MLflow-Timestamp", "X-MLflow-Signature")
    return body, dict(zip(names, (delivery, str(stamp), signed), strict=True))


def test_while_mlflow_hangs_bots_are_told_what_they_may_do_and_their_fills_are_taken(service, bot):
    bar = {"event_time": AT.isoformat(), "known_at": AT.isoformat(), "matures_at": AT.isoformat()}
    bar = json.dumps(bar | {"rows": [{"unit": "A", "features": {"a": 1.0}}]})
    with (
        httpx.Client(
            base_url=service.url,
            headers={"authorization": f"Bearer {service.key}"},
            timeout=60,
            limits=httpx.Limits(max_connections=200),
        ) as http,
        ThreadPoolExecutor(100) as pool,
    ):

        def score(_):
            return http.post("/v1/models/m/score", content=bar)

        def told(_):
            body, headers = hint()
            return http.post("/hooks/mlflow", content=body, headers=headers)

        waiting = [pool.submit(work, i) for i in range(25) for work in (score, told)]
        time.sleep(0.5)
        began = time.monotonic()
        asked = [pool.submit(http.get, "/v1/models/m/assignment?key=A") for _ in range(120)]
        fill = bot.row("fills")
        asked += [pool.submit(http.post, "/v1/fills", json=[fill | {"fill_id": str(i)}]) for i in range(20)]
        asked += [pool.submit(http.get, path) for path in ("/v1/trading-state", "/healthz", "/readyz") * 10]
        answers = [one.result() for one in asked]

        assert {200} == {answer.status_code for answer in answers}
        assert not any(answer.json()["stale"] for answer in answers[:120])
        assert 20 == sum(answer.json()["stored"] for answer in answers[120:140])
        assert time.monotonic() - began < 10  # it was as long as MLflow's client waits, minutes
        for one in waiting[::2]:
            assert 503 == one.result().status_code  # a model is loaded beside its requests
        service.kill()
