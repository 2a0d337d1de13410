import numpy as np
import pytest
from skfolio.measures import cvar, value_at_risk

from mlops.errors import DataError
from mlops.risk.measures import Loss, component_loss, marginal_loss, rank, sample_losses, var_es

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 99, 100, 250, 500, 1000, 1999, 2000, 10_000])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975, 0.99, 0.995, 0.999])
def test_var_and_es_are_skfolios(n, confidence):
    pnl = RNG.standard_t(4, n) * 0.01
    loss = var_es(pnl, confidence)
    assert value_at_risk(pnl, confidence) == pytest.approx(loss.var, abs=1e-12)
    assert cvar(pnl, confidence) == pytest.approx(loss.es, abs=1e-12)


@pytest.mark.parametrize("n", [5, 250, 1000])
def test_weighted_var_and_es_are_skfolios(n):
    pnl, weights = RNG.standard_t(4, n) * 0.01, RNG.random(n)
    weights /= weights.sum()
    loss = var_es(pnl, 0.95, weights=weights)
    assert value_at_risk(pnl, 0.95, weights) == pytest.approx(loss.var, abs=1e-12)
    assert cvar(pnl, 0.95, weights) == pytest.approx(loss.es, abs=1e-12)


def test_the_var_of_a_thousand_outcomes_at_99_percent_is_the_eleventh_loss():
    assert [10, 25, 50] == [rank(1 - c, 1000) for c in (0.99, 0.975, 0.95)]
    assert 11.0 == var_es(-np.arange(1.0, 1001.0)[::-1] + 1000 - 1000, 0.99).var - 979.0


def test_many_samples_at_once_are_each_by_itself():
    pnl = RNG.normal(size=(7, 400))
    found = sample_losses(pnl, (0.95, 0.99))
    for i, row in enumerate(pnl):
        for j, confidence in enumerate((0.95, 0.99)):
            loss = var_es(row, confidence)
            assert loss.var == found.var[i, j]
            assert loss.es == pytest.approx(found.es[i, j], rel=1e-12)


def test_ties_constants_and_a_sample_of_gains_need_no_special_care():
    assert Loss(-0.01, pytest.approx(-0.01)) == var_es(np.full(50, 0.01))
    assert Loss(0.0, 0.0) == var_es([0.0])
    assert 0.02 == pytest.approx(var_es([-0.02] * 5 + [0.01] * 95, 0.95).es)


@pytest.mark.parametrize("bad", [[], [[0.1, 0.2]], [np.nan, 0.1], [np.inf, 0.1]])
def test_what_is_no_finite_series_is_refused(bad):
    with pytest.raises(DataError, match="pnl must"):
        var_es(bad)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0]])
def test_weights_that_are_no_chances_are_refused(weights):
    with pytest.raises(DataError, match="weights must"):
        var_es([0.1, -0.1], weights=weights)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 99, -0.5, np.nan])
def test_a_confidence_must_be_a_share(confidence):
    with pytest.raises(DataError, match="confidence must"):
        var_es([0.1, -0.1], confidence)


@pytest.fixture
def book():
    returns = RNG.standard_t(4, (1000, 30)) * 0.01 + RNG.normal(0, 0.01, (1000, 1))
    return returns, RNG.normal(0.05, 0.1, 30)


@pytest.mark.parametrize("confidence", [0.95, 0.99])
@pytest.mark.parametrize("weighted", [False, True])
def test_components_add_up_to_the_total_and_to_their_groups(book, confidence, weighted):
    returns, weights = book
    chances = np.linspace(1, 3, 1000) if weighted else None
    marginal = marginal_loss(returns, weights, confidence, chances=chances)
    total = var_es(returns @ weights, confidence, weights=chances)
    groups = np.arange(30) % 4
    for groups_ in (None, groups):
        found = component_loss(marginal, weights, groups_)
        assert total.var == pytest.approx(found.var.sum(), rel=1e-12)
        assert total.es == pytest.approx(found.es.sum(), rel=1e-12)
    each = component_loss(marginal, weights)
    assert each.es[groups == 2].sum() == pytest.approx(found.es[2], rel=1e-12)


def test_marginal_es_is_the_slope_of_es(book):
    returns, weights = book
    marginal = marginal_loss(returns, weights, 0.95)
    step = 1e-7
    for i in (0, 7, 29):
        up, down = weights.copy(), weights.copy()
        up[i] += step
        down[i] -= step
        slope = (var_es(returns @ up, 0.95).es - var_es(returns @ down, 0.95).es) / (2 * step)
        assert slope == pytest.approx(marginal.es[i], rel=1e-5)


def test_var_components_of_normal_returns_are_near_those_of_the_covariance():
    cov = np.array([[4.0, 1.0, 0.0], [1.0, 1.0, -0.3], [0.0, -0.3, 2.0]]) * 1e-4
    weights = np.array([0.5, 0.3, -0.4])
    returns = np.random.default_rng(1).multivariate_normal(np.zeros(3), cov, 200_000)
    share = weights * (cov @ weights) / (weights @ cov @ weights)
    found = component_loss(marginal_loss(returns, weights), weights)
    assert share == pytest.approx(found.var / found.var.sum(), abs=0.02)
    assert share == pytest.approx(found.es / found.es.sum(), abs=0.02)


@pytest.mark.parametrize(
    ("n", "confidence", "first", "last"),
    [
        (1000, 0.99, 4, 16),  # the quantile is rank 10, the tail has 11 rows: 6 on either side
        (100, 0.95, 2, 8),  # rank 5, 6 rows
        (100, 0.99, 0, 2),  # rank 1: one at least
        (10, 0.5, 2, 6),  # rank 4, 5 rows, half to even: 2
        (3, 0.9, 0, 0),  # the worst alone has nothing on one side
        (4, 0.2, 3, 3),  # nothing is better
        (6, 0.2, 3, 5),  # rank 4: one is better, so one on either side
    ],
)
def test_the_window_of_var_components_is_half_a_tail_on_either_side_and_within_the_sample(n, confidence, first, last):
    ranks = RNG.permutation(n)
    probes = np.eye(n)[ranks]  # position i earns in the scenario of rank i alone, and is not held
    returns = np.column_stack([np.linspace(-2, -1, n)[ranks], probes])  # losses only: a window that gains is not used

    marginal = marginal_loss(returns, np.r_[1.0, np.zeros(n)], confidence)

    assert [*range(first, last + 1)] == np.flatnonzero(marginal.var[1:]).tolist()


def test_components_add_up_to_a_models_headline_where_it_is_given(book):
    returns, weights = book
    found = component_loss(marginal_loss(returns, weights, total=Loss(0.05, 0.08)), weights)
    assert 0.05 == pytest.approx(found.var.sum(), rel=1e-12)
    assert 0.08 == pytest.approx(found.es.sum(), rel=1e-12)


def test_a_book_that_can_only_gain_has_no_factor_to_a_headline_of_loss():
    returns = np.abs(RNG.normal(0.02, 0.001, (300, 2)))
    found = marginal_loss(returns, np.array([0.5, 0.5]), total=Loss(0.01, 0.02))
    assert np.isnan(found.var).all()
    assert np.isnan(found.es).all()


def test_an_empty_book_has_components_of_zero(book):
    returns, _ = book
    found = component_loss(marginal_loss(returns, np.zeros(30)), np.zeros(30))
    assert not found.var.any()
    assert not found.es.any()


def test_one_scenario_is_its_own_tail():
    returns, weights = np.array([[-0.1, 0.02]]), np.array([1.0, 1.0])
    found = component_loss(marginal_loss(returns, weights), weights)
    assert [0.1, -0.02] == pytest.approx(found.var.tolist())
    assert [0.1, -0.02] == pytest.approx(found.es.tolist())
