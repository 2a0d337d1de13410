import numpy as np
import pytest

from mlops.stats import block_p_value, block_starts, block_sums


def test_sums_of_overlapping_blocks_are_those_counted_one_by_one():
    rng = np.random.default_rng(0)
    code, weights = rng.integers(0, 4, 50), rng.normal(size=50)
    cuts = np.array([[3, 20], [10, 11], [15, 40], [3, 45]])

    counts, sums = (block_sums(w, code, cuts, bins=4) for w in (None, weights))

    for (first, last), count, total in zip(cuts, counts, sums, strict=True):
        assert np.bincount(code[first:last], minlength=4).tolist() == count.tolist()
        assert np.bincount(code[first:last], weights[first:last], minlength=4) == pytest.approx(total)


def test_long_blocks_start_a_tenth_of_their_length_apart_and_there_are_never_too_many():
    assert [0, 5, 10, 45] == block_starts(50 + 45, 50)[[0, 1, 2, -1]].tolist()
    assert 2000 >= block_starts(1_000_000, 20).size > 1900
    assert [0] == block_starts(7, 7).tolist()


def test_many_features_at_once_are_each_judged_by_their_own_past():
    rng = np.random.default_rng(1)
    history, now = rng.chisquare(3, (4, 90)), np.array([1.0, 5.0, 9.0, 20.0])
    flags = np.array([True, False, True, False])
    together = block_p_value(now, history, blocks=9, resolution=0.01, one_square=flags)
    for i, flag in enumerate(flags):
        alone = block_p_value(now[i], history[i], blocks=9, resolution=0.01, one_square=flag)
        assert float(alone) == pytest.approx(together[i])


def test_one_squared_mean_is_judged_about_right_far_out_where_its_logarithm_is_blind():
    history = np.random.default_rng(2).chisquare(1, 1000)
    p = [float(block_p_value(9.0, history, blocks=50, resolution=1e-4, one_square=one)) for one in (True, False)]
    assert 0.0027 == pytest.approx(p[0], abs=0.003)  # chi2.sf(9, 1)
    assert 0.02 < p[1]


def test_the_further_the_window_the_smaller_p_and_never_less_than_the_pasts_own_share():
    history = np.array([0.1, 0.12, 0.09, 0.3])
    p = [block_p_value(d, history, blocks=4, resolution=0.001) for d in (0.05, 0.12, 0.3, 3.0)]
    assert sorted(p, reverse=True) == p
    assert 0.25 <= p[2]
    assert p[3] < 0.05


def test_a_past_that_never_moved_makes_any_move_a_surprise():
    still = {"history": np.zeros(20), "blocks": 20, "resolution": 0.001}
    assert block_p_value(0.5, **still) < 1e-4
    assert 1 / 21 / 2 == pytest.approx(float(block_p_value(0.002, **still)))  # a new farthest, twice as far as is told
    assert block_p_value(0.001, **still) > 0.1
    assert block_p_value(0.0, np.zeros(20), blocks=20, resolution=0.001) == 1.0
