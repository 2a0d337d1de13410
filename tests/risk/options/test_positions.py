"""Option positions: American prices, implied volatility, Greeks in money, and what is left out."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import QuantLib

from mlops.risk.exposure import exposure
from mlops.risk.options.american import bumped, early, pricer
from mlops.risk.options.greeks import NAMES, greeks
from mlops.risk.options.implied import ABOVE, BELOW, MUTE, implied_interval, implied_volatility
from mlops.risk.options.positions import MONEY, Contracts, position_greeks
from mlops.types import POSITION_COLUMNS
from tests.risk.test_exposure import NOW
from tests.risk.test_exposure import ROW as STOCK

ROW = STOCK | {
    "price": np.nan,
    "kind": "call",
    "multiplier": 100.0,
    "underlying": "AAPL",
    "strike": 100.0,
    "expiry": pd.Timestamp(NOW + timedelta(days=90)),
    "daily_volume": 1e3,
}


def positions(*rows):
    return pd.DataFrame([ROW | row for row in rows], columns=[*POSITION_COLUMNS])


def by_tree(spot, strike, years, volatility, rate, dividend, call, steps=2000):
    """An American price from a tree of many steps: another method, good to about 1e-3."""
    up = np.exp(volatility * np.sqrt(years / steps))
    grow, discount = np.exp((rate - dividend) * years / steps), np.exp(-rate * years / steps)
    p, sign = (grow - 1 / up) / (up - 1 / up), 1 if call else -1
    price = np.maximum(sign * (spot * up ** np.arange(steps, -steps - 1, -2.0) - strike), 0)
    for n in range(steps - 1, -1, -1):
        now = spot * up ** np.arange(n, -n - 1, -2.0)
        price = np.maximum(discount * (p * price[:-1] + (1 - p) * price[1:]), sign * (now - strike))
    return price[0]


AMERICANS = [
    (100.0, 110.0, 0.7, 0.3, 0.05, 0.0, False),
    (95.0, 90.0, 1.37, 0.2, 0.02, 0.06, True),
    (40.0, 50.0, 0.05, 0.6, 0.03, 0.01, False),
    (300.0, 280.0, 2.5, 0.15, 0.04, 0.04, True),
]


@pytest.mark.parametrize("row", AMERICANS)
def test_an_american_price_is_that_of_a_fine_tree(row):
    *terms, call = row

    assert by_tree(*row) == pytest.approx(pricer(call)(*terms), rel=2e-4)


@pytest.mark.parametrize("row", AMERICANS)
def test_an_american_price_is_quantlibs_for_whole_days(row):
    spot, strike, years, volatility, rate, dividend, call = row
    days, today, clock = round(365 * years), QuantLib.Date(1, 1, 2100), QuantLib.Actual365Fixed()
    process = QuantLib.BlackScholesMertonProcess(
        QuantLib.QuoteHandle(QuantLib.SimpleQuote(spot)),
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, dividend, clock)),
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, rate, clock)),
        QuantLib.BlackVolTermStructureHandle(
            QuantLib.BlackConstantVol(today, QuantLib.NullCalendar(), volatility, clock)
        ),
    )
    payoff = QuantLib.PlainVanillaPayoff(QuantLib.Option.Call if call else QuantLib.Option.Put, strike)
    option = QuantLib.VanillaOption(payoff, QuantLib.AmericanExercise(today, today + days))
    option.setPricingEngine(QuantLib.QdFpAmericanEngine(process, QuantLib.QdFpAmericanEngine.highPrecisionScheme()))

    assert option.NPV() == pytest.approx(
        pricer(call)(spot, strike, days / 365, volatility, rate, dividend), abs=2e-6 * strike
    )


def test_bumped_greeks_are_the_european_ones_where_exercising_early_never_pays():
    rng = np.random.default_rng(4)
    spot, strike, years = rng.uniform(80, 120, 20), rng.uniform(80, 120, 20), rng.uniform(0.02, 2, 20)
    volatility, rate, dividend = rng.uniform(0.1, 0.8, 20), rng.uniform(0, 0.05, 20), -rng.uniform(0, 0.02, 20)

    found = bumped(spot, strike, years, volatility, rate, dividend, np.ones(20))

    exact = greeks(spot, strike, years, volatility, rate=rate, dividend=dividend).values
    scale = np.abs(exact).max(axis=1, keepdims=True)
    assert not early(rate, dividend, np.ones(20, dtype=bool)).any()
    assert exact / scale == pytest.approx(found / scale, abs=2e-3)


def test_bumped_greeks_are_the_slopes_of_the_american_price():
    row = (100.0, 110.0, 0.7, 0.3, 0.05, 0.01)
    price = pricer(False)

    found = dict(zip(NAMES, bumped(*(np.array([x]) for x in row), np.array([-1.0]))[:, 0], strict=True))

    s, k, t, v, r, q = row
    assert price(*row) == found["price"]
    assert price(s + 1, k, t, v, r, q) - found["price"] == pytest.approx(found["delta"] + found["gamma"] / 2, rel=2e-3)
    assert price(s, k, t, v + 0.01, r, q) - found["price"] == pytest.approx(
        found["vega_per_point"] + found["volga_per_point"] / 2, rel=1e-3
    )
    assert price(s, k, t - 1 / 365, v, r, q) - found["price"] == pytest.approx(found["theta_per_day"], rel=1e-2)
    assert price(s, k, t, v, r + 0.01, q) - found["price"] == pytest.approx(found["rho_per_point"], rel=5e-2)


def test_volatility_is_found_again_in_prices_of_both_kinds():
    rng = np.random.default_rng(5)
    n = 60
    spot, strike, years = rng.uniform(80, 120, n), rng.uniform(80, 120, n), rng.uniform(0.05, 2, n)
    volatility, rate, dividend, call = rng.uniform(0.1, 0.8, n), np.full(n, 0.03), np.full(n, 0.02), rng.random(n) < 0.5
    terms = {"call": call, "rate": rate, "dividend": dividend}
    european = greeks(spot, strike, years, volatility, **terms)["price"]
    american = bumped(spot, strike, years, volatility, rate, dividend, np.where(call, 1.0, -1.0))[0]
    alive = american > np.maximum(np.where(call, spot - strike, strike - spot), 0) + 1e-4

    found, why = implied_volatility(european, spot, strike, years, **terms)
    again, _ = implied_volatility(american, spot, strike, years, **terms, american=np.ones(n, dtype=bool))

    assert {""} == set(why)
    assert volatility == pytest.approx(found, abs=1e-9)
    assert volatility[alive] == pytest.approx(again[alive], abs=1e-6)
    assert alive.sum() > 40


@pytest.mark.parametrize(
    ("price", "spot", "american", "reason"),
    [
        (0.0, 100.0, False, BELOW),
        (-1.0, 100.0, False, BELOW),
        (17.1, 120.0, False, BELOW),
        (120.1, 120.0, False, ABOVE),
        (114.1476, 120.0, False, ABOVE),
        (np.nan, 100.0, False, "its price or its underlying's is not known"),
        (5.0, np.nan, False, "its price or its underlying's is not known"),
        (20.0, 120.0, True, BELOW),
        (120.1, 120.0, True, ABOVE),
    ],
)
def test_a_price_that_no_volatility_gives_has_none_and_says_why(price, spot, american, reason):
    one = np.ones(1)

    found, why = implied_volatility(
        price * one,
        spot * one,
        100 * one,
        one,
        call=one > 0,
        rate=0.03 * one,
        dividend=0.05 * one,
        american=np.array([american]),
    )

    assert np.isnan(found).all()
    assert [reason] == why


def test_a_price_in_which_only_rounding_speaks_has_no_volatility():
    one = np.ones(1)
    paid = 100 - 10 * np.exp(-0.03)

    for price in (paid + 1e-13, paid + 1e-9, 100 - 1e-13):
        found, why = implied_volatility(
            price * one, 100 * one, 10 * one, one, call=one > 0, rate=0.03 * one, dividend=0 * one
        )
        assert (True, [MUTE]) == (bool(np.isnan(found[0])), why)


def rounded_options(seed, n=300):
    """Random options at prices rounded to a cent: (price, spot, strike, years), their terms, and the truth."""
    rng = np.random.default_rng(seed)
    spot, strike, years = np.full(n, 100.0), rng.uniform(40, 180, n), rng.uniform(1 / 365, 2, n)
    truth, call = rng.uniform(0.05, 1.2, n), rng.random(n) < 0.5
    terms = {"call": call, "rate": np.full(n, 0.03), "dividend": np.full(n, 0.01)}
    price = np.round(greeks(spot, strike, years, truth, **terms)["price"], 2)
    return (price, spot, strike, years), terms, truth


@pytest.mark.parametrize("seed", range(4))
def test_the_volatility_of_a_rounded_price_lies_in_its_interval_or_there_is_no_price(seed):
    prices, terms, truth = rounded_options(seed)

    implied = implied_interval(*prices, **terms, step=0.01)

    known = np.isfinite(implied.volatility)
    assert known.all()
    assert ((implied.low <= truth + 0.002) & (truth <= implied.high + 0.002)).all()
    assert ((implied.low <= implied.volatility) & (implied.volatility <= implied.high)).all()


@pytest.mark.parametrize("seed", range(4))
def test_no_volatility_is_off_by_ten_points_without_a_word(seed):
    """Without the interval one in twenty of these is off by over ten points, or is missing."""
    (price, spot, strike, years), terms, truth = rounded_options(seed)
    rows = [
        {"unit": f"O{i}", "underlying": f"S{i}", "kind": "call" if terms["call"][i] else "put", "strike": strike[i]}
        | {"price": price[i], "expiry": pd.Timestamp(NOW + timedelta(days=365 * years[i])), "quantity": 1.0}
        for i in range(len(price))
    ]
    spots = {f"S{i}": 100.0 for i in range(len(price))}

    now = position_greeks(
        positions(*rows), spots, as_of=NOW, rate=0.03, dividends=dict.fromkeys(spots, 0.01), step=0.01
    )
    exact = position_greeks(positions(*rows), spots, as_of=NOW, rate=0.03, dividends=dict.fromkeys(spots, 0.01))

    sure = ~now.held["unit"].isin(list(now.doubts)).to_numpy()
    assert () == now.missing
    assert np.abs(now.volatility - truth)[sure].max() < 0.052
    off = np.abs(exact.volatility - truth[exact.held.index]) > 0.10
    assert off.sum() + len(exact.missing) > 0.05 * len(price)


def test_a_price_of_a_cent_borrows_its_neighbours_volatility_within_what_it_allows():
    day = pd.Timestamp(NOW + timedelta(days=5))
    smile = positions(
        {"unit": "far", "kind": "put", "strike": 60.0, "price": 0.01, "expiry": day, "quantity": -5},
        {"unit": "near", "kind": "put", "strike": 95.0, "price": 0.15, "expiry": day},
        {"unit": "other", "kind": "put", "strike": 95.0, "price": 9.0, "expiry": day, "underlying": "MSFT"},
    )

    now = position_greeks(smile, {"AAPL": 100.0, "MSFT": 95.0}, as_of=NOW, step=0.01)

    frame = now.frame().set_index("unit")
    assert {"far"} == now.doubts.keys()
    assert "nearest to that of near" in now.doubts["far"]
    low = implied_volatility(*(np.array([x]) for x in (0.005, 100.0, 60.0, 5 / 365)), **PUT)[0][0]
    assert low == pytest.approx(frame.loc["far", "volatility"])  # the neighbour's is lower than the price allows


PUT = {"call": np.array([False]), "rate": np.zeros(1), "dividend": np.zeros(1)}


@pytest.mark.parametrize(("quantity", "end"), [(-5.0, 0.015), (5.0, 0.005)])
def test_without_a_neighbour_the_end_that_is_worse_for_the_holder_is_taken(quantity, end):
    alone = positions(
        {"unit": "far", "kind": "put", "strike": 60.0, "price": 0.01, "quantity": quantity}
        | {"expiry": pd.Timestamp(NOW + timedelta(days=5))},
    )

    now = position_greeks(alone, {"AAPL": 100.0}, as_of=NOW, step=0.01)

    worse = implied_volatility(*(np.array([x]) for x in (end, 100.0, 60.0, 5 / 365)), **PUT)[0][0]
    assert worse == pytest.approx(now.volatility[0])
    assert "worse for what is held" in now.doubts["far"]


def test_a_price_below_what_exercise_pays_is_missing_only_beyond_its_rounding():
    deep = {"kind": "put", "strike": 150.0, "expiry": pd.Timestamp(NOW + timedelta(days=1))}
    book = positions(deep | {"unit": "rounded", "price": 49.999}, deep | {"unit": "wrong", "price": 49.9})

    now = position_greeks(book, {"AAPL": 100.0}, as_of=NOW, step=0.01)

    assert ["rounded"] == now.held["unit"].tolist()
    assert -1.0 == pytest.approx(now.each[NAMES.index("delta")][0], abs=1e-6)
    assert [("wrong", f"no volatility is given, and {BELOW}")] == [(lack.unit, lack.why) for lack in now.missing]


BOOK = positions(
    {"unit": "C1", "quantity": 2},
    {"unit": "P1", "kind": "put", "quantity": -3, "strike": 95.0, "expiry": pd.Timestamp(NOW + timedelta(days=30))},
    {"unit": "AAPL", "kind": "spot", "multiplier": 1.0, "price": 100.0},
    {"unit": "M1", "underlying": "MSFT", "strike": 50.0},
    {"unit": "A1", "kind": "put", "american": True, "strike": 110.0},
)
SPOTS, VOLATILITIES = {"AAPL": 101.0, "MSFT": 48.0}, {"C1": 0.2, "P1": 0.25, "M1": 0.3, "A1": 0.22}


def found(book=BOOK, **more):
    return position_greeks(book, **({"spots": SPOTS, "as_of": NOW, "volatilities": VOLATILITIES, "rate": 0.04} | more))


def test_a_position_is_its_quantity_and_multiplier_times_one_option():
    frame = found().frame().set_index("unit")
    one = greeks(101.0, 95.0, 30 / 365, 0.25, call=False, rate=0.04)

    each = dict(zip(NAMES, one.values[:, 0], strict=True))
    expected = {
        "value": -300 * each["price"],
        "delta_value": -300 * each["delta"] * 101.0,
        "gamma_value_per_percent": -300 * each["gamma"] * 101.0**2 / 100,
        "vega_per_point": -300 * each["vega_per_point"],
        "theta_per_day": -300 * each["theta_per_day"],
        "rho_per_point": -300 * each["rho_per_point"],
        "vanna_value_per_point": -300 * each["vanna_per_point"] * 101.0,
        "volga_per_point": -300 * each["volga_per_point"],
        "charm_value_per_day": -300 * each["charm_per_day"] * 101.0,
    }
    assert MONEY == tuple(expected)
    assert expected == pytest.approx(frame.loc["P1", list(MONEY)].to_dict())
    assert ["C1", "P1", "M1", "A1"] == found().frame()["unit"].tolist()


@pytest.mark.parametrize("key", ["underlying", "expiry", "strategy", "currency"])
def test_sums_add_up_whatever_they_are_by(key):
    assert found().money.sum(axis=1) == pytest.approx(found().by(key)[list(MONEY)].sum().to_numpy())


def test_money_of_two_currencies_is_never_added():
    mixed = found(positions({"unit": "C1"}, {"unit": "P1", "currency": "EUR"}))

    assert [("EUR", "AAPL"), ("USD", "AAPL")] == [
        *mixed.by("underlying")[["currency", "underlying"]].itertuples(index=False)
    ]


def test_an_american_put_is_worth_more_than_the_european_one():
    frame = found().frame().set_index("unit")

    assert frame.loc["A1", "value"] > 100 * greeks(101.0, 110.0, 90 / 365, 0.22, call=False, rate=0.04)["price"][0]
    assert found().american.tolist() == [False, False, False, True]


def test_without_a_volatility_it_is_taken_from_the_options_own_price():
    price = greeks(101.0, 100.0, 90 / 365, 0.31, rate=0.04)["price"][0]

    one = found(positions({"unit": "C1", "price": price}), volatilities={})

    assert [True] == one.implied.tolist()
    assert [0.31] == pytest.approx(one.volatility.tolist())


def test_what_is_not_known_is_listed_with_its_reason_and_in_no_sum():
    book = positions(
        {"unit": "good"},
        {"unit": "over", "expiry": pd.Timestamp(NOW)},
        {"unit": "long over", "expiry": pd.Timestamp(NOW - timedelta(days=9)), "price": 3.0},
        {"unit": "endless", "expiry": pd.NaT},
        {"unit": "blank", "strike": np.nan},
        {"unit": "lost", "underlying": "NONE"},
        {"unit": "silent"},
        {"unit": "absurd", "price": 500.0},
        {"unit": "zero", "price": 1.0},
    )

    one = found(book, volatilities={"good": 0.2, "over": 0.2, "zero": -1.0})

    assert ["good"] == one.held["unit"].tolist()
    assert {
        "over": "it has expired",
        "long over": "it has expired",
        "endless": "it has no expiry",
        "blank": "it has no strike",
        "lost": "its underlying has no price",
        "silent": "no volatility is given, and its price or its underlying's is not known",
        "absurd": "no volatility is given, and the price is above what the option can be worth",
        "zero": "no volatility is given, and the price is not above what exercise pays",
    } == {m.unit: m.why for m in one.missing}
    assert {60.0} == {m.age_s for m in one.missing}


def test_an_option_that_quantlib_cannot_price_is_listed():
    one = found(
        positions({"kind": "put", "american": True}), volatilities={"X": 0.2}, rate=-0.02, dividends={"AAPL": -0.05}
    )

    assert ["QuantLib has no price for it"] == [m.why for m in one.missing]


def test_a_book_without_options_has_none():
    empty = found(positions({"kind": "spot"}))

    assert (9, 0) == empty.each.shape == empty.money.shape
    assert empty.frame().empty
    assert empty.by("underlying").empty
    assert () == empty.missing


def test_what_an_option_is_as_a_holding_goes_into_exposure():
    one = found()

    exposed = exposure(BOOK, 1e5, as_of=NOW, equivalents=one.equivalents)

    assert () == exposed.missing
    delta = one.money[MONEY.index("delta_value")]
    assert 100.0 + delta.sum() == pytest.approx(exposed.total.net)
    by_symbol = exposed.frame("symbol").set_index("symbol")["net"]
    assert delta[2] == pytest.approx(by_symbol["MSFT"])


def test_contracts_that_were_sorted_out_before_give_the_same():
    contracts, more = Contracts.of(BOOK), {"as_of": NOW, "volatilities": VOLATILITIES, "rate": 0.04}

    later = contracts.greeks(SPOTS | {"AAPL": 90.0}, **more)

    assert found().money.tolist() == contracts.greeks(SPOTS, **more).money.tolist()
    assert found(spots=SPOTS | {"AAPL": 90.0}).money.tolist() == later.money.tolist()
    assert later.money[0, 0] < found().money[0, 0]
