"""Connections that nobody honest makes: heads that never end, sockets without a key, readers that take nothing."""

import socket
import time

import pytest
from serving import AT, serving, state

from mlops.settings import ServiceSettings
from mlops.web import access, sockets


@pytest.fixture
def service(sqlite_ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(sockets, "HEAD_S", 1.0)
    monkeypatch.setattr(sockets, "GRACE_S", 0.2)
    monkeypatch.setattr(sockets, "STALL_S", 1.0)
    with serving(sqlite_ledger, tmp_path, max_connections=100) as running:
        running.hub.publish(state(1e6))
        yield running


def connected(service, head=b""):
    one = socket.create_connection(("127.0.0.1", service.port))
    one.sendall(head)
    return one


def ended(one, seconds=5.0):
    """Whether the other side closes a connection within a while."""
    one.settimeout(seconds)
    try:
        while one.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("head", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "])
def test_a_head_that_does_not_end_is_cut_off(service, head):
    with connected(service, head) as slow:
        began = time.monotonic()
        assert ended(slow)
        assert 0.5 < time.monotonic() - began < 4


def test_a_second_head_that_drips_is_cut_off_as_well(service):
    with connected(service, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /h") as slow:
        slow.settimeout(5)
        assert b"200 OK" in slow.recv(65536)
        began = time.monotonic()
        try:
            while time.monotonic() < began + 8:
                slow.sendall(b"e")
                time.sleep(0.2)
        except OSError:
            pass
        assert time.monotonic() - began < 7


def test_sockets_without_a_key_take_nobodys_place(service):
    strangers = [connected(service, b"GET /feed HTTP/1.1\r\nHost: 127.0.0.1\r\n") for _ in range(70)]
    upgrade = "GET /feed HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    upgrade += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    strangers += [connected(service, upgrade.encode()) for _ in range(70)]
    time.sleep(0.5)

    with service.feed() as hear:
        assert "snapshot" == hear()["type"]
        more = [connected(service) for _ in range(150)]
        time.sleep(0.5)
        with service.feed() as second:
            assert "snapshot" == second()["type"]
        service.hub.publish(state(2e6))
        assert "delta" == hear()["type"]  # who showed a key is not cut off for who did not
    for one in strangers + more:
        one.close()


def test_a_body_that_drips_is_refused(service, monkeypatch):
    monkeypatch.setattr(access, "ARRIVE_S", 0.5)
    key = service.ledger.api_keys.add("bot", ["fills:write"], AT)
    head = f"POST /v1/fills HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Length: 100\r\n\r\n["
    with connected(service, head.encode()) as slow:
        slow.settimeout(5)
        assert b" 408 " in slow.recv(65536)


def test_what_all_bodies_hold_at_once_is_bounded(service, monkeypatch):
    monkeypatch.setattr(access, "MAX_HELD", 1000)
    key = service.ledger.api_keys.add("bot", ["fills:write"], AT)
    head = f"POST /v1/fills HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Length: 900\r\n\r\n"
    with connected(service, head.encode() + b"[" * 800) as first:
        time.sleep(0.3)
        with connected(service, head.encode() + b"[" * 800) as second:
            second.settimeout(5)
            assert b" 503 " in second.recv(65536)
        first.sendall(b"[" * 100)
        first.settimeout(5)
        assert b" 422 " in first.recv(65536)


def test_nobody_says_with_a_header_where_he_comes_from(service):
    import httpx

    codes = [
        httpx.post(f"{service.url}/login", data={"key": "x"}, headers={"X-Forwarded-For": f"10.0.0.{i}"}).status_code
        for i in range(11)
    ]
    assert [401] * 10 + [429] == codes


def test_an_ipv6_host_is_its_network():
    assert access.network("2001:db8::1") == access.network("2001:db8::ffff") != access.network("2001:db8:0:1::1")
    assert "10.0.0.1" == access.network("10.0.0.1")


@pytest.mark.parametrize("proxy", ["*", " * ", "0.0.0.0/0", "::/0"])
def test_not_everybody_can_be_a_trusted_proxy(proxy):
    with pytest.raises(ValueError, match="trusted_proxies must name proxies"):
        ServiceSettings(trusted_proxies=(proxy,))
    assert ("10.0.0.2",) == ServiceSettings(trusted_proxies=("10.0.0.2",)).trusted_proxies
