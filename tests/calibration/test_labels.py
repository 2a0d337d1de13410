"""A panel whose units move together and whose labels overlap: what the monitor's charts of labels call while all is well."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from mlops.monitor import label_change, label_mixture
from mlops.stats import label_alarms, label_chart, run_length

sys.path.insert(0, str(Path(__file__).parent))
from worlds import overlap

pytestmark = pytest.mark.calibration
UNITS, SHARED = 8, 0.5
A_YEAR = 2.0  # false alarms in 252 bars: many, so that few bars count them
ACCURACY = 0.6


def _panel(bars, horizon, seed, start):
    """Labels over `horizon` bars, half of their variance shared by all units, right in 60 %."""
    rng = np.random.default_rng(seed)
    draw = overlap(horizon)
    common, own = draw(rng, 1, bars), draw(rng, UNITS, bars)
    total = (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own) / np.sqrt(horizon)
    right = (total < norm.ppf(ACCURACY)).T
    times = pd.date_range(start, periods=bars, freq="h", tz="UTC").repeat(UNITS)
    unit = np.tile([f"U{i}" for i in range(UNITS)], bars)
    return pd.DataFrame({"event_time": times, "unit": unit, "probability": 0.7, "label": right.ravel().astype(float)})


@pytest.mark.parametrize("horizon", [1, 5, 10])
def test_one_label_a_bar_keeps_the_rate_that_was_asked_for(horizon):
    years = 100
    past, now = _panel(50_000, horizon, 1, "1950-01-01"), _panel(252 * years, horizon, 2, "2000-01-01")
    given = {"horizon": horizon, "false_alarms_per_year": A_YEAR, "seed": 7}
    found, mixture = label_change(past, now, **given), label_mixture(past, now, **given)
    rate = found.params["alarms"] / years
    naive = label_chart(ACCURACY, labels=50_000, false_alarms=A_YEAR / 252)
    whole = now[now.unit == "U0"]
    plain = len(label_alarms(naive, whole.label.to_numpy())) / years
    print(
        f"labels over {horizon:2d} bars: {rate:.2f} false alarms a year of {A_YEAR}; charted as independent {plain:.2f}"
    )
    assert 0.6 * A_YEAR <= rate <= 1.4 * A_YEAR  # 240 alarms, in up to ten charts that see the same bars
    assert horizon == 1 or plain > 2 * A_YEAR
    assert mixture.params["held_against"] < ACCURACY


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_mixture_alarms_at_most_as_often_as_stated(horizon):
    """First alarms of a year at half an alarm a year: at most that share of the years has one."""
    years, a_year = 100, 0.5
    past, now = _panel(5_000, horizon, 3, "1950-01-01"), _panel(252 * years, horizon, 4, "2000-01-01")
    bar = np.arange(len(now)) // UNITS // 252
    loud = [
        label_mixture(past, now[bar == year], horizon=horizon, false_alarms_per_year=a_year, seed=7).level == "alert"
        for year in range(years)
    ]
    print(f"mixture, labels over {horizon} bars: {np.mean(loud):.3f} of years at {a_year} alarms a year")
    assert np.mean(loud) <= a_year


def test_a_short_baseline_keeps_the_rate_on_average_and_says_how_far_it_may_be_off():
    """Over baselines of 1,000 bars: the mean rate is the stated one, and most intervals hold the true one."""
    runs, inside, rates = 30, 0, []
    for run in range(runs):
        past = _panel(1000, 1, 100 + run, "1950-01-01")
        chart = label_chart(float(past.label.mean()), labels=1000, false_alarms=A_YEAR / 252)
        rates.append(252 / run_length(ACCURACY, up=chart.up, down=chart.down, limit=chart.limit))
        inside += chart.rate_low * 252 <= rates[-1] <= chart.rate_high * 252
    print(
        f"1,000-label baselines: {np.mean(rates):.2f} a year of {A_YEAR} on average, {inside} of {runs} intervals hold"
    )
    assert np.mean(rates) <= A_YEAR * 1.15
    assert inside >= 0.85 * runs
