import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from mlops.stats import dependent_t, ewc_test, paired_t, welch_t

RNG = np.random.default_rng(0)
X, Y = RNG.normal(0.3, 1, 60), RNG.normal(0, 2, 60)


@pytest.mark.parametrize("test", [paired_t, welch_t, dependent_t])
def test_the_two_sides_share_what_both_together_have(test):
    both, more, less = (test(X, Y, alternative=side).p_value for side in ("two-sided", "greater", "less"))
    assert 1.0 == pytest.approx(more + less)
    assert both == pytest.approx(2 * min(more, less))


@pytest.mark.parametrize("test", [paired_t, welch_t, dependent_t])
def test_the_interval_excludes_zero_exactly_where_the_test_rejects(test):
    for shift in np.linspace(-1, 1, 21):
        found = test(X + shift, Y)
        assert (found.p_value < 0.05) == (found.effect.low > 0 or found.effect.high < 0)


def test_the_dependent_test_is_the_ewc_test():
    found, known = dependent_t(X, Y, alternative="greater"), ewc_test(X - Y)
    assert (known.mean, known.statistic, known.p_greater) == pytest.approx(
        (found.effect.value, found.statistic, found.p_value)
    )
    assert dependent_t(X - Y) == dependent_t(X, Y)


@pytest.mark.parametrize("side", ["two-sided", "less", "greater"])
def test_the_t_tests_are_those_of_scipy(side):
    for ours, theirs in (
        (paired_t(X, Y, alternative=side), ttest_rel(X, Y, alternative=side)),
        (welch_t(X, Y[:40], alternative=side), ttest_ind(X, Y[:40], equal_var=False, alternative=side)),
    ):
        assert (theirs.statistic, theirs.pvalue) == pytest.approx((ours.statistic, ours.p_value), rel=1e-12)


@pytest.mark.parametrize("test", [paired_t, dependent_t])
def test_two_equal_series_are_no_evidence(test):
    found = test(X, X + 1e-16)
    assert (1.0, 0.0) == (found.p_value, found.effect.value)
    assert "equal" in found.note


@pytest.mark.parametrize("test", [paired_t, dependent_t])
def test_one_constant_difference_has_no_variance_to_test_with(test):
    found = test(X, X + 0.1)  # not constant in floating point
    assert not found.known
    assert "variance" in found.note
    assert not paired_t(X[:1], Y[:1]).known


def test_welch_needs_two_rows_and_some_variation():
    assert "2 needed" in welch_t([1.0], [1.0, 2.0]).note
    assert "neither sample varies" in welch_t([1.0, 1.0], [2.0, 2.0]).note
    assert welch_t([1.0, 1.0], [2.0, 3.0]).known


def test_as_many_rows_as_it_needs_give_the_power_that_it_promises():
    rng = np.random.default_rng(1)
    seen = [paired_t(rng.normal(0.2, 1, 400), np.zeros(400)) for _ in range(50)]
    needed = np.median([found.n_needed for found in seen])
    power = np.mean(
        [paired_t(rng.normal(0.2, 1, int(needed)), np.zeros(int(needed))).p_value < 0.05 for _ in range(400)]
    )
    assert 0.7 < power < 0.9
