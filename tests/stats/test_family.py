import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import e_holm, holm, sequential_holm, sequential_test

PLAN = {"horizon": 252, "look_every": 5}


def _gains(*means, seed=0):
    return [np.random.default_rng(seed + i).normal(mean, 1, 252) for i, mean in enumerate(means)]


def test_one_challenger_is_tested_as_ever():
    x = _gains(0.2)
    assert (sequential_test(x[0], **PLAN),) == sequential_holm(x, **PLAN)
    assert () == sequential_holm([], **PLAN)


def test_the_share_of_a_proven_one_goes_to_the_rest():
    for seed in range(200):
        weak = np.random.default_rng(seed).normal(0.15, 1, 252)
        alone = [sequential_test(weak, alpha=alpha, **PLAN).crossed for alpha in (0.025, 0.05)]
        if alone == [False, True]:
            break
    assert [True, True] == [found.crossed for found in sequential_holm([*_gains(0.5), weak], **PLAN)]
    assert [False, False] == [found.crossed for found in sequential_holm([*_gains(0.0), weak], **PLAN)]


def test_those_that_were_dropped_still_cost():
    x = _gains(0.2)
    many = sequential_holm(x, tried=40, **PLAN)[0]
    assert many.nominal < sequential_holm(x, **PLAN)[0].nominal
    assert sequential_test(x[0], alpha=0.05 / 40, **PLAN) == many


def test_proven_ones_stay_proven_while_the_series_grow():
    x = _gains(0.5, 0.3, 0.0, 0.1)
    before = [False] * 4
    for n in (40, 80, 120, 200, 252):
        now = [found.crossed for found in sequential_holm([row[:n] for row in x], **PLAN)]
        assert all(later or not earlier for earlier, later in zip(before, now, strict=True))
        before = now
    assert before[0]


def test_e_values_prove_what_holm_proves():
    e = np.array([70.0, 45.0, 19.0, np.nan, 0.2])
    p = np.minimum(1.0, 1 / np.where(np.isnan(e), 1.0, e))
    assert (holm(p) <= 0.05).tolist() == e_holm(e).tolist() == [False] * 5
    assert [True, True, False] == e_holm([70.0, 45.0, 19.0]).tolist()
    assert [True, True, True] == e_holm([70.0, 45.0, np.inf]).tolist()
    assert [False, False, False] == e_holm([70.0, 45.0, 19.0], tried=4).tolist()
    assert [] == e_holm([]).tolist()


def test_a_challenger_that_waits_counts_and_is_not_proven():
    assert [False, False] == e_holm([25.0, np.nan]).tolist()
    assert [True, False] == e_holm([45.0, np.nan]).tolist()


def test_bad_families_are_refused():
    with pytest.raises(DataError, match="tried must be at least 2, got 1"):
        sequential_holm(_gains(0.0, 0.0), tried=1, **PLAN)
    with pytest.raises(DataError, match="tried must be at least 2, got 1"):
        e_holm([1.0, 1.0], tried=1)
    with pytest.raises(DataError, match="e must be a vector of values >= 0"):
        e_holm([-1.0])
