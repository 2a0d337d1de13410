"""Greeks against QuantLib, against fifty digits, and where formulas divide by zero."""

import mpmath
import numpy as np
import pytest
import QuantLib
from hypothesis import given
from hypothesis import strategies as st

from mlops.errors import DataError
from mlops.risk.options.blackscholes import compiled
from mlops.risk.options.greeks import NAMES, greeks, values

QUANTLIB = ("price", "delta", "gamma", "vega_per_point", "theta_per_day", "rho_per_point")
TODAY = QuantLib.Date(22, 11, 2026)


def options(n, seed=0):
    """spot, strike, days, volatility, rate, dividend, call: far in and out of the money, a day to ten years."""
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(20, 300, n),
        rng.uniform(20, 300, n),
        rng.integers(1, 3650, n),
        rng.uniform(0.02, 1.5, n),
        rng.uniform(-0.03, 0.12, n),
        rng.uniform(-0.02, 0.1, n),
        rng.random(n) < 0.5,
    )


def by_quantlib(spot, strike, days, volatility, rate, dividend, call):
    """Price and five Greeks in our units, from QuantLib's analytic engine."""
    QuantLib.Settings.instance().evaluationDate = TODAY
    clock, calendar = QuantLib.Actual365Fixed(), QuantLib.NullCalendar()
    process = QuantLib.BlackScholesMertonProcess(
        QuantLib.QuoteHandle(QuantLib.SimpleQuote(float(spot))),
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(TODAY, float(dividend), clock)),
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(TODAY, float(rate), clock)),
        QuantLib.BlackVolTermStructureHandle(QuantLib.BlackConstantVol(TODAY, calendar, float(volatility), clock)),
    )
    payoff = QuantLib.PlainVanillaPayoff(QuantLib.Option.Call if call else QuantLib.Option.Put, float(strike))
    option = QuantLib.VanillaOption(payoff, QuantLib.EuropeanExercise(TODAY + int(days)))
    option.setPricingEngine(QuantLib.AnalyticEuropeanEngine(process))
    return (
        option.NPV(),
        option.delta(),
        option.gamma(),
        option.vega() / 100,
        option.theta() / 365,
        option.rho() / 100,
    )


def test_price_and_five_greeks_are_quantlibs_to_1e_11():
    book = options(2000)
    spot, strike, days, volatility, rate, dividend, call = book

    found = greeks(spot, strike, days / 365, volatility, call=call, rate=rate, dividend=dividend)

    expected = np.array([by_quantlib(*row) for row in zip(*book, strict=True)]).T
    ours = np.array([found[name] for name in QUANTLIB])
    assert 0 == np.abs(expected - ours).max(axis=1).round(11).max()


def price(spot, strike, years, volatility, rate, dividend, sign):
    spread = volatility * mpmath.sqrt(years)
    d1 = (mpmath.log(spot / strike) + (rate - dividend) * years) / spread + spread / 2
    worth, owed = spot * mpmath.exp(-dividend * years), strike * mpmath.exp(-rate * years)
    return sign * (worth * mpmath.ncdf(sign * d1) - owed * mpmath.ncdf(sign * (d1 - spread)))


@pytest.mark.parametrize("row", [*zip(*options(12, seed=3), strict=True)])
def test_all_nine_are_the_derivatives_of_the_price_to_1e_11(row):
    with mpmath.workdps(50):
        s, k, days, v, r, q, call = (mpmath.mpf(float(x)) for x in row)
        t, sign = days / 365, 1 if call else -1

        def derivative(*order):
            return mpmath.diff(lambda S, T, V, R: price(S, k, T, V, R, q, sign), (s, t, v, r), order)

        expected = {
            "price": price(s, k, t, v, r, q, sign),
            "delta": derivative(1, 0, 0, 0),
            "gamma": derivative(2, 0, 0, 0),
            "vega_per_point": derivative(0, 0, 1, 0) / 100,
            "theta_per_day": -derivative(0, 1, 0, 0) / 365,
            "rho_per_point": derivative(0, 0, 0, 1) / 100,
            "vanna_per_point": derivative(1, 0, 1, 0) / 100,
            "volga_per_point": derivative(0, 0, 2, 0) / 10_000,
            "charm_per_day": -derivative(1, 1, 0, 0) / 365,
        }
    found = greeks(float(s), float(k), float(t), float(v), call=bool(call), rate=float(r), dividend=float(q))

    assert NAMES == tuple(expected)
    assert dict.fromkeys(NAMES, 0) == {
        name: round(abs(float(expected[name]) - float(found[name][0])), 11) for name in NAMES
    }


@given(
    st.floats(1, 1e4),
    st.floats(0.2, 5),
    st.floats(1e-4, 30),
    st.floats(1e-3, 4),
    st.floats(-0.1, 0.3),
    st.floats(0, 0.2),
)
def test_a_call_less_a_put_is_the_forward(spot, moneyness, years, volatility, rate, dividend):
    strike = spot * moneyness
    call, put = (greeks(spot, strike, years, volatility, call=c, rate=rate, dividend=dividend) for c in (True, False))
    worth, owed = spot * np.exp(-dividend * years), strike * np.exp(-rate * years)

    assert worth - owed == pytest.approx(call["price"][0] - put["price"][0], abs=1e-11 * (worth + owed))
    assert np.exp(-dividend * years) == pytest.approx(call["delta"][0] - put["delta"][0], abs=1e-12)
    assert call["gamma"][0] == pytest.approx(put["gamma"][0], rel=1e-12)
    assert call["vega_per_point"][0] == pytest.approx(put["vega_per_point"][0], rel=1e-12)


@given(
    st.floats(1e-3, 1e6), st.floats(1e-3, 1e6), st.floats(-1, 100), st.floats(0, 20), st.floats(-0.5, 1), st.booleans()
)
def test_nothing_is_ever_infinite_or_nan(spot, strike, years, volatility, rate, call):
    found = greeks(spot, strike, years, volatility, call=call, rate=rate)

    assert np.isfinite(found.values).all()
    assert found["price"][0] >= -1e-9 * max(spot, strike)


def test_an_option_that_is_over_is_worth_what_it_pays_and_says_so():
    found = greeks([110, 110, 100, 90], 100, [0, -0.1, 0, 0.5], 0.2, call=[True, False, True, False], rate=0.05)

    assert [True, True, True, False] == found.expired.tolist()
    assert [10, 0, 0] == found["price"][:3].tolist()
    assert [1, 0, 0.5] == found["delta"][:3].tolist()
    assert 0 == np.abs(found.values[2:, :3]).max()


@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize("spot", [80.0, 120.0])
def test_zero_volatility_is_the_limit_of_little(spot, call):
    none, little = (greeks(spot, 100, 1, v, call=call, rate=0.03, dividend=0.01) for v in (0.0, 1e-3))

    assert little.values == pytest.approx(none.values, abs=1e-12)
    assert not none.expired.any()


def test_far_from_the_money_nothing_is_lost_and_nothing_is_negative():
    out = greeks(100, [1e3, 1e6], 0.1, 0.2, call=True)
    deep = greeks(100, [10, 0.001], 0.1, 0.2, call=True, rate=0.02)

    assert (out.values[:4] >= 0).all()
    assert 100 - np.array([10, 0.001]) * np.exp(-0.002) == pytest.approx(deep["price"], rel=1e-14)
    assert [1, 1] == deep["delta"].tolist()


def test_arguments_broadcast_and_the_inner_function_gives_the_same():
    spot, strike, days, volatility, *_ = options(300)

    found = greeks(spot, strike, days / 365, volatility, rate=0.02)
    inner = values(spot, strike, days / 365, volatility, *(np.full(300, x) for x in (0.02, 0.0, 1.0)))
    one = greeks(spot[7], strike[7], days[7] / 365, volatility[7], rate=0.02)

    assert inner.tolist() == found.values.tolist()
    assert found.values[:, 7].tolist() == one.values[:, 0].tolist()


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"spot": 0.0}, "spot of every option must be positive, got 0.0"),
        ({"spot": np.nan}, "spot of every option must be positive, got nan"),
        ({"strike": -1.0}, "strike of every option must be positive, got -1.0"),
        ({"volatility": -0.1}, "volatility of every option must be at least 0, got -0.1"),
        ({"years": np.inf}, "years of every option must be finite, got inf"),
        ({"rate": np.nan}, "rate of every option must be finite, got nan"),
    ],
)
def test_what_is_no_option_is_refused(given_, said):
    with pytest.raises(DataError, match=said):
        greeks(**{"spot": 100.0, "strike": 100.0, "years": 1.0, "volatility": 0.2} | given_)


def test_where_nothing_may_be_written_it_compiles_all_the_same():
    scope = {}
    exec("def twice(x):\n    return 2 * x", scope)  # a function without a file: numba has no place to keep it

    assert 6 == compiled(scope["twice"])(3)
