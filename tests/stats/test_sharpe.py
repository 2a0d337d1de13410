import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from mlops.errors import DataError
from mlops.stats import (
    SharpeMoments,
    deflated_sharpe,
    expected_max_sharpe,
    independent_trials,
    min_backtest_years,
    min_track_record,
    probabilistic_sharpe,
    sharpe_error,
    sharpe_moments,
)

RETURNS = np.random.default_rng(0).standard_t(5, 500) + 0.05


def test_the_moments_are_those_of_scipy():
    found = sharpe_moments(RETURNS)
    expected = (RETURNS.mean() / RETURNS.std(ddof=1), 500, skew(RETURNS), kurtosis(RETURNS, fisher=False))
    assert expected == pytest.approx((found.sharpe, found.n, found.skewness, found.kurtosis))


def test_at_the_minimum_track_record_the_confidence_is_reached():
    moments = sharpe_moments(RETURNS)
    bars = min_track_record(moments)
    grown = SharpeMoments(moments.sharpe, round(bars), moments.skewness, moments.kurtosis)
    assert 0.95 == pytest.approx(probabilistic_sharpe(grown), abs=0.001)


def test_more_trials_deflate_more_and_one_does_not():
    moments = sharpe_moments(RETURNS)
    deflated = [deflated_sharpe(moments, trials=trials, spread=0.05) for trials in (1, 2, 10, 100)]
    assert probabilistic_sharpe(moments) == deflated[0]
    assert sorted(deflated, reverse=True) == deflated


def test_the_expected_best_is_near_the_best_of_many_draws():
    best = np.random.default_rng(1).normal(size=(20_000, 50)).max(axis=1).mean()
    assert best == pytest.approx(expected_max_sharpe(50, 1.0), abs=0.045)
    assert min_backtest_years(50, annual_sharpe=2.0) == pytest.approx((expected_max_sharpe(50, 1.0) / 2) ** 2)


@pytest.mark.parametrize("returns", [[], [0.01], [0.1] * 30])
def test_returns_that_do_not_vary_have_no_ratio(returns):
    moments = sharpe_moments(returns)
    assert np.isnan(moments.sharpe)
    assert np.isnan(probabilistic_sharpe(moments))
    assert np.isnan(min_track_record(moments))


def test_no_gain_is_never_proven():
    assert np.inf == min_track_record(SharpeMoments(-0.1, 100))
    assert np.isnan(sharpe_error(SharpeMoments(0.1, 1)))


def test_correlated_tries_count_less():
    rng = np.random.default_rng(2)
    own, common = rng.normal(size=(4000, 20)), rng.normal(size=(4000, 1))
    assert 20 == pytest.approx(independent_trials(own), abs=0.5)
    assert 10.5 == pytest.approx(independent_trials(own + common), abs=0.7)  # correlation 1/2
    assert 1.0 == independent_trials(own[:, :1])
    assert 3.0 == independent_trials(np.ones((10, 3)))
    assert 2.0 == independent_trials(np.column_stack([own[:, 0], -own[:, 0]]))


def test_impossible_searches_are_refused():
    with pytest.raises(DataError, match="trials must be >= 1"):
        expected_max_sharpe(0, 1.0)
    with pytest.raises(DataError, match="annual_sharpe must be positive"):
        min_backtest_years(10, annual_sharpe=0.0)
    with pytest.raises(DataError, match="finite table"):
        independent_trials([1.0, 2.0])
