"""How often the tests err under their own null, how often the intervals hold the truth. Rates are printed with -s."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from mlops import stats

sys.path.insert(0, str(Path(__file__).parent))
from worlds import WORLDS, ar, garch, overlap

pytestmark = pytest.mark.calibration
RUNS = 1500  # one standard error is 0.56 points at 5 %


def _three_errors(rate, runs):
    return 3 * np.sqrt(rate * (1 - rate) / runs)


def _told(what, rate, stated):
    print(f"{what:60s} {rate:7.2%} (stated {stated})")


def _hits(rng, n):
    """Two models that are right on 60 % of the rows each and differ on a fifth of them."""
    kind = rng.choice(4, size=n, p=[0.1, 0.1, 0.5, 0.3])
    return np.isin(kind, (0, 2)).astype(float), np.isin(kind, (1, 2)).astype(float)


NULLS = {  # name: (draw, test)
    "paired t": (lambda rng: (rng.normal(size=40), rng.normal(size=40)), stats.paired_t),
    "Welch t, unequal": (lambda rng: (rng.normal(size=20), 3 * rng.normal(size=80)), stats.welch_t),
    "EWC t": (lambda rng: (ar(0.5)(rng, 1, 250)[0], np.zeros(250)), stats.dependent_t),
    "Sharpe difference": (
        lambda rng: tuple(0.05 + rng.standard_t(5, (1, 500)) + rng.standard_t(5, (2, 500))),
        stats.sharpe_difference,
    ),
    "Mann-Whitney": (lambda rng: (rng.standard_t(3, 40), rng.standard_t(3, 60)), stats.mann_whitney),
    "KS": (lambda rng: (rng.standard_t(3, 150), rng.standard_t(3, 200)), stats.ks_test),
    "chi-square": (lambda rng: (rng.integers(4, size=80), rng.integers(4, size=120)), stats.chi_square),
    "McNemar mid-p": (lambda rng: _hits(rng, 200), stats.mcnemar),
}


@pytest.mark.parametrize("name", NULLS)
def test_a_test_errs_at_its_stated_rate_under_its_own_null(name):
    draw, test = NULLS[name]
    rng = np.random.default_rng(1)
    rate = np.mean([test(*draw(rng)).p_value <= 0.05 for _ in range(RUNS)])
    _told(name, rate, "5 %")
    assert rate == pytest.approx(0.05, abs=_three_errors(0.05, RUNS) + 0.005)


def test_the_exact_mcnemar_never_errs_more_than_stated():
    rng = np.random.default_rng(2)
    rate = np.mean([stats.mcnemar(*_hits(rng, 60), method="exact").p_value <= 0.05 for _ in range(RUNS)])
    _told("McNemar exact", rate, "at most 5 %")
    assert rate <= 0.05


LIES = {  # what the tests for independent rows do with bars in time; documented in docs/statistics.md
    "paired t": (stats.paired_t, lambda x: (x, np.zeros_like(x))),
    "Welch t": (stats.welch_t, lambda x: (x[:250], x[250:])),
    "Mann-Whitney": (stats.mann_whitney, lambda x: (x[:250], x[250:])),
    "KS": (stats.ks_test, lambda x: (x[:250], x[250:])),
    "chi-square": (stats.chi_square, lambda x: (x[:250] > 0, x[250:] > 0)),
    "McNemar": (stats.mcnemar, lambda x: (x > 0, x <= 0)),
}


@pytest.mark.parametrize("name", LIES)
def test_tests_for_independent_rows_lie_in_time_as_documented(name):
    test, cut = LIES[name]
    rates = {}
    for world in ("AR .5", "10-bar overlap"):
        x = WORLDS[world](np.random.default_rng(3), 300, 500)
        rates[world] = np.mean([test(*cut(row)).p_value <= 0.05 for row in x])
    _told(f"{name} on AR(0.5) / 10-bar overlaps {rates['AR .5']:.0%} /", rates["10-bar overlap"], "5 % if independent")
    assert rates["10-bar overlap"] > 0.3
    assert rates["AR .5"] > 0.1


@pytest.mark.parametrize("world", ["AR .5", "GARCH", "10-bar overlap"])
def test_the_sharpe_difference_keeps_its_size_in_time(world):
    rng = np.random.default_rng(4)
    x, y = (WORLDS[world](rng, 1000, 500) for _ in range(2))
    rate = np.mean([stats.sharpe_difference(a, a / 2 + b).p_value <= 0.05 for a, b in zip(x, y, strict=True)])
    _told(f"Sharpe difference, {world}", rate, "5 %")
    assert rate <= 0.065 + _three_errors(0.05, 1000)


def _shares(rng):
    return int(rng.binomial(70, 0.6)), 70, int(rng.binomial(50, 0.5)), 50


def _paired(rng):
    b, c, _ = rng.multinomial(120, [0.15, 0.1, 0.75])
    return int(b), int(c)


def _two(rng):
    (a, b, c, d) = _shares(rng)
    return [[a, b - a], [c, d - c]]


DELTA = 2 * norm.cdf(0.5 / np.sqrt(2)) - 1
TRUTHS = {  # name: (draw an interval, truth)
    "Cohen's d": (lambda rng: stats.cohens_d(rng.normal(0.5, 1, 25), rng.normal(0, 1, 35)), 0.5),
    "Cohen's d, paired": (lambda rng: stats.cohens_d(rng.normal(0.5, 1, 25), np.zeros(25), paired=True), 0.5),
    "Hedges' g": (lambda rng: stats.hedges_g(rng.normal(0.5, 1, 25), rng.normal(0, 1, 35)), 0.5),
    "Cliff's delta": (lambda rng: stats.cliffs_delta(rng.normal(0.5, 1, 25), rng.normal(0, 1, 35)), DELTA),
    "risk difference": (lambda rng: stats.risk_difference(*_shares(rng)), 0.1),
    "odds ratio": (lambda rng: stats.odds_ratio(_two(rng)), 1.5),
    "odds ratio, conditional": (lambda rng: stats.odds_ratio(_two(rng), kind="conditional"), 1.5),
    "paired difference": (lambda rng: stats.paired_difference(*_paired(rng), 120), 0.05),
    "paired odds ratio": (lambda rng: stats.paired_odds_ratio(*_paired(rng)), 1.5),
    "KS distance": (
        lambda rng: stats.ks_test(rng.normal(0.5, 1, 200), rng.normal(0, 1, 200)).effect,
        2 * norm.cdf(0.25) - 1,
    ),
}
SAFE = {"odds ratio, conditional", "paired odds ratio", "KS distance"}  # at least as stated, by construction


@pytest.mark.parametrize("name", TRUTHS)
def test_an_interval_holds_the_truth_as_often_as_stated(name):
    draw, truth = TRUTHS[name]
    rng = np.random.default_rng(5)
    runs = 300 if name == "odds ratio, conditional" else RUNS  # that one is slow
    found = [draw(rng) for _ in range(runs)]
    rate = np.mean([one.low <= truth <= one.high for one in found])
    _told(f"interval of {name}", rate, "95 %" if name not in SAFE else "at least 95 %")
    assert rate >= 0.945 - _three_errors(0.05, runs)
    assert name in SAFE or rate <= 0.965 + _three_errors(0.05, runs)


COVERED = {  # (world, bars): least coverage of each way over 250 series; 95 % was asked
    ("iid", 250): {"studentised": 0.92, "percentile": 0.91, "bca": 0.91},
    ("AR .5", 250): {"studentised": 0.91, "percentile": 0.84, "bca": 0.84},
    ("AR .5", 600): {"studentised": 0.92, "percentile": 0.88, "bca": 0.88},
    ("10-bar overlap", 500): {"studentised": 0.90, "percentile": 0.82, "bca": 0.82},
}


@pytest.mark.parametrize("scheme", ["stationary", "circular"])
@pytest.mark.parametrize(("world", "n"), COVERED)
def test_the_block_bootstrap_holds_the_mean(world, n, scheme):
    draw = {"iid": ar(0.0), "AR .5": ar(0.5), "10-bar overlap": overlap(10)}[world]
    x, rng = draw(np.random.default_rng(6), 250, n), np.random.default_rng(7)
    for method, least in COVERED[world, n].items():
        found = [stats.bootstrap_interval(row, rng=rng, method=method, scheme=scheme, paths=400).estimate for row in x]
        rate = np.mean([one.low <= 0 <= one.high for one in found])
        _told(f"{scheme} bootstrap, {method}, {world}, {n} bars", rate, "95 %")
        assert rate >= least


def test_the_studentised_bootstrap_holds_a_sharpe_ratio():
    x, rng = garch(np.random.default_rng(8), 300, 500), np.random.default_rng(9)
    ratio = 0.05  # 0.8 a year
    x = x / np.sqrt(x.var()) + ratio
    found = [stats.bootstrap_interval(row, stats.sharpe_ratio, rng=rng, paths=500).estimate for row in x]
    rate = np.mean([one.low <= ratio <= one.high for one in found])
    _told("stationary bootstrap, studentised, Sharpe ratio of GARCH", rate, "95 %")
    assert rate >= 0.9


@pytest.fixture(scope="module")
def best_of_200():
    """Selected strategies of 200 worlds without any edge: 200 tries over five years of days, and their spread."""
    rng, chosen = np.random.default_rng(10), []
    for _ in range(200):
        returns = rng.standard_normal((200, 1260), dtype=np.float32)
        ratios = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
        chosen.append((stats.sharpe_moments(returns[ratios.argmax()]), float(ratios.std(ddof=1))))
    return chosen


def test_the_deflated_sharpe_ratio_accepts_no_best_of_200_and_the_plain_one_all(best_of_200):
    plain = np.mean([stats.probabilistic_sharpe(moments) >= 0.95 for moments, _ in best_of_200])
    deflated = np.mean([stats.deflated_sharpe(m, trials=200, spread=spread) >= 0.95 for m, spread in best_of_200])
    annual = np.median([moments.sharpe for moments, _ in best_of_200]) * np.sqrt(252)
    print(f"best of 200 without edge: annual Sharpe {annual:.2f}, accepted plain {plain:.1%}, deflated {deflated:.1%}")
    assert 1.21 == pytest.approx(annual, abs=0.05)
    assert plain > 0.99
    assert deflated <= 0.05


def test_one_strategy_chosen_in_advance_passes_as_often_as_stated():
    rng = np.random.default_rng(11)
    returns = -rng.gamma(4.0, size=(RUNS, 500)) + 4.0  # skewness -1, no edge
    rate = np.mean([stats.probabilistic_sharpe(stats.sharpe_moments(row)) >= 0.95 for row in returns])
    _told("probabilistic Sharpe ratio, one skewed strategy", rate, "5 %")
    assert rate == pytest.approx(0.05, abs=_three_errors(0.05, RUNS) + 0.01)


def test_overfitting_of_pure_noise_is_a_half_on_average():
    rng = np.random.default_rng(12)
    found = np.array([stats.backtest_overfitting(rng.normal(size=(480, 20)), blocks=10).pbo for _ in range(300)])
    low, high = np.quantile(found, [0.05, 0.95])
    print(f"PBO of noise, 20 columns: mean {found.mean():.2f}, nine in ten from {low:.2f} to {high:.2f}")
    assert found.mean() == pytest.approx(0.5, abs=3 * found.std() / np.sqrt(300))


def test_of_twenty_equal_challengers_one_is_called_better_as_often_as_stated():
    rng, hits, alone = np.random.default_rng(13), [], []
    for _ in range(150):
        losses = ar(0.2)(rng, 21, 500).T + ar(0.2)(rng, 1, 500).T
        hits.append(bool(stats.superior_predictive_ability(losses[:, 0], losses[:, 1:], rng=rng, paths=200).superior))
        alone.append(min(stats.dependent_t(losses[:, 0], row).p_value for row in losses[:, 1:].T) <= 0.05)
    _told("superior predictive ability, 20 equal challengers", np.mean(hits), "5 %")
    _told("the best of 20 by its own EWC t", np.mean(alone), "5 % each")
    assert np.mean(hits) <= 0.06 + _three_errors(0.05, 150)
    assert np.mean(alone) > 0.3


def test_the_confidence_set_keeps_the_best_models():
    rng, kept = np.random.default_rng(14), []
    for _ in range(200):
        losses = ar(0.3)(rng, 8, 400).T + np.where(np.arange(8) < 4, 0.0, 0.4)
        kept.append({0, 1, 2, 3} <= set(stats.model_confidence_set(losses, rng=rng, paths=300).included))
    _told("model confidence set keeps all four best of eight", np.mean(kept), "at least 95 %")
    assert np.mean(kept) >= 0.95 - _three_errors(0.05, 200)


def test_corrections_for_many_tests_keep_their_rates():
    rng = np.random.default_rng(15)
    common = rng.normal(size=(2000, 1))
    z = np.sqrt(0.5) * common + np.sqrt(0.5) * rng.normal(size=(2000, 20)) + np.where(np.arange(20) < 5, 3.0, 0.0)
    p, e = norm.sf(z), np.exp(3 * z - 4.5)  # the likelihood ratio is an e-value
    null = np.arange(20) >= 5
    holm = np.array([stats.holm(row) <= 0.05 for row in p])
    family = (holm & null).any(axis=1).mean()
    _told("Holm, any false rejection", family, "at most 5 %")
    assert family <= 0.05 + _three_errors(0.05, 2000)
    for name, rejected in {
        "Benjamini-Hochberg": np.array([stats.benjamini_hochberg(row) <= 0.05 for row in p]),
        "e-BH": np.array([stats.e_bh(row) for row in e]),
    }.items():
        share = ((rejected & null).sum(axis=1) / np.maximum(rejected.sum(axis=1), 1)).mean()
        _told(f"{name}, share of false rejections", share, "at most 5 %")
        assert share <= 0.05 + _three_errors(0.05, 2000)


def _shifted(d):
    return lambda rng, n: (rng.normal(d, 1, n), rng.normal(0, 1, n))


def _rates(p, q):
    return lambda rng, n: ((rng.random(n) < p).astype(float), (rng.random(n) < q).astype(float))


def _gaining(gain, discordance):
    def draw(rng, n):
        kind = rng.choice(3, size=n, p=[(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance])
        return (kind == 0).astype(float), (kind == 1).astype(float)

    return draw


PLANS = {
    "paired t": (stats.paired_t, _shifted(0.5), lambda: stats.t_sample_size(0.5 / np.sqrt(2), paired=True)),
    "Welch t": (stats.welch_t, _shifted(0.5), lambda: stats.t_sample_size(0.5)),
    "Mann-Whitney": (
        stats.mann_whitney,
        _shifted(0.5),
        lambda: stats.mann_whitney_sample_size(norm.cdf(0.5 / np.sqrt(2))) // 2,
    ),
    "chi-square, shares": (stats.chi_square, _rates(0.5, 0.6), lambda: stats.shares_sample_size(0.5, 0.6)),
    "McNemar": (stats.mcnemar, _gaining(0.05, 0.2), lambda: stats.mcnemar_sample_size(0.05, discordance=0.2)),
}


@pytest.mark.parametrize("name", PLANS)
def test_planned_rows_give_the_planned_power(name):
    test, draw, size = PLANS[name]
    found = stats.simulated_power(test, draw, size(), rng=np.random.default_rng(16), runs=1000)
    _told(f"power of {name} at its {size()} rows", found.value, "80 %")
    assert found.value == pytest.approx(0.8, abs=_three_errors(0.8, 1000) + 0.01)
