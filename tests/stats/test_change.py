import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import calibrate_cusum, cusum, cusum_path, stationary_indices


def _accuracies(n, rate, seed):
    return np.random.default_rng(seed).binomial(20, rate, n) / 20


def test_the_path_is_the_recursion_by_hand():
    x = np.random.default_rng(0).normal(size=50)
    level, expected = 0.0, []
    for value in x:
        level = max(0.0, level + 0.3 - 0.1 - value)
        expected.append(level)
    assert expected == pytest.approx(list(cusum_path(x, target=0.3, allowance=0.1)))


def test_a_fall_is_found_soon_after_it_happened_and_no_fall_is_not():
    baseline = _accuracies(800, 0.66, 1)
    quiet, fallen = _accuracies(60, 0.66, 2), np.concatenate([_accuracies(60, 0.66, 2), _accuracies(60, 0.5, 3)])

    silent = cusum(baseline, quiet, drop=0.05, rng=np.random.default_rng(0))
    found = cusum(baseline, fallen, drop=0.05, rng=np.random.default_rng(0))

    assert silent.alarm is None
    assert found.alarm is not None
    assert 60 <= found.alarm < 80
    assert found.path[found.alarm] > found.threshold
    assert silent.threshold == found.threshold


def test_a_rise_never_alarms():
    chart = cusum(_accuracies(300, 0.6, 4), _accuracies(300, 0.7, 5), drop=0.05, rng=np.random.default_rng(0))
    assert chart.alarm is None


def test_rarer_alarms_need_a_higher_threshold():
    baseline = _accuracies(1000, 0.6, 6)

    def threshold(rate):
        return calibrate_cusum(
            baseline, allowance=0.025, false_alarms_per_year=rate, bars_per_year=252, rng=np.random.default_rng(0)
        )[0]

    assert threshold(0.2) > threshold(1.0) > threshold(4.0)


def test_a_baseline_without_any_variation_is_charted_too():
    chart = cusum(np.full(200, 0.5), np.full(50, 0.2), drop=0.05, rng=np.random.default_rng(0))
    assert 0 == chart.alarm


def test_the_bootstrap_keeps_neighbours_together():
    rows = stationary_indices(1000, length=500, paths=20, block=25.0, rng=np.random.default_rng(0))
    together = (np.diff(rows, axis=1) % 1000 == 1).mean()
    assert 1 - 1 / 25 == pytest.approx(together, abs=0.01)
    assert {(20, 500), (0, 999)} == {rows.shape, (rows.min(), rows.max())}


@pytest.mark.parametrize(
    ("baseline", "rate", "rule"), [(np.zeros(99), 1.0, "at least 100"), (np.zeros(100), 0.0, "must be positive")]
)
def test_what_cannot_be_calibrated_is_refused(baseline, rate, rule):
    with pytest.raises(DataError, match=rule):
        calibrate_cusum(
            baseline, allowance=0.1, false_alarms_per_year=rate, bars_per_year=252, rng=np.random.default_rng(0)
        )
