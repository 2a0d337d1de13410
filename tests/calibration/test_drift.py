"""How often drift is called where nothing moved, on features as slow as markets make them. Rates are printed with -s."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops.monitor import DETECTORS, feature_drift, summarise
from mlops.types import Level

sys.path.insert(0, str(Path(__file__).parent))
from worlds import ar

pytestmark = pytest.mark.calibration
PHI = [0.0, 0.5, 0.9, 0.99]
NUMERIC = {name: make for name, make in DETECTORS.items() if not make().of_categories}
CATEGORICAL = {name: make for name, make in DETECTORS.items() if make().of_categories is not False}
CUTS = {2: [0.3], 4: [-1.0, 0.0, 1.0], 10: np.linspace(-1.5, 1.5, 9)}


def _at_most(rate, chances):
    return rate + 3 * np.sqrt(rate * (1 - rate) / chances)


def _series(phi, rng, features, bars):
    return ar(phi)(rng, features, bars + 1000)[:, 1000:] * np.sqrt(1 - phi**2)


def _frame(values, units=1):
    """`values` of shape (features, bars * units), the units of a bar side by side."""
    frame = pd.DataFrame(values.T, columns=[f"f{i}" for i in range(len(values))])
    times = pd.date_range("2000-01-01", periods=len(frame) // units, freq="h", tz="UTC")
    frame.insert(0, "event_time", np.repeat(times, units))
    return frame


def _p_values(values, bars, detectors, units=1):
    """By detector, those of the features' last rows against their first `bars` bars."""
    parts = values[:, : bars * units], values[:, bars * units :]
    found = feature_drift(*(_frame(part, units) for part in parts), detectors=detectors)
    return {
        name: np.array([[f.params["p"], f.params.get("p_iid", 0)] for f in found if f.name == name]).T
        for name in detectors
    }


def _keeps_its_rate(name, case, p):
    rates = [(p <= level).mean() for level in (0.05, 0.005)]
    print(f"drift  {name:15s} {case:22s} {rates[0]:6.2%} at 5 %, {rates[1]:.2%} at 0.5 %")
    assert rates[0] <= _at_most(0.05, p.size)
    assert rates[1] <= _at_most(0.005, p.size)


@pytest.mark.parametrize("phi", PHI)
def test_a_slow_feature_is_called_at_most_as_stated_where_the_plain_test_is_not(phi):
    found = _p_values(_series(phi, np.random.default_rng(5), 500, 11_000), 10_000, NUMERIC)
    for name, (p, _) in found.items():
        _keeps_its_rate(name, f"phi {phi}", p)
    plain = (found["ks"][1] <= 0.05).mean()
    print(f"drift  {'plain KS':15s} phi {phi}: {plain:.1%} at 5 %")
    assert plain >= {0.0: 0.0, 0.5: 0.15, 0.9: 0.65, 0.99: 0.95}[phi]


@pytest.mark.parametrize("categories", CUTS)
@pytest.mark.parametrize("phi", PHI)
def test_a_slow_category_is_called_at_most_as_stated(phi, categories):
    series = _series(phi, np.random.default_rng(6), 500, 11_000)
    found = _p_values(np.searchsorted(CUTS[categories], series).astype(float), 10_000, CATEGORICAL)
    for name, (p, _) in found.items():
        _keeps_its_rate(name, f"phi {phi}, {categories} values", p)


def _ranked(rng, units, bars, away, parts):
    """Ranks of units within each bar, in so many parts of the units; units are away for ten bars at a time."""
    gone = np.zeros((bars, units), dtype=bool)
    for bar, unit in zip(*np.nonzero(rng.random((bars, units)) < away), strict=True):
        gone[bar : bar + 10, unit] = True
    z = np.where(gone, np.inf, rng.standard_normal((bars, units)))
    rank = np.floor(z.argsort(axis=1).argsort(axis=1) * parts / units)
    times = np.repeat(pd.date_range("2000-01-01", periods=bars, freq="D", tz="UTC"), units).to_numpy()
    return pd.DataFrame({"event_time": times, "rank": rank.ravel()})[~gone.ravel()]


@pytest.mark.parametrize(("units", "parts"), [(20, 20), (20, 5), (50, 50)])
def test_ranks_within_a_bar_are_called_at_most_as_stated(units, parts):
    """A bar fixes their shares: all that moves them is who is away, and a first absence was the farthest ever seen."""
    rng = np.random.default_rng(10)
    for away, now in ((0.0005, 60), (0.002, 100)):
        found: dict[str, list[float]] = {}
        for _ in range(150):
            frame = _ranked(rng, units, 1000 + now, away, parts)
            last = frame["event_time"].unique()[1000]
            for f in feature_drift(frame[frame["event_time"] < last], frame[frame["event_time"] >= last]):
                found.setdefault(f.name, []).append(f.params["p"])
        for name, p in found.items():
            _keeps_its_rate(name, f"{parts} ranks of {units}, {now} bars", np.array(p))


def test_ranks_that_stop_being_ranks_are_found():
    frame = _ranked(np.random.default_rng(11), 20, 1060, 0.0005, 20)
    last = frame["event_time"].unique()[1000]
    now = frame[frame["event_time"] >= last].assign(rank=lambda rows: np.floor(rows["rank"] * 0.8))
    found = feature_drift(frame[frame["event_time"] < last], now, detectors=CATEGORICAL)
    assert [Level.ALERT] * 3 == [f.level for f in found]


@pytest.mark.parametrize("phi", PHI)
def test_units_that_move_together_are_called_at_most_as_stated(phi):
    """As long as the bundles' references: 1,000 bars of 10 units that share half of their variance, 50 bars now."""
    rng, panels = np.random.default_rng(7), []
    for _ in range(200):
        both = _series(phi, rng, 1, 1050) + _series(phi, rng, 10, 1050)
        panels.append(np.sqrt(0.5) * both.T.ravel())
    for name, (p, _) in _p_values(np.array(panels), 1000, NUMERIC, units=10).items():
        _keeps_its_rate(name, f"phi {phi}, 10 units", p)


def test_a_whole_check_of_unmoved_features_is_silent_as_often_as_stated():
    rng, alarmed = np.random.default_rng(8), []
    for _ in range(200):
        values = np.concatenate([_series(phi, rng, 5, 2100) for phi in PHI])
        found = feature_drift(summarise(_frame(values[:, :2000])), _frame(values[:, 2000:]), threshold=0.05)
        alarmed.append(any(f.level in (Level.WARN, Level.ALERT) for f in found))
    print(f"drift  any of 20 features x {len(NUMERIC)} detectors: {np.mean(alarmed):.1%} of the checks (stated 5 %)")
    assert np.mean(alarmed) <= _at_most(0.05, len(alarmed))


@pytest.mark.parametrize(("phi", "shift"), [(0.0, 0.3), (0.5, 0.5), (0.9, 1.0), (0.99, 3.0)])
def test_a_shift_beyond_what_the_feature_wanders_by_itself_is_found(phi, shift):
    values = _series(phi, np.random.default_rng(9), 200, 21_000)
    values[:, 20_000:] += shift
    for name, (p, _) in _p_values(values, 20_000, NUMERIC).items():
        power = (p <= 0.005).mean()
        print(f"drift  {name:15s} phi {phi}: a shift of {shift} sd found at 0.5 % in {power:.0%}")
        assert power >= (0.6 if phi == 0.99 else 0.9)  # KS ends at 1, whatever the shift
