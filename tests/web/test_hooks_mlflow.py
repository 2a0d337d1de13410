"""POST /hooks/mlflow under everything that is not MLflow: 4xx, nothing done, never a 5xx."""

import asyncio
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest
import structlog
import uvicorn
from mlflow import MlflowClient
from pydantic import SecretStr
from structlog.testing import capture_logs

from jobs.stack.servers import free_port
from mlops.io.ledger import Ledger
from mlops.settings import ServiceSettings, Settings
from mlops.web import app
from registry_hooks.aliases import Registry
from registry_hooks.webhooks import mlflow_events
from registry_hooks.webhooks.mlflow_events import sign

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET, OLD = "shared", "the one before"
BODY = orjson.dumps(
    {
        "entity": "model_version_alias",
        "action": "created",
        "timestamp": "2026-03-02T12:00:00+00:00",
        "data": {"name": "volatility", "alias": "champion", "version": "2"},
    }
)
FOREVER = datetime(2999, 1, 1, tzinfo=UTC)


def _headers(body=BODY, *, at=NOW, secret=SECRET, delivery="b97b01c8-cef2-450f-8cfc-e3de5ea55d14"):
    stamp = int(at.timestamp())
    return {
        "content-type": "application/json",
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": str(stamp),
        "x-mlflow-signature": sign(secret, delivery, stamp, body),
    }


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A real registry with one model."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    client.create_registered_model("volatility")
    return client


@pytest.fixture
def registry(client, sqlite_ledger, tmp_path):
    return Registry(client, sqlite_ledger, tmp_path)


@pytest.fixture
def clock():
    """A list of one instant, so that a test can turn it."""
    return [NOW]


@pytest.fixture
def served(registry, clock, tmp_path):
    secrets = {"webhook_secret": SecretStr(SECRET), "webhook_secret_previous": SecretStr(OLD)}
    settings = Settings(state=tmp_path, service=ServiceSettings(**secrets))
    return app.build(registry, settings, lambda: clock[0])


def _post(served, requests):
    """Send (headers, body) pairs through the real application; the answers."""

    transport = httpx.ASGITransport(served, raise_app_exceptions=True)

    async def all_of_them():
        answers = [await transport.handle_async_request(_request(headers, body)) for headers, body in requests]
        for answer in answers:
            await answer.aread()
        return answers

    return asyncio.run(all_of_them())


def _request(headers, body):
    raw = httpx.Headers(headers, encoding="latin-1")  # bytes as they are, whatever they are
    return httpx.Request("POST", "http://testserver/hooks/mlflow", headers=raw, content=body)


def _kept(ledger):
    return len(ledger.deliveries.unsettled("mlflow", before=FOREVER)) + len(
        ledger.deliveries.settled("volatility", after=0)
    )


@contextmanager
def _listening(served):
    """The application behind a real server; its port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(served, log_level="critical", access_log=False))
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield bound.getsockname()[1]
        server.should_exit = True
        thread.join()


def test_a_delivery_is_kept_raw_then_acknowledged_then_followed(served, registry):
    (answer,) = _post(served, [(_headers(), BODY)])

    assert (202, {"accepted": True}) == (answer.status_code, answer.json())
    (followed,) = registry.ledger.deliveries.settled("volatility", after=0)
    assert (BODY, "mlflow", "champion") == (followed.body, followed.source, followed.alias)


def test_a_thousand_replays_and_fifty_copies_at_once_have_one_effect(served):
    with capture_logs() as lines, _listening(served) as port, ThreadPoolExecutor(50) as pool:
        structlog.configure(processors=structlog.get_config()["processors"], wrapper_class=structlog.BoundLogger)
        url = f"http://127.0.0.1:{port}/hooks/mlflow"
        copies = list(pool.map(lambda _: httpx.post(url, headers=_headers(), content=BODY), range(50)))
        replays = _post(served, [(_headers(), BODY)] * 1000)

    answers = Counter((a.status_code, a.json()["accepted"]) for a in (*copies, *replays))
    assert Counter({(202, False): 1049, (202, True): 1}) == answers
    assert 1 == sum(line["event"] == "webhook" for line in lines)


@pytest.mark.parametrize(("seconds", "status"), [(299, 202), (-299, 202), (300, 202), (301, 401), (-301, 401)])
def test_age_is_held_to_the_second(served, registry, clock, seconds, status):
    clock[0] = NOW + timedelta(seconds=seconds)

    assert [status] == [a.status_code for a in _post(served, [(_headers(), BODY)])]
    assert (status == 202) == _kept(registry.ledger)


def test_the_secret_before_is_accepted_while_a_new_one_takes_over_and_no_third_one(served):
    requests = [(_headers(secret=s, delivery=f"d{i}"), BODY) for i, s in enumerate((SECRET, OLD, "another", ""))]

    assert [202, 202, 401, 401] == [a.status_code for a in _post(served, requests)]


def _event(**change):
    return orjson.dumps({**orjson.loads(BODY), **change})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 5000,
        _event(entity="prompt_version"),
        _event(entity=["model_version_alias"]),
        _event(data=None),
        _event(data={"name": "volatility"}),
        _event(data={"name": 7, "alias": "champion"}),
        _event(data={"name": "a\x00b", "alias": "champion"}),
        _event(data={"name": "x" * 257, "alias": "champion"}),
        b'{"entity":"model_version_alias","data":{"name":"\\ud800","alias":"champion"}}',
    ],
    ids=range(15),
)
def test_a_signed_body_that_is_not_understood_is_refused(served, registry, body):
    (answer,) = _post(served, [(_headers(body), body)])

    assert 400 <= answer.status_code < 500
    assert 0 == _kept(registry.ledger)


def test_ten_megabytes_are_not_read(served, registry):
    big = b"x" * (10 * 2**20)
    with _listening(served) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        head = "".join(f"{name}: {value}\r\n" for name, value in _headers(big).items())
        connection.sendall(
            f"POST /hooks/mlflow HTTP/1.1\r\nhost: testserver\r\ncontent-length: {len(big)}\r\n{head}\r\n".encode()
        )
        connection.sendall(big[: 2**18])  # a fortieth of it, and the answer is there

        assert connection.recv(1024).startswith(b"HTTP/1.1 413")
    assert [413] == [a.status_code for a in _post(served, [(_headers(big), big)])]
    assert 0 == _kept(registry.ledger)


def _flip(data, rng):
    if not data:
        return bytes([rng.randrange(256)])
    altered = bytearray(data)
    altered[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(altered)


def _swap(data, rng):
    i = rng.randrange(len(data) + 1)
    return data[:i] + bytes([rng.randrange(256)]) + data[i + rng.randrange(2) :]


def _cut(data, rng):
    return data[: rng.randrange(len(data))] if data else b"x"


def _swell(data, rng):
    return data + data[: rng.randrange(1, 400)] * rng.randrange(1, 40)


BYTES = (_flip, _swap, _cut, _swell)


def _mutation(rng):
    """A signed delivery with something wrong, as raw headers and a body that are not those that were signed."""
    headers = [(name.encode(), value.encode()) for name, value in _headers().items()]
    body, signed = BODY, [1, 2, 3]
    what, i = rng.randrange(8), rng.choice(signed)
    name, value = headers[i]
    if what <= 2:
        body = rng.choice(BYTES)(body, rng)
    elif what == 3:
        headers[i] = (name, rng.choice(BYTES)(value, rng))
    elif what == 4:
        headers[i] = (rng.choice(BYTES)(name, rng), value)
    elif what == 5:
        del headers[i]
    elif what == 6:  # two of a kind, the last one wrong
        headers.append((name, rng.choice(BYTES)(value, rng)))
    else:
        headers[i] = (name, headers[rng.choice([k for k in signed if k != i])][1])
    return headers, body


def _same(headers, body):
    """Whether a mutation undid itself."""
    right = {name.encode(): value.encode() for name, value in _headers().items() if name.startswith("x-")}
    return body == BODY and all(
        [v for k, v in headers if k.lower() == name] == [value] for name, value in right.items()
    )


@pytest.mark.long
def test_of_ten_thousand_mutations_none_is_accepted_and_none_is_an_error_of_ours(served, registry, often):
    rng, n = random.Random(20261123), often(10_000)
    requests = [m for m in (_mutation(rng) for _ in range(n + 100)) if not _same(*m)][:n]

    statuses = Counter(answer.status_code for answer in _post(served, requests))

    assert n == sum(statuses.values())
    assert all(400 <= status < 500 for status in statuses), statuses
    assert 0 == _kept(registry.ledger)


def _raw(rng):
    """A whole request as bytes, mutated anywhere: request line, framing, headers, body."""
    head = "".join(f"{name}: {value}\r\n" for name, value in _headers().items())
    request = (
        f"POST /hooks/mlflow HTTP/1.1\r\nhost: testserver\r\ncontent-length: {len(BODY)}\r\n{head}\r\n".encode() + BODY
    )
    for _ in range(rng.randrange(1, 4)):
        request = rng.choice(BYTES)(request, rng)
    return request


def test_raw_bytes_on_the_wire_do_not_move_the_server_to_a_5xx(served, registry):
    rng, statuses = random.Random(7), Counter()
    with _listening(served) as port:
        for _ in range(400):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(_raw(rng))
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda c=connection: _received(c), b""))
            statuses[answer[9:12].decode("latin-1")] += 1
        last = httpx.post(f"http://127.0.0.1:{port}/hooks/mlflow", headers=_headers(), content=BODY)

    assert 202 == last.status_code, "it still serves"
    assert not [status for status in statuses if status.startswith("5")], statuses
    assert 1 == _kept(registry.ledger)


def _received(connection):
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def test_a_ledger_that_cannot_be_written_makes_mlflow_come_again(served, registry):
    with registry.ledger.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE deliveries RENAME TO away")
    assert [503] == [a.status_code for a in _post(served, [(_headers(), BODY)])]
    with registry.ledger.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO deliveries")

    assert [True] == [a.json()["accepted"] for a in _post(served, [(_headers(), BODY)])]


def test_a_delivery_that_was_acknowledged_but_not_followed_is_picked_up_again(registry, url):
    with Ledger(url) as ledger:
        registry = Registry(registry.client, ledger, registry.cache)
        ledger.deliveries.add("d1", "mlflow", BODY, NOW)  # what stands when the service dies after its 202
        ledger.deliveries.add("d2", "mlflow", b"kept by an older release", NOW)
        assert 0 == mlflow_events.catch_up(registry, NOW, on_manual_move="adopt"), "it may be under way"

        later = NOW + timedelta(minutes=1)
        assert [2, 0] == [mlflow_events.catch_up(registry, later, on_manual_move="adopt") for _ in range(2)]
        assert ["d1"] == [d.delivery_id for d in ledger.deliveries.settled("volatility", after=0)]


SERVE = """
import sys, uvicorn
from datetime import UTC, datetime
from pathlib import Path
from mlflow import MlflowClient
from pydantic import SecretStr
from mlops.io.ledger import Ledger
from mlops.settings import ServiceSettings, Settings
from mlops.web import app
from registry_hooks.aliases import Registry

folder, port, uri = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
settings = Settings(state=folder, service=ServiceSettings(webhook_secret=SecretStr("shared")))
with Ledger(f"sqlite:///{folder}/ledger.db") as ledger:
    registry = Registry(MlflowClient(uri, registry_uri=uri), ledger, folder)
    uvicorn.run(app.build(registry, settings, lambda: datetime.now(UTC)), port=port, log_level="critical")
"""


def test_a_service_killed_after_its_202_has_the_delivery_and_the_next_one_follows_it(registry, tmp_path):
    now = datetime.now(UTC)
    with socket.create_server(("127.0.0.1", 0)) as away:  # an MLflow that takes the connection and never answers
        uri = f"http://127.0.0.1:{away.getsockname()[1]}"
        port = free_port()
        service = subprocess.Popen(
            [sys.executable, "-c", SERVE, tmp_path, str(port), uri], env={**os.environ, "PYTHONPATH": os.getcwd()}
        )
        answer = _answered(f"http://127.0.0.1:{port}/hooks/mlflow", _headers(at=now))
        service.kill()
        service.wait()

    assert (202, True) == (answer.status_code, answer.json()["accepted"])
    (left,) = registry.ledger.deliveries.unsettled("mlflow", before=FOREVER)
    assert BODY == left.body
    assert 1 == mlflow_events.catch_up(registry, now + timedelta(minutes=1), on_manual_move="adopt")
    assert 1 == len(registry.ledger.deliveries.settled("volatility", after=0))


def _answered(url, headers):
    """The answer of a service that is starting."""
    for _ in range(600):
        try:
            return httpx.post(url, headers=headers, content=BODY)
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError("it did not start")
