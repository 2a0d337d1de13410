"""Returns of units that began at different bars."""

import numpy as np
import pytest

from mlops.errors import DataError
from mlops.risk.backfill import completed, returns_of


def world(n=1500, beta=1.5, seed=0):
    rng = np.random.default_rng(seed)
    market = rng.normal(0, 0.01, n)
    rest = market[:, None] + rng.normal(0, 0.005, (n, 5))
    late = beta * market + rng.normal(0, 0.02, n)
    return np.column_stack([rest, late])


def test_a_price_that_is_missing_in_between_is_unchanged_until_the_next_one():
    prices = np.array([[100.0], [np.nan], [110.0]])

    assert [0.0, 0.1] == pytest.approx(returns_of(prices)[:, 0])


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf])
def test_a_price_that_cannot_be_is_refused(bad):
    with pytest.raises(DataError, match="positive and finite"):
        returns_of(np.array([[1.0], [bad]]))


def test_a_unit_that_began_late_keeps_its_beta_and_its_spread_before():
    truth = world()
    seen = truth.copy()
    seen[:1000, 5] = np.nan

    found = completed(seen, np.random.default_rng(1))

    np.testing.assert_array_equal(seen[1000:], found.returns[1000:])
    np.testing.assert_array_equal(seen[:, :5], found.returns[:, :5])
    assert 500 == found.own[5]
    assert 1.5 == pytest.approx(found.beta[5], abs=0.3)
    assert truth[:1000, 5].std() == pytest.approx(found.returns[:1000, 5].std(), rel=0.1)
    both = [np.corrcoef(x[:1000, 5], x[:1000, :5].mean(axis=1))[0, 1] for x in (truth, found.returns)]
    assert both[0] == pytest.approx(both[1], abs=0.08)


def test_a_unit_with_too_few_bars_is_left_out_and_nobody_else_changes():
    seen = world()
    seen[:1480, 5] = np.nan

    found = completed(seen, np.random.default_rng(1))

    assert np.isnan(found.returns[:, 5]).all()
    np.testing.assert_array_equal(seen[:, :5], found.returns[:, :5])


def test_the_first_unit_of_all_that_starts_late_has_its_residuals_alone():
    seen = np.random.default_rng(0).normal(0, 0.01, (300, 1))
    seen[:100] = np.nan

    found = completed(seen, np.random.default_rng(1))

    assert np.isfinite(found.returns).all()
    assert 0.0 == found.beta[0]


def test_returns_that_stop_are_refused():
    seen = world()
    seen[700, 0] = np.nan

    with pytest.raises(DataError, match="must not stop"):
        completed(seen, np.random.default_rng(1))


def test_the_input_is_left_alone_and_the_same_seed_gives_the_same():
    seen = world()
    seen[:1000, 5] = np.nan
    before = seen.copy()

    first, second = (completed(seen, np.random.default_rng(1)).returns for _ in range(2))

    np.testing.assert_array_equal(before, seen)
    np.testing.assert_array_equal(first, second)
