import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from mlops.errors import DataError
from mlops.monitor import ageing, calibration, confidence, decay, reliability
from mlops.types import Level

NAMES = {"confidence_mean", "confidence_entropy", "confidence_weak"}


def _scored(bars, *, start="2000-01-01", units=20, seed=0, spread=0.8, truth=1.0, offset=0.0):
    """Calibrated where truth is 1 and offset 0; `spread` of the log-odds is how sure the model is."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, spread, bars * units)
    label = (rng.random(bars * units) < 1 / (1 + np.exp(-(truth * logit + offset)))).astype(float)
    times = np.repeat(pd.date_range(start, periods=bars, tz="UTC"), units)
    return pd.DataFrame({"event_time": times, "probability": 1 / (1 + np.exp(-logit)), "label": label})


REFERENCE = _scored(1000)
SAME = _scored(50, start="2004-01-01", seed=1)
RNG = 7


def _calibration(current, reference=REFERENCE):
    return {f.name: f for f in calibration(reference, current, rng=np.random.default_rng(RNG))}


def test_the_same_law_is_quiet_everywhere():
    found = (*confidence(REFERENCE, SAME), *decay(REFERENCE, SAME), *_calibration(SAME).values())
    assert {Level.OK} == {f.level for f in found}
    assert NAMES < {f.name for f in found}


def test_a_model_that_doubts_more_is_told_of_without_any_label():
    doubting = _scored(50, start="2004-01-01", seed=1, spread=0.3).drop(columns="label")
    found = {f.name: f for f in confidence(REFERENCE, doubting)}
    assert {Level.ALERT} == {f.level for f in found.values()}
    assert found["confidence_weak"].value > found["confidence_weak"].limit
    assert "2004-01-01" in found["confidence_mean"].note


def test_a_surer_model_is_no_finding():
    assert {Level.OK} == {f.level for f in confidence(REFERENCE, _scored(50, seed=1, spread=2.0))}


def test_the_weak_share_counts_what_lies_under_the_threshold():
    rows = SAME.assign(probability=np.tile([0.5, 0.44], 500))
    found = {f.name: f for f in confidence(REFERENCE, rows, threshold=0.55)}
    assert 0.5 == found["confidence_weak"].value


def test_skill_that_fell_below_the_validation_is_decay_and_better_is_not():
    worse, better = _scored(80, seed=2, truth=-0.5), _scored(80, seed=2, truth=3.0)
    assert {Level.ALERT} == {f.level for f in decay(REFERENCE, worse)}
    assert {Level.OK} == {f.level for f in decay(REFERENCE, better)}


def test_a_sure_but_wrong_model_is_out_of_calibration_and_an_offset_is_a_bias():
    blind, biased = _calibration(_scored(50, seed=3, truth=0.0)), _calibration(_scored(50, seed=3, offset=0.5))
    assert Level.ALERT is blind["calibration_ece"].level
    assert Level.ALERT is biased["calibration_bias"].level
    assert "too low" in biased["calibration_bias"].note
    assert blind["brier_resolution"].value < blind["brier_resolution"].limit


def test_the_noise_floor_explains_the_ece_of_a_calibrated_model():
    found = _calibration(SAME)["calibration_ece"]
    assert 0.5 * found.params["noise_floor"] < found.value < 2 * found.params["noise_floor"]
    assert found.params["usual"] == pytest.approx(found.params["noise_floor"], rel=0.3)


def test_the_parts_make_the_brier_score():
    rows = SAME.assign(probability=SAME.probability.round(1))
    found = {name: f.value for name, f in _calibration(rows).items()}
    whole = found["brier_reliability"] - found["brier_resolution"] + found["brier_uncertainty"]
    assert metrics.brier_score_loss(rows.label, rows.probability) == pytest.approx(whole, abs=0.002)


def test_the_reliability_curve_has_bins_of_equal_count():
    curve = reliability(REFERENCE)
    assert {2000} == set(curve.n)
    assert np.abs(curve.probability - curve.label).max() < 0.04


def test_a_model_that_ages_is_told_with_its_curve():
    parts = [_scored(80, start=f"200{y}-01-01", seed=y, truth=t) for y, t in enumerate([1.0, 0.5, 0.0, -0.5])]
    found = ageing(pd.concat(parts))
    assert Level.ALERT is found.level
    assert found.params["curve"] == sorted(found.params["curve"])
    assert Level.OK is ageing(pd.concat(parts[::-1]).assign(event_time=pd.concat(parts).event_time)).level


@pytest.mark.parametrize("bars", [0, 19])
def test_few_bars_or_none_are_unknown_and_say_how_many_are_needed(bars):
    few = SAME[: bars * 20]
    found = (*confidence(REFERENCE, few), *decay(REFERENCE, few), *_calibration(few).values(), ageing(few))
    assert {Level.UNKNOWN} == {f.level for f in found}
    assert all("needed" in f.note for f in found)
    assert all(np.isnan(f.value) for f in found)


def test_a_reference_of_few_stretches_leaves_the_ece_unknown():
    found = _calibration(SAME, REFERENCE[: 20 * 499])
    assert Level.UNKNOWN is found["calibration_ece"].level
    assert Level.OK is found["calibration_bias"].level


def test_missing_columns_and_nan_are_refused():
    with pytest.raises(DataError, match="current must have the columns"):
        confidence(REFERENCE, SAME.drop(columns="probability"))
    with pytest.raises(DataError, match="reference must have finite probabilities"):
        confidence(REFERENCE.assign(probability=np.nan), SAME)
    with pytest.raises(DataError, match="current must have finite"):
        decay(REFERENCE, SAME.assign(label=np.nan))
