"""Every metric of an arm keeps these promises. A new line of the table is picked up from there."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlops.experiment.arm import BOOK, arms_of
from mlops.experiment.metrics import METRICS, measure

every = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
BARS, UNITS = 120, 5


def _arm(seed=0):
    rng = np.random.default_rng(seed)
    days = pd.date_range("2007-01-01", periods=BARS, tz="UTC")
    label = (rng.random(BARS * UNITS) < 0.4).astype(float)
    rows = pd.DataFrame(
        {
            "version": 1,
            "unit": np.tile([f"U{i}" for i in range(UNITS)], BARS),
            "event_time": days.repeat(UNITS),
            "label": label,
            "probability": np.clip(0.4 + 0.3 * (label - 0.4) + rng.normal(0, 0.1, label.size), 0.01, 0.99),
        }
    )
    equity = np.cumprod(1 + rng.normal(0.0005, 0.01, BARS))
    traded, exposure = rng.random(BARS) * equity / 10, rng.random(BARS)
    book = pd.DataFrame({"equity": equity, "traded": traded, "exposure": exposure}, index=days)
    return arms_of(rows, {1: book}, scorings={1: rng.gamma(2, 0.001, BARS)})[1]


@every
def test_is_finite_on_good_data_and_comes_with_unit_direction_and_meaning(metric):
    value = metric.value(_arm())

    assert isinstance(value, float)
    assert np.isfinite(value)
    assert metric.better in ("higher", "lower")
    assert all((metric.title, metric.unit, metric.meaning.endswith(".")))


@every
def test_the_bars_of_a_metric_add_up_to_it(metric):
    arm = _arm()
    per_bar = metric.per_bar(arm)

    if per_bar is None:
        assert metric.name in ("auc", "drawdown", "latency")
    else:
        assert metric.value(arm) == pytest.approx(per_bar.mean(), rel=1e-9)
        assert per_bar.index.is_monotonic_increasing
        assert np.isfinite(per_bar).all()


@every
def test_has_an_interval_around_it_or_says_why_not(metric):
    found = measure({1: _arm()}).values[1][metric.name]

    assert found.known
    assert found.low < found.value < found.high if metric.per_bar(_arm()) is not None else "no interval" in found.note


@every
def test_needs_each_column_that_it_declares_and_no_other(metric):
    arm = _arm()
    only = {name: values for name, values in arm.columns.items() if name in metric.needs}
    book = arm.book[[name for name in BOOK if name in metric.needs]]
    assert metric.value(arm) == metric.value(replace(arm, columns=only, book=book if len(book.columns) else None))

    for column in metric.needs:
        less = {name: values for name, values in only.items() if name != column}
        table = measure({1: replace(arm, columns=less, book=book.drop(columns=column, errors="ignore"))})
        assert metric.name not in table.values[1]
        assert f"v1 has no {column}" == table.absent[metric.name]


@every
def test_better_is_better_in_its_direction(metric):
    """The same arm, improved: surer of the truth, quicker, with a smoother and less costly book."""
    arm = _arm()
    columns = {
        **arm.columns,
        "probability": 0.5 * arm["probability"] + 0.5 * arm["label"],
        "scoring_s": arm["scoring_s"] / 2,
    }
    growth = np.r_[1.0, arm["equity"][1:] / arm["equity"][:-1] + 0.001]
    book = arm.book.assign(equity=np.cumprod(growth), traded=arm.book["traded"] / 4)

    gain = metric.sign * (metric.value(replace(arm, columns=columns, book=book)) - metric.value(arm))
    assert gain > 0


@every
def test_leaves_its_input_alone_and_says_the_same_twice(metric):
    arm = _arm()
    assert metric.value(arm) == metric.value(arm) == metric.value(_arm())
    for name, values in _arm().columns.items():
        assert np.array_equal(values, arm.columns[name])
    pd.testing.assert_frame_equal(_arm().book, arm.book)
