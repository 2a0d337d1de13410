"""Bodies that no honest bot sends: whatever comes, it is the sender's fault, and the good rows beside it are stored."""

import gzip
import json

import pytest

from registry_hooks.aliases import Registry

KINDS = ("predictions", "outcomes", "fills", "quotes")
JSON, LINES = {"content-type": "application/json"}, {"content-type": "application/x-ndjson"}
NUMBER = {"predictions": "probability", "outcomes": "value", "fills": "quantity", "quotes": "bid"}
ODD = (  # what may stand where a number belongs
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" * 400, b"1" * 5000, b"true", b"false", b"null", b'"1"'),
    *("\u0661".encode(), b"0x1", b"01", b"1_0", b".5", b"[1]", b'{"a":1}', b"", b"[[[[[[1]]]]]]"),
)
SPOILED = (  # what may become of a good row
    lambda row: row.replace(b'"unit": "A', b'"unit": "\xff'),
    lambda row: row.replace(b'"unit": "A', b'"unit": "\xed\xa0\x80'),
    lambda row: row.replace(b'"unit": "A', b'"unit": "\\ud800'),
    lambda row: row.replace(b'"unit": "A', b'"unit": "\\u0000'),
    lambda row: row.replace(b'"unit": "A', b'"unit": "\0'),
    lambda row: row.replace(b'"unit": "A', b'"unit": "A", "unit": "B'),
    lambda row: row.replace(b'"unit": "A', b'"unit": "A", "\\u0075nit": "B'),
    lambda row: row.replace(b'"event_time": "2', b'"event_time": "\xd9\xa2'),
    lambda row: row.replace(b'"event_time"', b'"Event_Time"'),
    lambda row: row[:-1] + b', "more": ' + b'{"a":' * 5 + b"1" + b"}" * 5 + b"}",
    lambda row: row + b" " + row,
    lambda _: b"{}",
    lambda _: b"null",
    lambda _: b'"text"',
)
BROKEN = (  # rows that no list can hold: only a line ends where it ends
    lambda row: row[:-1],
    lambda row: row.replace(b'"', b"", 1),
    lambda row: row + b"}]",
    lambda row: row + b"," + row,
    lambda _: b"{" * 7,
    lambda _: b'"' + b'\\"' * 9,
)


def plain(kind, bot, number=None):
    """A good row as text, with something else in place of its number."""
    row = json.dumps(bot.row(kind) | {NUMBER[kind]: 12321.5}).encode()
    return row.replace(b"12321.5", b"0.25" if number is None else number)


def other(row):
    """Another row of the same kind."""
    return row.replace(b'"unit": "A', b'"unit": "Z').replace(b'"f1"', b'"f2"')


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_row_is_set_aside_and_the_good_ones_beside_it_are_stored(client, registry, kind, bot):
    good = plain(kind, bot)
    bad = [plain(kind, bot, number) for number in ODD] + [spoil(good) for spoil in SPOILED]
    assert good not in bad

    for row in bad:
        for headers, body in (
            (JSON, b"[" + b",".join([good, row, other(good)]) + b"]"),
            (LINES, b"\n".join([good, row, other(good)])),
        ):
            answer = client.post(f"/v1/{kind}", content=body, headers=headers)

            assert 200 == answer.status_code, (row, answer.text)
            found = answer.json()
            assert (2, [1]) == (found["stored"] + found["known"], [one["row"] for one in found["rejected"]]), row
            assert found["rejected"][0]["reason"]
    assert len(set(bad)) == len(registry.ledger.rejections.newest(kind, 1000))


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_is_broken_spoils_no_other_line(lone, kind, bot):
    good = plain(kind, bot)
    for spoil in BROKEN:
        body = b"\r\n".join([good, *[spoil(good)] * 10, b"", other(good)])

        answer = lone.post(f"/v1/{kind}", content=body, headers=LINES)

        assert 200 == answer.status_code, (body, answer.text)
        found = answer.json()
        assert (2, list(range(1, 11))) == (found["stored"] + found["known"], [r["row"] for r in found["rejected"]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_that_is_broken_is_the_senders_fault(lone, sqlite_ledger, kind, bot):
    good = plain(kind, bot)
    bodies = [
        b"",
        b"{}",
        b"[",
        b"]",
        b"[]]",
        b"[][]",
        b"null",
        b"\xff\xfe",
        b"\xef\xbb\xbf[]",
        b"\0",
        good,
        b"[" + good,
    ]
    bodies += [b"[" * 100_000, b"[" + b'{"a":' * 20 + b"1" + b"}" * 20 + b"]", b"[" + b"1," * 50_000 + b"1]"]
    bodies += [b'["' + b'\\"' * 100_000, b"[" + good + b'"', gzip.compress(b"[" + good + b"]")]
    for body in bodies:
        answer = lone.post(f"/v1/{kind}", content=body, headers=JSON)

        assert 422 == answer.status_code, (body[:50], answer.text[:200])
        assert answer.json()["detail"]
    assert [] == sqlite_ledger.rejections.newest(kind)
    assert {"stored": 1, "known": 0, "rejected": []} == lone.post(f"/v1/{kind}", content=b"[" + good + b"]").json()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_large_or_in_no_known_form_is_not_read(lone, kind):
    ten = b"[" + b" " * 10 * 2**20 + b"]"

    def status(body, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return lone.post(f"/v1/{kind}", content=body, headers=headers).status_code

    assert 413 == status(ten)
    assert 413 == status(ten[i : i + 2**16] for i in range(0, len(ten), 2**16))  # in chunks, without a length
    assert 413 == status(ten, **LINES)
    assert 415 == status(b"[]", content_type="text/csv")
    assert 415 == status(gzip.compress(b"[]"), content_encoding="gzip")
    assert 200 == status(b"[]", content_encoding="Identity", content_type="Application/JSON; charset=utf-8")


def test_the_limits_are_settings(sqlite_ledger, mlflow_client, tmp_path, bot):
    for client in bot.opened(Registry(mlflow_client, sqlite_ledger, tmp_path), max_body=1024, max_rows=2, max_depth=2):
        answers = [bot.post(client, "outcomes", rows) for rows in (["x" * 2000], [1, 2, 3], [[[]]], [1, 2])]

        assert [413, 422, 422, 200] == [answer.status_code for answer in answers]


def test_brackets_in_texts_are_not_nesting(lone, bot):
    assert 1 == bot.post(lone, "predictions", [bot.prediction("[" * 50 + '"]' + "{" * 20)]).json()["stored"]


def test_a_hostile_body_costs_what_its_length_costs(lone):
    for body in (b'["' + b'\\"' * 500_000, b'["' + b'"' * 1_000_000, b"\\" * 1_000_000, b"\n" * 1_000_000):
        answers = [lone.post("/v1/fills", content=body, headers=headers) for headers in (JSON, LINES)]

        assert 422 == answers[0].status_code
        assert answers[1].status_code in (200, 422)


def test_features_are_stored_in_the_order_of_their_names_whatever_order_a_language_has(client, registry, bot):
    orders = ({"a": 1.0, "b": 2.0}, {"b": 2.0, "a": 1.0})
    rows = [bot.prediction(f"U{i}", features=features) for i, features in enumerate(orders)]

    assert 2 == bot.post(client, "predictions", rows).json()["stored"]
    assert (
        2
        == bot.post(client, "predictions", [r | {"features": orders[1 - i]} for i, r in enumerate(rows)]).json()[
            "known"
        ]
    )

    _, features, names = registry.ledger.telemetry.predictions("m", start=bot.T0, end=bot.at(1), as_of=bot.at(1))
    assert (("a", "b"), [[1, 2], [1, 2]]) == (names, features.tolist())


def test_a_request_has_few_sets_of_features(lone, bot):
    rows = [bot.prediction(f"U{i}", features={f"f{i}": 1.0}) for i in range(101)]

    assert 422 == bot.post(lone, "predictions", rows).status_code
    assert 100 == bot.post(lone, "predictions", rows[:100]).json()["stored"]


def test_one_bad_row_among_many_is_found_out(lone, bot):
    rows = [bot.prediction(f"U{i}", features={"a\0" if i == 700 else "a": 1.0}) for i in range(1000)]

    found = bot.post(lone, "predictions", rows).json()

    assert (999, [700]) == (found["stored"], [one["row"] for one in found["rejected"]])


def test_a_bar_is_refused_as_a_whole(lone, bot):
    at = bot.T0.isoformat()
    bar = {"event_time": at, "known_at": at, "matures_at": at, "rows": [{"unit": "A", "features": {"a": 0.5, "b": 1}}]}
    text = json.dumps(bar).encode()
    bad = [b"", b"[]", b"\xff", text[:-1], text.replace(b"0.5", b"NaN"), text.replace(b'"b": 1', b'"b": 1, "b": 2')]
    bad += [text.replace(b'"A"', b'"\\ud800"'), text.replace(b"0.5", b"true"), b"[" * 100_000, b'{"rows":' * 9]

    assert [422] * len(bad) == [lone.post("/v1/models/m/score", content=body).status_code for body in bad]
    assert 415 == lone.post("/v1/models/m/score", content=text, headers=LINES).status_code
    assert 413 == lone.post("/v1/models/m/score", content=b" " * 10 * 2**20).status_code
    assert 200 == lone.post("/v1/models/m/score", content=text).status_code
