"""The feed over real sockets: nobody without a key, nothing twice or lost, and no queue for who is slow."""

import asyncio
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from socket import SO_RCVBUF, SOL_SOCKET, create_connection

import httpx
import jsonschema_rs
import pytest
from mlflow import MlflowClient
from serving import AT, now, serving, state, until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mlops.settings import FeedSettings
from mlops.web import feed as room
from mlops.web import login
from mlops.web.envelopes import merged, tree
from mlops.web.feed import Hub
from registry_hooks.aliases import Registry


@pytest.fixture
def service(sqlite_ledger, tmp_path):
    with serving(sqlite_ledger, tmp_path) as running:
        yield running


def closed(socket, timeout=5.0):
    """The code and the reason with which the other side closes."""
    with pytest.raises(ConnectionClosed) as error:
        [*iter(lambda: socket.recv(timeout), None)]
    return error.value.rcvd.code, error.value.rcvd.reason


def refused(service, query="", **headers):
    with pytest.raises(InvalidStatus) as error, service.listen(query, **headers):
        pass
    return error.value.response.status_code


# --- what is said ---------------------------------------------------------------------------------------------------


def test_the_whole_state_comes_first_and_then_only_what_changed(service):
    first = service.hub.publish(state(1e6))

    with service.feed() as hear:
        whole = hear()
        second = service.hub.publish(state(2e6))
        change = hear()

    assert ("snapshot", first, tree(state(1e6))) == (whole["type"], whole["seq"], whole["state"])
    assert ("delta", second, first, {"kpi": {"equity": 2e6}}) == tuple(
        change[k] for k in ("type", "seq", "prev", "patch")
    )


def test_the_same_state_again_is_a_sign_of_life_without_a_number(service):
    seq = service.hub.publish(state())

    with service.feed() as hear:
        hear()
        service.hub.publish(state())
        beat = hear()

    assert {"type": "heartbeat", "seq": seq} == {k: beat[k] for k in ("type", "seq")}


def test_who_asks_for_snapshots_gets_nothing_else(service):
    service.hub.publish(state())

    with service.feed("?mode=snapshot") as hear:
        kinds = [hear()["type"]]
        for equity in (2e6, 2e6, 3e6):
            service.hub.publish(state(equity))
            kinds.append(hear()["type"])

    assert ["snapshot"] * 4 == kinds


def test_who_listens_before_anything_is_known_hears_the_first_state(service):
    with service.feed() as hear:
        service.hub.publish(state())

        assert "snapshot" == hear()["type"]


def test_every_message_is_what_the_schema_says(service):
    schema = httpx.get(f"{service.url}/feed/schema").json()
    check = jsonschema_rs.validator_for(schema)
    service.hub.publish(state())

    with service.feed() as hear:
        messages = [hear()]
        for _ in range(2):
            service.hub.publish(state(2.0, missing={"var": "No VaR yet."}))
            messages.append(hear())

    assert ["snapshot", "delta", "heartbeat"] == [m["type"] for m in messages]
    assert all(check.is_valid(m) for m in messages)
    assert not check.is_valid(messages[0] | {"state": {"as_of": 1}})


# --- gaps and slow ones ---------------------------------------------------------------------------------------------


def test_who_comes_back_gets_the_changes_that_it_missed(service):
    big = {f"u{i}": "x" * 100 for i in range(50)}  # so that changes are less to send than the state
    seen = service.hub.publish(state(1.0, missing=big))
    for equity in (2.0, 3.0):
        service.hub.publish(state(equity, missing=big))

    with service.feed(f"?since={seen}") as hear:
        missed = [hear(), hear()]

    assert [("delta", {"kpi": {"equity": 2.0}}), ("delta", {"kpi": {"equity": 3.0}})] == [
        (m["type"], m["patch"]) for m in missed
    ]


@pytest.mark.parametrize("since", [1, 99_999_999_999_999])
def test_who_was_away_too_long_or_knows_another_service_gets_the_whole_state(service, since):
    service.hub.publish(state(1.0))
    service.hub.publish(state(2.0))

    with service.feed(f"?since={since}") as hear:
        found = hear()

    assert ("snapshot", 2.0) == (found["type"], found["state"]["kpi"]["equity"])


def test_a_slow_client_is_given_the_state_and_not_the_past():
    async def heard():
        hub = Hub(now, FeedSettings(resume=50))
        slow, gone = hub.join(), hub.join()
        for equity in range(1000):
            hub.publish(state(float(equity), missing={"x": str(equity) * 200}))
        texts = []
        while (text := hub.next(slow)) is not None:
            texts.append(json.loads(text))
        return texts, gone

    texts, _ = asyncio.run(heard())

    assert ["snapshot"] == [m["type"] for m in texts]
    assert 999.0 == texts[0]["state"]["kpi"]["equity"]


def test_a_client_that_reads_nothing_makes_no_queue_and_is_dropped(sqlite_ledger, tmp_path):
    with serving(sqlite_ledger, tmp_path, dead_s=0.5) as service:
        service.hub.publish(state())
        with _deaf(service), service.feed() as hear:
            until(lambda: len(service.hub._listeners) == 2)
            hear()
            for i in range(100):
                service.hub.publish(state(float(i), missing={"x": f"{i}" * 50_000}))
                hear()  # the other one hears everything
            until(lambda: len(service.hub._listeners) == 1)


def _deaf(service):
    """What a page does that hangs: its socket stays open, and nobody takes from it."""
    socket = create_connection(("127.0.0.1", service.port))
    socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
    lines = ("GET /feed HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13",
             f"Authorization: Bearer {service.key}")  # fmt: skip
    socket.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    return socket


def test_numbers_follow_each_other_whoever_publishes(service):
    service.hub.publish(state(0.0))
    with service.feed() as hear:
        known = hear()
        workers = [
            threading.Thread(target=lambda k=k: [service.hub.publish(state(float(k * 100 + i))) for i in range(20)])
            for k in range(1, 4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seq, held = known["seq"], known["state"]
        while held != service.hub._tree:
            message = hear()
            if message["type"] == "delta":
                assert seq == message["prev"]
                held = merged(held, message["patch"])
            elif message["type"] == "snapshot":
                held = message["state"]
            assert message["seq"] >= seq
            seq = message["seq"]


# --- who may listen -------------------------------------------------------------------------------------------------


def test_a_key_may_come_as_the_first_message(service):
    service.hub.publish(state())

    with service.listen() as socket:
        socket.send(json.dumps({"key": service.key}))

        assert "snapshot" == json.loads(socket.recv(5))["type"]


@pytest.mark.parametrize("said", ['{"key": "no"}', "[]", "{}", "no", '{"key": null}'])
def test_who_says_no_key_is_told_to_log_in(service, said):
    service.hub.publish(state())

    with service.listen() as socket:
        socket.send(said)

        assert 4401 == closed(socket)[0]


def test_who_says_nothing_is_not_waited_for(service, monkeypatch):
    monkeypatch.setattr(login, "SAY_KEY_S", 0.2)

    with service.listen() as socket:
        assert 4401 == closed(socket)[0]


def test_a_header_with_a_wrong_key_or_a_key_for_something_else_is_refused(service):
    other = service.ledger.api_keys.add("bot", ["score"], AT)

    assert [403, 403] == [refused(service, Authorization=f"Bearer {key}") for key in ("no", other)]


def test_a_key_that_is_revoked_hears_no_more(service, monkeypatch):
    monkeypatch.setattr(room, "VOUCH_S", 0.0)
    monkeypatch.setattr("mlops.web.access.REMEMBERED_S", 0.0)
    service.hub.publish(state())

    with service.listen(Authorization=f"Bearer {service.key}") as socket:
        socket.recv(5)
        service.ledger.api_keys.revoke(service.key.partition(".")[0], AT)
        service.hub.publish(state(2.0))
        service.hub.publish(state(3.0))

        assert 4401 == closed(socket)[0]


def test_a_page_from_elsewhere_may_not_listen_unless_a_setting_says_so(sqlite_ledger, tmp_path):
    with serving(sqlite_ledger, tmp_path, origins=("https://wall.example",)) as service:
        service.hub.publish(state())
        key = {"Authorization": f"Bearer {service.key}"}

        assert [403, 403] == [refused(service, Origin=o, **key) for o in ("https://evil.example", "null")]
        for origin in (service.url, "https://wall.example"):
            with service.listen(Origin=origin, **key) as socket:
                assert "snapshot" == json.loads(socket.recv(5))["type"]


def test_one_client_too_many_is_told_so(sqlite_ledger, tmp_path):
    with serving(sqlite_ledger, tmp_path, max_clients=1) as service:
        service.hub.publish(state())
        with service.feed() as hear:
            hear()
            with service.listen(Authorization=f"Bearer {service.key}") as second:
                code, reason = closed(second)
        until(lambda: not service.hub._listeners)
        with service.feed() as hear:
            assert "snapshot" == hear()["type"]

    assert 4429 == code
    assert "at most 1 clients" in reason


def test_a_client_that_talks_is_closed(service):
    service.hub.publish(state())

    with service.listen(Authorization=f"Bearer {service.key}") as socket:
        socket.recv(5)
        socket.send("hello")

        assert 4400 == closed(socket)[0]


def test_without_a_hub_there_is_neither_feed_nor_page(lone):
    assert [404, 404, 404] == [lone.get(path).status_code for path in ("/risk", "/feed/schema", "/login")]


def test_a_state_replaces_only_what_it_says(service):
    service.hub.publish(state(1.0, missing={"a": "b"}))
    with service.feed() as hear:
        hear()
        service.hub.publish(replace(state(1.0), missing={}))

        assert {"missing": {"a": None}} == hear()["patch"]


@pytest.mark.parametrize(("kind", "tells"), [("quotes", True), ("fills", True), ("outcomes", False)])
def test_new_prices_and_trades_are_news_and_rows_that_were_known_are_none(sqlite_ledger, tmp_path, bot, kind, tells):
    hub = Hub(lambda: datetime.now(UTC))
    opened = bot.opened(Registry(MlflowClient("http://127.0.0.1:1"), sqlite_ledger, tmp_path), hub=hub)
    client = next(opened)

    assert 200 == bot.post(client, kind, [bot.row(kind)]).status_code
    assert tells == hub.news.is_set()

    hub.news.clear()
    bot.post(client, kind, [bot.row(kind)])
    assert not hub.news.is_set()
    opened.close()
