"""The joint law: what is estimated is what was there."""

import numpy as np
import pytest
from scipy.stats import t as student

from mlops.errors import DataError
from mlops.risk.stress.joint import LEAST_BARS, elliptical, fit_joint, standardised


def t_returns(nu, rho=0.5, bars=2000, units=10, seed=0):
    """Multivariate t with one correlation, a hundredth of standard deviation a bar."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky((1 - rho) * np.eye(units) + rho)
    shape = rng.standard_normal((bars, units)) @ root.T
    return 0.01 * shape * np.sqrt((nu - 2) / rng.chisquare(nu, (bars, 1)))


@pytest.mark.parametrize("nu", [3.0, 5.0, 10.0])
def test_degrees_of_freedom_and_correlation_are_found_again(nu):
    law = fit_joint(t_returns(nu), volatility="constant")

    assert nu == pytest.approx(law.dof.value, rel=0.15)
    assert law.dof.low < law.dof.value < law.dof.high
    assert 0.5 == pytest.approx(law.correlation[np.triu_indices(10, 1)].mean(), abs=0.03)


def test_independent_normal_units_have_a_copula_that_is_nearly_gaussian():
    law = fit_joint(0.01 * np.random.default_rng(1).standard_normal((2000, 8)))

    assert law.dof.high > 50


def test_the_marginal_has_the_quantiles_of_its_law():
    law = fit_joint(t_returns(4.0, bars=20_000, units=2), volatility="constant", dof=4.0)
    shares = np.array([0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999])
    place = student.ppf(shares, 4)
    truth = place * np.sqrt(0.5)

    found = standardised(law, np.column_stack([place, place]))[:, 0]

    assert truth == pytest.approx(found, rel=0.12, abs=0.03)


def test_a_marginal_has_no_mean_and_variance_one_and_never_falls():
    law = fit_joint(t_returns(3.0))
    rng = np.random.default_rng(2)
    nu = law.dof.value
    drawn = standardised(law, rng.standard_t(nu, (400_000, law.units)))

    assert np.zeros(law.units) == pytest.approx(drawn.mean(axis=0), abs=0.01)
    assert np.ones(law.units) == pytest.approx(drawn.std(axis=0), rel=0.04)
    assert (np.diff(law.table, axis=1) >= 0).all()


def test_garch_finds_the_parameters_that_made_the_returns():
    rng, bars = np.random.default_rng(3), 6000
    h, r = 1e-4, np.empty(bars)
    for i in range(bars):
        r[i] = np.sqrt(h) * rng.standard_normal()
        h = 1e-4 * 0.03 + 0.08 * r[i] ** 2 + 0.89 * h

    law = fit_joint(r[:, None])

    assert 0.08 == pytest.approx(law.alpha[0], abs=0.025)
    assert 0.97 == pytest.approx((law.alpha + law.beta)[0], abs=0.015)
    assert h == pytest.approx(law.volatility[0] ** 2, rel=0.15)


def test_ewma_is_the_recursion_written_out():
    returns = t_returns(5.0, bars=300, units=2)
    h = (returns**2).mean(axis=0)
    for row in returns:
        h = 0.94 * h + 0.06 * row**2

    law = fit_joint(returns, volatility="ewma")

    assert np.sqrt(h) == pytest.approx(law.volatility)
    assert [0.0, 0.0] == law.alpha.tolist() == law.omega.tolist()


def test_duplicates_constants_and_more_units_than_bars_leave_it_positive_definite():
    returns = t_returns(5.0, bars=300, units=6)
    returns[:, 1], returns[:, 2] = returns[:, 0], 0.0
    wide = np.random.default_rng(0).standard_t(5, (260, 400)) * 0.01

    law, many = fit_joint(returns), fit_joint(np.maximum(wide, -1), dof=5.0)

    assert np.linalg.eigvalsh(law.correlation)[0] > 0
    assert np.linalg.eigvalsh(many.correlation)[0] > 0
    assert law.correlation[0, 1] > 0.95
    assert 0.0 == law.volatility[2] == law.table[2].std()


def test_a_gaussian_copula_is_named_so():
    law = fit_joint(t_returns(3.0), copula="gaussian")

    assert "gaussian" == law.copula
    assert np.isinf(law.dof.value)


def test_too_few_bars_are_said_with_the_number_needed():
    law = fit_joint(np.zeros((10, 3)))

    assert not law.known
    assert f"10 bars, {LEAST_BARS} needed" == law.note == law.dof.note


def test_units_that_never_move_are_no_error():
    law = fit_joint(np.zeros((300, 2)))

    assert law.known
    assert [0.0, 0.0] == law.volatility.tolist()


@pytest.mark.parametrize(
    ("bad", "says"),
    [(np.nan, "row 4, column 1"), (np.inf, "row 4, column 1"), (-1.5, "at least -1")],
)
def test_what_is_no_return_is_refused_with_its_place(bad, says):
    returns = t_returns(5.0, bars=300, units=3)
    returns[4, 1] = bad

    with pytest.raises(DataError, match=says):
        fit_joint(returns)


def test_the_input_is_left_alone():
    returns = t_returns(5.0, bars=300, units=3)
    before = returns.copy()

    fit_joint(returns)

    assert (before == returns).all()


def test_an_elliptical_law_needs_a_variance():
    with pytest.raises(DataError, match="above 2"):
        elliptical(np.eye(2), 2.0)
