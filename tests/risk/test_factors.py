"""Betas and factor exposures: golden against statsmodels and skfolio's data; intervals that cover."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.signal import lfilter
from skfolio.datasets import load_factors_dataset, load_sp500_dataset

from mlops.errors import DataError
from mlops.risk.factors import beta, factor_exposure
from mlops.types import Level


@pytest.fixture(scope="module")
def market():
    """An equal-weighted book of 20 stocks, and skfolio's five factors, on the same days."""
    stocks, factors = load_sp500_dataset(), load_factors_dataset()
    both = stocks.join(factors, how="inner").pct_change().dropna()
    return both[stocks.columns].mean(axis=1).to_numpy(), both[factors.columns].to_numpy(), list(factors.columns)


def test_coefficients_and_fit_are_those_of_least_squares(market):
    returns, factors, names = market

    found = factor_exposure(returns, factors, names)

    golden = sm.OLS(returns, sm.add_constant(factors)).fit()
    assert ("alpha", *names) == found.names
    assert golden.params == pytest.approx(found.coefficient, abs=1e-12)
    assert golden.rsquared == pytest.approx(found.r2, abs=1e-12)
    assert found.n == len(returns)


def test_errors_are_near_newey_and_wests_on_real_data(market):
    returns, factors, names = market

    found = factor_exposure(returns, factors, names)

    lags = int(1.3 * len(returns) ** 0.5)  # Lazarus et al. (2018), their rule for Bartlett's kernel
    golden = sm.OLS(returns, sm.add_constant(factors)).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    assert golden.bse == pytest.approx(found.error, rel=0.25)


def test_the_beta_of_a_market_to_itself_is_one(market):
    found = beta(market[0], market[0])

    assert [0, 1] == pytest.approx(found.coefficient.tolist(), abs=1e-12)
    assert 1 == pytest.approx(found.r2)


def test_the_frame_has_a_row_a_factor(market):
    returns, factors, names = market

    frame = factor_exposure(returns, factors, names).frame()

    assert ["alpha", *names] == frame["factor"].tolist()
    assert (frame["low"] < frame["coefficient"]).all()
    assert (frame["coefficient"] < frame["high"]).all()


@pytest.mark.parametrize("rows", [0, 1, 10, 61])
def test_too_few_bars_are_not_enough_and_say_how_many_are(rows):
    found = beta(np.random.default_rng(0).normal(size=rows), np.random.default_rng(1).normal(size=rows))

    assert Level.UNKNOWN is found.level
    assert f"{rows} bars, 62 needed" == found.note
    assert np.isnan(found.coefficient).all()


def test_what_never_moves_or_cannot_be_told_apart_is_not_known():
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = x[:, 0]

    assert "still never moved" == factor_exposure(y, np.column_stack([x, np.full(200, 0.1)]), ["a", "b", "still"]).note
    assert "the book never moved" == factor_exposure(np.full(200, 0.01), x, ["a", "b"]).note
    twins = factor_exposure(y, np.column_stack([x, x @ [0.5, 0.5]]), ["a", "b", "both"])
    assert (Level.UNKNOWN, "factors cannot be told apart: one is a combination of others") == (twins.level, twins.note)


def test_bad_rows_are_refused():
    good = np.random.default_rng(0).normal(size=100)
    with pytest.raises(DataError, match="returns must be finite"):
        beta(good, np.where(np.arange(100) == 3, np.nan, good))
    with pytest.raises(DataError, match="factors must have a row a bar and a column a name"):
        factor_exposure(good, good[:50, None], ["a"])


@pytest.mark.calibration
def test_intervals_of_dependent_heavy_tailed_returns_cover_as_they_say():
    """Null: the interval holds the true beta in 95 % of samples. AR(0.4) market and residuals, t(5), 500 bars, variance
    of the residual rising with the market's size; classical intervals hold it in far fewer.
    """
    rng, held, plain, runs = np.random.default_rng(11), 0, 0, 600
    for _ in range(runs):
        market, noise = lfilter([1], [1, -0.4], rng.standard_t(5, (2, 600)) / 100, axis=1)[:, 100:]
        book = 0.7 * market + noise * (0.3 + 60 * np.abs(market))
        found = beta(book, market)
        held += found.low[1] <= 0.7 <= found.high[1]
        low, high = sm.OLS(book, sm.add_constant(market)).fit().conf_int()[1]
        plain += low <= 0.7 <= high

    assert held / runs == pytest.approx(0.95, abs=0.03)
    assert plain / runs < 0.85
