"""P&L of option books in scenarios: by Greeks beside pricing anew."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.risk.options.american import pricer
from mlops.risk.options.greeks import greeks
from mlops.risk.options.positions import position_greeks
from mlops.risk.options.scenario_pnl import approximation, book_pnl, full_pnl, taylor_pnl
from mlops.types import POSITION_COLUMNS
from tests.risk.options.test_positions import NOW, ROW

NAMES = ["AAPL", "MSFT", "SPARE"]
RNG = np.random.default_rng(6)
RETURNS = RNG.standard_t(5, (2000, 3)) * 0.01


def book(*rows, rate=0.03):
    frame = pd.DataFrame([ROW | row for row in rows], columns=[*POSITION_COLUMNS])
    volatilities = dict.fromkeys(frame["unit"], 0.25)
    return position_greeks(frame, {"AAPL": 100.0, "MSFT": 50.0}, as_of=NOW, volatilities=volatilities, rate=rate)


ONE = book(
    {"unit": "C", "quantity": 3.0},
    {"unit": "P", "quantity": -2.0, "kind": "put", "strike": 90.0},
    {"unit": "M", "quantity": 5.0, "underlying": "MSFT", "strike": 50.0, "kind": "put"},
)


def test_pricing_anew_is_pricing_by_hand():
    x = np.array([[0.05, -0.1, 0.0]])

    pnl = full_pnl(x, NAMES, ONE, volatility_points=np.array([[2.0, 3.0, 9.0]]), days=3)

    t = 87 / 365
    before = [
        greeks(s, k, 90 / 365, 0.25, call=c, rate=0.03)["price"][0]
        for s, k, c in ((100, 100, 1), (100, 90, 0), (50, 50, 0))
    ]
    after = [
        greeks(105, 100, t, 0.27, call=True, rate=0.03)["price"][0],
        greeks(105, 90, t, 0.27, call=False, rate=0.03)["price"][0],
        greeks(45, 50, t, 0.28, call=False, rate=0.03)["price"][0],
    ]
    assert np.array([300, -200, 500]) * (np.array(after) - before) == pytest.approx(pnl[0])


def test_what_greeks_leave_out_shrinks_with_the_cube_of_the_move():
    """A fit to second order in the spot: halving the moves divides the largest error by about eight."""
    errors = [
        np.abs(taylor_pnl(h * RETURNS, NAMES, ONE) - full_pnl(h * RETURNS, NAMES, ONE)).max(axis=0) for h in (0.2, 0.1)
    ]

    assert (errors[0] / errors[1] > 6.5).all()
    assert (errors[0] / errors[1] < 9.5).all()


def test_with_volatility_and_time_the_second_order_terms_are_right_too():
    """Errors in volatility shrink with its cube as well; those of time are of second order."""
    points = RNG.normal(0, 1, RETURNS.shape)

    def off(h):
        more = {"volatility_points": h * points}
        return np.abs(taylor_pnl(h * RETURNS, NAMES, ONE, **more) - full_pnl(h * RETURNS, NAMES, ONE, **more)).max(
            axis=0
        )

    assert (off(0.2) / off(0.1) > 6).all()
    one_day = full_pnl(np.zeros((1, 3)), NAMES, ONE, days=1)[0]
    assert one_day == pytest.approx(taylor_pnl(np.zeros((1, 3)), NAMES, ONE, days=1)[0], rel=0.02)


def test_the_books_sum_is_the_sum_of_its_positions():
    whole = book_pnl(RETURNS, NAMES, ONE, days=2)

    assert taylor_pnl(RETURNS, NAMES, ONE, days=2).sum(axis=1) == pytest.approx(whole, abs=1e-9)


def test_the_error_of_the_var_is_told():
    told = approximation(RETURNS, NAMES, ONE, days=1)

    full = full_pnl(RETURNS, NAMES, ONE, days=1).sum(axis=1)
    assert -np.sort(full)[int(np.ceil((1 - 0.99) * 2000)) - 1] == told.var_full
    assert abs(told.var_error) < 0.05
    assert 0 < told.rms < told.worst
    assert 3 == told.positions


def test_for_a_book_of_wild_gamma_the_error_is_large_and_told():
    short = book({"unit": "C", "quantity": -10.0, "expiry": pd.Timestamp(NOW + timedelta(days=2))})

    assert abs(approximation(5 * RETURNS, NAMES, short, days=1).var_error) > 0.2


def test_american_positions_are_priced_anew_like_any_other():
    mixed = book({"unit": "C"}, {"unit": "A", "kind": "put", "strike": 110.0, "american": True, "quantity": -3.0})
    moves = np.array([[-0.999999, 0, 0], [-0.4, 0, 0], [-0.05, 0, 0], [0.0, 0, 0], [0.1, 0, 0], [4.0, 0, 0]])

    pnl = full_pnl(moves, NAMES, mixed)[:, 1]

    worth = [pricer(False)(100 * (1 + x), 110.0, *(float(a[1]) for a in rest(mixed))) for x in (-0.4, -0.05, 0.1)]
    assert pnl[[1, 2, 4]] == pytest.approx((np.array(worth) - mixed.each[0][1]) * -300, rel=1e-9)
    assert 0.0 == pytest.approx(pnl[3], abs=1e-6)
    assert pnl[0] == pytest.approx((109.9999 - mixed.each[0][1]) * -300, rel=1e-6)  # exercised at once
    assert pnl[5] == pytest.approx(mixed.each[0][1] * 300, rel=1e-6)  # worth nothing


def rest(mixed):
    return mixed.years, mixed.volatility, mixed.rate, mixed.dividend


def test_what_expires_within_the_horizon_is_worth_what_it_pays():
    last = book({"unit": "C", "expiry": pd.Timestamp(NOW + timedelta(hours=12))})

    pnl = full_pnl(np.array([[0.03, 0, 0], [-0.03, 0, 0]]), NAMES, last, days=1)[:, 0]

    assert np.array([300.0, 0.0]) - last.money[0] == pytest.approx(pnl)


def test_the_pricing_in_blocks_is_the_pricing_at_once(monkeypatch):
    whole = full_pnl(RETURNS, NAMES, ONE)

    monkeypatch.setattr("mlops.risk.options.scenario_pnl.CELLS", 7)

    assert whole.tolist() == full_pnl(RETURNS, NAMES, ONE).tolist()


@pytest.mark.parametrize(
    ("returns", "names", "said"),
    [
        (RETURNS[:, :2], NAMES, "returns must have a column an underlying"),
        (RETURNS[:, :2], ["AAPL", "SPARE"], r"every underlying must have a column, got none for \['MSFT'\]"),
        (np.full((3, 3), np.nan), NAMES, "returns must be finite and above -1"),
        (np.full((3, 3), -1.0), NAMES, "returns must be finite and above -1"),
    ],
)
def test_scenarios_that_do_not_fit_are_refused(returns, names, said):
    for function in (taylor_pnl, full_pnl, book_pnl):
        with pytest.raises(DataError, match=said):
            function(returns, names, ONE)


def test_two_currencies_are_not_added_up():
    with pytest.raises(DataError, match=r"a book must be of one currency to be added up, got \['EUR', 'USD'\]"):
        book_pnl(RETURNS, NAMES, book({"unit": "C"}, {"unit": "D", "currency": "EUR"}))
    with pytest.raises(DataError, match="volatility_points must be finite and as returns"):
        taylor_pnl(RETURNS, NAMES, ONE, volatility_points=np.zeros((1, 3)))
