"""Every detector keeps these promises. A new one is picked up from the table."""

import inspect
from dataclasses import fields, is_dataclass
from functools import partial

import numpy as np
import pandas as pd
import pytest

from mlops.monitor import DETECTORS, detectors, feature_drift
from mlops.types import Level

every = pytest.mark.parametrize("name", DETECTORS)
UNITS = 5


def _frame(name, bars, seed, shift=0.0, features=1):
    """A fresh panel of what the detector is for; never shared, so no test can spoil another's data."""
    values = np.random.default_rng(seed).normal(shift, 1, (bars * UNITS, features))
    if DETECTORS[name]().of_categories:
        values = np.clip(np.round(values), -2, 2)
    frame = pd.DataFrame(values, columns=[f"f{i}" for i in range(features)])
    frame.insert(0, "event_time", np.repeat(pd.date_range("2000-01-01", periods=bars, tz="UTC"), UNITS))
    return frame


def _finding(name, shift=0.0, bars=40, reference_bars=800):
    pair = _frame(name, reference_bars, 1), _frame(name, bars, 2, shift)
    (finding,) = feature_drift(*pair, detectors={name: DETECTORS[name]})
    return finding


@every
def test_is_quiet_on_the_same_law_and_loud_on_another(name):
    assert Level.OK is _finding(name).level
    assert Level.ALERT is _finding(name, 2.0).level
    assert Level.ALERT is _finding(name, -2.0).level


@every
def test_is_deterministic_and_leaves_its_input_alone(name):
    reference, current = _frame(name, 800, 1), _frame(name, 40, 2, 2.0)

    (first,) = feature_drift(reference, current, detectors={name: DETECTORS[name]})

    assert first == _finding(name, 2.0)
    pd.testing.assert_frame_equal(_frame(name, 800, 1), reference)
    pd.testing.assert_frame_equal(_frame(name, 40, 2, 2.0), current)


@every
def test_says_unknown_on_too_few_rows_or_too_short_a_reference(name):
    rule = DETECTORS[name]()
    assert Level.UNKNOWN is _finding(name, 2.0, bars=rule.min_rows // UNITS - 1).level
    short = _finding(name, 2.0, reference_bars=40 * rule.min_blocks - 1)
    assert Level.UNKNOWN is short.level
    assert 40 * rule.min_blocks == short.params["bars_needed"]
    assert Level.UNKNOWN is not _finding(name, 2.0, reference_bars=40 * rule.min_blocks).level


@every
def test_an_empty_window_is_unknown_and_never_an_exception(name):
    assert Level.UNKNOWN is _finding(name, bars=0).level
    of_nothing = _frame(name, 0, 1), _frame(name, 40, 2)
    assert {Level.UNKNOWN} >= {f.level for f in feature_drift(*of_nothing, detectors={name: DETECTORS[name]})}


@every
def test_parameters_and_evidence_travel_with_the_finding(name):
    rule, finding = DETECTORS[name](), _finding(name)
    assert {f.name: getattr(rule, f.name) for f in fields(rule)}.items() <= finding.params.items()
    assert 0 <= finding.params["p"] <= finding.params["p_adjusted"] <= 1
    assert rule.limit == finding.limit
    assert 0 < finding.params["usual"] < _finding(name, 2.0).value
    assert 40 == finding.n


@every
def test_a_small_effect_is_at_most_a_warning(name):
    loud = _finding(name, 2.0)
    strict = partial(DETECTORS[name], limit=2 * loud.value)
    pair = _frame(name, 800, 1), _frame(name, 40, 2, 2.0)
    (finding,) = feature_drift(*pair, detectors={name: strict})
    assert Level.WARN is finding.level


@every
def test_states_its_null_and_its_error_rate(name):
    text = " ".join((DETECTORS[name].__doc__ or "").lower().split())
    for part in ("null:", "error rate:", "`limit`", "references"):
        assert part in text


@every
def test_false_alarms_stay_at_the_stated_rate_at_the_least_it_accepts(name):
    """Least rows, least blocks, 300 features: within three standard errors of 5 %."""
    rule = DETECTORS[name]()
    bars = rule.min_rows // UNITS
    pair = _frame(name, bars * rule.min_blocks, 3, features=300), _frame(name, bars, 4, features=300)
    p = np.array([f.params["p"] for f in feature_drift(*pair, detectors={name: DETECTORS[name]})])
    assert 300 == p.size
    assert (p <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_no_detector_is_left_out_of_the_table():
    defined = {c for _, c in inspect.getmembers(detectors, is_dataclass) if c.__module__ == detectors.__name__}
    assert {c for c in defined if not c.__name__.startswith("_")} == set(DETECTORS.values())


def test_names_in_the_table_are_the_names_of_the_findings():
    assert {name: name for name in DETECTORS} == {name: _finding(name).name for name in DETECTORS}
