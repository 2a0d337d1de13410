"""Logging in: a session for who has a key, and the key nowhere but in the request."""

import io
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import structlog
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from mlops.settings import FeedSettings, ServiceSettings, Settings
from mlops.web import app
from mlops.web.feed import Hub
from registry_hooks.aliases import Registry

T0 = datetime(2026, 3, 2, 21, tzinfo=UTC)


@pytest.fixture
def desk(sqlite_ledger, mlflow_client, tmp_path):
    """A browser at the door, with a key and a clock that a test can move."""
    time = SimpleNamespace(now=T0)
    settings = Settings(service=ServiceSettings(webhook_secret="s" * 32), feed=FeedSettings(session_hours=1))
    built = app.build(Registry(mlflow_client, sqlite_ledger, tmp_path), settings, lambda: time.now, hub=Hub(lambda: T0))
    key = sqlite_ledger.api_keys.add("desk", ["risk:read"], T0)
    with TestClient(built, follow_redirects=False) as client:
        yield SimpleNamespace(client=client, key=key, time=time, ledger=sqlite_ledger)


def enter(desk, key=None, **headers):
    return desk.client.post("/login", data={"key": key or desk.key}, headers=headers)


def test_a_key_opens_the_pages_and_logging_out_closes_them(desk):
    before = desk.client.get("/risk")
    answer = enter(desk)
    inside = desk.client.get("/risk")
    desk.client.post("/logout")
    after = desk.client.get("/risk")

    assert [(303, "/login"), (303, "/"), (200, None), (303, "/login")] == [
        (r.status_code, r.headers.get("location")) for r in (before, answer, inside, after)
    ]


def test_the_cookie_is_for_this_site_and_no_script_and_does_not_hold_the_key(desk):
    cookie = enter(desk).headers["set-cookie"]

    assert {"HttpOnly", "SameSite=lax", "Max-Age=3600", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert desk.key.partition(".")[2] not in cookie


def test_a_session_ends_by_the_clock_or_with_its_key(desk, monkeypatch):
    monkeypatch.setattr("mlops.web.access.REMEMBERED_S", -1.0)
    enter(desk)
    desk.time.now = T0 + timedelta(minutes=59)
    assert 200 == desk.client.get("/risk").status_code

    desk.time.now = T0 + timedelta(minutes=61)
    assert 303 == desk.client.get("/risk").status_code

    enter(desk)
    assert 200 == desk.client.get("/risk").status_code
    desk.ledger.api_keys.revoke(desk.key.partition(".")[0], desk.time.now)
    assert 303 == desk.client.get("/risk").status_code


@pytest.mark.parametrize("forged", ["", "x", "abcdefgh.AAAAAA.BBBB", "\x00"])
def test_a_forged_session_opens_nothing(desk, forged):
    desk.client.cookies.set("mlops_session", forged)

    assert 303 == desk.client.get("/risk").status_code


def test_a_wrong_key_and_one_for_something_else_are_refused_and_not_repeated(desk):
    other = desk.ledger.api_keys.add("bot", ["score"], T0)

    for key in ("nonsense", other, "<script>"):
        answer = enter(desk, key)
        assert 401 == answer.status_code
        assert key not in answer.text
        assert "set-cookie" not in answer.headers


def test_who_tries_too_often_must_wait(desk):
    codes = [enter(desk, "nonsense").status_code for _ in range(11)]

    assert [401] * 10 + [429] == codes
    assert 429 == enter(desk).status_code  # the right key does not help now


def test_a_form_from_another_site_does_not_log_in(desk):
    assert 403 == enter(desk, Origin="https://evil.example").status_code


def test_the_id_of_a_session_is_no_key(desk):
    enter(desk)
    desk.client.get("/risk")  # now the gate remembers the id
    name = desk.key.partition(".")[0]

    feed = desk.client.websocket_connect("/feed", headers={"Authorization": f"Bearer {name}"})
    with pytest.raises(WebSocketDisconnect), feed:
        pass
    assert 401 == enter(desk, name).status_code


def test_no_log_line_has_the_key(desk):
    lines, root = io.StringIO(), logging.getLogger()
    root.addHandler(handler := logging.StreamHandler(lines))
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(0), logger_factory=structlog.WriteLoggerFactory(lines)
    )
    try:
        enter(desk)
        enter(desk, desk.key + "x")
        desk.client.get("/risk")
    finally:
        root.removeHandler(handler)
        structlog.reset_defaults()

    assert desk.key.partition(".")[2] not in lines.getvalue()


def test_pages_let_nothing_in_from_elsewhere(desk):
    enter(desk)
    for path in ("/login", "/risk", "/models"):
        policy = desk.client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_no_page_changes_anything(desk):
    enter(desk)

    assert {405} == {desk.client.post(path).status_code for path in ("/risk", "/models", "/")}
