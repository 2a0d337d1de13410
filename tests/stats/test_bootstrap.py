import numpy as np
import pytest
from arch.bootstrap import CircularBlockBootstrap, StationaryBootstrap

from mlops.errors import DataError
from mlops.stats import block_length, bootstrap_interval, bootstrap_test, circular_indices, dependent_t
from mlops.stats.dependent import ewc_error
from mlops.stats.influence import mean, sharpe_ratio

RNG = np.random.default_rng(0)
X = np.convolve(RNG.normal(size=259), [1, 0.8, 0.6, 0.4, 0.2][::1] + [0] * 5, "valid") + 0.1


def _rng(seed=1):
    return np.random.default_rng(seed)


def _variance_of_the_mean(x, *, block, scheme):
    """What an endless bootstrap would give. Politis and Romano (1994), lemma 1, and the same with triangular weights."""
    n, centred = x.size, x - x.mean()
    covariance = np.array([centred @ np.roll(centred, lag) / n for lag in range(n)])
    lags = np.arange(n)
    if scheme == "circular":
        weight = np.maximum(1 - lags / block, 0)
        return (covariance[0] + 2 * (weight * covariance)[1:].sum()) / n
    p = 1 / block
    weight = (1 - lags / n) * (1 - p) ** lags  # circular covariances hold the other end of the circle
    return (covariance[0] + 2 * (weight * covariance)[1:].sum()) / n


@pytest.mark.parametrize("scheme", ["stationary", "circular"])
def test_the_standard_error_is_that_of_endless_drawing(scheme):
    found = bootstrap_interval(X, rng=_rng(), scheme=scheme, block=10, paths=20_000)
    assert _variance_of_the_mean(X, block=10, scheme=scheme) == pytest.approx(found.error**2, rel=0.04)


@pytest.mark.parametrize(
    ("scheme", "theirs"), [("stationary", StationaryBootstrap), ("circular", CircularBlockBootstrap)]
)
@pytest.mark.parametrize("statistic", [mean, sharpe_ratio])
def test_the_interval_is_that_of_arch(scheme, theirs, statistic):
    expected = theirs(10, X, seed=_rng()).conf_int(lambda x: float(statistic(x)), 4000, method="percentile").ravel()
    found = bootstrap_interval(
        X, statistic, rng=_rng(2), scheme=scheme, block=10, paths=4000, method="percentile"
    ).estimate
    width = expected[1] - expected[0]
    assert expected == pytest.approx([found.low, found.high], abs=0.06 * width)


def test_the_corrected_interval_of_a_skewed_statistic_is_that_of_arch():
    x = RNG.lognormal(size=120)
    expected = StationaryBootstrap(1, x, seed=_rng()).conf_int(np.mean, 8000, method="bca").ravel()
    found = bootstrap_interval(x, rng=_rng(2), method="bca", block=1, paths=8000).estimate
    plain = bootstrap_interval(x, rng=_rng(2), method="percentile", block=1, paths=8000).estimate
    assert expected == pytest.approx([found.low, found.high], abs=0.06 * (expected[1] - expected[0]))
    assert found.high > plain.high


def test_the_studentised_interval_of_a_mean_is_as_wide_as_the_tests():
    found = bootstrap_interval(X, rng=_rng(), method="studentised").estimate
    known = dependent_t(X).effect
    assert known.high - known.low == pytest.approx(found.high - found.low, rel=0.35)
    assert found == bootstrap_interval(X, mean, rng=_rng(), method="studentised", error=ewc_error).estimate


def test_two_series_are_drawn_on_the_same_bars():
    def gap(x, y):
        return (x - y).mean(axis=-1)

    found = bootstrap_interval([X, X - 0.25], gap, rng=_rng(), method="percentile", paths=50)
    assert [0.25] * 3 == pytest.approx([found.estimate.value, found.estimate.low, found.estimate.high])


def test_one_seed_gives_one_interval_and_leaves_the_series_alone():
    before = X.copy()
    assert bootstrap_interval(X, rng=_rng(), paths=99) == bootstrap_interval(X, rng=_rng(), paths=99)
    assert np.array_equal(before, X)


def test_long_series_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr("mlops.stats.bootstrap.CELLS", 1000)
    found = bootstrap_interval(X, rng=_rng(), paths=101)
    assert 101 == found.paths
    assert found.estimate.low < X.mean() < found.estimate.high


def test_the_automatic_block_is_longer_where_memory_is():
    x = _rng().normal(size=2000)
    assert block_length(x) < 5 < 15 < block_length(np.convolve(x, np.ones(10), "valid"))
    assert 1.0 == block_length(np.ones(50))
    assert block_length(x, np.convolve(x, np.ones(10), "same")) > 15


@pytest.mark.parametrize("x", [np.ones(100), np.arange(19.0)])
def test_too_little_to_draw_from_is_unknown(x):
    found = bootstrap_interval(x, rng=_rng())
    assert not found.estimate.known
    assert found.estimate.note


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="series must be finite, got nan at position 3"):
        bootstrap_interval([1.0, 2.0, 3.0, np.nan] * 9, rng=_rng())
    with pytest.raises(DataError, match="error must be given"):
        bootstrap_interval(X, np.median, rng=_rng())
    with pytest.raises(DataError, match="one or several vectors"):
        bootstrap_interval(np.ones((2, 2, 30)), rng=_rng())


def test_circular_blocks_are_runs_of_the_circle():
    rows = circular_indices(10, length=7, paths=50, block=3, rng=_rng())
    steps = np.diff(rows, axis=1) % 10
    assert (steps[:, [0, 1, 3, 4]] == 1).all()
    assert (50, 7) == rows.shape
    assert set(range(10)) == set(rows.ravel())


def test_the_test_agrees_with_the_interval_and_with_the_long_run_t():
    for shift in (0.0, 0.1, 0.2, 0.4):
        x = X - X.mean() + shift * X.std()
        found = bootstrap_test(x, rng=_rng(4))
        drawn = bootstrap_interval(x, rng=_rng(4)).estimate

        assert (drawn.low, drawn.high) == (found.effect.low, found.effect.high)
        assert dependent_t(x).statistic == pytest.approx(found.statistic)
        assert dependent_t(x).p_value == pytest.approx(found.p_value, abs=0.08)


def test_a_constant_or_a_short_series_is_not_tested():
    assert "20 needed" in bootstrap_test(np.ones(5), rng=_rng()).note
    assert not bootstrap_test(np.ones(50), rng=_rng()).known
