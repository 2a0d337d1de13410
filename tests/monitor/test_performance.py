import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from mlops.monitor import METRICS, performance
from mlops.types import Level


def _scored(bars=100, edge=0.3, seed=0, units=10):
    rng = np.random.default_rng(seed)
    rows = bars * units
    label = (rng.random(rows) < 0.4).astype(float)
    probability = np.clip(0.4 + edge * (label - 0.4) + rng.normal(0, 0.1, rows), 0.02, 0.98)
    times = np.repeat(pd.date_range("2000-01-01", periods=bars, tz="UTC"), units)
    return pd.DataFrame({"event_time": times, "probability": probability, "label": label})


def _named(findings):
    return {f.name: f for f in findings}


def test_the_numbers_are_those_of_scikit_learn():
    rows = _scored()
    found = _named(performance(rows, base_rate=0.4))
    assert metrics.log_loss(rows.label, rows.probability) == pytest.approx(found["log_loss"].value)
    assert metrics.roc_auc_score(rows.label, rows.probability) == pytest.approx(found["auc"].value)
    assert metrics.brier_score_loss(rows.label, rows.probability) == pytest.approx(found["brier"].value)
    assert rows.label.mean() == pytest.approx(found["base_rate"].value)
    assert (1000.0, 100) == (found["n"].value, found["n"].n)
    assert set(METRICS) | {"n", "share_confident", "skill"} == set(found)


def test_limits_are_what_the_constant_forecast_scores():
    rows = _scored()
    found = _named(performance(rows, base_rate=0.4))
    assert metrics.log_loss(rows.label, np.full(1000, 0.4)) == pytest.approx(found["log_loss"].limit)
    assert 0.5 == found["auc"].limit


@pytest.mark.parametrize(("edge", "level"), [(0.3, Level.OK), (-0.3, Level.ALERT)])
def test_skill_and_its_opposite_are_proven(edge, level):
    assert level is _named(performance(_scored(edge=edge), base_rate=0.4))["skill"].level


def test_a_model_without_skill_is_told_so():
    rows = _scored()
    rows["probability"] = 0.4 + np.random.default_rng(1).normal(0, 0.001, len(rows))
    skill = _named(performance(rows, base_rate=0.4))["skill"]
    assert Level.UNKNOWN is skill.level
    assert "not proven to beat" in skill.note


def test_a_measured_score_accuses_nobody_and_a_tested_one_does():
    found = _named(performance(_scored(edge=-0.3), base_rate=0.4))
    assert found["log_loss"].value > found["log_loss"].limit
    assert {Level.OK} == {found[name].level for name in METRICS}
    assert Level.ALERT is found["skill"].level


def test_skill_is_called_lost_at_the_error_that_was_asked_for():
    rows = _scored(bars=40, edge=-0.02, seed=4, units=4)
    p = 1 - _named(performance(rows, base_rate=0.4))["skill"].params["p"]
    levels = [_named(performance(rows, base_rate=0.4, alpha=a))["skill"].level for a in (1.01 * p, 0.99 * p)]
    assert [Level.ALERT, Level.UNKNOWN] == levels


def test_confidence_is_counted_against_its_threshold():
    rows = _scored().assign(probability=np.tile([0.5, 0.56], 500))
    found = _named(performance(rows, confidence_threshold=0.55))
    assert 0.5 == found["share_confident"].value
    assert found["mean_confidence"].value < found["mean_confidence"].limit


@pytest.mark.parametrize("bars", [0, 19])
def test_few_bars_or_none_are_unknown(bars):
    levels = {f.level for f in performance(_scored()[: bars * 10])}
    assert {Level.UNKNOWN} == levels


def test_what_no_row_stands_behind_is_no_number():
    found = _named(performance(_scored().assign(label=1.0)))
    assert (Level.UNKNOWN, True) == (found["auc"].level, np.isnan(found["auc"].value))
    assert all(np.isfinite([f.value, f.limit]).all() for name, f in found.items() if name != "auc")

    nothing = _named(performance(_scored()[:0]))
    assert 0.0 == nothing.pop("n").value
    assert all(np.isnan(f.value) for f in nothing.values())
