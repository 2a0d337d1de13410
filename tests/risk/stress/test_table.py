"""Replay of history, and the table of scenarios and books."""

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.risk.stress.scenarios import Scenarios
from mlops.risk.stress.table import HORIZONS, TABLE_COLUMNS, stress_table, window_returns, worst_windows


@pytest.fixture(scope="module")
def returns():
    return np.maximum(0.02 * np.random.default_rng(0).standard_t(3, (800, 5)), -0.9)


WEIGHTS = np.array([0.4, 0.3, -0.2, 0.3, 0.1])


def slow(returns, weights, horizon):
    """The loss of every window, one at a time."""
    spans = [np.prod(1 + returns[t : t + horizon], axis=0) - 1 for t in range(len(returns) - horizon + 1)]
    return -np.array([span @ weights for span in spans])


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_worst_window_is_the_worst_of_all(returns, horizon):
    every = slow(returns, WEIGHTS, horizon)

    found = worst_windows(returns, WEIGHTS, horizons=(horizon,), top=1)[0]

    assert every.max() == pytest.approx(found.loss)
    assert (int(every.argmax()), horizon) == (found.first, found.last - found.first + 1)


def test_the_worst_ones_are_different_spells_the_worst_first(returns):
    found = worst_windows(returns, WEIGHTS, horizons=(20,), top=5)

    assert 5 == len(found)
    assert sorted((w.loss for w in found), reverse=True) == [w.loss for w in found]
    for i, one in enumerate(found):
        assert all(one.last < other.first or other.last < one.first for other in found[i + 1 :])


def test_the_known_worst_of_twenty_shares_come_out():
    from skfolio.datasets import load_sp500_dataset

    prices = load_sp500_dataset()
    found = worst_windows(prices.pct_change().to_numpy()[1:], np.full(20, 0.05), top=1)

    assert [0.108, 0.184, 0.279, 0.356] == [round(w.loss, 3) for w in found]
    assert "2020-03-16" == f"{prices.index[found[0].first + 1]:%Y-%m-%d}"


def test_a_window_that_gains_is_no_worst_window():
    assert () == worst_windows(np.full((50, 1), 0.01), [1.0])


def test_horizons_longer_than_the_history_are_left_out(returns):
    assert {1, 5} == {w.horizon for w in worst_windows(returns[:10], WEIGHTS)}


def test_a_short_position_loses_where_the_unit_gains(returns):
    long, short = (worst_windows(sign * returns[:, :1], [sign], horizons=(1,), top=1)[0] for sign in (1.0, -1.0))

    assert long.loss == pytest.approx(short.loss)


def test_what_units_did_in_a_window_adds_up_to_its_loss(returns):
    window = worst_windows(returns, WEIGHTS, horizons=(20,), top=1)[0]

    assert window.loss == pytest.approx(-window_returns(returns, window) @ WEIGHTS)


def test_nan_and_total_losses_are_refused(returns):
    for value, says in ((np.nan, "finite"), (-1.0, "above -1")):
        bad = returns.copy()
        bad[3, 2] = value
        with pytest.raises(DataError, match=says):
            worst_windows(bad, WEIGHTS)


# --- the table ------------------------------------------------------------------------------------------------------

SCENARIOS = Scenarios(
    ("crash", "rally"),
    ("A", "B", "C"),
    np.array([[-0.5, -0.1, 0.2], [0.3, 0.1, -0.1]]),
    np.array([[True, False, False], [False, False, False]]),
)


def held(*rows):
    names = ("strategy", "book", "unit", "quantity", "price", "multiplier")
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows], columns=list(names))


def test_losses_are_value_times_return_by_book_and_together():
    rows = held(("s", "b", "A", 2.0, 100.0, 1.0), ("s", "b", "C", -1.0, 50.0, 2.0), ("t", "b", "B", 10.0, 10.0, 1.0))

    found = stress_table(rows, SCENARIOS, {("s", "b"): 1000.0, ("t", "b"): 500.0}).set_index(["scenario", "strategy"])

    assert 120.0 == found.loc[("crash", "s"), "money"]  # 200 x 0.5 + 100 x 0.2 of the short
    assert 0.12 == found.loc[("crash", "s"), "loss"]
    assert ("A", 100.0) == tuple(found.loc[("crash", "s"), ["worst_unit", "worst_money"]])
    assert 2 / 3 == pytest.approx(found.loc[("crash", "s"), "proxied"])
    assert 130.0 == found.loc[("crash", "all"), "money"]
    assert 130.0 / 1500 == found.loc[("crash", "all"), "loss"]
    assert -10.0 == found.loc[("rally", "t"), "money"]
    assert ("", 0.0) == tuple(found.loc[("rally", "t"), ["worst_unit", "worst_money"]])


def test_the_table_has_its_columns_and_a_row_a_scenario_and_book():
    found = stress_table(held(("s", "b", "A", 1.0, 1.0, 1.0)), SCENARIOS, {("s", "b"): 10.0})

    assert list(TABLE_COLUMNS) == list(found.columns)
    assert ["crash", "rally"] == found["scenario"].tolist()


def test_the_same_unit_in_two_rows_of_a_book_is_one_position():
    twice = held(("s", "b", "A", 1.0, 100.0, 1.0), ("s", "b", "A", -1.0, 100.0, 1.0))

    found = stress_table(twice, SCENARIOS, {("s", "b"): 1000.0})

    assert [0.0, 0.0] == found["money"].tolist()


def test_what_no_scenario_speaks_of_is_counted_as_missing():
    rows = held(("s", "b", "A", 1.0, 100.0, 1.0), ("s", "b", "X", 3.0, 100.0, 1.0))

    found = stress_table(rows, SCENARIOS, {("s", "b"): 1000.0})

    assert [0.75, 0.75] == found["missing"].tolist()
    assert 50.0 == found["money"][0]


def test_a_position_without_a_price_weighs_as_the_mean_of_its_book():
    rows = held(("s", "b", "A", 1.0, 100.0, 1.0), ("s", "b", "B", 3.0, np.nan, 1.0))

    assert [0.5, 0.5] == stress_table(rows, SCENARIOS, {("s", "b"): 1000.0})["missing"].tolist()


@pytest.mark.parametrize("equity", [0.0, -5.0, np.nan])
def test_without_equity_there_is_money_and_no_fraction(equity):
    found = stress_table(held(("s", "b", "A", 1.0, 100.0, 1.0)), SCENARIOS, {("s", "b"): equity})

    assert 50.0 == found["money"][0]
    assert np.isnan(found["loss"][0])


def test_a_book_without_positions_loses_nothing():
    found = stress_table(held(), SCENARIOS, {("s", "b"): 1000.0})

    assert [0.0, 0.0] == found["loss"].tolist() == found["missing"].tolist()
    assert ["", ""] == found["worst_unit"].tolist()


def test_no_books_give_no_rows_and_no_units_only_what_is_missing():
    nothing = Scenarios(("crash",), (), np.zeros((1, 0)), np.zeros((1, 0), dtype=bool))

    assert stress_table(held(), SCENARIOS, {}).empty
    found = stress_table(held(("s", "b", "A", 1.0, 1.0, 1.0)), nothing, {("s", "b"): 9.0})
    assert [1.0] == found["missing"].tolist()
    assert np.isnan(found["money"]).all()  # not known, which is not nothing


def test_a_book_whose_equity_is_not_told_is_refused():
    with pytest.raises(DataError, match=r"every book of the positions, got none of \['s', 'b'\]"):
        stress_table(held(("s", "b", "A", 1.0, 1.0, 1.0)), SCENARIOS, {})


def test_more_rows_and_columns_join_the_scenarios():
    more = SCENARIOS.with_rows(["mine"], np.array([[-0.1, -0.2, -0.3]]), np.array([[False, True, False]]))
    wide = more.with_units(["OPT"], np.array([[-0.9], [2.0], [0.0]]), np.zeros((3, 1), dtype=bool))

    assert (("crash", "rally", "mine"), ("A", "B", "C", "OPT")) == (wide.names, wide.units)
    assert [-0.1, -0.2, -0.3, 0.0] == wide.returns[2].tolist()
    assert [False, True, False, False] == wide.proxied[2].tolist()


def test_a_position_worth_nothing_that_no_scenario_moves_is_missing_and_not_nought():
    rows = [
        {"strategy": "s", "book": "b", "unit": "A", "quantity": 2.0, "price": 50.0, "multiplier": 1.0},
        {"strategy": "s", "book": "b", "unit": "PUT", "quantity": -9.0, "price": 0.0, "multiplier": 100.0},
    ]
    crash = Scenarios(("crash",), ("A",), np.array([[-0.2]]), np.array([[False]]))

    table = stress_table(pd.DataFrame(rows), crash, {("s", "b"): 1000.0})

    assert 0.5 == table["missing"].item()
