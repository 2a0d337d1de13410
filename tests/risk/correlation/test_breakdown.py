import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from mlops.errors import DataError
from mlops.risk.correlation.breakdown import State, advance, breakdown, states
from mlops.risk.correlation.threshold import Calibration, calibrate, mean_rank_correlation, shifts
from mlops.types import Level

FOUND = Calibration(threshold=0.8, shifting=0.5, chance_per_year=0.1, units=20, days=1000, window=60)


def _world(rng, days, share, units=20, volatility=1.0):
    """Units that share so much of their variance, daily."""
    common = rng.standard_normal((days, 1)) * np.sqrt(share)
    return 0.01 * volatility * (common + rng.standard_normal((days, units)) * np.sqrt(1 - share))


def test_the_mean_over_each_window_is_scipys():
    rng = np.random.default_rng(0)
    r = np.round(_world(rng, 130, 0.3, units=5), 3)
    upper = np.triu_indices(5, 1)
    expected = [spearmanr(r[t - 60 : t]).statistic[upper].mean() for t in range(60, 131)]
    assert expected == pytest.approx(mean_rank_correlation(r).tolist(), abs=1e-6)


def test_a_unit_that_does_not_move_is_no_pair():
    r = _world(np.random.default_rng(1), 80, 0.3, units=5)
    still = np.hstack([r, np.zeros((80, 1))])
    assert mean_rank_correlation(r) == pytest.approx(mean_rank_correlation(still), abs=1e-6)


def test_the_path_and_the_page_say_the_same():
    r = _world(np.random.default_rng(2), 200, 0.3)
    path = list(states(r, FOUND))
    now = breakdown(r, FOUND, last=path[-2][0])
    assert len(path) == 200 - 119
    assert path[-1][1] == pytest.approx(now.shift, abs=1e-5)
    assert path[-1][0] is now.state
    assert now.shift == pytest.approx(shifts(r)[-1], abs=1e-5)


def test_correlation_that_rises_is_an_alarm_and_volatility_that_rises_is_none():
    rng = np.random.default_rng(3)
    calm = _world(rng, 1500, 0.3)
    found = calibrate(calm, rng=np.random.default_rng(4))
    broken = breakdown(np.vstack([calm, _world(rng, 60, 0.75)]), found)
    assert broken.state is State.BROKEN
    assert broken.finding.level is Level.ALERT
    assert broken.mean - broken.before > 0.25
    wild = breakdown(np.vstack([calm, _world(rng, 60, 0.3, volatility=4.0)]), found)
    assert wild.state is State.CALM


def test_a_fall_as_far_is_shifting():
    rng = np.random.default_rng(5)
    found = breakdown(np.vstack([_world(rng, 60, 0.8), _world(rng, 60, 0.1)]), FOUND)
    assert found.state is State.SHIFTING
    assert found.shift < -0.8


def test_how_much_of_a_rise_is_the_markets_volatility():
    """The market's own variance triples, betas and the units' own risk stay: all of the rise follows from it."""
    rng = np.random.default_rng(6)
    own = rng.standard_normal((4000, 30))
    market = np.concatenate([np.ones(2000), np.full(2000, 3**0.5)])[:, None] * rng.standard_normal((4000, 1))
    found = breakdown(0.01 * (own + market), replace(FOUND, window=2000, units=30))
    assert found.mean - found.before == pytest.approx(found.from_volatility, abs=0.03)
    assert found.from_volatility == pytest.approx(0.25, abs=0.03)  # 1/2 -> 3/4


def test_an_alarm_lasts_until_the_rise_is_half_gone():
    path, state = [], State.UNKNOWN
    for shift in (0.4, 0.9, 0.7, 0.41, 0.39, 0.7, -0.9):
        state = advance(state, shift, FOUND)
        path.append(state.value)
    assert path == ["calm", "broken", "broken", "broken", "calm", "shifting", "shifting"]


def test_what_is_too_little_is_unknown_and_says_what_is_needed():
    rng = np.random.default_rng(7)
    r = _world(rng, 300, 0.3)
    short = breakdown(r[:100], FOUND)
    assert (short.state, short.note) == (State.UNKNOWN, "100 days, 120 needed")
    assert short.finding.level is Level.UNKNOWN
    young = calibrate(r[:200], rng=rng)
    assert not young.known
    assert young.note == "200 days with 20 units that move, 250 and 2 needed"
    assert breakdown(r, young).state is State.UNKNOWN
    assert breakdown(r[:, :5], FOUND).note.endswith("calibrated for 20 units: calibrate again")
    assert breakdown(np.zeros((200, 3)), FOUND).note == "0 units moved on both windows' days, 2 needed"


def test_gaps_and_stuck_prices_do_not_stop_it():
    rng = np.random.default_rng(8)
    r = _world(rng, 900, 0.3)
    r[:, 3], r[rng.random(900) < 0.03, 4], r[:880, 5] = 0.0, np.nan, np.nan
    found = calibrate(r, rng=rng)
    assert found.known
    assert found.units == 18
    now = breakdown(r, found)
    assert now.state is not State.UNKNOWN
    assert now.units == 18


def test_units_that_are_all_the_same_never_break():
    r = np.repeat(_world(np.random.default_rng(9), 600, 0.3, units=1), 4, axis=1)
    found = calibrate(r, rng=np.random.default_rng(9), years=20)
    assert {state for state, _ in states(r, found)} == {State.CALM}


def test_the_threshold_holds_the_rate_that_was_asked_for():
    r = _world(np.random.default_rng(10), 800, 0.3)
    found = calibrate(r, rng=np.random.default_rng(0), alarms_per_year=2.0)
    strict = calibrate(r, rng=np.random.default_rng(0), alarms_per_year=0.5)
    assert 0.1 < found.chance_per_year <= 0.2
    assert strict.chance_per_year <= 0.05
    assert strict.threshold > found.threshold > found.shifting


def test_the_same_seed_gives_the_same_threshold_and_it_is_json():
    r = _world(np.random.default_rng(11), 400, 0.3)
    first, second = (calibrate(r, rng=np.random.default_rng(3), years=30) for _ in range(2))
    assert first == second
    assert Calibration(**json.loads(json.dumps(asdict(first)))) == first


def test_a_rate_that_is_not_positive_is_refused():
    with pytest.raises(DataError, match="alarms_per_year must be positive"):
        calibrate(np.zeros((300, 3)), rng=np.random.default_rng(0), alarms_per_year=0.0)
