import numpy as np
import pytest
from scipy.stats import chi2, genpareto, t

from mlops.errors import DataError
from mlops.risk.var.evt import exceedances, extreme_loss, hill, pareto


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("xi", [-0.2, 0.0, 0.25, 0.6])
def test_the_fit_is_scipys(n, xi):
    x = genpareto.rvs(xi, scale=0.01, size=n, random_state=5)
    theirs, _, scale = genpareto.fit(x, floc=0)
    ours = pareto(x)
    assert theirs == pytest.approx(ours.xi, abs=1e-3)
    assert scale == pytest.approx(ours.scale, rel=2e-3)
    best = genpareto.logpdf(x, theirs, 0, scale).sum()
    assert best == pytest.approx(genpareto.logpdf(x, ours.xi, 0, ours.scale).sum(), abs=1e-3)


def test_var_and_es_of_a_fit_are_the_laws():
    fit = pareto(genpareto.rvs(0.3, scale=0.02, size=2000, random_state=1))
    var, es = fit.losses(0.05, np.array([0.1]))
    law = genpareto(fit.xi, 0.05, fit.scale)
    assert law.ppf(0.9) == pytest.approx(var[0])
    assert law.expect(lb=var[0], conditional=True) == pytest.approx(es[0], rel=1e-4)


@pytest.mark.parametrize("x", [[], [0.1], [0.2, 0.2, 0.2]])
def test_what_has_no_shape_has_no_fit(x):
    assert pareto(np.array(x)) is None


def test_ties_at_the_threshold_are_not_beyond_it():
    _, beyond, share = exceedances(np.array([0.0] * 90 + [1.0] * 5 + [2.0] * 5), 0.08)
    assert [1.0] * 5 == beyond.tolist()
    assert 0.05 == share


def test_hill_finds_the_index_of_a_pareto_law():
    x = np.random.default_rng(0).pareto(3.0, 100_000) + 1
    assert 1 / 3 == pytest.approx(hill(x, 0.05), abs=0.01)
    assert np.isnan(hill(-x))


def test_a_rare_loss_is_found_with_an_interval_around_it():
    r = t(4).rvs(5000, random_state=2) * 0.01
    found = extreme_loss(r, 0.999)
    assert found.var.low < -t(4).ppf(0.001) * 0.01 < found.var.high
    assert found.var.low < found.var.value < found.var.high
    assert found.es.low < found.es.value < found.es.high
    assert found.es.value > found.var.value
    assert found.xi.low < 0.25 < found.xi.high
    assert [0.05, 0.075, 0.1, 0.125, 0.15] == [share for share, _, _ in found.stability]
    assert "" == found.var.note


def test_an_interval_ends_where_the_likelihood_ratio_says():
    r = t(4).rvs(2000, random_state=3) * 0.01
    found = extreme_loss(r, 0.999, alpha=0.1)
    threshold, beyond, weight = exceedances(-r)

    def profile(var):
        xis = np.linspace(-0.3, 0.9, 2401) + 1e-9
        scale = (var - threshold) * xis / ((0.001 / weight) ** -xis - 1)
        return max(genpareto.logpdf(beyond, xi, 0, s).sum() for xi, s in zip(xis, scale, strict=True))

    best = profile(found.var.value)
    for end in (found.var.low, found.var.high):
        assert chi2.ppf(0.9, 1) == pytest.approx(2 * (best - profile(end)), abs=0.1)


def test_wild_days_that_come_together_are_told():
    rng = np.random.default_rng(0)
    r = rng.standard_t(5, 2000) * np.repeat([0.5, 2.0], 1000)
    assert "come together" in extreme_loss(r).var.note


@pytest.mark.parametrize("pnl", [[0.01], np.zeros(500), np.random.default_rng(0).normal(size=150), np.full(1000, -0.1)])
def test_a_short_or_flat_tail_is_unknown_and_says_what_is_needed(pnl):
    found = extreme_loss(pnl)
    assert not found.var.known
    assert "20 needed" in found.var.note


def test_what_is_not_finite_is_refused():
    with pytest.raises(DataError, match="pnl must be finite"):
        extreme_loss([np.nan] * 300)


def test_a_confidence_inside_of_the_tail_has_no_law():
    assert not extreme_loss(np.random.default_rng(0).normal(size=1000), 0.85).var.known
