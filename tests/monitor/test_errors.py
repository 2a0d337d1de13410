import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.monitor import confusion, error_cost, error_patterns, error_runs, error_segments
from mlops.types import Level

UNITS = [f"U{i}" for i in range(10)]


def _rows(bars=200, *, seed=0, start="2004-01-01", spoiled=None, share=0.5, freq="D"):
    """Calibrated predictions; where `spoiled(frame)` is true, `share` of the labels are turned over."""
    rng = np.random.default_rng(seed)
    n = bars * len(UNITS)
    frame = pd.DataFrame(
        {
            "event_time": np.repeat(pd.date_range(start, periods=bars, tz="UTC", freq=freq), len(UNITS)),
            "unit": np.tile(UNITS, bars),
            "trend": rng.normal(size=n),
            "noise": rng.normal(size=n),
            "probability": rng.uniform(0.25, 0.75, n),
        }
    )
    frame["label"] = (rng.random(n) < frame.probability).astype(float)
    frame["value"] = rng.normal(0, 0.01, n)
    if spoiled is not None:
        turned = spoiled(frame).to_numpy() & (rng.random(n) < share)
        frame.loc[turned, "label"] = (frame.probability[turned] < 0.5).astype(float)
    return frame


REFERENCE = _rows(500, seed=9, start="2000-01-01")
REFERENCE_LONG = _rows(1000, seed=9, start="2000-01-01")


def _segments(current, **given):
    *held, count = error_segments(current, **given)
    return {f.subject: f for f in held}, count


def test_a_calibrated_model_has_no_segment_although_the_unsure_rows_err_more():
    held, count = _segments(_rows(), features=("trend", "noise"))
    assert ({}, Level.OK, 0.0) == (held, count.level, count.value)
    assert count.limit > 0


@pytest.mark.parametrize(
    ("subject", "spoiled", "freq"),
    [
        ("unit U3", lambda f: f.unit == "U3", "D"),
        ("weekday Friday", lambda f: f.event_time.dt.dayofweek == 4, "D"),
        ("hour 14", lambda f: f.event_time.dt.hour == 14, "h"),
        ("trend high", lambda f: f.trend > 0.43, "D"),
    ],
)
def test_where_errors_concentrate_is_named_with_its_dates(subject, spoiled, freq):
    rows = _rows(400, spoiled=spoiled, freq=freq, share=0.8)
    held, count = _segments(rows, features=("trend", "noise"))
    assert subject in held
    assert Level.ALERT is held[subject].level is count.level
    assert str(rows.event_time.max())[:10] in held[subject].note
    assert held[subject].value > 0.1


def test_a_sure_model_that_is_wrong_where_it_is_sure_is_found_by_its_confidence():
    held, _ = _segments(_rows(400, spoiled=lambda f: (f.probability - 0.5).abs() > 0.2))
    assert "confidence 0.70 to 1.00" in held


def test_the_tree_finds_a_corner_of_two_features_and_reads_as_a_rule():
    corner = _rows(500, seed=4, spoiled=lambda f: (f.trend > 0.3) & (f.noise > 0.3), share=0.9)
    held, _ = _segments(corner, features=("trend", "noise"))
    rules = [name for name in held if name.startswith("rule: ") and "trend over" in name and "noise over" in name]
    assert 1 == len(rules)


def test_rows_of_the_past_alone_prove_nothing():
    early = _rows(200, spoiled=lambda f: (f.unit == "U3") & (f.event_time < "2004-04-01"), share=0.9)
    assert "unit U3" not in _segments(early)[0]


def test_subjects_are_names_that_mlflow_takes():
    odd = _rows(400, spoiled=lambda f: f.unit == "U3", share=0.8).replace({"unit": {"U3": "^GSPC=x"}})
    held, _ = _segments(odd)
    assert "unit _GSPC_x" in held
    assert "unit ^GSPC=x" == held["unit _GSPC_x"].params["segment"]


def test_a_lean_to_one_side_shows_in_the_confusion_and_fewer_errors_do_not():
    false_alarms = _rows(80, spoiled=lambda f: f.probability >= 0.5, share=0.4)
    found = {f.name: f for f in confusion(REFERENCE, false_alarms)}
    assert (Level.ALERT, Level.OK) == (found["false_positives"].level, found["false_negatives"].level)
    better = false_alarms.assign(label=(false_alarms.probability >= 0.5).astype(float))
    assert {Level.OK} == {f.level for f in confusion(REFERENCE, better)}


def test_a_long_run_of_bad_bars_is_told_with_its_dates():
    week = _rows(80, spoiled=lambda f: f.event_time.between("2004-02-01", "2004-02-20"), share=0.8)
    found = error_runs(REFERENCE_LONG, week)
    assert Level.ALERT is found.level
    assert 15 <= found.value <= 25
    assert "2004-02-20" in found.note or "2004-02-2" in found.note
    assert Level.OK is error_runs(REFERENCE_LONG, _rows(80, seed=3)).level


def test_errors_on_the_dear_rows_cost_more():
    rows = _rows(100)
    assert Level.OK is error_cost(rows).level
    wrong = (rows.probability >= 0.5) != (rows.label > 0.5)
    found = error_cost(rows.assign(value=rows.value * np.where(wrong, 3, 1)))
    assert Level.ALERT is found.level
    assert found.value > 1.3


def test_all_patterns_come_together_and_cost_only_where_there_is_a_value():
    found = error_patterns(REFERENCE, _rows(), features=("trend",), horizon=5)
    names = {f.name for f in found}
    assert {"error_segments", "false_positives", "false_negatives", "error_runs", "error_cost"} == names
    rest = error_patterns(REFERENCE, _rows().drop(columns="value"))
    assert names - {"error_cost"} == {f.name for f in rest}


@pytest.mark.parametrize("bars", [0, 19])
def test_few_bars_or_none_are_unknown_and_say_what_is_needed(bars):
    found = error_patterns(REFERENCE, _rows()[: bars * 10])
    assert {Level.UNKNOWN} == {f.level for f in found}
    assert all("needed" in f.note for f in found)


def test_the_same_rows_in_another_order_say_the_same():
    rows = _rows(100, spoiled=lambda f: f.unit == "U3")
    assert error_segments(rows) == error_segments(rows.sample(frac=1, random_state=0))


def test_what_is_missing_or_nan_is_refused():
    with pytest.raises(DataError, match=r"current must have the columns \['gap'\]"):
        error_segments(_rows(), features=("gap",))
    with pytest.raises(DataError, match="finite features"):
        error_segments(_rows().assign(trend=np.nan), features=("trend",))
    with pytest.raises(DataError, match="finite values"):
        error_cost(_rows().assign(value=np.nan))
