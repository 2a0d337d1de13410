import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from mlops.errors import DataError
from mlops.monitor import estimate_error, estimated_accuracy
from mlops.types import Level


def _scored(bars, *, start="2000-01-01", units=20, seed=0, spread=0.8, truth=1.0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, spread, bars * units)
    label = (rng.random(bars * units) < expit(truth * logit)).astype(float)
    times = np.repeat(pd.date_range(start, periods=bars, tz="UTC"), units)
    return pd.DataFrame({"event_time": times, "probability": expit(logit), "label": label})


REFERENCE = _scored(1000)


def _right(rows):
    return ((rows.probability >= 0.5) == (rows.label > 0.5)).mean()


@pytest.mark.parametrize("spread", [0.4, 0.8, 1.6])
def test_the_estimate_follows_inputs_that_moved_without_a_label(spread):
    rows = _scored(60, seed=1, spread=spread)
    found = estimated_accuracy(REFERENCE, rows.drop(columns="label"))
    assert _right(rows) == pytest.approx(found.value, abs=0.03)
    assert found.params["low"] <= _right(rows) <= found.params["high"]
    assert ("concept drift", True) == (found.params["blind_to"], "blind to concept drift" in found.note)


def test_inputs_that_leave_the_model_unsure_are_a_warning_never_an_alarm():
    assert Level.WARN is estimated_accuracy(REFERENCE, _scored(60, seed=1, spread=0.2)).level


def test_it_is_blind_to_a_concept_that_turned_over_until_the_labels_come():
    turned = _scored(60, seed=2, truth=-1.0)
    blind, seen = estimated_accuracy(REFERENCE, turned), estimate_error(REFERENCE, turned)
    assert (Level.OK, Level.ALERT) == (blind.level, seen.level)
    assert blind.value - _right(turned) == pytest.approx(-seen.value, abs=1e-9)
    assert "outside its interval" in seen.note


def test_its_error_is_small_while_the_concept_holds_and_better_is_no_finding():
    same, better = (estimate_error(REFERENCE, _scored(60, seed=4, truth=t)) for t in (1.0, 3.0))
    assert (Level.OK, Level.OK) == (same.level, better.level)
    assert same.params["held"]
    assert better.value > 0


@pytest.mark.parametrize(("past", "bars"), [(1000, 19), (1000, 0), (99, 60), (0, 60)])
def test_too_few_rows_are_unknown_and_say_what_is_needed(past, bars):
    reference, rows = REFERENCE[: past * 20], _scored(60)[: bars * 20]
    for found in (estimated_accuracy(reference, rows), estimate_error(reference, rows)):
        assert Level.UNKNOWN is found.level
        assert "100 and 20 needed" in found.note


def test_rows_without_probabilities_are_refused():
    with pytest.raises(DataError, match="finite probabilities"):
        estimated_accuracy(REFERENCE, REFERENCE.assign(probability=np.nan))
    with pytest.raises(DataError, match="matured must have the columns"):
        estimate_error(REFERENCE, REFERENCE.drop(columns="label"))
