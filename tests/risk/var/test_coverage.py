from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, chi2

from mlops.risk.measures import Losses
from mlops.risk.var.coverage import (
    _runs,
    _runs_chance,
    conditional_coverage,
    dynamic_quantile,
    independence,
    kupiec,
    shortfall,
)


def hits(n, *at):
    row = np.zeros(n, dtype=bool)
    row[list(at)] = True
    return row


def textbook_independence(row):
    a, b = row[:-1], row[1:]
    n00, n01, n10, n11 = ((~a & ~b).sum(), (~a & b).sum(), (a & ~b).sum(), (a & b).sum())
    p01, p11, p = n01 / (n00 + n01), n11 / (n10 + n11), (n01 + n11) / (n00 + n01 + n10 + n11)

    def log(rate, no, yes):
        return (no * np.log1p(-rate) if no else 0) + (yes * np.log(rate) if yes else 0)

    return 2 * (log(p01, n00, n01) + log(p11, n10, n11) - log(p, n00 + n10, n01 + n11))


def test_kupiec_is_the_textbooks_ratio_and_near_its_limit_for_many_hits():
    row = np.arange(5000) % 80 == 0
    found = kupiec(row, 0.01)
    x, n = 63, 5000
    assert x == row.sum()
    ratio = 2 * (x * np.log(x / n / 0.01) + (n - x) * np.log((1 - x / n) / 0.99))
    assert ratio == pytest.approx(found.statistic)
    assert chi2.sf(ratio, 1) == pytest.approx(found.p_value, abs=0.02)


def test_kupiec_counts_too_few_as_well():
    assert kupiec(hits(1000), 0.01).p_value < 0.001
    assert 1.0 == pytest.approx(kupiec(hits(100, 5), 0.01).p_value)
    assert binom.pmf(0, 250, 0.01) > kupiec(hits(250, *range(8)), 0.01).p_value


@pytest.mark.parametrize(("n", "k"), [(8, 3), (7, 4), (6, 1), (6, 5)])
def test_the_chance_of_runs_is_what_counting_finds(n, k):
    counted = np.zeros(k + 1)
    for at in combinations(range(n), k):
        counted[_runs(hits(n, *at))] += 1
    runs = np.arange(1, min(k, n - k + 1) + 1)
    assert (counted / counted.sum())[runs] == pytest.approx(_runs_chance(runs, k, n))


def test_independence_is_the_textbooks_for_many_hits():
    rng = np.random.default_rng(0)
    state, row = False, np.zeros(4000, dtype=bool)
    for t in range(4000):
        state = rng.random() < (0.12 if state else 0.05)
        row[t] = state
    theirs = textbook_independence(row)
    found = independence(row)
    assert theirs == pytest.approx(found.statistic, rel=0.02)
    assert chi2.sf(theirs, 1) == pytest.approx(found.p_value, rel=0.3)


@pytest.mark.parametrize("row", [hits(100), np.ones(100, dtype=bool)])
def test_without_a_hit_or_a_miss_nothing_speaks_of_dependence(row):
    assert 1.0 == independence(row).p_value


def test_both_at_once_is_near_its_limit_and_small_where_either_is():
    rng = np.random.default_rng(3)
    row = rng.random(5000) < 0.055
    found = conditional_coverage(row, 0.05)
    ratio = kupiec(row, 0.05).statistic + independence(row).statistic
    assert ratio == pytest.approx(found.statistic)
    assert chi2.sf(ratio, 2) == pytest.approx(found.p_value, abs=0.02)
    assert conditional_coverage(hits(1000, *range(10)), 0.01).p_value < 1e-6
    assert conditional_coverage(hits(1000), 0.01).p_value < 0.001
    assert conditional_coverage(hits(30), 0.01).p_value > 0.9


def test_dq_is_the_regressions_statistic_and_near_its_limit():
    rng = np.random.default_rng(1)
    row, var = rng.random(4000) < 0.05, rng.random(4000) + 1
    found = dynamic_quantile(row, var, 0.05, rng=rng)
    h = row - 0.05
    X = np.column_stack([np.ones(3996), *(h[4 - j : -j] for j in range(1, 5)), var[4:]])
    b = np.linalg.lstsq(X, h[4:], rcond=None)[0]
    theirs = b @ X.T @ X @ b / (0.05 * 0.95)
    assert theirs == pytest.approx(found.statistic, rel=1e-3)
    assert chi2.sf(theirs, 6) == pytest.approx(found.p_value, abs=0.05)


def test_dq_sees_hits_that_follow_the_var_and_clusters_that_skip_a_bar():
    rng = np.random.default_rng(2)
    var = np.repeat([1.0, 2.0], 500)
    assert dynamic_quantile((rng.random(1000) < 0.1) & (var > 1.5), var, 0.05, rng=rng).p_value < 0.01
    apart = np.zeros(1000, dtype=bool)
    apart[100:120:2] = True
    assert independence(apart).p_value > 0.05
    assert dynamic_quantile(apart, np.ones(1000), 0.01, rng=rng).p_value < 0.01


@pytest.mark.parametrize("row", [hits(300), hits(300, 7), np.ones(300, dtype=bool)])
def test_dq_of_few_hits_and_a_constant_var_is_still_a_number(row):
    found = dynamic_quantile(row, np.ones(300), 0.01, rng=np.random.default_rng(0))
    assert 0 < found.p_value <= 1


def test_dq_of_a_handful_of_bars_is_unknown():
    assert np.isnan(dynamic_quantile(hits(6, 1), np.ones(6), 0.05, rng=np.random.default_rng(0)).p_value)


def test_z2_is_zero_where_the_es_is_right_and_falls_with_it():
    rng = np.random.default_rng(0)
    r = rng.normal(size=100_000)
    right = Losses(np.full(r.size, 2.3263), np.full(r.size, 2.6652))
    low = Losses(np.full(1000, 1.8), np.full(1000, 2.1))
    assert 0.0 == pytest.approx(shortfall(r, right, 0.01, rng=rng, paths=200).statistic, abs=0.08)
    found = shortfall(r[:1000], low, 0.01, rng=rng)
    assert found.statistic < -1
    assert found.p_value < 0.001


def test_z2_without_an_exceedance_is_one():
    found = shortfall(np.zeros(250), Losses(np.ones(250), np.ones(250)), 0.01, rng=np.random.default_rng(0))
    assert 1.0 == found.statistic
    assert 1.0 == found.p_value
