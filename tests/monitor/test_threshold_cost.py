import numpy as np
import pandas as pd
import pytest

from mlops.monitor import KS, feature_drift, layers, summarise, threshold_cost
from mlops.types import Level


def _summary(phi, *, bars=10_000, features=8, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, np.sqrt(1 - phi**2), (bars, features))
    values = np.zeros_like(noise)
    for t in range(1, bars):
        values[t] = phi * values[t - 1] + noise[t]
    frame = pd.DataFrame(values, columns=[f"f{i}" for i in range(features)])
    frame.insert(0, "event_time", pd.date_range("2000-01-01", periods=bars, freq="h", tz="UTC"))
    return summarise(frame)


@pytest.mark.parametrize(("phi", "low", "high"), [(0.0, 0.02, 0.08), (0.5, 0.15, 0.35), (0.9, 0.6, 0.85)])
def test_the_plain_test_is_shown_with_the_alarms_that_it_raises_on_the_reference_itself(phi, low, high):
    finding = threshold_cost(_summary(phi), 1000, rows=1000, threshold=0.05)
    assert low <= finding.value <= high
    assert finding.value * 8 == pytest.approx(finding.params["calls_plain"])
    assert "threshold 0.05 on 1,000 rows" in finding.note
    assert f"1 false alarm every {1 / finding.value:.3g} weeks" in finding.note
    assert "1 every 20 weeks at most" in finding.note


def test_what_it_costs_accuses_nobody():
    finding = threshold_cost(_summary(0.9, bars=2000), 100, rows=100, threshold=0.05)
    assert Level.OK is finding.level
    assert {"unknown"} == {f.level for f in layers([finding])}


@pytest.mark.parametrize(("bars", "rows"), [(201, 201), (0, 0), (50, 50)])
def test_without_enough_stretches_or_rows_it_is_unknown(bars, rows):
    finding = threshold_cost(_summary(0.0, bars=2000), bars, rows=rows, threshold=0.05)
    assert Level.UNKNOWN is finding.level
    assert "10 and 100 needed" in finding.note


def test_a_window_of_another_length_is_never_judged_by_the_null_that_was_kept_and_the_finding_says_so():
    summary = _summary(0.0, bars=3000, features=2).calibrated(200, [KS()])
    now = pd.DataFrame({"event_time": pd.date_range("2003-01-01", periods=150, freq="h", tz="UTC")})
    now["f0"] = np.random.default_rng(1).normal(size=150)
    plain = summarise(pd.DataFrame({"event_time": range(3000), "f0": summary.values[0]}))
    kept, anew = (feature_drift(past, now, detectors={"ks": KS})[0] for past in (summary, plain))
    assert anew.params == kept.params
    assert "training kept" not in threshold_cost(summary, 200, rows=200, threshold=0.05).note
    told = threshold_cost(summary, 150, rows=150, threshold=0.05)
    assert "computed" == told.params["null"]
    assert told.note.endswith("null of 150 bars computed now, training kept that of (200,)")


def test_a_window_counts_bars_at_the_references_rows_a_bar():
    assert 200 == _summary(0.0, bars=2000, features=1).window_bars(200)
    panel = pd.DataFrame({"event_time": np.repeat(np.arange(300), 20), "x": np.arange(6000.0)})
    assert (50, 51, 1) == tuple(summarise(panel).window_bars(rows) for rows in (1000, 1001, 3))
    assert 1 == summarise(panel[:0]).window_bars(1000)
    assert (20, 50) == summarise(panel).calibrated(50, [KS()]).calibrated(20, [KS()]).lengths
