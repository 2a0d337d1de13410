"""POST /hooks/freqtrade as freqtrade calls it: requests.post, the key before the @ of the URL."""

import base64
import re
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import requests
import uvicorn
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from mlops.settings import Settings
from mlops.web import app
from registry_hooks.aliases import Registry

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DOC = (Path(__file__).parents[2] / "docs" / "freqtrade.md").read_text()
LAYOUT = orjson.loads(re.search(r"```json\n(.*?)```", DOC, re.DOTALL)[1])["webhook"]
MESSAGE = {
    "trade_id": 17,
    "pair": "BTC/USDT:USDT",
    "direction": "Short",
    "open_rate": 61000.5,
    "amount": 0.0125,
    "stake_amount": 762.50625,
    "sub_trade": False,
    "open_date": datetime(2026, 3, 2, 11, 55, tzinfo=UTC),
    "enter_tag": "volatility@4|champion|x",
}
PAYLOAD = {key: value.format(**MESSAGE) for key, value in LAYOUT["entry_fill"].items()}


@pytest.fixture
def served(sqlite_ledger, tmp_path):
    uri = f"sqlite:///{tmp_path / 'never_opened.db'}"
    registry = Registry(MlflowClient.__new__(MlflowClient), sqlite_ledger, tmp_path)
    return app.build(registry, Settings(state=tmp_path, tracking_uri=uri), lambda: NOW)


@pytest.fixture
def key(sqlite_ledger):
    return sqlite_ledger.api_keys.add("futures-1", ["hooks"], NOW)


@contextmanager
def _listening(served):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(served, log_level="critical", access_log=False))
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_freqtrade_s_own_three_calls_arrive_with_the_key_of_the_url(served, sqlite_ledger, key):
    raw = "\n".join(f"{name}={value}" for name, value in PAYLOAD.items())
    with _listening(served) as place:
        url = LAYOUT["url"].replace("https", "http").replace("<key>", key).replace("mlops.example", place)
        answers = [  # the three calls of rpc/webhook.py
            requests.post(url, data=PAYLOAD, timeout=10),
            requests.post(url, json=PAYLOAD, timeout=10),
            requests.post(url, data=raw, headers={"Content-Type": "text/plain"}, timeout=10),
        ]

    assert [(202, "fill")] * 3 == [(a.status_code, a.json()["effect"]) for a in answers]
    assert [-0.0125] == [*sqlite_ledger.telemetry.positions("volatility", "futures-1").quantity], (
        "three tellings of one fill"
    )


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"authorization": "Basic ???"},
        {"authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()},
        {"authorization": "Basic " + base64.b64encode(b"freqtrade:no-such.key").decode()},
        {"authorization": "Bearer "},
        {"authorization": "Digest x"},
    ],
)
def test_without_the_right_key_nothing_is_kept(served, sqlite_ledger, header):
    with TestClient(served) as http:
        assert 401 == http.post("/hooks/freqtrade", json=PAYLOAD, headers=header).status_code

    assert [] == sqlite_ledger.rejections.newest()
    assert [] == [*sqlite_ledger.telemetry.positions("volatility", "futures-1").quantity]


def test_a_key_for_something_else_or_revoked_does_not_open_this_door(served, sqlite_ledger, key):
    other = sqlite_ledger.api_keys.add("bot", ["predictions:write"], NOW)
    sqlite_ledger.api_keys.revoke(key.partition(".")[0], NOW)
    with TestClient(served) as http:
        codes = [http.post("/hooks/freqtrade", json=PAYLOAD, auth=("x", k)).status_code for k in (other, key)]

    assert [403, 401] == codes


def test_a_bearer_will_do_for_those_who_can_set_headers(served, key):
    with TestClient(served) as http:
        headers = {"authorization": f"Bearer {key}"}
        assert "kept" == http.post("/hooks/freqtrade", json={"type": "status"}, headers=headers).json()["effect"]


def test_too_much_is_not_read_and_nonsense_is_acknowledged(served, sqlite_ledger, key):
    with TestClient(served) as http:
        big = http.post("/hooks/freqtrade", content=b"x" * 70_000, auth=("x", key))
        odd = http.post("/hooks/freqtrade", content=b"\x00\xff", auth=("x", key))

    assert (413, 202, "rejected") == (big.status_code, odd.status_code, odd.json()["effect"])
    assert 1 == len(sqlite_ledger.rejections.newest("fills"))
