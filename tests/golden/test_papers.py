"""mlops.stats says what the papers' examples and tables say."""

import pytest

from mlops.stats import (
    SharpeMoments,
    deflated_sharpe,
    expected_max_sharpe,
    mcnemar_table,
    min_backtest_years,
    min_track_record,
    probabilistic_sharpe,
    risk_difference,
    t_sample_size,
    trades_needed,
    years_needed,
)


@pytest.mark.parametrize(("trials", "dsr"), [(100, 0.9004), (46, 0.9505)])
def test_the_deflated_sharpe_ratio_of_the_paper(trials, dsr):
    """Bailey and Lopez de Prado (2014), "A numerical example": annual SR 2.5 over 1,250 days, variance of trials 1/2."""
    moments = SharpeMoments(2.5 / 250**0.5, 1250, skewness=-3.0, kurtosis=10.0)
    assert dsr == pytest.approx(deflated_sharpe(moments, trials=trials, spread=(0.5 / 250) ** 0.5), abs=5e-5)


def test_the_expected_best_of_a_hundred_trials():
    """The same example: SR0 = 0.1132 a day."""
    assert 0.1132 == pytest.approx(expected_max_sharpe(100, (0.5 / 250) ** 0.5), abs=5e-5)


@pytest.mark.parametrize(("skewness", "kurtosis", "psr"), [(0.0, 3.0, 0.982), (-2.448, 10.164, 0.913)])
def test_the_probabilistic_sharpe_ratio_of_two_years_of_months(skewness, kurtosis, psr):
    """Bailey and Lopez de Prado (2012), "A numerical example": monthly SR 0.458, as normal returns and as they were."""
    assert psr == pytest.approx(probabilistic_sharpe(SharpeMoments(0.458, 24, skewness, kurtosis)), abs=5e-4)


@pytest.mark.parametrize(
    ("bars_per_year", "skewness", "kurtosis", "years"),
    [(252, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_the_minimum_track_record_of_an_annual_two_over_one(bars_per_year, skewness, kurtosis, years):
    """Bailey and Lopez de Prado (2012), "Minimum track record length": in days, weeks, months, and as hedge funds are."""
    moments = SharpeMoments(2 / bars_per_year**0.5, 100, skewness, kurtosis)
    bars = min_track_record(moments, benchmark=1 / bars_per_year**0.5)
    assert years == pytest.approx(bars / bars_per_year, abs=0.005)


def test_five_years_allow_no_more_than_45_trials():
    """Bailey, Borwein, Lopez de Prado and Zhu (2014), Notices of the AMS 61(5), on the minimum backtest length."""
    assert min_backtest_years(45) < 5.0 < min_backtest_years(46)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_newcombes_intervals(counts, low, high):
    """Newcombe (1998), Statistics in Medicine 17, table II, method 10."""
    found = risk_difference(*counts)
    assert (low, high) == pytest.approx((found.low, found.high), abs=5e-5)


@pytest.mark.parametrize(
    ("method", "p"), [("asymptotic", 0.034), ("corrected", 0.077), ("exact", 0.070), ("mid-p", 0.039)]
)
def test_mcnemars_of_one_against_seven(method, p):
    """Fagerland, Lydersen and Laake (2013), BMC Medical Research Methodology 13:91: airway reactivity, 1 and 7 differing pairs of 21."""
    assert p == pytest.approx(mcnemar_table([[1, 1], [7, 12]], method=method).p_value, abs=5e-4)


def test_cohens_sample_sizes():
    """Cohen (1988), table 2.4.1, and G*Power: 26 and 64 an arm at d = 0.8 and 0.5."""
    assert (26, 64) == (t_sample_size(0.8), t_sample_size(0.5))


@pytest.mark.parametrize(("discordance", "rows"), [(None, 9669), (0.05, 979), (0.1, 1960), (0.2, 3923), (0.3, 5885)])
def test_two_points_of_win_rate_take_this_many_trades(discordance, rows):
    """Connor (1987), Biometrics 43, eq. 1 at 80 % power, and R's power.prop.test, an arm."""
    assert rows == trades_needed(0.02, discordance=discordance)


def test_an_annual_sharpe_of_one_takes_eight_years_to_see():
    assert 7.8 == pytest.approx(years_needed(1.0), abs=0.05)
