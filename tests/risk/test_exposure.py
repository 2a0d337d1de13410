from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from mlops.risk.exposure import DIMENSIONS, Groups, exposed, exposure
from mlops.risk.limits import Line, State, judge
from mlops.types import POSITION_COLUMNS

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)
ROW = {
    "strategy": "a",
    "book": "paper",
    "quantity": 1.0,
    "cost": 0.0,
    "price": 100.0,
    "priced_at": pd.Timestamp("2026-01-05T14:59", tz="UTC"),
    "unit": "X",
    "kind": "spot",
    "currency": "USD",
    "sector": "tech",
    "multiplier": 1.0,
    "underlying": "",
    "strike": np.nan,
    "expiry": pd.NaT,
    "american": False,
    "daily_volume": 1e6,
}


def positions(*rows):
    return pd.DataFrame([ROW | row for row in rows], columns=[*POSITION_COLUMNS]).astype({"price": float})


BOOK = positions(
    {"unit": "AAPL", "quantity": 10},  # 1,000 long
    {"unit": "MSFT", "quantity": -4, "price": 50.0, "strategy": "b"},  # 200 short
    {"unit": "SAP", "quantity": 2, "price": 100.0, "currency": "EUR", "sector": "software"},  # 220 long
    {"unit": "AAPL", "quantity": -3, "strategy": "b"},  # 300 short
    {"unit": "OPT", "kind": "put", "underlying": "AAPL", "quantity": 1, "multiplier": 100.0, "price": 2.0},  # 400 short
)


def found(book=BOOK, equity=2000.0, **more):
    return exposure(book, equity, as_of=NOW, **({"rates": {"EUR": 1.1}, "equivalents": {"OPT": -400.0}} | more))


def test_long_and_short_add_up_to_gross_and_net():
    total = found().total

    assert (1220, 900, 2120, 320) == pytest.approx((total.long, total.short, total.gross, total.net))
    assert (1.06, 0.16) == pytest.approx((found().gross, found().net))


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_groups_of_every_dimension_add_up_to_the_whole(dimension):
    frame, total = found().frame(dimension), found().total

    assert total.long == pytest.approx(frame["long"].sum())
    assert total.short == pytest.approx(frame["short"].sum())
    assert total.gross == pytest.approx(frame["gross"].sum())
    assert total.net == pytest.approx(frame["net"].sum())
    assert 1 == pytest.approx(frame["share"].sum())


def test_an_option_counts_by_its_delta_on_its_underlying():
    by_symbol = found().frame("symbol").set_index("symbol")

    assert {"AAPL", "MSFT", "SAP"} == set(by_symbol.index)
    assert (1000, 700, 300) == tuple(by_symbol.loc["AAPL", ["long", "short", "net"]])


def test_leverage_nets_within_a_symbol_and_gross_nets_nothing():
    assert (300 + 200 + 220) / 2000 == pytest.approx(found().leverage)
    assert 300 / 2000 == pytest.approx(found().largest)


def test_concentration_is_one_for_one_symbol_and_a_kth_for_k_equal_ones():
    one = found(positions({"unit": "A"}))
    four = found(positions(*({"unit": unit} for unit in "ABCD")))

    assert (1, 1) == (one.hhi, one.top)
    assert 1 / 4 == pytest.approx(four.hhi)
    assert np.isnan(found(positions()).hhi)


def test_other_currencies_need_a_rate_and_the_base_needs_none():
    unrated = found(rates={})

    assert 1000 + 200 + 300 + 400 == pytest.approx(unrated.total.gross)
    assert [("SAP", "no rate from EUR to USD")] == [(m.unit, m.why) for m in unrated.missing]
    assert ["no rate from USD to EUR"] == sorted({m.why for m in found(base="EUR").missing})
    for bad in (0.0, -1.0, np.nan, np.inf):
        assert ["SAP"] == [m.unit for m in found(rates={"EUR": bad}).missing]


def test_what_has_no_price_is_in_no_sum_and_its_age_is_told():
    book = positions(
        {"unit": "A"},
        {"unit": "B", "price": np.nan, "priced_at": pd.NaT},
        {"unit": "C", "price": 0.0},
        {"unit": "D", "price": -5.0},
        {"unit": "E", "price": np.inf},
        {"unit": "F", "kind": "call", "underlying": "A"},
        {"unit": "G", "quantity": np.nan},
        {"unit": "H", "multiplier": np.nan},
        {"unit": "I", "price": 1e308, "quantity": 1e10},
    )

    one = found(book, 100.0)

    assert 1.0 == one.gross
    assert {
        "B": ("no price was ever seen", None),
        "D": ("the price is below zero", 60.0),
        "E": ("no price was ever seen", 60.0),
        "F": ("the option's delta is not known", 60.0),
        "G": ("the quantity is not known", 60.0),
        "H": ("its multiplier is not known", 60.0),
        "I": ("its value is too large to be one", 60.0),
    } == {m.unit: (m.why, m.age_s) for m in one.missing}


def test_a_future_may_trade_below_zero():
    oil = found(positions({"unit": "CL", "kind": "future", "price": -37.63, "multiplier": 1000.0}), 1e5)

    assert (0.3763, -0.3763) == pytest.approx((oil.gross, oil.net))


@pytest.mark.parametrize("equity", [0.0, -100.0, np.nan])
def test_without_equity_ratios_are_not_known_and_the_money_still_is(equity):
    ruined = found(equity=equity)

    assert np.isnan([ruined.gross, ruined.net, ruined.leverage, ruined.largest]).all()
    assert 2120 == pytest.approx(ruined.total.gross)
    assert f"equity is {equity:g}" in ruined.why
    assert {True} == {bool(measured.why or measured.beyond) for measured in ruined.measures()}


@pytest.mark.parametrize("equity", [0.0, -100.0])
def test_what_is_held_without_equity_is_beyond_every_line(equity):
    lines = [Line(name, 1.0, 2.0, 3.0) for name in ("gross", "net", "leverage", "concentration")]

    findings = judge(lines, found(equity=equity).measures())

    assert {State.HARD} == {one.params["state"] for one in findings}
    assert f"gross is beyond its hard line of 3.00: equity is {equity:g}: there is nothing" in findings[0].note
    flat = judge(lines, exposed(np.zeros(len(BOOK)), Groups.of(BOOK), equity).measures())
    assert {State.UNKNOWN} == {one.params["state"] for one in flat}
    lost = found(positions({"unit": "B", "price": np.nan}), equity)
    assert [State.HARD, *[State.UNKNOWN] * 3] == [one.params["state"] for one in judge(lines, lost.measures())]


def test_a_hedged_book_without_equity_has_no_net_and_is_beyond_the_line_on_gross():
    book = positions({"unit": "A"}, {"unit": "B", "quantity": -10.0, "price": 10.0})

    states = {one.measure: bool(one.beyond) for one in found(book, -1.0).measures()}

    assert {"gross": True, "net": False, "leverage": True, "concentration": True} == states


def test_a_missing_position_leaves_gross_known_from_below_and_the_others_as_what_is_known():
    gross, *others = found(rates={}).measures()

    assert gross.at_least
    assert "SAP: no rate" in gross.why
    assert {(True, True, "of what is known")} == {(one.at_least, bool(one.why), one.words) for one in others}
    assert {""} == {one.why for one in found().measures()}


def test_an_empty_book_is_flat():
    flat = found(positions())

    assert (0, 0, 0) == (flat.gross, flat.net, flat.leverage)
    assert () == flat.missing


def test_groups_made_before_give_the_same_as_groups_made_now():
    groups = Groups.of(BOOK)

    assert repr(found()) == repr(found(groups=groups))
    value = np.array([1000.0, -200.0, 220.0, -300.0, -400.0])
    assert repr(replace(found(), missing=())) == repr(exposed(value, groups, 2000.0))


def test_what_names_no_sector_or_currency_is_a_group_of_its_own():
    book = positions({"unit": "A", "sector": None}, {"unit": "B", "sector": np.nan}, {"unit": "C", "sector": ""})

    assert ["(not stated)"] == found(book).frame("sector")["sector"].tolist()
    assert ["no currency is named"] == [m.why for m in found(positions({"currency": None})).missing]


def test_the_frame_is_left_alone():
    before = BOOK.copy()

    found()

    pd.testing.assert_frame_equal(before, BOOK)
