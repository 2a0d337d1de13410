"""Every metric of a table keeps these promises. A new one is picked up from there."""

import numpy as np
import pandas as pd
import pytest

from mlops import monitor
from mlops.experiment import METRICS, arms_of

ALL = monitor.METRICS
every = pytest.mark.parametrize("metric", ALL.values(), ids=ALL)


def _rows(n=200):
    rng = np.random.default_rng(0)
    label = (rng.random(n) < 0.4).astype(float)
    return np.clip(0.4 + 0.3 * (label - 0.4) + rng.normal(0, 0.1, n), 0.01, 0.99), label


@every
def test_is_a_finite_number_that_ignores_the_order_of_rows(metric):
    p, label = _rows()
    assert isinstance(metric(p, label), float)
    assert np.isfinite(metric(p, label))
    assert metric(p, label) == pytest.approx(metric(p[::-1], label[::-1]), rel=1e-12)


@every
def test_leaves_its_input_alone(metric):
    p, label = _rows()
    metric(p, label)
    assert np.array_equal(_rows()[0], p)
    assert np.array_equal(_rows()[1], label)


def test_both_rooms_mean_the_same_by_a_name():
    p, label = _rows()
    times = pd.date_range("2007-01-01", periods=len(p), tz="UTC")
    arm = arms_of(pd.DataFrame({"version": 1, "unit": "A", "event_time": times, "probability": p, "label": label}))[1]
    shared = METRICS.keys() & monitor.METRICS.keys()
    assert {"accuracy", "auc", "brier", "log_loss"} == shared
    for name in shared:
        assert monitor.METRICS[name](p, label) == pytest.approx(METRICS[name].value(arm))
