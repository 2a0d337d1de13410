"""How often a right VaR is shown red, and a wrong one is not, in a heavy-tailed GARCH world. Rates are printed with -s."""

import numpy as np
import pytest
from scipy.stats import norm, t

from mlops.risk.measures import Losses
from mlops.risk.var.backtest import judge_losses
from mlops.risk.var.coverage import shortfall
from mlops.risk.var.evt import extreme_loss
from mlops.risk.var.fitted import fit
from mlops.types import Level

pytestmark = pytest.mark.calibration
OMEGA, ALPHA, GAMMA, BETA = 0.05, 0.03, 0.10, 0.87  # near an equity index's, in units of its variance


def _at_most(rate, chances):
    return rate + 3 * np.sqrt(rate * (1 - rate) / chances)


def worlds(rng, markets, n, nu):
    """Returns and true volatility, each of shape (markets, n), after a start that is forgotten."""
    z = rng.standard_t(nu, (n + 300, markets)) * np.sqrt((nu - 2) / nu)
    variance, r, sigma = np.ones(markets), np.empty_like(z), np.empty_like(z)
    for i, row in enumerate(z):
        sigma[i] = np.sqrt(variance)
        r[i] = sigma[i] * row
        variance = OMEGA + (ALPHA + GAMMA * (r[i] < 0)) * r[i] ** 2 + BETA * variance
    return r[300:].T, sigma[300:].T


def true_losses(sigma, nu, share):
    scale, edge = np.sqrt((nu - 2) / nu), t.ppf(share, nu)
    es = t.pdf(edge, nu) / share * (nu + edge**2) / (nu - 1)
    return Losses(-edge * scale * sigma, es * scale * sigma)


@pytest.mark.parametrize(("n", "markets"), [(250, 300), (1000, 150)])
@pytest.mark.parametrize("confidence", [0.99, 0.975])
def test_a_right_model_is_red_no_more_often_than_stated(n, markets, confidence):
    returns, sigma = worlds(np.random.default_rng(n), markets, n, 4)
    found = [
        judge_losses(r, true_losses(s, 4, 1 - confidence), confidence) for r, s in zip(returns, sigma, strict=True)
    ]
    red = np.mean([b.level is Level.ALERT for b in found])
    plain = {k: np.mean([b.p_values[k] <= 0.05 for b in found]) for k in found[0].p_values}
    each = ", ".join(f"{name} {rate:.1%}" for name, rate in plain.items())
    print(f"right {confidence:.1%} n={n}: red {red:.1%} at 5 %; alone: {each}")
    assert red <= _at_most(0.05, markets)
    for rate in plain.values():
        assert rate <= _at_most(0.05, markets)


def test_an_es_test_errs_more_often_only_where_the_tail_is_wilder_than_it_assumes():
    rates = {}
    for nu in (3, 4, 8):
        returns, sigma = worlds(np.random.default_rng(nu), 300, 250, nu)
        rng = np.random.default_rng(1)
        p = [
            shortfall(r, true_losses(s, nu, 0.01), 0.01, rng=rng, paths=1998).p_value
            for r, s in zip(returns, sigma, strict=True)
        ]
        rates[nu] = np.mean(np.array(p) <= 0.05)
    print("Z2 at 5 %, tails of t with 3, 4, 8 degrees: " + ", ".join(f"{rate:.1%}" for rate in rates.values()))
    assert rates[4] <= _at_most(0.05, 300)
    assert rates[8] <= _at_most(0.05, 300)
    assert rates[3] <= _at_most(0.08, 300)


@pytest.mark.parametrize(("n", "power"), [(250, 0.1), (1000, 0.3)])
def test_a_normal_law_at_a_constant_volatility_is_red(n, power):
    returns, _ = worlds(np.random.default_rng(7), 120, n, 4)
    flat = Losses(np.full(n, -norm.ppf(0.01)), np.full(n, norm.pdf(norm.ppf(0.01)) / 0.01))
    red = np.mean([judge_losses(r, flat).level is Level.ALERT for r in returns])
    print(f"normal, constant volatility, n={n}: red {red:.0%}")
    assert red >= power


@pytest.mark.parametrize("world", ["independent", "filtered", "plain"])
def test_intervals_of_a_rare_loss_hold_it_about_as_often_as_told(world):
    markets, n = 200, 2000
    scale = np.sqrt(0.5)
    truth = np.full(markets, -t.ppf(0.001, 4) * scale)
    r, sigma = worlds(np.random.default_rng(1), markets, n, 4)
    if world == "plain":
        long, _ = worlds(np.random.default_rng(2), 400, 5000, 4)
        truth[:] = np.quantile(-long, 0.999)
    series = r if world == "plain" else r / sigma
    if world == "filtered":
        series, truth = series[:40], truth[:40] * 0.01 * sigma[:40, -1]
        series = [one * fit("fhs_gjr", one).scenarios(one).scale for one in 0.01 * r[:40, :-1]]
    found = [extreme_loss(one, 0.999).var for one in series]
    held = np.mean([one.low <= true <= one.high for one, true in zip(found, truth, strict=True)])
    told = np.mean(["come together" in one.note for one in found])
    print(f"99.9 % VaR, {world}: 90 % intervals hold it in {held:.0%}; {told:.0%} say that wild days come together")
    if world == "plain":
        assert told > 0.8
    else:
        assert held >= 0.75
        assert told <= 0.06
