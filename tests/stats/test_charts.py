import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import LabelChart, group_chart, label_alarms, label_chart, label_path, run_length, sr_mixture


def _labels(n, accuracy, seed=0):
    return np.random.default_rng(seed).random(n) < accuracy


def _chart(limit=40, direction="fall"):
    return LabelChart(direction, 0.6, np.inf, 11, 9, limit, 1e-4, 1e-4, 1e-4)


def test_the_path_is_the_recursion_by_hand():
    right, level, expected = _labels(200, 0.5), 0, []
    for hit in right:
        level = max(0, level + (-9 if hit else 11))
        expected.append(level)
    assert expected == label_path(_chart(), right).tolist()


@pytest.mark.parametrize(("direction", "accuracy"), [("fall", 0.55), ("rise", 0.4)])
def test_the_run_length_is_what_runs_take(direction, accuracy):
    chart = _chart(120, direction)
    exact = run_length(accuracy, up=11, down=9, limit=120, direction=direction)
    labels = 400_000
    alarms = len(label_alarms(chart, _labels(labels, accuracy, 1)))
    assert labels / exact == pytest.approx(alarms, abs=4 * np.sqrt(alarms))


@pytest.mark.parametrize("accuracy", [0.52, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("direction", ["fall", "rise"])
def test_a_known_baseline_gives_the_rate_that_was_asked_for(accuracy, direction):
    chart = label_chart(accuracy, false_alarms=1e-4, direction=direction)
    exact = run_length(accuracy, up=chart.up, down=chart.down, limit=chart.limit, direction=direction)
    assert 10_000 <= exact <= 11_000  # on a coarse lattice one step more is 6 %
    assert (chart.rate, chart.rate) == pytest.approx((chart.rate_low, chart.rate_high))


def test_a_learned_baseline_has_a_higher_limit_and_an_interval_that_narrows_with_labels():
    known, *learned = (label_chart(0.55, labels=n, false_alarms=1e-4) for n in (None, 500, 2000, 10_000, 50_000))
    widths = [chart.rate_high / chart.rate_low for chart in learned]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 2.3 < 100 < widths[0]
    assert all(chart.limit > known.limit for chart in learned)
    assert all(chart.rate <= 1e-4 for chart in learned)


def test_a_fall_is_found_and_a_rise_never_alarms():
    chart = label_chart(0.6, false_alarms=1e-4)
    fell = np.concatenate([_labels(2000, 0.6, 2), _labels(2000, 0.5, 3)])
    alarms = label_alarms(chart, fell)
    assert 2000 <= alarms[0] < 2600
    assert [] == label_alarms(chart, _labels(20_000, 0.7, 4))
    assert label_alarms(label_chart(0.6, false_alarms=1e-4, direction="rise"), _labels(20_000, 0.7, 4))


def test_thinned_phases_are_charts_of_their_own():
    chart, right = _chart(60), _labels(3000, 0.5, 5)
    expected = sorted(phase + 3 * at for phase in range(3) for at in label_alarms(chart, right[phase::3]))
    assert expected == label_alarms(chart, right, horizon=3)


def test_alarms_far_beyond_the_first_look_are_the_same():
    chart, right = _chart(400), np.concatenate([np.ones(30_000), _labels(20_000, 0.52, 6)])
    start, expected = 0, []
    while (over := np.flatnonzero(label_path(chart, right[start:]) >= chart.limit)).size:
        expected.append(start + int(over[0]))
        start = expected[-1] + 1
    assert expected == label_alarms(chart, right)
    assert len(expected) > 2


def test_a_group_chart_keeps_its_rate_and_widens_for_a_learned_baseline():
    known, learned = group_chart(0.6, false_alarms=1e-4), group_chart(0.6, labels=500, false_alarms=1e-4)
    misses = np.random.default_rng(7).binomial(100, 0.4, 400_000)
    assert (misses >= known.limit).mean() / 100 <= 1.1e-4
    assert (misses >= known.limit - 1).mean() / 100 > 0.9e-4
    assert learned.limit > known.limit


def test_the_mixture_is_the_sum_over_every_start():
    right, accuracy, drops = _labels(40, 0.4, 8), 0.6, (0.05, 0.2)
    total = np.zeros(40)
    for drop in drops:
        ratio = np.where(right, (accuracy - drop) / accuracy, (1 - accuracy + drop) / (1 - accuracy))
        level = 0.0
        for t, step in enumerate(ratio):
            level = (1 + level) * step
            total[t] += level / len(drops)
    assert total == pytest.approx(np.exp(sr_mixture(right, accuracy=accuracy, drops=drops)))


def test_the_mixture_stays_finite_over_a_million_labels():
    assert np.isfinite(sr_mixture(_labels(1_000_000, 0.7, 9), accuracy=0.6)).all()


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"accuracy": 1.0}, "accuracy must lie between 0 and 1"),
        ({"labels": 99}, "at least 100 labels"),
        ({"false_alarms": 0.0}, "must be positive"),
        ({"drop": 0.7}, "must leave an accuracy inside"),
    ],
)
def test_what_cannot_be_charted_is_refused(given, rule):
    with pytest.raises(DataError, match=rule):
        label_chart(**{"accuracy": 0.6, "false_alarms": 1e-4, **given})


def test_bad_labels_and_horizons_are_refused():
    with pytest.raises(DataError, match="right must be finite"):
        label_alarms(_chart(), [1.0, np.nan])
    with pytest.raises(DataError, match="horizon must be at least 1"):
        label_alarms(_chart(), [1.0], horizon=0)
    with pytest.raises(DataError, match="accuracy must lie in"):
        sr_mixture([1.0], accuracy=1.2)
