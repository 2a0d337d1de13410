"""The bot API: rows in by key, bad ones set aside, good ones stored once."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlops.errors import StorageError
from mlops.io.ledger import BundleRow, Instrument
from mlops.io.ledger.assignments import Assignment
from mlops.types import Kind

T0 = datetime(2026, 3, 2, 21, tzinfo=UTC)
AT = T0.isoformat()
KINDS = ("predictions", "outcomes", "fills", "quotes", "balances")
WRONG = {
    "predictions": {"probability": 1.5},
    "outcomes": {"label": 2},
    "fills": {"price": "1"},
    "quotes": {"ask": 1.0},
    "balances": {"amount": "1"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_good_rows_are_stored_once_and_bad_ones_are_set_aside_with_the_reason(client, registry, kind, bot):
    good, bad = bot.row(kind), bot.row(kind) | {"unit": "B"} | WRONG[kind]
    bad |= {"fill_id": "f2"} if kind == "fills" else {}

    first, again = (bot.post(client, kind, [good, bad, {"unit": 3}, 7]) for _ in range(2))

    assert 200 == first.status_code, first.text
    assert (1, 0, [1, 2, 3]) == (
        first.json()["stored"],
        first.json()["known"],
        [r["row"] for r in first.json()["rejected"]],
    )
    assert (0, 1) == (again.json()["stored"], again.json()["known"])
    kept = registry.ledger.rejections.newest(kind)
    assert 3 == len(kept)
    assert {"test"} == {one.source for one in kept}
    shown = client.get("/v1/rejections", params={"kind": kind}).json()
    assert [(one.reason, one.body) for one in kept] == [(one["reason"], one["body"]) for one in shown]
    assert {r["reason"] for r in first.json()["rejected"]} == {one["reason"] for one in shown}
    assert json.dumps(bad) in {one["body"] for one in shown}
    assert 1 == len(client.get("/v1/rejections", params={"limit": 1}).json())
    bad_questions = [{"kind": "kings"}, {"limit": 0}, {"limit": 1001}, {"limit": "x"}]
    assert [422] * 4 == [client.get("/v1/rejections", params=asked).status_code for asked in bad_questions]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_contradicts_a_stored_one_never_overwrites_it(client, kind, bot):
    other = {
        "predictions": {"probability": 0.1},
        "outcomes": {"value": 9.0},
        "fills": {"price": 11.0},
        "quotes": {"bid": 9.0},
        "balances": {"flow": 9.0},
    }
    bot.post(client, kind, [bot.row(kind)])

    answer = bot.post(client, kind, [bot.row(kind) | other[kind]]).json()

    assert (0, 0) == (answer["stored"], answer["known"])
    assert "stored with other values" in answer["rejected"][0]["reason"]


def test_rows_that_nobody_can_know_yet_are_set_aside(client, registry, bot):
    """Sent a month ahead they would stand for a bot that is dead by then."""
    ahead = {"event_time": "2190-01-01T00:00:00Z", "known_at": "2190-01-01T00:00:00Z"}
    sent = [bot.prediction("A"), bot.prediction("B") | ahead | {"matures_at": "2190-01-02T00:00:00Z"}]

    answer = bot.post(client, "predictions", sent).json()

    assert (1, [1]) == (answer["stored"], [row["row"] for row in answer["rejected"]])
    assert "known_at must not lie after now" in answer["rejected"][0]["reason"]
    assert 1 == len(registry.ledger.rejections.newest("predictions"))


def test_what_was_posted_is_what_the_ledger_has(client, registry, bot):
    bot.post(client, "predictions", [bot.prediction("A"), bot.prediction("B", probability=0.25)])

    frame, features, names = registry.ledger.telemetry.predictions(
        "m", start=T0, end=T0 + timedelta(1), as_of=T0 + timedelta(1)
    )

    assert ("a", "b") == names
    assert [0.6, 0.25] == frame.probability.tolist()
    np.testing.assert_array_equal(np.array([[1, np.nan]] * 2, np.float32), features)


def test_how_a_bot_asked_its_versions_is_kept_as_a_bot_in_python_keeps_it(client, registry, bot):
    row = {"model": "m", "version": 2, "event_time": AT, "rows": 20, "seconds": 0.125}
    sent = [row, row | {"batch": "b", "failed": True}, row | {"seconds": -1.0}, row | {"failed": 1}, row | {"rows": 0}]

    first, again = (bot.post(client, "scorings", sent).json() for _ in range(2))

    assert (2, 0, [2, 3, 4]) == (first["stored"], first["known"], [r["row"] for r in first["rejected"]])
    assert (0, 2) == (again["stored"], again["known"])
    other = bot.post(client, "scorings", [row | {"seconds": 0.5}]).json()
    assert "stored with other values" in other["rejected"][0]["reason"]
    kept = registry.ledger.scorings.between("m", T0, T0 + timedelta(1))
    said = kept[["version", "batch", "failed", "rows", "seconds"]].to_numpy().tolist()
    assert [[2, "all", 0, 20, 0.125], [2, "b", 1, 20, 0.125]] == said


def test_ndjson_goes_line_by_line(client, bot):
    lines = "\n".join([json.dumps(bot.prediction("A")), "{broken", "", json.dumps(bot.prediction("B"))])

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
        {"event_time": "1700000000"},  # seconds or milliseconds?
        {"features": {"a": 1e39}},  # no 32 bits hold it
        {"features": {"a\0": 1}},
        {"features": {"a": True}},
        {"probability": True},
    ],
)
def test_a_row_is_refused_for_what_is_wrong_with_it(lone, change, bot):
    answer = bot.post(lone, "predictions", [bot.prediction() | change])

    assert 200 == answer.status_code
    assert (0, 1) == (answer.json()["stored"], len(answer.json()["rejected"]))


def test_without_a_key_nothing_is_stored_and_a_scope_opens_its_own_door_only(client, registry):
    narrow = registry.ledger.api_keys.add("narrow", ["quotes:write"], T0)
    gone = registry.ledger.api_keys.add("gone", ["admin"], T0)
    registry.ledger.api_keys.revoke(gone.partition(".")[0], T0)

    def status(kind, header):
        return client.post(f"/v1/{kind}", content=b"[]", headers={"authorization": header}).status_code

    shown = (
        "",
        "Basic x",
        "Bearer",
        "Bearer nonsense",
        f"Bearer {gone}",
        f"bearer {narrow}x",
        f"Basic {narrow}",
        "\xb2",
    )
    for kind in KINDS:
        assert [401] * len(shown) == [status(kind, header.encode("latin-1")) for header in shown]
        scope = "fills" if kind == "balances" else kind  # who may tell of trades may tell what the account is worth
        doors = {"fills", "balances"} if scope == "fills" else {kind}
        own = registry.ledger.api_keys.add(f"only-{kind}", [f"{scope}:write"], T0)
        assert doors == {other for other in KINDS if status(other, f"Bearer {own}") == 200}
        assert {403} == {status(other, f"Bearer {own}") for other in KINDS if other not in doors}
    for path in (
        "/v1/rejections",
        "/v1/rejections?limit=x",
        "/v1/models/m/assignment?key=A",
        "/v1/models/m/assignment",
        "/v1/trading-state",
    ):
        assert 401 == client.get(path, headers={"authorization": ""}).status_code
        assert 403 == client.get(path, headers={"authorization": f"Bearer {narrow}"}).status_code


def test_what_bots_may_do_is_told_in_words_too(client, registry):
    first = client.get("/v1/trading-state").json()
    registry.ledger.trading.set("reducing", "ada", "storm", T0)

    assert {"state": "active", "meaning": "orders as the models ask for", "seq": 0, "reason": ""} == first
    words = "no new positions; open ones may only shrink"
    assert {"state": "reducing", "meaning": words, "seq": 1, "reason": "storm"} == client.get(
        "/v1/trading-state"
    ).json()


def test_who_asks_too_often_is_told_when_to_come_again(registry, bot):
    for client in bot.opened(registry, rate=3):
        answers = [bot.post(client, "outcomes", []) for _ in range(4)]

        assert [200, 200, 200, 429] == [a.status_code for a in answers]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        other = {"authorization": f"Bearer {registry.ledger.api_keys.add('other', ['outcomes:write'], T0)}"}
        assert 200 == client.post("/v1/outcomes", content=b"[]", headers=other).status_code
        nobody = [client.post("/v1/outcomes", content=b"[]", headers={"authorization": ""}) for _ in range(4)]
        assert [401, 401, 401, 429] == [a.status_code for a in nobody]


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


def test_assignment_is_the_bots_own_and_never_asks_mlflow(client, registry, monkeypatch):
    model = uuid.uuid4().hex
    assert 404 == client.get(f"/v1/models/{model}/assignment", params={"key": "A"}).status_code
    registry.ledger.registry.append_promotion(
        model, expected=None, to=1, kind="promote", actor="t", reason="t", evidence_run="", correlation_id="", at=T0
    )
    registry.ledger.registry.open_comparison(
        model, champion=1, challenger=2, kind="compare", salt="s", split=0.5, at=T0
    )
    keys = [f"k{i}" for i in range(40)]

    first = client.get(f"/v1/models/{model}/assignment", params={"key": keys}).json()

    assert {1, 2} == {arm["version"] for arm in first["arms"]}
    assert not first["stale"]
    assert [] == registry.client.search_registered_models(f"name = '{model}'")  # MLflow has never heard of it

    def away(*_):
        raise StorageError("ledger is away")

    monkeypatch.setattr(registry.ledger.registry, "champion", away)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    later = client.get(f"/v1/models/{model}/assignment", params={"key": keys}).json()
    assert later["stale"]
    assert first["arms"] == later["arms"]


def test_a_key_that_was_assigned_stays_whatever_the_weights_and_is_remembered(client, registry):
    model = uuid.uuid4().hex
    registry.client.create_registered_model(model)
    registry.ledger.registry.append_promotion(
        model, expected=None, to=1, kind="promote", actor="t", reason="t", evidence_run="", correlation_id="", at=T0
    )
    comparison = registry.ledger.registry.open_comparison(
        model, champion=1, challenger=2, kind="compare", salt=model, split=0.5, at=T0
    )

    def ask(*keys):
        arms = client.get(f"/v1/models/{model}/assignment", params={"key": list(keys)}).json()["arms"]
        return {arm["key"]: arm["version"] for arm in arms}

    first = ask(*(f"k{i}" for i in range(20)))
    registry.ledger.assignments.add(model, model, [Assignment("taken", 2, 0, T0), Assignment("also", 1, 0, T0)])

    assert {1, 2} == set(first.values())
    assert first == ask(*first)
    assert {"taken": 2, "also": 1} == ask("taken", "also")
    assert first | {"taken": 2, "also": 1} == registry.ledger.assignments.of(model, model)
    assert 22 == sum(registry.ledger.assignments.by_epoch(comparison)[0].counts.values())


def test_metrics_count_what_happened_and_health_says_how_it_stands(client, registry, bot):
    bot.post(client, "outcomes", [bot.row("outcomes"), 1])

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


def test_a_fill_that_no_book_can_take_is_set_aside_and_told(client, registry, bot):
    """Never accepted: a price of 0 of a share, a value past all trades, a date that never comes; the good one is kept."""
    put = Instrument("P", Kind.PUT, multiplier=100.0, underlying="A", strike=10.0, expiry=T0 + timedelta(days=30))
    registry.ledger.instruments.put([put], T0)
    changes = ({}, {"price": 0}, {"unit": "P", "price": 0}, {"quantity": 1e18, "price": 1e9, "unit": "P"},
               {"event_time": "2199-12-31T00:00:00Z"}, {"fee": 1e300}, {"quantity": 1e-9})  # fmt: skip
    fills = [bot.row("fills") | {"fill_id": f"x{i}"} | change for i, change in enumerate(changes)]

    answer = bot.post(client, "fills", fills).json()

    assert (2, [1, 3, 4, 5, 6]) == (answer["stored"], [refused["row"] for refused in answer["rejected"]])
    rules = (
        "price of A must be positive",
        "value of a fill of P",
        "event_time of a fill",
        "fee: ",
        "quantity of fills",
    )
    assert [True] * 5 == [rule in one["reason"] for rule, one in zip(rules, answer["rejected"], strict=True)]
    assert 5 == len(registry.ledger.rejections.newest("fills"))
    (alert,) = registry.ledger.alerts.newest()
    assert alert.key.startswith("fills_refused:test:")


def test_a_trade_of_a_model_that_nobody_trained_is_booked_and_told_with_the_names_near_it(client, registry, bot):
    for kind in ("fills", "balances"):  # no model is known: there is nothing to compare a name with
        assert 1 == bot.post(client, kind, [bot.row(kind)]).json()["stored"]
    assert [] == registry.ledger.alerts.newest()

    registry.ledger.registry.add_bundle(BundleRow("volatility", 1, "d", "r", "m-1", T0, T0, 5, T0))
    named = ("volatility", 1), ("volatility", 0), ("volatilty", 1), ("volatility", 7)
    fills = [
        bot.row("fills") | {"fill_id": f"n{i}", "model": model, "version": version}
        for i, (model, version) in enumerate(named)
    ]
    for _ in range(2):
        stored = bot.post(client, "fills", fills).json()
    assert (4, []) == (stored["known"], stored["rejected"])  # a true trade is lost by no typo
    bot.post(client, "balances", [bot.row("balances") | {"model": "volatilty"}])

    alerts = {alert.key: alert.title for alert in registry.ledger.alerts.newest()}
    assert {"model_unknown:volatilty", "model_unknown:volatility:v7"} == set(alerts)
    assert "Was volatility meant?" in alerts["model_unknown:volatilty"]
    assert "there is: v1" in alerts["model_unknown:volatility:v7"]


def test_prices_below_zero_are_taken_of_a_future_and_refused_row_by_row_of_others(client, registry, bot):
    registry.ledger.instruments.put([Instrument("F", Kind.FUTURE, multiplier=1_000.0)], T0)
    fills = [bot.row("fills") | {"fill_id": unit, "unit": unit, "price": -37.63} for unit in ("F", "A")]
    pairs = (("F", -37.7, -37.6), ("A", -37.7, -37.6), ("B", 0.0, 0.05), ("C", 0.0, 0.0), ("D", 2.0, -1.0))
    quotes = [bot.row("quotes") | {"unit": unit, "bid": bid, "ask": ask} for unit, bid, ask in pairs]

    of_fills, of_quotes = (bot.post(client, kind, told).json() for kind, told in (("fills", fills), ("quotes", quotes)))

    assert (1, [1]) == (of_fills["stored"], [one["row"] for one in of_fills["rejected"]])
    assert "price of A must be positive (0 only of an option" in of_fills["rejected"][0]["reason"]
    assert (2, [1, 3, 4]) == (of_quotes["stored"], [one["row"] for one in of_quotes["rejected"]])
    rules = ("bid of A must be 0 or more", "ask of C must be positive", "bid must not lie above ask")
    assert all(rule in one["reason"] for rule, one in zip(rules, of_quotes["rejected"], strict=True))
    assert 3 == len(registry.ledger.rejections.newest("quotes"))


@pytest.mark.parametrize("book", ["twin:live", "virtual", "virtual v3", " Twin:x"])
@pytest.mark.parametrize("kind", ["fills", "balances"])
def test_books_of_virtual_trades_are_no_bots(client, registry, bot, kind, book):
    """Nobody would see such a position."""
    rows = [bot.row(kind), bot.row(kind) | {"book": book}]

    answer = bot.post(client, kind, rows).json()

    assert (1, [1]) == (answer["stored"], [refused["row"] for refused in answer["rejected"]])
    assert "book must not begin with twin: or virtual" in answer["rejected"][0]["reason"]


def test_fills_open_so_many_books_and_no_more(client, registry, bot):
    """Three thousand of them kept the look at risk busy for minutes."""
    fills = [bot.row("fills") | {"fill_id": f"b{i}", "book": f"bk{i}"} for i in range(60)]
    answer = bot.post(client, "fills", fills).json()
    assert (50, [*range(50, 60)]) == (answer["stored"], [refused["row"] for refused in answer["rejected"]])
    assert "must be at most 50" in answer["rejected"][0]["reason"]
    models = [bot.row("fills") | {"fill_id": f"m{i}", "model": f"m{i}"} for i in range(200)]
    assert 150 == bot.post(client, "fills", models).json()["stored"]

    again = [bot.row("fills") | {"fill_id": "c0", "book": "bk3"}]

    assert 1 == bot.post(client, "fills", again).json()["stored"], "a book that is there goes on"
    assert 1 == len([alert for alert in registry.ledger.alerts.newest() if alert.key.startswith("fills_refused:")])
