import numpy as np
import pytest

from mlops.stats import sharpe_difference, sharpe_influence, sharpe_ratio
from mlops.stats.influence import sharpe_ewc_error

RNG = np.random.default_rng(0)
X = RNG.standard_t(6, 4000) + 0.1


def test_a_bars_influence_is_what_leaving_it_out_takes_away():
    without = np.array([sharpe_ratio(np.delete(X[:500], i)) for i in range(500)])
    expected = (sharpe_ratio(X[:500]) - without) * 499
    assert expected == pytest.approx(sharpe_influence(X[:500]), abs=0.06)


def test_the_error_of_the_ratio_of_independent_bars_is_that_of_the_formula():
    """Lo (2002): sqrt((1 + ratio^2 / 2) / n) for normal returns."""
    x = RNG.normal(0.2, 1, (400, 1000))
    assert np.sqrt((1 + 0.02) / 1000) == pytest.approx(sharpe_ewc_error(x).mean(), rel=0.03)


def test_leverage_changes_no_ratio():
    found = sharpe_difference(3 * X, X)
    assert (1.0, 0.0) == pytest.approx((found.p_value, found.effect.value), abs=1e-9)


def test_exchanging_the_strategies_turns_the_difference():
    y = RNG.standard_t(6, 4000)
    there, back = sharpe_difference(X, y), sharpe_difference(y, X)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.effect.value == pytest.approx(-back.effect.value)
    assert there.p_value < 0.05
    assert there.effect.low > 0


def test_a_book_that_never_traded_has_no_ratio():
    assert not sharpe_difference(X, np.zeros_like(X)).known
    assert not sharpe_difference(X[:5], X[:5]).known
    assert 0.0 == sharpe_ratio(np.zeros(10))
    assert not sharpe_influence(np.zeros(10)).any()
