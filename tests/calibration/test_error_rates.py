"""How often the tests are wrong when nothing is there, measured under dependence. Rates are printed with -s."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from benchmarks.nulls import crossed
from mlops.experiment import Plan
from mlops.stats import (
    calibrate_cusum,
    cusum_path,
    ewc_dof,
    ewc_statistic,
    sequential_test,
)

sys.path.insert(0, str(Path(__file__).parent))
from worlds import LEANING, WORLDS, overlap

pytestmark = pytest.mark.calibration
RUNS = 2500  # with both signs 5,000 chances: one standard error is 0.31 points at 5 %
PROMOTION = Plan()
WATCH = Plan(horizon_bars=126, power=1.0)


def _three_errors(rate, chances):
    return 3 * np.sqrt(rate * (1 - rate) / chances)


def _promoted(x, plan):
    """Which rows an equal challenger would be promoted on, at any look; `sequential_test` for many series at once."""
    return crossed(x, plan) <= plan.horizon_bars


def _rate(world, plan):
    x = WORLDS[world](np.random.default_rng(7), RUNS, plan.horizon_bars)
    return (_promoted(x, plan).mean() + _promoted(-x, plan).mean()) / 2


def test_the_many_series_form_is_the_sequential_test():
    x = WORLDS["AR .5"](np.random.default_rng(1), 60, 252)
    plan = {"horizon": 252, "look_every": 5, "alpha": 0.05, "power": 3.0, "min_n": 40}
    assert [sequential_test(row, **plan).crossed for row in x] == _promoted(x, PROMOTION).tolist()


@pytest.mark.parametrize("world", WORLDS)
def test_an_equal_challenger_under_weekly_looks_for_a_year_is_promoted_at_most_as_stated(world):
    rate = _rate(world, PROMOTION)
    print(f"promotion  {world:15s} {rate:.2%} (stated 5 %)")
    assert rate <= 0.05 + _three_errors(0.05, 2 * RUNS)


JOINED_EVERY = 21  # bars
FAMILY_RUNS = 1500


def _first_promotion(world, years):
    """Bar of the first promotion of each world in which an equal challenger joins each month; infinity: never.

    Each is compared for a year, and one that ended still counts for those that it met. What the champion loses is
    common to all.
    """
    rng, year = np.random.default_rng(17), PROMOTION.horizon_bars
    starts = range(0, years * year, JOINED_EVERY)
    forecasts = [WORLDS[world](rng, FAMILY_RUNS, (years + 1) * year) for _ in range(len(starts) + 1)]
    at = np.full(FAMILY_RUNS, np.inf)
    for challenger, start in zip(forecasts[1:], starts, strict=True):
        beside = [other - start for other in starts if abs(other - start) < year and other != start]
        later = tuple(bars for bars in beside if bars > 0)
        plan = replace(PROMOTION, arms=1 + len(beside), joined=later)
        x = (forecasts[0] - challenger)[:, start : start + year]
        done = crossed(x, plan)
        at = np.minimum(at, np.where(done <= year, start + done, np.inf))
    return at


@pytest.mark.parametrize("world", ["iid t5", "AR .5", "5-bar overlap"])
def test_equal_challengers_that_join_each_month_share_one_error_a_year(world):
    at = _first_promotion(world, 2)
    first, second = (at <= 252).mean(), ((252 < at) & (at <= 504)).sum() / (at > 252).sum()
    print(f"one joins each month  {world:15s} any promoted in the first year {first:.2%}, the second {second:.2%}")
    assert max(first, second) <= 0.05 + _three_errors(0.05, FAMILY_RUNS)


@pytest.mark.parametrize("world", LEANING)
def test_a_challenger_that_loses_much_on_few_bars_is_promoted_at_most_as_stated(world):
    """Over-confident but equal: a t that takes the mean for normal promotes 7 to 17 % of these."""
    x = LEANING[world](np.random.default_rng(11), RUNS, PROMOTION.horizon_bars)
    rates = _promoted(x, PROMOTION).mean(), _promoted(-x, PROMOTION).mean()
    print(f"promotion  {world:32s} {rates[0]:.2%}, proven worse {rates[1]:.2%} (stated 5 %)")
    assert rates[0] <= 0.065 + _three_errors(0.05, RUNS)
    assert rates[1] <= 0.05


@pytest.mark.parametrize("world", [world for world in WORLDS if world != "10-bar overlap"])
def test_an_equal_champion_is_rolled_back_at_most_as_stated(world):
    rate = _rate(world, WATCH)
    print(f"watch      {world:15s} {rate:.2%} (stated 5 %)")
    assert rate <= 0.05 + _three_errors(0.05, 2 * RUNS)


def test_a_half_year_watch_of_ten_bar_labels_errs_a_little_more():
    """Forty bars hold four labels side by side; the docstring says so."""
    rate = _rate("10-bar overlap", WATCH)
    print(f"watch      10-bar overlap  {rate:.2%} (stated 5 %, documented 7 %)")
    assert 0.05 < rate <= 0.085


def test_a_real_advantage_is_promoted_most_of_the_time():
    x = WORLDS["iid t5"](np.random.default_rng(3), 1000, 252) / np.sqrt(5 / 3)
    power = {gain: _promoted(x + gain, PROMOTION).mean() for gain in (0.15, 0.2, 0.3)}
    print("power at a daily gain in standard deviations", {k: f"{v:.1%}" for k, v in power.items()})
    assert power[0.2] >= 0.8
    assert power[0.3] >= 0.98


@pytest.mark.parametrize("world", WORLDS)
def test_one_look_keeps_its_size(world):
    x = WORLDS[world](np.random.default_rng(9), RUNS, 500)
    p = student.sf(ewc_statistic(x)[1], ewc_dof(500))
    rate = ((p <= 0.05).mean() + (p >= 0.95).mean()) / 2
    print(f"one look   {world:15s} {rate:.2%} (stated 5 %)")
    assert rate <= 0.06 + _three_errors(0.05, 2 * RUNS)


def _alarms(x, target, threshold, allowance):
    """Alarms of a chart that restarts after each."""
    alarms, start = 0, 0
    while start < len(x):
        over = np.flatnonzero(cusum_path(x[start:], target=target, allowance=allowance) > threshold)
        if not over.size:
            break
        alarms, start = alarms + 1, start + int(over[0]) + 1
    return alarms


@pytest.mark.parametrize("bars", [1, 5, 10], ids=lambda bars: f"labels of {bars} bars")
def test_the_accuracy_chart_cries_wolf_about_as_often_as_asked(bars):
    rng, counts = np.random.default_rng(8), []
    for _ in range(150):
        latent = np.sqrt(0.3) * overlap(bars)(rng, 1, 1252) + np.sqrt(0.7) * overlap(bars)(rng, 20, 1252)
        hit = (latent / np.sqrt(bars) < norm.ppf(0.66)).mean(axis=0)
        baseline, year = hit[:1000], hit[1000:]
        threshold, _ = calibrate_cusum(
            baseline, allowance=0.025, false_alarms_per_year=1.0, bars_per_year=252, rng=rng, paths=300
        )
        counts.append(_alarms(year, baseline.mean(), threshold, 0.025))
    error = np.std(counts) / np.sqrt(len(counts))
    print(f"accuracy chart, labels of {bars} bars: {np.mean(counts):.2f} +- {error:.2f} alarms a year (asked 1)")
    assert np.mean(counts) <= 1.0 + 3 * error
    assert np.mean(counts) >= 0.6
