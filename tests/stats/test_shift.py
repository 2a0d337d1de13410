import numpy as np
import pytest
from scipy import stats

from mlops.errors import DataError
from mlops.stats import mean_shift, mean_slope, segment_shift


def test_a_shift_is_found_in_its_direction_only():
    rng = np.random.default_rng(0)
    up = mean_shift(rng.normal(size=500), rng.normal(0.6, 1, 100))
    assert up.p_greater < 0.001
    assert up.p_less > 0.999
    assert 0.6 == pytest.approx(up.difference, abs=0.25)
    assert up.p_both == pytest.approx(2 * up.p_greater)


def test_a_slow_reference_is_not_forgotten_by_a_short_window():
    rng = np.random.default_rng(1)
    slow = np.convolve(rng.normal(size=1100), np.ones(100) / 10, mode="valid")
    fast = rng.normal(size=1001)
    now = np.full(30, 0.5) + rng.normal(0, 0.1, 30)
    assert mean_shift(slow, now).error > 3 * mean_shift(fast, now).error


def test_the_slope_is_that_of_least_squares():
    rng, time, ratios = np.random.default_rng(2), np.linspace(0, 2, 300), []
    for _ in range(40):
        x = 0.5 * time + rng.normal(size=300)
        expected, found = stats.linregress(time, x), mean_slope(x, time)
        assert expected.slope == pytest.approx(found.difference)
        ratios.append(found.error / expected.stderr)
    assert 1.0 == pytest.approx(np.median(ratios), abs=0.15)


def test_a_segment_in_which_the_mean_is_higher_is_found():
    rng = np.random.default_rng(3)
    weight = (rng.random(300) < 0.3).astype(float)
    found = segment_shift(rng.normal(size=300) + weight, weight, np.repeat(np.arange(100), 3))
    assert 1.0 == pytest.approx(found.difference, abs=0.3)
    assert found.p_greater < 0.001
    with pytest.raises(DataError, match="regressor must vary"):
        segment_shift(np.zeros(20), np.ones(20), np.arange(20))


def test_rows_that_move_together_count_once_a_bar():
    rng, bar = np.random.default_rng(4), np.repeat(np.arange(200), 10)
    weight = np.repeat(rng.random(200) < 0.4, 10).astype(float)
    together = np.repeat(rng.normal(size=200), 10)
    assert segment_shift(together, weight, bar).error > 2 * segment_shift(rng.normal(size=2000), weight, bar).error


def test_constants_do_not_divide_by_zero():
    assert 0.5 == mean_shift(np.ones(20), np.ones(20)).p_greater
    assert 0.0 == mean_shift(np.zeros(20), np.ones(20)).p_greater
    assert 0.5 == mean_slope(np.ones(20), np.arange(20)).p_greater


def test_too_few_are_refused():
    with pytest.raises(DataError, match="current must have at least 8"):
        mean_shift(np.zeros(20), np.zeros(7))
