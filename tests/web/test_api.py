"""The bot API: rows in by key, bad ones set aside, good ones stored once."""

import json
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from mlops.io.ledger import Ledger
from mlops.settings import ServiceSettings, Settings
from mlops.types import Role
from mlops.web import app
from registry_hooks.aliases import Registry
from registry_hooks.bot import Scored

T0 = datetime(2026, 3, 2, 21, tzinfo=UTC)
AT = T0.isoformat()


def prediction(unit="AAPL", **changes):
    row = {"model": "m", "version": 1, "unit": unit, "event_time": AT, "known_at": AT, "matures_at": AT}
    return row | {"role": "champion", "probability": 0.6, "features": {"a": 1.0, "b": None}} | changes


ROWS = {
    "predictions": prediction(),
    "outcomes": {"model": "m", "unit": "A", "event_time": AT, "known_at": AT, "label": 1, "value": 0.01},
    "fills": {
        "fill_id": "f1", "model": "m", "version": 1, "book": "b", "unit": "A", "event_time": AT,
        "quantity": -3.0, "price": 10, "fee": 0.1,
    },
    "quotes": {"unit": "A", "event_time": AT, "known_at": AT, "bid": 9.9, "ask": 10.1},
}  # fmt: skip
WRONG = {
    "predictions": {"probability": 1.5},
    "outcomes": {"label": 2},
    "fills": {"price": -1},
    "quotes": {"ask": 1.0},
}


class Doubler:
    """A scorer whose probability is its first feature."""

    names = ("a", "b")

    def score(self, units, values, *, event_time, known_at, matures_at, keys=None):
        n = len(units)
        return Scored(tuple(units), values[:, 0].astype(float), np.full(n, 7), {}, {7: Role.CHAMPION})


@pytest.fixture
def registry(ledger, tmp_path):
    return Registry(MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"), ledger, tmp_path)


@pytest.fixture
def client(registry):
    yield from opened(registry)


def opened(registry, **service):
    settings = Settings(service=ServiceSettings(**service))
    scorers = {"m": Doubler()}.get
    with TestClient(app.build(registry, settings, lambda: datetime.now(UTC), scorers)) as client:
        token = registry.ledger.add_key("test", ["admin"], T0)
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def post(client, kind, rows, **kwargs):
    return client.post(f"/v1/{kind}", content=json.dumps(rows), headers={"content-type": "application/json"}, **kwargs)


@pytest.mark.parametrize("kind", ROWS)
def test_good_rows_are_stored_once_and_bad_ones_are_set_aside_with_the_reason(client, registry, kind):
    good, bad = ROWS[kind], ROWS[kind] | {"unit": "B"} | WRONG[kind]
    bad |= {"fill_id": "f2"} if kind == "fills" else {}

    first, again = (post(client, kind, [good, bad, {"unit": 3}, 7]) for _ in range(2))

    assert 200 == first.status_code, first.text
    assert (1, 0, [1, 2, 3]) == (
        first.json()["stored"],
        first.json()["known"],
        [r["row"] for r in first.json()["rejected"]],
    )
    assert (0, 1) == (again.json()["stored"], again.json()["known"])
    kept = registry.ledger.rejections(kind)
    assert 3 == len(kept)
    assert {"test"} == {one.source for one in kept}
    shown = client.get("/v1/rejections", params={"kind": kind}).json()
    assert {one.reason for one in kept} == {one["reason"] for one in shown}


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_that_contradicts_a_stored_one_never_overwrites_it(client, kind):
    other = {
        "predictions": {"probability": 0.1},
        "outcomes": {"value": 9.0},
        "fills": {"price": 11.0},
        "quotes": {"bid": 9.0},
    }
    post(client, kind, [ROWS[kind]])

    answer = post(client, kind, [ROWS[kind] | other[kind]]).json()

    assert (0, 0) == (answer["stored"], answer["known"])
    assert "stored with other values" in answer["rejected"][0]["reason"]


def test_what_was_posted_is_what_the_ledger_has(client, registry):
    post(client, "predictions", [prediction("A"), prediction("B", probability=0.25)])

    frame, features, names = registry.ledger.predictions("m", start=T0, end=T0 + timedelta(1), as_of=T0 + timedelta(1))

    assert ("a", "b") == names
    assert [0.6, 0.25] == frame.probability.tolist()
    np.testing.assert_array_equal(np.array([[1, np.nan]] * 2, np.float32), features)


def test_ndjson_goes_line_by_line(client):
    lines = "\n".join([json.dumps(prediction("A")), "{broken", "", json.dumps(prediction("B"))])

    answer = client.post("/v1/predictions", content=lines, headers={"content-type": "application/x-ndjson"}).json()

    assert 2 == answer["stored"]
    assert [1] == [row["row"] for row in answer["rejected"]]


@pytest.mark.parametrize(
    "change",
    [
        {"event_time": "2026-03-02T21:00:00"},  # whose time?
        {"event_time": "9999-12-31T00:00:00Z"},
        {"event_time": 1_700_000_000},
        {"known_at": (T0 - timedelta(seconds=1)).isoformat()},
        {"version": 2**63},
        {"version": "1"},
        {"version": True},
        {"unit": ""},
        {"unit": "\0"},
        {"unit": "x" * 10_000},
        {"role": "king"},
        {"probability": "0.5"},
        {"features": {}},
        {"features": {"a": [1]}},
        {"features": {"a": "1"}},
        {"extra": 1},
    ],
)
def test_a_row_is_refused_for_what_is_wrong_with_it(client, change):
    answer = post(client, "predictions", [prediction() | change])

    assert 200 == answer.status_code
    assert (0, 1) == (answer.json()["stored"], len(answer.json()["rejected"]))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{}", 422),
        (b"[", 422),
        (b"\xff\xfe", 422),
        (b'["\\ud800"]', 422),
        (b"[NaN]", 422),
        (b"[" * 100_000, 422),
        (b"[" + b'{"a":' * 20 + b"1" + b"}" * 20 + b"]", 422),
        (b"[" + b"1," * 60_000 + b"1]", 422),
        (b"[" + b" " * (9 * 2**20) + b"]", 413),
    ],
)
def test_a_body_that_cannot_be_read_is_the_callers_fault(client, body, status):
    answer = client.post("/v1/outcomes", content=body, headers={"content-type": "application/json"})

    assert status == answer.status_code, answer.text
    assert answer.json()["detail"]


def test_brackets_in_texts_are_not_nesting(client):
    assert 1 == post(client, "predictions", [prediction("[" * 50 + '"]' + "{" * 20)]).json()["stored"]


def test_content_types_and_encodings_other_than_plain_json_are_refused(client):
    for headers in ({"content-type": "text/csv"}, {"content-type": "application/json", "content-encoding": "gzip"}):
        assert 415 == client.post("/v1/outcomes", content=b"[]", headers=headers).status_code


def test_without_a_key_nothing_is_stored_and_a_scope_opens_its_own_door_only(client, registry):
    narrow = registry.ledger.add_key("narrow", ["quotes:write"], T0)
    gone = registry.ledger.add_key("gone", ["admin"], T0)
    registry.ledger.revoke_key(gone.partition(".")[0], T0)

    def status(kind, header):
        return client.post(f"/v1/{kind}", content=b"[]", headers={"authorization": header}).status_code

    assert [401] * 4 == [status("fills", header) for header in ("", "Basic x", "Bearer nonsense", f"Bearer {gone}")]
    assert [403, 200] == [status(kind, f"Bearer {narrow}") for kind in ("fills", "quotes")]
    assert 403 == client.get("/v1/rejections", headers={"authorization": f"Bearer {narrow}"}).status_code


def test_who_asks_too_often_is_told_when_to_come_again(registry):
    for client in opened(registry, rate=3):
        answers = [post(client, "outcomes", []) for _ in range(4)]

        assert [200, 200, 200, 429] == [a.status_code for a in answers]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


def test_a_bot_without_python_gets_scores_and_every_feature_must_be_there(client):
    bar = {"event_time": AT, "known_at": AT, "matures_at": AT}
    rows = [
        {"unit": "A", "features": {"b": 1, "a": 0.25}},
        {"unit": "B", "key": "k", "features": {"a": 0.5, "b": None}},
    ]

    answer = client.post("/v1/models/m/score", content=json.dumps(bar | {"rows": rows}))

    assert 200 == answer.status_code, answer.text
    expected = [("A", 7, "champion", 0.25), ("B", 7, "champion", 0.5)]
    assert expected == [tuple(score.values()) for score in answer.json()["scores"]]
    missing = bar | {"rows": [{"unit": "A", "features": {"a": 1}}]}
    assert 422 == client.post("/v1/models/m/score", content=json.dumps(missing)).status_code
    assert 404 == client.post("/v1/models/other/score", content=json.dumps(bar | {"rows": rows})).status_code


def test_assignment_is_the_bots_own_and_outlives_an_mlflow_that_is_away(client, registry, monkeypatch):
    assert 404 == client.get("/v1/models/m/assignment", params={"key": "A"}).status_code
    registry.client.create_registered_model("m")
    registry.ledger.append_promotion(
        "m", expected=None, to=1, kind="promote", actor="t", reason="t", evidence_run="", correlation_id="", at=T0
    )
    registry.ledger.open_experiment("m", champion=1, challenger=2, kind="compare", salt="s", split=0.5, at=T0)
    keys = [f"k{i}" for i in range(40)]

    first = client.get("/v1/models/m/assignment", params={"key": keys}).json()

    assert {1, 2} == {arm["version"] for arm in first["arms"]}
    assert not first["stale"]

    def away(*_, **__):
        raise __import__("mlflow").MlflowException("connection refused")

    monkeypatch.setattr(registry.client, "search_model_versions", away)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    later = client.get("/v1/models/m/assignment", params={"key": keys}).json()
    assert later["stale"]
    assert first["arms"] == later["arms"]


def test_metrics_count_what_happened_and_health_says_how_it_stands(client, registry):
    post(client, "outcomes", [ROWS["outcomes"], 1])

    text = client.get("/metrics").text

    assert 'mlops_rows_total{became="stored",kind="outcomes"} 1.0' in text
    assert 'mlops_rows_total{became="rejected",kind="outcomes"} 1.0' in text
    assert 'mlops_requests_total{method="POST",route="/v1/outcomes",status="200"} 1.0' in text
    assert "mlops_ledger_up 1.0" in text
    assert {"ledger": "ok"} == client.get("/readyz").json()


def test_answers_carry_a_correlation_id_and_safe_headers_and_other_hosts_are_refused(client):
    given = client.get("/healthz", headers={"x-correlation-id": "bar:1"})
    made = client.get("/healthz", headers={"x-correlation-id": "bad id\t!"})

    assert "bar:1" == given.headers["x-correlation-id"]
    assert 32 == len(made.headers["x-correlation-id"])
    assert "nosniff" == given.headers["x-content-type-options"]
    assert 400 == client.get("/healthz", headers={"host": "evil.example"}).status_code


def test_while_the_ledger_is_away_nothing_is_acknowledged(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    registry = Registry(MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"), ledger, tmp_path)
    for client in opened(registry):
        post(client, "outcomes", [])
        with ledger._writing() as connection:
            connection.exec_driver_sql("ALTER TABLE outcomes RENAME TO elsewhere")
        assert 503 == post(client, "outcomes", [ROWS["outcomes"]]).status_code
        with ledger._writing() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO outcomes")
        assert 1 == post(client, "outcomes", [ROWS["outcomes"]]).json()["stored"]
    ledger.close()
