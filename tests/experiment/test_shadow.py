import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.errors import DataError
from mlops.experiment import Book, curve_metrics

PRICES = st.dictionaries(st.sampled_from("ABC"), st.floats(1, 100), min_size=1)
STEPS = st.lists(st.tuples(PRICES, st.dictionaries(st.sampled_from("ABC"), st.floats(-0.3, 0.3))), max_size=12)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.floats(0, 0.002))
def test_every_coin_is_accounted_for(steps, cost_rate):
    """Equity is cash and positions; it is what was put in, less the fees, plus what each trade made since."""
    book, fills = Book(cash=1000.0), []
    for prices, targets in steps:
        if {**book.marks, **prices} and Book(book.cash, book.quantities, {**book.marks, **prices}).equity <= 0:
            return
        book, new = book.step(prices, {u: w for u, w in targets.items() if u in prices}, cost_rate)
        fills += new
    made = sum(f.quantity * (book.marks[f.unit] - f.price) - f.fee for f in fills)
    assert book.equity == pytest.approx(1000.0 + made)
    assert book.equity == pytest.approx(book.cash + sum(q * book.marks[u] for u, q in book.quantities.items()))
    assert all(f.fee == pytest.approx(cost_rate * abs(f.quantity) * f.price) for f in fills)


def test_weights_are_reached_and_a_unit_without_target_is_closed():
    book, _ = Book(cash=100.0).step({"A": 10.0, "B": 5.0}, {"A": 0.5, "B": -0.2}, 0.0)
    assert {"A": 5.0, "B": -4.0} == book.quantities
    book, fills = book.step({"A": 12.0, "B": 5.0}, {"B": -0.2}, 0.0)
    assert 110.0 == pytest.approx(book.equity)
    assert [("A", -5.0), ("B", pytest.approx(-0.4))] == [(f.unit, f.quantity) for f in fills]


def test_a_unit_that_does_not_trade_keeps_its_quantity_and_its_mark():
    book, _ = Book(cash=100.0).step({"A": 10.0}, {"A": 1.0}, 0.0)
    later, fills = book.step({"B": 1.0}, {}, 0.0)
    assert (10.0, 100.0, ()) == (later.quantities["A"], later.equity, fills)


def test_a_step_leaves_the_old_book_alone():
    book = Book(cash=100.0)
    book.step({"A": 10.0}, {"A": 1.0}, 0.001)
    assert Book(cash=100.0) == book


@pytest.mark.parametrize(
    ("prices", "targets", "cost", "rule"),
    [
        ({"A": 0.0}, {}, 0.0, "price of A must be positive"),
        ({"A": float("nan")}, {}, 0.0, "price of A must be positive"),
        ({"A": 1.0}, {"B": 0.1}, 0.0, "target of B must be finite and have a price"),
        ({"A": 1.0}, {"A": float("inf")}, 0.0, "target of A must be finite"),
        ({"A": 1.0}, {}, -1.0, "cost_rate must be at least 0"),
    ],
)
def test_what_cannot_be_traded_is_refused(prices, targets, cost, rule):
    with pytest.raises(DataError, match=rule):
        Book(cash=1.0).step(prices, targets, cost)


def test_a_ruined_book_stops():
    book, _ = Book(cash=10.0).step({"A": 1.0}, {"A": -1.0}, 0.0)
    with pytest.raises(DataError, match="equity must be positive"):
        book.step({"A": 3.0}, {}, 0.0)


def test_the_metrics_of_a_curve_are_those_by_hand():
    equity = np.array([100.0, 110.0, 99.0, 121.0])
    returns = np.array([0.1, -0.1, 22 / 99])
    found = curve_metrics(equity, traded=[10.0, 0.0, 0.0, 12.1], bars_per_year=252)
    assert returns.mean() / returns.std(ddof=1) * np.sqrt(252) == pytest.approx(found.sharpe)
    assert 0.1 == pytest.approx(found.max_drawdown)
    assert 0.05 * 252 == pytest.approx(found.turnover)


def test_a_flat_or_empty_curve_has_no_sharpe_and_no_drawdown():
    for curve in ([], [1.0], [1.0, 1.0, 1.0]):
        assert (0.0, 0.0, 0.0) == (lambda m: (m.sharpe, m.max_drawdown, m.turnover))(curve_metrics(curve))


def test_a_curve_must_be_positive_and_aligned():
    with pytest.raises(DataError, match="equity must be positive"):
        curve_metrics([1.0, -1.0])
    with pytest.raises(DataError, match="as many bars"):
        curve_metrics([1.0, 1.0], [1.0])
