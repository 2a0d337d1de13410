import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from mlops.stats import cliffs_delta, cohens_d, hedges_g, ks_test, mann_whitney

SAMPLES = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=25)


@settings(max_examples=60, deadline=None)
@given(SAMPLES, SAMPLES)
def test_cliffs_delta_counts_pairs(x, y):
    expected = np.sign(np.subtract.outer(x, y)).mean()
    found = cliffs_delta(x, y)
    assert expected == pytest.approx(found.value)
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


@settings(max_examples=40, deadline=None)
@given(SAMPLES, SAMPLES)
def test_its_interval_is_the_formula_over_all_pairs(x, y):
    found = cliffs_delta(x, y)
    if abs(found.value) == 1:
        return
    d = found.value
    dominance = np.sign(np.subtract.outer(x, y)) - d
    n, m = dominance.shape
    whole = (
        m**2 * (dominance.mean(axis=1) ** 2).sum() + n**2 * (dominance.mean(axis=0) ** 2).sum() - (dominance**2).sum()
    )
    v = t.isf(0.025, n + m - 2) ** 2 * max(whole / (n * m * (n - 1) * (m - 1)), (1 - d**2) / (n * m - 1))
    half = np.sqrt(v * ((1 - d**2) ** 2 + v))
    expected = [(d - d**3 - half) / (1 - d**2 + v), (d - d**3 + half) / (1 - d**2 + v)]
    assert expected == pytest.approx([found.low, found.high], abs=1e-9)


def test_samples_apart_have_the_largest_delta_and_still_a_lower_end():
    found = cliffs_delta([5, 6, 7, 8], [1, 2, 3])
    assert (1.0, 1.0) == (found.value, found.high)
    assert 0 < found.low < 1


def test_d_and_g_turn_with_the_samples():
    x, y = [1.0, 2.0, 4.0, 3.0], [0.0, 1.5, 1.0]
    for effect in (cohens_d, hedges_g):
        one, other = effect(x, y), effect(y, x)
        assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_g_is_the_smaller():
    x, y = np.arange(6.0), np.arange(6.0) + 2
    assert abs(hedges_g(x, y).value) < abs(cohens_d(x, y).value)


def test_many_rows_and_a_huge_effect_still_have_an_interval():
    rng = np.random.default_rng(0)
    found = cohens_d(rng.normal(3, 1, 20_000), rng.normal(0, 1, 20_000))
    assert 2.9 < found.low < found.value < found.high < 3.1


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("x", "y"), [([1.0], [2.0]), ([1.0, 1.0], [1.0, 1.0]), ([], [])])
def test_rows_without_a_spread_have_no_effect_size(x, y, paired):
    found = cohens_d(x, y, paired=paired)
    assert not found.known
    assert found.note


def test_one_pair_of_freedom_gives_no_unbiased_effect():
    assert 0.0 == hedges_g([1.0, 2.0], [0.0, 0.5], paired=True).value


def test_the_rank_tests_effect_is_its_statistic():
    x, y = [3.0, 1.0, 4.0, 1.5], [1.0, 5.0, 9.0, 2.0, 6.0]
    found = mann_whitney(x, y)
    assert 2 * found.statistic / 20 - 1 == pytest.approx(found.effect.value)
    assert not mann_whitney([1.0, 1.0], [1.0]).known


def test_the_bands_of_two_distributions_hold_the_distance_between_them():
    found = ks_test(np.arange(50.0), np.arange(50.0) + 10)
    assert 0.2 == pytest.approx(found.effect.value)
    assert 0 == found.effect.low < found.effect.high < 1


def test_one_row_dominates_nobody():
    found = cliffs_delta([1.0], [2.0, 3.0])
    assert not found.known
    assert "2 needed in each sample" in found.note
