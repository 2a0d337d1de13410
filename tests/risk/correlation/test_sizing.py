import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops.errors import DataError
from mlops.risk.correlation.breakdown import State
from mlops.risk.correlation.matrices import correlation
from mlops.risk.correlation.sizer import Sizer
from mlops.risk.correlation.sizing import Forecast, SizingLimits, book_volatility, forecast, size

YEAR = 252**0.5
LOOSE = {"max_weight": 10.0, "max_cluster": 10.0, "max_gross": 10.0}


def _returns(units=4, days=80, common=0.7, volatility=0.01, seed=0):
    rng = np.random.default_rng(seed)
    return volatility * (rng.standard_normal((days, units)) + common * rng.standard_normal((days, 1)))


def test_the_book_is_scaled_to_the_target_and_says_so():
    known = forecast(_returns(volatility=0.03))
    lines = SizingLimits(**LOOSE)
    sized = size(np.full(4, 0.25), known, lines)
    assert sized.volatility > 0.15
    assert book_volatility(sized.weights, known, lines) == pytest.approx(0.15)
    assert sized.scale == pytest.approx(0.15 / sized.volatility)
    assert all(reason.endswith("15% the target") for reason in sized.why)


def test_a_calm_book_is_left_alone_unless_it_may_grow_and_then_within_the_caps():
    known = forecast(_returns(volatility=0.002))
    wanted = np.array([0.1, -0.05, 0.1, 0.0])
    assert size(wanted, known).weights.tolist() == wanted.tolist()
    assert size(wanted, known).why == ("", "", "", "")
    grown = size(wanted, known, SizingLimits(scale_up=True))
    assert grown.weights == pytest.approx(2 * wanted)  # until the largest is 20 %
    assert grown.scale == pytest.approx(2.0)


def test_forecast_is_pandas_volatility_and_a_singular_correlation_is_fine():
    r = _returns(days=60)
    r[:, 3] = r[:, 2]
    known = forecast(r)
    weights = 0.94 ** np.arange(59, -1, -1)
    expected = np.sqrt((weights @ r**2) / weights.sum())
    assert expected == pytest.approx(known.volatility)
    assert np.isfinite(size(np.full(4, 0.25), known).weights).all()


def test_one_unit_and_units_that_move_as_one_are_capped():
    rng = np.random.default_rng(1)
    r = 0.001 * rng.standard_normal((60, 5))
    r[:, 1] = r[:, 0] + 1e-5 * rng.standard_normal(60)
    r[:, 2] = -r[:, 3]  # opposites are no cluster
    sized = size(np.array([0.5, -0.3, 0.1, 0.1, 0.05]), forecast(r), SizingLimits(max_cluster=0.3))
    assert sized.weights == pytest.approx([0.15, -0.15, 0.1, 0.1, 0.05])
    assert sized.why[0] == "20% is the most of one unit, 50% wanted; 30% is the most of 2 units that move as one"
    assert sized.why[2] == ""


def test_the_whole_book_is_capped():
    sized = size(np.full(20, -0.1), forecast(0.1 * _returns(units=20)), SizingLimits(max_cluster=5.0))
    assert np.abs(sized.weights).sum() == pytest.approx(1.0)


def test_a_broken_correlation_trusts_no_hedge():
    r = _returns(units=2, common=5.0)
    calm, broken = (forecast(r, state=state) for state in (State.CALM, State.BROKEN))
    lines, hedge = SizingLimits(stress=1.0), np.array([0.2, -0.2])
    assert book_volatility(hedge, broken, lines) == pytest.approx(0.2 * broken.volatility.sum() * YEAR)
    assert book_volatility(hedge, calm, lines) < 0.4 * book_volatility(hedge, broken, lines)
    assert "correlation 100% of the way to the worst" in size(hedge, forecast(3 * r, state=State.BROKEN), lines).why[0]


def test_a_unit_without_history_is_taken_for_the_wildest_and_moving_with_the_book():
    r = _returns(units=3)
    r[:60, 2] = np.nan
    known, lines = forecast(r), SizingLimits()
    assert np.isnan(known.volatility[2])
    expected = book_volatility(np.array([0.1, 0.1, 0.0]), known, lines) + 0.2 * np.nanmax(known.volatility) * YEAR
    assert expected == pytest.approx(book_volatility(np.array([0.1, 0.1, -0.2]), known, lines))


def test_without_any_history_only_the_caps_hold():
    nothing = forecast(np.empty((0, 2)))
    sized = size(np.array([0.5, -0.1]), nothing)
    assert sized.weights.tolist() == [0.2, -0.1]
    assert np.isnan(sized.volatility)
    assert size(np.empty(0), forecast(np.empty((0, 0)))).weights.tolist() == []


def test_what_breaks_the_contract_is_refused():
    known = forecast(_returns(units=2))
    with pytest.raises(DataError, match="wanted must be 2 finite weights"):
        size(np.array([0.1, np.nan]), known)
    with pytest.raises(DataError, match="wanted must be 2 finite weights"):
        size(np.array([0.1]), known)
    with pytest.raises(DataError, match="volatility_target must be positive"):
        SizingLimits(volatility_target=0.0)
    with pytest.raises(DataError, match="stress"):
        SizingLimits(stress=1.5)
    with pytest.raises(DataError, match="close of A must be positive"):
        Sizer().update({"A": 0.0})


@given(st.integers(0, 10**6), st.booleans())
@example(8192, True)  # a cluster on its cap: 0.4 over a sum that is 0.4 but for the last bit
@settings(max_examples=60, deadline=None)
def test_signs_stay_nothing_grows_unasked_and_every_cap_holds(seed, scale_up):
    rng = np.random.default_rng(seed)
    units = int(rng.integers(1, 12))
    r = _returns(units, int(rng.integers(0, 90)), rng.uniform(0, 4), 10 ** rng.uniform(-4, -1), seed)
    r[rng.random(r.shape) < 0.05] = np.nan
    wanted = rng.normal(0, 0.3, units) * (rng.random(units) < 0.8)
    known = forecast(r, state=rng.choice(list(State)))
    lines = SizingLimits(scale_up=scale_up)
    sized = size(wanted, known, lines)
    assert (np.sign(sized.weights) == np.sign(wanted)).all()
    assert np.abs(sized.weights).max(initial=0) <= 0.2 + 1e-12
    assert np.abs(sized.weights).sum() <= 1 + 1e-12
    assert scale_up or (np.abs(sized.weights) <= np.abs(wanted) + 1e-15).all()
    volatility = book_volatility(sized.weights, known, lines)
    assert np.isnan(volatility) or volatility <= 0.15 + 1e-9
    assert all(
        (w == pytest.approx(x)) == (why == "") for w, x, why in zip(wanted, sized.weights, sized.why, strict=True)
    )
    assert size(wanted, known, lines).weights.tolist() == sized.weights.tolist()
    again = size(sized.weights, known, lines)
    assert scale_up or (again.weights == pytest.approx(sized.weights, rel=1e-12, abs=0) and again.scale == 1.0)


def test_a_forecast_can_be_made_by_hand():
    known = Forecast(np.array([0.01, 0.02]), correlation(_returns(units=2), "shrunk"))
    assert size(np.array([0.1, 0.1]), known).scale == 1.0


def _feed(sizer, r):
    close = np.full(r.shape[1], 100.0)
    for row in r:
        close = close * (1 + row)
        sizer.update({f"u{i}": float(c) for i, c in enumerate(close)})


def test_bar_by_bar_it_sees_the_break_and_only_what_was_known():
    """A year and a half of calm, then every unit moves with the market."""
    calm, broken = _returns(10, 380, 0.5, seed=2), _returns(10, 60, 2.5, seed=3)
    sizer = Sizer()
    _feed(sizer, calm)
    before = sizer.size({"u0": 0.1, "u1": 0.1})
    assert sizer.state is not State.BROKEN
    again = Sizer()
    _feed(again, calm)
    assert again.size({"u0": 0.1, "u1": 0.1}).weights.tolist() == before.weights.tolist()
    _feed(sizer, broken)
    assert sizer.state is State.BROKEN
    wanted = {f"u{i}": 0.1 for i in range(10)}
    assert "correlation 50% of the way to the worst" in sizer.size(wanted).why[0]


def test_units_that_come_late_or_miss_a_bar_are_no_error():
    sizer, rng = Sizer(), np.random.default_rng(4)
    for t in range(140):
        bar = {"A": 10 + rng.normal(), "B": 20 + rng.normal()} | ({"C": 5 + rng.random()} if t > 100 else {})
        if t % 7 == 0:
            del bar["B"]
        sizer.update(bar)
    sized = sizer.size({"A": 0.1, "C": 0.1, "never seen": -0.1})
    assert np.sign(sized.weights).tolist() == [1, 1, -1]
    assert sized.volatility > 0


def test_units_that_close_at_other_hours_share_a_row_and_their_correlation_is_seen():
    rng = np.random.default_rng(6)
    hours = 0.004 * rng.standard_normal((24 * 140, 1)) + 0.001 * rng.standard_normal((24 * 140, 2))
    prices = 100 * np.exp(np.cumsum(hours, axis=0))
    together, apart = Sizer(), Sizer()
    for close in range(20, len(prices), 24):
        e, u = float(prices[close - 5, 0]), float(prices[close, 1])
        together.update({"E": float(prices[close, 0]), "U": u})
        apart.update({"E": e})
        apart.update({"U": u})
    wanted = {"E": 0.2, "U": 0.2}
    lines = SizingLimits(max_cluster=10.0)
    together.limits = apart.limits = lines

    assert together.size(wanted).volatility == pytest.approx(apart.size(wanted).volatility, rel=0.15)
    assert len(apart._returns) <= len(together._returns) + 1  # before the first close of each there is no return


def test_a_bar_that_a_unit_misses_begins_a_row_all_the_same():
    sizer = Sizer()
    for t in range(6):
        sizer.update({"A": 10.0 + t, "B": 20.0 + t} if t % 2 else {"A": 10.0 + t})
    assert len(sizer._returns) == 6
