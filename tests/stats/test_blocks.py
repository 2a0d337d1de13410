import numpy as np
import pytest

from mlops.stats import bar_counts, block_p_value, block_shares


def test_shares_of_blocks_and_of_the_rest_add_up():
    bar, code = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 1, 1, 0, 0])
    counts = bar_counts(bar, code, bars=4, bins=2)

    block, rest = block_shares(counts, 2)

    assert [[1, 1], [0, 2], [1, 0], [1, 0]] == counts.tolist()
    assert np.array([[0.25, 0.75], [1 / 3, 2 / 3], [1.0, 0.0]]) == pytest.approx(block)
    assert np.array([[1.0, 0.0], [2 / 3, 1 / 3], [0.25, 0.75]]) == pytest.approx(rest)


def test_long_blocks_start_a_tenth_of_their_length_apart():
    assert 9 + 1 == len(block_shares(np.ones((50 + 45, 3)), 50)[0])


def test_the_further_the_window_the_smaller_p_and_never_less_than_the_pasts_own_share():
    history = np.array([0.1, 0.12, 0.09, 0.3])
    p = [block_p_value(d, history, blocks=4, resolution=0.001) for d in (0.05, 0.12, 0.3, 3.0)]
    assert sorted(p, reverse=True) == p
    assert 0.25 <= p[2]
    assert p[3] < 0.05


def test_a_past_that_never_moved_makes_any_move_a_surprise():
    assert block_p_value(0.5, np.zeros(20), blocks=20, resolution=0.001) < 1e-6
    assert block_p_value(0.0, np.zeros(20), blocks=20, resolution=0.001) == 1.0
