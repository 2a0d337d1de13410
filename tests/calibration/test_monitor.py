"""Confidence, calibration, decay, error patterns, estimates: how often they cry wolf on markets that move together."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from mlops.monitor import (
    accuracy_groups,
    calibration,
    confidence,
    decay,
    error_patterns,
    estimate_error,
    estimated_accuracy,
    log_loss_change,
)
from mlops.stats import mean_shift, mean_slope
from mlops.types import Level

sys.path.insert(0, str(Path(__file__).parent))
from worlds import WORLDS, ar

pytestmark = pytest.mark.calibration
RUNS = 1500


def _bound(rate, chances):
    return rate + 3 * np.sqrt(rate * (1 - rate) / chances)


def panel(rng, bars, *, units=10, phi=0.8, start="2000-01-01", overlap=5):
    """Calibrated predictions of units that share half of their signal and their luck; labels of `overlap` bars."""
    common = ar(phi)(rng, 1, bars) * np.sqrt(1 - phi**2)
    signal = np.sqrt(0.5) * (common + ar(phi)(rng, units, bars) * np.sqrt(1 - phi**2))
    luck = np.sqrt(0.3) * rng.normal(size=(1, bars + overlap - 1)) + np.sqrt(0.7) * rng.normal(
        size=(units, bars + overlap - 1)
    )
    luck = np.lib.stride_tricks.sliding_window_view(luck, overlap, axis=1).sum(axis=2) / np.sqrt(overlap)
    probability = norm.cdf(0.4 * signal)
    return pd.DataFrame(
        {
            "event_time": np.repeat(pd.date_range(start, periods=bars, tz="UTC"), units),
            "unit": np.tile([f"U{i}" for i in range(units)], bars),
            "signal": signal.T.ravel(),
            "noise": (ar(phi)(rng, units, bars)).T.ravel(),
            "probability": probability.T.ravel(),
            "label": (luck < 0.4 * signal).T.ravel().astype(float),
        }
    )


@pytest.mark.parametrize("world", ["iid t5", "AR .5", "GARCH", "5-bar overlap", "10-bar overlap"])
def test_a_mean_that_did_not_move_is_called_at_most_about_as_stated(world):
    rates = {}
    for bars in (50, 200):
        x = WORLDS[world](np.random.default_rng(bars), RUNS, 1000 + bars)
        p = np.array([mean_shift(row[:1000], row[1000:]).p_greater for row in x])
        rates[bars] = ((p <= 0.05).mean() + (p >= 0.95).mean()) / 2
        slope = np.array([mean_slope(row[1000:], np.arange(bars)).p_greater for row in x])
        rates[f"slope {bars}"] = ((slope <= 0.05).mean() + (slope >= 0.95).mean()) / 2
    print(f"{world:15s}", {k: f"{v:.1%}" for k, v in rates.items()}, "(stated 5 %)")
    assert max(rates[50], rates[200], rates["slope 200"]) <= _bound(0.05, 2 * RUNS)
    assert rates["slope 50"] <= _bound(0.07 if world == "10-bar overlap" else 0.05, 2 * RUNS)  # five labels


def test_families_cry_wolf_at_most_as_stated_on_a_market_that_moves_together():
    rng, worlds = np.random.default_rng(1), 100
    called = {"confidence": 0, "decay": 0, "calibration": 0, "errors": 0, "errors, 250 bars": 0}
    for _ in range(worlds):
        rows = panel(rng, 1050)
        past, now = rows[:10_000], rows[10_000:]
        for name, found in {
            "confidence": confidence(past, now),
            "decay": decay(past, now),
            "calibration": calibration(past, now, rng=rng),
            "errors": error_patterns(past, now, features=("signal", "noise"), horizon=5),
            "errors, 250 bars": error_patterns(
                past.iloc[:8000], past.iloc[8000:], features=("signal", "noise"), horizon=5
            ),
        }.items():
            called[name] += any(f.level in (Level.WARN, Level.ALERT) for f in found)
    print({k: f"{v / worlds:.1%}" for k, v in called.items()}, "of looks (stated 5 %)")
    assert max(called.values()) / worlds <= _bound(0.05, worlds)


@pytest.mark.parametrize("bars", [50, 100])
def test_the_estimate_holds_its_interval_and_its_error_is_called_as_stated(bars):
    rng, worlds, missed, called = np.random.default_rng(2), 200, 0, 0
    for _ in range(worlds):
        rows = panel(rng, 1000 + bars)
        past, now = rows[:10_000], rows[10_000:]
        found = estimated_accuracy(past, now.drop(columns="label"))
        right = ((now.probability >= 0.5) == (now.label > 0.5)).mean()
        missed += not found.params["low"] <= right <= found.params["high"]
        called += estimate_error(past, now).level in (Level.WARN, Level.ALERT)
    print(f"estimate over {bars} bars: interval misses {missed / worlds:.1%}, error called {called / worlds:.1%}")
    assert missed / worlds <= _bound(0.05, worlds)
    assert called / worlds <= _bound(0.05, worlds)


def test_the_charts_beside_the_deciding_one_alarm_as_often_as_asked():
    rng, worlds, groups, alarmed = np.random.default_rng(3), 80, [], 0
    for _ in range(worlds):
        rows = panel(rng, 1252)
        past, year = rows[:10_000], rows[10_000:]
        groups.append(accuracy_groups(past, year).params["groups_below"])
        alarmed += log_loss_change(past, year, rng=rng).level is Level.ALERT
    error = np.std(groups) / np.sqrt(worlds)
    print(f"control chart {np.mean(groups):.2f} +- {error:.2f} alarms a year; log-loss chart {alarmed / worlds:.0%} of")
    print("years with an alarm (asked 1 a year: 63 % of years)")
    assert np.mean(groups) <= 1 + 3 * error
    assert alarmed / worlds <= _bound(0.63, worlds)
