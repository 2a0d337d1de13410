import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.monitor import feature_drift
from mlops.types import Level


def _panel(bars, *, start="2000-01-01", units=5, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (bars * units, 3)).astype(np.float32)
    values[:, 1] += shift
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    frame.insert(0, "event_time", np.repeat(pd.date_range(start, periods=bars, tz="UTC"), units))
    frame.insert(1, "unit", np.tile([f"U{i}" for i in range(units)], bars))
    return frame


def _levels(findings):
    return {(f.name, f.subject): f.level for f in findings}


REFERENCE = _panel(1000)
MOVED = _panel(40, start="2004-01-01", seed=1, shift=1.5)


def test_only_the_feature_that_moved_alarms():
    levels = _levels(feature_drift(REFERENCE, MOVED))
    alarmed = {key for key, level in levels.items() if level is Level.ALERT}
    assert {("ks", "b"), ("psi", "b")} == alarmed
    assert 6 == len(levels)


def test_keys_may_be_index_or_columns_and_rows_in_any_order():
    expected = feature_drift(REFERENCE, MOVED)
    shuffled = REFERENCE.sample(frac=1, random_state=0).set_index(["event_time", "unit"])
    assert expected == feature_drift(shuffled, MOVED.set_index(["event_time", "unit"]))


def test_the_reference_may_hold_more_and_the_current_window_not():
    more = REFERENCE.assign(label=1.0)
    assert feature_drift(REFERENCE, MOVED) == feature_drift(more, MOVED)
    with pytest.raises(DataError, match=r"reference must have the columns \['d'\]"):
        feature_drift(REFERENCE, MOVED.assign(d=0.0))


def test_nan_is_refused_by_name_and_row():
    broken = MOVED.copy()
    broken.loc[7, "c"] = np.nan
    with pytest.raises(DataError, match="current must be finite, got nan in c, row 7"):
        feature_drift(REFERENCE, broken)


def test_a_short_reference_is_unknown_and_says_what_is_needed():
    findings = feature_drift(REFERENCE[: 5 * 399], MOVED)
    assert {Level.UNKNOWN} == {f.level for f in findings}
    assert findings[0].note == "the reference has 9 stretches of 40 bars, 10 needed (400 bars)"


def test_few_or_no_current_rows_are_unknown():
    for rows in (0, 99):
        findings = feature_drift(REFERENCE, MOVED[:rows])
        assert {Level.UNKNOWN} == {f.level for f in findings}
        assert f"{rows} current rows, 100 needed" == findings[0].note


def test_a_significant_but_small_move_is_a_warning():
    reference, current = _panel(4000, units=50, seed=2), _panel(400, start="2012-01-01", units=50, seed=3, shift=0.1)
    finding = next(f for f in feature_drift(reference, current) if (f.name, f.subject) == ("ks", "b"))
    assert Level.WARN is finding.level
    assert finding.value < finding.limit


def test_a_feature_that_froze_alarms():
    frozen = MOVED.assign(a=0.0)
    levels = _levels(feature_drift(REFERENCE, frozen))
    assert Level.ALERT is levels[("ks", "a")]


def test_a_stricter_threshold_never_adds_alarms():
    current = _panel(40, start="2004-01-01", seed=4, shift=0.3)
    strict, loose = (_levels(feature_drift(REFERENCE, current, threshold=t)) for t in (0.001, 0.2))
    alarmed = [{k for k, level in levels.items() if level is Level.ALERT} for levels in (strict, loose)]
    assert alarmed[0] <= alarmed[1]


def test_adjusted_p_values_are_never_below_the_raw_ones():
    assert all(f.params["p_adjusted"] >= f.params["p"] for f in feature_drift(REFERENCE, MOVED))
