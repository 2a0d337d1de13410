"""freqtrade's messages as it renders them, in each of its formats, in every state of disrepair."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.errors import DataError
from mlops.io.ledger import BundleRow, Ledger
from mlops.types import FILL_COLUMNS
from registry_hooks.webhooks.freqtrade import NOTES, Letter, catch_up, fields, fill, kind_of, receive, tagged

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DOC = (Path(__file__).parents[3] / "docs" / "freqtrade.md").read_text()
LAYOUT = orjson.loads(re.search(r"```json\n(.*?)```", DOC, re.DOTALL)[1])["webhook"]
FORMATS = ("json", "form", "raw")
# What freqtrade 2024-2026 hands to str.format: the dictionaries of `_notify_enter`, `_notify_exit` and rpc_types.
TRADE = {
    "trade_id": 17,
    "exchange": "Binance",
    "pair": "BTC/USDT",
    "direction": "Long",
    "leverage": 1.0,
    "limit": 61000.5,
    "open_rate": 61000.5,
    "order_rate": 61000.5,
    "order_type": "limit",
    "amount": 0.0125,
    "stake_amount": 762.50625,
    "stake_currency": "USDT",
    "base_currency": "BTC",
    "quote_currency": "USDT",
    "fiat_currency": None,
    "open_date": datetime(2026, 3, 2, 11, 55, 1, 250000, tzinfo=UTC),
    "current_rate": None,
    "enter_tag": "volatility@4|champion|BTC-2026-03-02T11:55",
    "buy_tag": "volatility@4|champion|BTC-2026-03-02T11:55",
    "sub_trade": False,
}
EXIT = TRADE | {
    "gain": "profit",
    "close_rate": 62000.0,
    "order_rate": 62000.0,
    "profit_amount": 10.96,
    "profit_ratio": 0.0143,
    "exit_reason": "roi",
    "close_date": datetime(2026, 3, 2, 11, 59, 30, tzinfo=UTC),
    "cumulative_profit": 0.0,
    "is_final_exit": True,
}
LOCK = {"id": 1, "pair": "BTC/USDT", "reason": "StoplossGuard", "lock_end_time": "2026-03-02 13:00:00", "side": "*"}
MESSAGES = {
    "entry_fill": TRADE,
    "exit_fill": EXIT,
    "entry": TRADE,
    "exit": EXIT,
    "entry_cancel": TRADE | {"reason": "cancelled due to timeout"},
    "exit_cancel": EXIT | {"reason": "cancelled due to timeout"},
    "protection_trigger": LOCK,
    "protection_trigger_global": LOCK,
    "strategy_msg": {"msg": "hello = world & more"},
    "status": {"status": "running"},
}
EVENTS = tuple(name for name, layout in LAYOUT.items() if isinstance(layout, dict))


def _rendered(event, message=None, **change):
    """As rpc/webhook.py does it: str.format of every value."""
    values = (message or MESSAGES[event]) | change
    return {key: template.format(**values) for key, template in LAYOUT[event].items()}


def _letter(payload, form="json", bot="spot-1"):
    body = {
        "json": lambda: orjson.dumps(payload),
        "form": lambda: urlencode(payload).encode(),
        "raw": lambda: "\n".join(f"{key}={value}" for key, value in payload.items()).encode(),
    }[form]()
    kinds = {"json": "application/json", "form": "application/x-www-form-urlencoded", "raw": "text/plain"}
    return Letter.of(bot, kinds[form], body)


def _row(event, form="json", **change):
    return fill(fields(_letter(_rendered(event, **change), form)), "spot-1", NOW)


def test_the_documented_configuration_has_every_message_that_is_tested_here():
    assert set(MESSAGES) == set(EVENTS)
    assert set(EVENTS) <= {"entry_fill", "exit_fill", *NOTES}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("event", EVENTS)
def test_each_message_of_the_documented_configuration_is_understood_in_each_format(sqlite_ledger, event, form):
    letter = _letter(_rendered(event), form)

    said = receive(sqlite_ledger, letter, NOW)

    assert {"accepted": True, "effect": "fill" if event.endswith("_fill") else "kept"} == said
    assert {"accepted": False} == receive(sqlite_ledger, letter, NOW)
    assert [] == sqlite_ledger.deliveries.unsettled("freqtrade", before=NOW + timedelta(days=1))


def test_a_round_trip_is_two_fills_that_add_up_to_nothing(ledger):
    for event in ("entry_fill", "exit_fill"):
        receive(ledger, _letter(_rendered(event)), NOW)

    (position,) = ledger.telemetry.positions("volatility", "spot-1").itertuples(index=False)
    assert ("BTC/USDT", 0.0) == (position.unit, position.quantity)
    assert 0.0125 * (62000.0 - 61000.5) - 0.001 * 0.0125 * (62000.0 + 61000.5) == pytest.approx(position.cash_flow)


@pytest.mark.parametrize("form", FORMATS)
def test_a_fill_has_what_the_message_says(form):
    row = _row("entry_fill", form)

    assert list(FILL_COLUMNS) == list(row)
    assert ("volatility", 4, "spot-1", "BTC/USDT") == tuple(row[k] for k in ("model", "version", "book", "unit"))
    assert (0.0125, 61000.5) == (row["quantity"], row["price"])
    assert 0.001 * 0.0125 * 61000.5 == pytest.approx(row["fee"])
    assert datetime(2026, 3, 2, 11, 55, 1, tzinfo=UTC) == row["event_time"]


@pytest.mark.parametrize(
    ("event", "direction", "sign"),
    [("entry_fill", "Long", 1), ("exit_fill", "Long", -1), ("entry_fill", "Short", -1), ("exit_fill", "Short", 1)],
)
def test_bought_is_positive(event, direction, sign):
    assert sign * 0.0125 == _row(event, direction=direction)["quantity"]


def test_partial_exits_and_further_entries_of_one_trade_are_fills_of_their_own():
    second = {"sub_trade": True, "stake_amount": 1525.0125}  # the same size at the same price: only the stake grew
    entries = [_row("entry_fill"), _row("entry_fill", **second)]
    half = {"amount": 0.00625, "sub_trade": True}
    later = datetime(2026, 3, 2, 11, 59, 40, tzinfo=UTC)
    exits = [_row("exit_fill", **half), _row("exit_fill", **half, cumulative_profit=5.48, close_date=later)]

    assert 4 == len({row["fill_id"] for row in (*entries, *exits)})
    assert [datetime(2026, 3, 2, 11, 55, 1, tzinfo=UTC), NOW] == [row["event_time"] for row in entries]


def test_the_same_trade_number_of_two_bots_is_two_trades():
    payload = fields(_letter(_rendered("entry_fill")))

    assert fill(payload, "spot-1", NOW)["fill_id"] != fill(payload, "spot-2", NOW)["fill_id"]


def test_the_formats_tell_of_the_same_fill():
    assert 1 == len({_row("exit_fill", form)["fill_id"] for form in FORMATS})


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("volatility@4|champion|id-7", ("volatility", 4)),
        ("my model@12||", ("my model", 12)),
        ("volatility@4|shadow|a|b@c", ("volatility", 4)),
        *(
            (tag, ("untagged", 0))
            for tag in ("", "None", "ema_cross", "volatility", "volatility@4", "volatility@4|champion")
        ),
        *((tag, ("untagged", 0)) for tag in ("volatility@0|a|b", "volatility@-1|a|b", "volatility@four|a|b", "@4|a|b")),
        *((tag, ("untagged", 0)) for tag in ("volatility@9999999999|a|b", "a\x00b@4|c|d", "volatility@\u0664|a|b")),
    ],
)
def test_a_tag_is_ours_or_the_trade_is_untagged(tag, found):
    assert found == tagged(tag)


def test_a_trade_without_a_tag_is_kept_and_not_guessed(sqlite_ledger):
    receive(sqlite_ledger, _letter(_rendered("entry_fill", enter_tag=None)), NOW)

    assert ["BTC/USDT"] == [*sqlite_ledger.telemetry.positions("untagged", "spot-1").unit]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("entry_fill", "entry_fill"),
        ("RPCMessageType.ENTRY_FILL", "entry_fill"),
        ("webhookentryfill", "entry_fill"),
        ("webhookbuyfill", "entry_fill"),
        ("webhookexitfill", "exit_fill"),
        ("webhooksellfill", "exit_fill"),
        ("sell_fill", "exit_fill"),
        ("webhookbuy", "entry"),
        ("webhookentry", "entry"),
        ("webhooksell", "exit"),
        ("webhookbuycancel", "entry_cancel"),
        ("webhookexitcancel", "exit_cancel"),
        ("webhookstatus", "status"),
        ("protection_trigger_global", "protection_trigger_global"),
    ],
)
def test_the_names_of_all_releases_are_understood(said, kind):
    assert kind == kind_of({"type": said})


def test_a_layout_of_freqtrade_s_own_names_is_understood():
    said = {"type": "webhookbuyfill", "trade_id": "3", "pair": "ETH/USDT", "direction": "Long", "amount": "2.0"}
    said |= {"open_rate": "3000.0", "buy_tag": "volatility@4|champion|x", "open_date": "2026-03-02 11:00:00"}

    row = fill(said, "bot", NOW)

    assert (2.0, 3000.0, "volatility", 0.0) == (row["quantity"], row["price"], row["model"], row["fee"])
    assert datetime(2026, 3, 2, 11, tzinfo=UTC) == row["event_time"]


def _without(name):
    return {key: value for key, value in _rendered("entry_fill").items() if key != name}


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        *((_without(name), name) for name in ("type", "trade_id", "pair", "direction", "rate", "amount")),
        *(
            (_rendered("entry_fill") | {"amount": value}, "amount")
            for value in ("nan", "inf", "-1", "0", "1,5", "None")
        ),
        (_rendered("entry_fill") | {"rate": "1e999"}, "rate must be a number"),
        (_rendered("entry_fill") | {"amount": "1e300", "rate": "1e300"}, "quantity of fills must be 0, or 1e-08"),
        (_rendered("entry_fill") | {"direction": "Sideways"}, "direction must be Long or Short"),
        (_rendered("entry_fill") | {"ts": "yesterday"}, "time must be ISO 8601"),
        (_rendered("entry_fill") | {"ts": "9999-01-01T00:00:00+00:00"}, "not after the arrival"),
        (_rendered("entry_fill") | {"ts": "0001-01-01T00:00:00+14:00"}, "time must lie after 2009"),
        (_rendered("entry_fill") | {"pair": "BTC\x00USDT"}, "pair must be given"),
        (_rendered("entry_fill") | {"type": "whitelist2"}, "type must be one that freqtrade sends"),
        (_rendered("entry_fill") | {"fee_rate": "ten"}, "fee_rate must be a number"),
    ],
)
def test_what_is_not_a_fill_beyond_doubt_is_set_aside_with_its_reason(sqlite_ledger, payload, rule):
    assert "rejected" == receive(sqlite_ledger, _letter(payload), NOW)["effect"]
    (rejection,) = sqlite_ledger.rejections.newest("fills")
    assert rule in rejection.reason
    assert orjson.dumps(payload).decode() == rejection.body


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b'{"type": {"deep": 1}}'),
        ("application/json", b'{"type": "entry_fill", "amount": 1.0}'),
        ("application/json", b"\xff\xfe\x00"),
        ("application/x-www-form-urlencoded", b"no pairs"),
        ("application/x-www-form-urlencoded", b"&".join(b"k%d=1" % i for i in range(200))),
        ("text/plain", b""),
        ("text/plain", b"type\nentry_fill"),
        ("image/png", b"\x89PNG\x00"),
    ],
)
def test_a_body_that_is_no_message_is_kept_and_set_aside(ledger, content_type, body):
    letter = Letter.of("spot-1", content_type, body)

    assert {"accepted": True, "effect": "rejected"} == receive(ledger, letter, NOW)
    assert 1 == len(ledger.rejections.newest("fills"))


def test_raw_may_be_json_too():
    assert {"type": "status", "status": "ok"} == fields(
        Letter.of("b", "text/plain; charset=utf-8", b'{"type":"status","status":"ok"}')
    )


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(sorted({*LAYOUT["entry_fill"], "fee", "book", "open_date"})), st.text(max_size=8)),
        st.one_of(
            st.sampled_from(["entry_fill", "exit_fill", "1.5", "Long", "Short", "None", "nan", "True"]), st.text()
        ),
    )
)
def test_whatever_the_fields_say_it_is_a_sound_fill_or_an_error_with_a_reason(payload):
    message = fields(_letter(_rendered("entry_fill") | payload))
    try:
        row = fill(message, "bot", NOW)
    except DataError as error:
        row = None
        said = str(error)

    assert "must" in said if row is None else row["price"] > 0 and row["quantity"] != 0 and row["version"] >= 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(FORMATS), st.binary(max_size=200))
def test_whatever_the_bytes_are_the_message_is_kept_and_answered(sqlite_ledger, form, body):
    assert {"accepted"} <= set(receive(sqlite_ledger, Letter("bot", form, body), NOW))


def test_a_message_that_a_crash_left_unfollowed_is_followed_once(url):
    with Ledger(url) as ledger:
        for event in ("entry_fill", "status"):
            letter = _letter(_rendered(event), "form", bot="a:b")
            ledger.deliveries.add(letter.delivery_id, "freqtrade", letter.body, NOW)
        assert 0 == catch_up(ledger, NOW), "it may be under way"

        assert [2, 0] == [catch_up(ledger, NOW + timedelta(minutes=1)) for _ in range(2)]
        assert [0.0125] == [*ledger.telemetry.positions("volatility", "a:b").quantity]


def test_a_trade_of_a_model_that_nobody_trained_is_booked_and_told_and_one_without_a_tag_is_not(ledger):
    ledger.registry.add_bundle(BundleRow("volatile", 1, "d", "r", "m-1", NOW, NOW, 5, NOW))
    for event, change in (("entry_fill", {}), ("exit_fill", {"enter_tag": "mine", "buy_tag": "mine"})):
        assert "fill" == receive(ledger, _letter(_rendered(event, **change)), NOW)["effect"]

    (alert,) = ledger.alerts.newest()
    assert ("model_unknown:volatility", True) == (alert.key, "Was volatile meant?" in alert.title)


def _said(text):
    return _letter({"type": "strategy_msg", "msg": text})


def test_what_a_strategy_says_of_the_account_becomes_a_balance_each_time_anew(ledger):
    receive(ledger, _letter(_rendered("entry_fill")), NOW)
    told = [
        receive(ledger, _said(f"balance={amount} at={at.isoformat()}{more}"), NOW)["effect"]
        for amount, at, more in (
            (1000.5, NOW - timedelta(hours=2), ""),
            (1500.5, NOW - timedelta(hours=1), " flow=500 model=volatility"),
            (1000.5, NOW, " flow=-500"),
        )
    ]

    assert ["balance"] * 3 == told
    found = ledger.balances.of("volatility", "spot-1", as_of=NOW)
    assert [(1000.5, 0.0), (1500.5, 500.0), (1000.5, -500.0)] == [(one.amount, one.flow) for one in found]
    assert {"freqtrade"} == {one.source for one in found}


@pytest.mark.parametrize(
    "text",
    [
        "balance=1000",
        "balance=1000 at=yesterday",
        f"balance=nan at={NOW.isoformat()} model=m",
        f"balance=1000 at={NOW.isoformat()}",
        f"balance=1000 at={NOW.isoformat()} model=m fee=1",
        f"balance=1000 at={NOW.isoformat()} model=m model=n",
    ],
)
def test_a_balance_that_is_not_clear_is_set_aside_with_the_reason(sqlite_ledger, text):
    assert "rejected" == receive(sqlite_ledger, _said(text), NOW)["effect"]
    assert 1 == len(sqlite_ledger.rejections.newest("fills")) + len(sqlite_ledger.rejections.newest("balances"))


@pytest.mark.parametrize("amount", ["1_000", " 1", "1 ", "\u0661", "inf", "nan", "0x1", "1e999", "1,5"])
def test_a_number_is_plain_digits(amount):
    with pytest.raises(DataError, match="amount must be a number in plain digits"):
        fill(fields(_letter(_rendered("entry_fill") | {"amount": amount})), "bot", NOW)


def test_a_key_writes_into_its_own_book_only(ledger):
    body = orjson.dumps(_rendered("entry_fill") | {"book": "somebody-elses"})

    assert "rejected" == receive(ledger, Letter.of("spot-1", "application/json", body), NOW)["effect"]
    assert "book must be that of the key" in ledger.rejections.newest("fills")[0].reason
    assert "fill" == receive(ledger, _letter(_rendered("entry_fill") | {"book": "spot-1"}), NOW)["effect"]
