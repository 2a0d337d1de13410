"""Every detector keeps these promises. A new one is picked up from the table."""

import inspect
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from mlops.monitor import DETECTORS, Column, drift
from mlops.types import Level

every = pytest.mark.parametrize("detector", [make() for make in DETECTORS.values()], ids=DETECTORS)


def _column(bars, units, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return Column(rng.normal(shift, 1, bars * units), np.repeat(np.arange(bars), units), bars)


def _pair(shift=0.0, bars=40, reference_bars=800):
    """Two fresh panels; never shared, so no test can spoil another's data."""
    return _column(reference_bars, 5, 1), _column(bars, 5, 2, shift)


@every
def test_is_quiet_on_the_same_law_and_loud_on_another(detector):
    assert Level.OK is detector(*_pair()).level
    assert Level.ALERT is detector(*_pair(2.0)).level
    assert Level.ALERT is detector(*_pair(-2.0)).level


@every
def test_is_deterministic_and_leaves_its_input_alone(detector):
    reference, current = _pair(2.0)

    first = detector(reference, current)

    assert first == detector(*_pair(2.0))
    assert np.array_equal(_pair(2.0)[0].values, reference.values)
    assert np.array_equal(_pair(2.0)[1].values, current.values)


@every
def test_says_unknown_on_too_few_rows_or_too_short_a_reference(detector):
    few = _column(detector.min_rows // 5 - 1, 5, 2, 2.0)
    assert Level.UNKNOWN is detector(_column(800, 5, 1), few).level
    assert Level.UNKNOWN is detector(_column(40 * detector.min_blocks - 1, 5, 1), _column(40, 5, 2, 2.0)).level


@every
def test_an_empty_window_is_unknown_and_never_an_exception(detector):
    assert Level.UNKNOWN is detector(_column(800, 5, 1), _column(0, 5, 2)).level
    assert Level.UNKNOWN is detector(_column(0, 5, 1), _column(40, 5, 2)).level


@every
def test_parameters_and_evidence_travel_with_the_finding(detector):
    params = detector(*_pair()).params
    assert {f.name: getattr(detector, f.name) for f in fields(detector)}.items() <= params.items()
    assert 0 <= params["p"] <= 1
    assert detector.limit == detector(*_pair()).limit


@every
def test_states_its_null_and_its_error_rate(detector):
    assert "null" in (detector.__doc__ or "").lower()
    assert "error rate" in (detector.__doc__ or "").lower()


@every
def test_false_alarms_stay_at_the_stated_rate_at_the_least_it_accepts(detector):
    """Least rows, least blocks, 300 worlds: within three standard errors of alpha."""
    bars = detector.min_rows // 5
    p = [
        detector(_column(bars * detector.min_blocks, 5, 2 * i), _column(bars, 5, 2 * i + 1)).params["p"]
        for i in range(300)
    ]
    assert np.mean(np.array(p) <= detector.alpha) <= detector.alpha + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_no_detector_is_left_out_of_the_table():
    defined = {c for _, c in inspect.getmembers(drift, is_dataclass) if c.__module__ == drift.__name__}
    assert defined == set(DETECTORS.values())


def test_names_in_the_table_are_the_names_of_the_findings():
    assert {name: name for name in DETECTORS} == {name: make()(*_pair()).name for name, make in DETECTORS.items()}
