from itertools import product
from math import inf, log

import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import srm_e_value
from mlops.stats.sample_ratio import CONCENTRATIONS

PLAN = np.array([0.7, 0.2, 0.1])


def test_its_mean_is_exactly_one_when_assigned_as_planned():
    units = np.array(list(product(range(3), repeat=6)))
    e = [srm_e_value(np.bincount(row, minlength=3), PLAN) for row in units]
    assert 1.0 == pytest.approx(float(PLAN[units].prod(axis=1) @ e))


def test_so_it_is_when_the_weights_were_changed_on_the_way():
    other, units = np.array([0.3, 0.3, 0.4]), np.array(list(product(range(3), repeat=6)))
    first, second = units[:, :3], units[:, 3:]
    counts = [[np.bincount(part, minlength=3) for part in pair] for pair in zip(first, second, strict=True)]
    chance = PLAN[first].prod(axis=1) * other[second].prod(axis=1)
    assert 1.0 == pytest.approx(float(chance @ [srm_e_value(c, [PLAN, other]) for c in counts]))


def test_it_is_what_polyas_urns_would_have_assigned_over_what_was_planned():
    deals, ratio = [0, 2, 2, 1, 0, 2, 2], np.ones(CONCENTRATIONS.size)
    for i, urn in enumerate(CONCENTRATIONS):
        balls = urn * PLAN
        for arm in deals:
            ratio[i] *= balls[arm] / balls.sum() / PLAN[arm]
            balls[arm] += 1
    assert ratio.mean() == pytest.approx(srm_e_value(np.bincount(deals), PLAN))


def test_a_wrong_dealing_is_found_and_a_right_one_is_not():
    rng, planned = np.random.default_rng(0), [0.9, 0.1]
    right = [srm_e_value(rng.multinomial(500, planned), planned) for _ in range(300)]
    wrong = [srm_e_value(rng.multinomial(500, [0.8, 0.2]), planned) for _ in range(300)]
    assert max(right) < 1000
    assert np.median(right) < 1
    assert np.mean(np.array(wrong) >= 1000) > 0.95


def test_a_change_of_weights_is_no_mismatch_when_each_epoch_has_its_own():
    epochs, weights = [[900, 100], [500, 500]], [[0.9, 0.1], [0.5, 0.5]]
    assert srm_e_value(epochs, weights) < 1
    assert srm_e_value(np.sum(epochs, axis=0), [0.9, 0.1]) > 1e6


def test_mismatch_that_goes_on_adds_up_over_the_epochs():
    once, twice = srm_e_value([160, 40], [0.9, 0.1]), srm_e_value([[160, 40]] * 2, [[0.9, 0.1]] * 2)
    assert log(twice) > 1.5 * log(once)


def test_weights_count_on_any_scale_and_nothing_assigned_says_nothing():
    assert srm_e_value([30, 20], [9, 1]) == pytest.approx(srm_e_value([30, 20], [0.9, 0.1]))
    assert 1.0 == srm_e_value([0, 0], [0.9, 0.1])


def test_a_unit_in_an_arm_without_weight_is_certain_mismatch():
    assert srm_e_value([10, 1], [1.0, 0.0]) == inf
    assert 1.0 == srm_e_value([10, 0], [1.0, 0.0])


def test_bad_tables_are_refused():
    with pytest.raises(DataError, match=r"one shape, got \(1, 2\) and \(1, 3\)"):
        srm_e_value([1, 2], [1, 1, 1])
    with pytest.raises(DataError, match="counts must be finite"):
        srm_e_value([1, -2], [1, 1])
    with pytest.raises(DataError, match="weights must have a positive one in each epoch"):
        srm_e_value([[1, 2], [0, 0]], [[1, 1], [0, 0]])
