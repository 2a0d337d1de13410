"""How often evidence that is looked at every bar errs when nothing is there. Rates are printed with -s."""

import sys
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from mlops import stats
from mlops.stats.anytime import FIRST
from mlops.stats.betting import STAKES
from mlops.stats.dependent import mean_skewness, unskewed
from mlops.stats.sequential import DESIGN_SHARE

sys.path.insert(0, str(Path(__file__).parent))
from worlds import LEANING, WORLDS, ar, overlap

pytestmark = pytest.mark.calibration
RUNS, YEAR = 1000, 252
GAIN, DISCORDANCE = 0.02, 0.3


def _three_errors(rate, chances):
    return 3 * np.sqrt(rate * (1 - rate) / chances)


def _log_e(x, rows):
    """Evidence that the mean of each row is positive, after each of `rows`: `evidence_path` for many series at once."""
    out = np.empty((len(rows), len(x)))
    for i, n in enumerate(rows):
        mean, error = x[:, :n].mean(axis=1), stats.ewc_error(x[:, :n], cautious=True)
        tail = np.clip(student.sf(np.abs(mean / error), stats.ewc_dof(n)), 1e-300, 0.5)
        z = unskewed(np.sign(mean) * norm.isf(tail), mean_skewness(x[:, :n], error))
        out[i] = stats.mixture_log_e(z, np.array([n]))
    return out


def _rates(x, rows):
    """Share ever called better (mean of both signs), and share whose 95 % interval ever missed the mean, 0."""
    up, down = _log_e(x, rows).max(axis=0), _log_e(-x, rows).max(axis=0)
    proven = (np.mean(up >= np.log(20)) + np.mean(down >= np.log(20))) / 2
    return float(proven), float(np.mean(np.maximum(up, down) >= np.log(40)))


def _hits(rng, runs, n, gain=0.0):
    half = (DISCORDANCE + gain) / 2, (DISCORDANCE - gain) / 2
    return rng.choice([1.0, -1.0, 0.0], (runs, n), p=[*half, 1 - DISCORDANCE])


def test_the_many_series_form_is_the_evidence_path():
    x = WORLDS["AR .5"](np.random.default_rng(1), 5, YEAR)
    rows = range(FIRST, YEAR + 1, 29)
    many = np.exp(_log_e(x, rows)).T
    assert np.allclose([stats.evidence_path(row, at=list(rows)).e_value for row in x], many)


@pytest.mark.parametrize("world", WORLDS)
def test_an_equal_challenger_looked_at_every_bar_for_a_year_is_proven_at_most_as_stated(world):
    x = WORLDS[world](np.random.default_rng(21), RUNS, YEAR)
    proven, missed = _rates(x, range(FIRST, YEAR + 1))
    print(f"every bar, one year   {world:15s} proven {proven:.2%}, interval ever missed {missed:.2%} (stated 5 %)")
    assert max(proven, missed) <= 0.05


@pytest.mark.parametrize("world", [world for world in LEANING if "x2" in world])
def test_a_challenger_that_loses_much_on_few_bars_is_proven_at_most_as_stated(world):
    x = LEANING[world](np.random.default_rng(24), RUNS, YEAR)
    better, worse = (np.mean(_log_e(side, range(40, YEAR + 1)).max(axis=0) >= np.log(20)) for side in (x, -x))
    print(f"every bar from 40 on  {world:32s} proven {better:.2%}, worse {worse:.2%} (stated 5 %)")
    assert max(better, worse) <= 0.05


@pytest.mark.parametrize("world", WORLDS)
def test_nor_is_it_within_ten_years(world):
    """Real pairs keep the drift that they had: some of what is proven of them over ten years is true."""
    x = WORLDS[world](np.random.default_rng(22), 400, 10 * YEAR)
    rows = np.unique(np.geomspace(FIRST, 10 * YEAR, 120).astype(int))
    proven, missed = _rates(x, rows)
    print(f"120 looks, ten years  {world:15s} proven {proven:.2%}, interval ever missed {missed:.2%} (stated 5 %)")
    assert proven <= 0.05 + _three_errors(0.05, 800)
    assert missed <= 0.05 + _three_errors(0.05, 400)


@pytest.mark.parametrize(("name", "draw"), {"20-bar overlap": overlap(20), "AR .9": ar(0.9)}.items())
def test_a_memory_as_long_as_the_first_look_errs_as_documented_and_a_later_one_mends_it(name, draw):
    x = draw(np.random.default_rng(23), RUNS, YEAR)
    early, late = _rates(x, range(FIRST, YEAR + 1))[0], _rates(x, range(60, YEAR + 1))[0]
    print(f"every bar, one year   {name:15s} proven {early:.2%} from bar 20 on, {late:.2%} from bar 60 on")
    assert 0.05 < early < 0.11
    assert late <= 0.05 + _three_errors(0.05, 2 * RUNS)


def test_skewed_gains_err_less_on_the_side_that_promotes_and_keep_the_rate_on_the_other():
    x = np.random.default_rng(24).exponential(1.0, (RUNS, YEAR)) - 1
    up, down = (_log_e(sign * x, range(FIRST, YEAR + 1)).max(axis=0) >= np.log(20) for sign in (1, -1))
    print(f"every bar, one year   exponential     proven {up.mean():.2%}, mirrored {down.mean():.2%} (stated 5 %)")
    assert up.mean() <= 0.02
    assert down.mean() <= 0.05 + _three_errors(0.05, RUNS)


@pytest.fixture(scope="module")
def five_equal_challengers():
    """Gains of five over one champion, AR(.2) losses: correlated at one half; shape (runs, 5, bars)."""
    rng = np.random.default_rng(25)
    losses = [ar(0.2)(rng, 500, YEAR) for _ in range(6)]
    return np.stack([losses[0] - one for one in losses[1:]], axis=1)


def test_of_five_equal_challengers_none_is_ever_promoted_oftener_than_stated(five_equal_challengers):
    x = five_equal_challengers.reshape(-1, YEAR)
    plan = stats.look_times(horizon=YEAR, look_every=5)
    anytime = _log_e(x, range(FIRST, YEAR + 1)).max(axis=0).reshape(-1, 5).max(axis=1)
    rates = {"e-Holm, every bar": np.mean(anytime >= np.log(100))}
    for name, alpha in (("Holm, weekly", 0.01), ("each for itself, weekly", 0.05)):
        crossed = _crossings(x, plan, alpha) <= YEAR
        rates[name] = crossed.reshape(-1, 5).any(axis=1).mean()
    print("five equal challengers, any promoted in a year:", {k: f"{v:.1%}" for k, v in rates.items()}, "(stated 5 %)")
    assert rates["e-Holm, every bar"] <= 0.05
    assert rates["Holm, weekly"] <= 0.05 + _three_errors(0.05, 500)
    assert rates["each for itself, weekly"] > 0.08  # what Holm is for


def test_holm_promotes_any_of_them_exactly_when_the_first_step_does(five_equal_challengers):
    plan = stats.look_times(horizon=YEAR, look_every=5)
    some = five_equal_challengers[:40]
    first = (_crossings(some.reshape(-1, YEAR), plan, 0.01) <= YEAR).reshape(-1, 5).any(axis=1)
    found = [any(r.crossed for r in stats.sequential_holm(list(row), horizon=YEAR, look_every=5)) for row in some]
    assert first.tolist() == found


def test_the_planned_test_asked_at_every_bar_decides_what_it_would_have_decided_at_its_looks():
    """So its rate at every bar is the one that test_error_rates.py measures at the planned looks."""
    x = WORLDS["10-bar overlap"](np.random.default_rng(26), 5, YEAR)
    for row in np.concatenate([x, x + 2.0]):
        asked = [stats.sequential_test(row[:n], horizon=YEAR, look_every=5) for n in range(1, YEAR + 1, 3)]
        assert any(found.crossed for found in asked) == asked[-1].crossed
        assert len({found.crossed_at for found in asked if found.crossed}) <= 1


def _crossings(x, looks, alpha, power=3.0):
    """Rows at which `sequential_test` decides; one more than the horizon where it never does."""
    levels = stats.nominal_levels(looks, looks[-1], DESIGN_SHARE * alpha, power)
    at = np.full(len(x), looks[-1] + 1)
    for n, level in zip(looks, levels, strict=True):
        p = student.sf(stats.ewc_statistic(x[:, :n], cautious=True)[1], stats.ewc_dof(n))
        at[(at > looks[-1]) & (p <= level)] = n
    return at


def test_two_points_at_discordance_three_tenths_are_seen_by_six_thousand_pairs():
    looks = stats.look_times(horizon=6000, look_every=60)
    at = _crossings(_hits(np.random.default_rng(27), 1000, 6000, gain=GAIN), looks, 0.05)
    power, mean = np.mean(at <= 6000), np.minimum(at, 6000).mean()
    plan = stats.sequential_power(GAIN / sqrt(DISCORDANCE - GAIN**2), horizon=6000, look_every=60)
    print(
        f"+2 points, discordance .3, 100 looks: power {power:.1%} by 6,000 pairs, {mean:.0f} on average; planned {plan}"
    )
    assert power >= 0.8
    assert power == pytest.approx(plan.power, abs=0.01 + _three_errors(plan.power, 1000))
    assert mean == pytest.approx(plan.mean_rows, rel=0.04)


def test_the_planned_horizon_of_the_sequential_test_has_its_power():
    effect = 0.08
    rows = stats.sequential_sample_size(effect, looks=20)
    looks = stats.look_times(horizon=rows, look_every=-(-rows // 20))
    x = np.random.default_rng(28).normal(effect, 1, (2000, rows))
    power = np.mean(_crossings(x, looks, 0.05) <= rows)
    print(f"sequential test at its planned {rows} rows: power {power:.1%} (planned 80 %)")
    assert power == pytest.approx(0.8, abs=0.01 + _three_errors(0.8, 2000))


def _betting_crossed(x):
    wins, losses = (x > 0).cumsum(axis=1)[:, 9::10], (x < 0).cumsum(axis=1)[:, 9::10]
    e = sum(np.exp(wins * np.log1p(s) + losses * np.log1p(-s)) for s in STAKES) / STAKES.size
    return float((e >= 20).any(axis=1).mean())


def test_anytime_mcnemar_keeps_its_rate_on_hits_and_breaks_on_overlapping_labels_as_documented():
    rng = np.random.default_rng(29)
    right = _betting_crossed(_hits(rng, 1500, 3000))
    drawn = np.sign(overlap(10)(rng, 500, 3000)) * (overlap(10)(rng, 500, 3000) > 0)
    wrong, thinned = _betting_crossed(drawn), _betting_crossed(drawn[:, ::10])
    print(f"anytime McNemar, 3,000 pairs: {right:.2%}; 10-bar labels {wrong:.1%}, every tenth of them {thinned:.2%}")
    assert right <= 0.05
    assert wrong > 0.2
    assert thinned <= 0.05


def test_fair_dealing_is_called_a_mismatch_at_most_as_stated_at_any_time():
    rng, plan = np.random.default_rng(30), [0.8, 0.1, 0.1]
    assigned = rng.multinomial(50, plan, size=(400, 40)).cumsum(axis=1)
    rate = np.mean([any(stats.srm_e_value(now, plan) >= 20 for now in row) for row in assigned])
    print(f"sample ratio, three arms, looked at 40 times up to 2,000 units: {rate:.2%} (stated 5 %)")
    assert rate <= 0.05
