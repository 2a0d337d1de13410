import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.monitor import accuracy, accuracy_change, accuracy_groups, log_loss_change
from mlops.types import Level


def _scored(bars, rate, *, start="2000-01-01", units=20, seed=0):
    """Predictions that come true with chance `rate`."""
    rng = np.random.default_rng(seed)
    probability = rng.choice([0.3, 0.7], bars * units)
    right = rng.random(bars * units) < rate
    times = np.repeat(pd.date_range(start, periods=bars, tz="UTC"), units)
    label = np.where(right, probability > 0.5, probability < 0.5).astype(float)
    return pd.DataFrame({"event_time": times, "probability": probability, "label": label})


BASELINE = _scored(500, 0.66)


def _look(current, baseline=BASELINE):
    return accuracy_change(baseline, current, rng=np.random.default_rng(7))


def test_a_model_that_keeps_its_accuracy_is_left_alone():
    finding = _look(_scored(60, 0.66, start="2003-01-01", seed=1))
    assert (Level.OK, 60, None) == (finding.level, finding.n, finding.params["alarm_at"])


def test_a_model_that_lost_it_alarms_and_says_when():
    good, bad = _scored(30, 0.66, start="2003-01-01", seed=2), _scored(30, 0.45, start="2003-01-31", seed=3)
    finding = _look(pd.concat([bad, good]))  # rows in any order
    assert Level.ALERT is finding.level
    assert "2003-01-31" <= finding.params["alarm_at"][:10] <= "2003-02-15"
    assert finding.value > finding.limit
    assert 0.66 == pytest.approx(finding.params["baseline"], abs=0.02)


def test_an_alarm_names_the_bars_that_fell_and_not_all_since_the_chart_began():
    good, bad, again = (_scored(n, rate, start=day, seed=6) for n, rate, day in (
        (100, 0.7, "2003-01-01"), (25, 0.45, "2003-04-11"), (200, 0.7, "2003-05-06")))  # fmt: skip
    finding = _look(pd.concat([good, bad, again]))
    assert finding.params["current"] > finding.params["baseline"] > finding.params["alarm_mean"]
    assert "2003-04-05" <= finding.params["alarm_from"][:10] <= "2003-04-15"
    assert f"accuracy {finding.params['alarm_mean']:.3f} over the" in finding.note
    assert f"to {finding.params['alarm_at'][:10]}, 0.6" in finding.note


def test_too_few_bars_are_unknown_even_none():
    for current, baseline in ((_scored(9, 0.2), BASELINE), (BASELINE[:0], BASELINE), (BASELINE, _scored(99, 0.6))):
        finding = _look(current, baseline)
        assert Level.UNKNOWN is finding.level
        assert "needed" in finding.note


def test_the_same_generator_gives_the_same_finding():
    current = _scored(60, 0.6, start="2003-01-01", seed=4)
    assert _look(current) == _look(current)


def test_unmatured_rows_are_refused():
    with pytest.raises(DataError, match="current must have finite probabilities and labels"):
        _look(BASELINE.assign(label=np.nan))
    with pytest.raises(DataError, match="baseline must have the columns"):
        _look(BASELINE, BASELINE.drop(columns="label"))


def test_a_model_that_got_better_is_told_so_and_never_an_alarm():
    better = _scored(120, 0.8, start="2003-01-01", seed=5)
    finding = accuracy_change(BASELINE, better, sides="both", rng=np.random.default_rng(7))
    assert (Level.OK, None) == (finding.level, finding.params["alarm_at"])
    assert "2003" == finding.params["better_at"][:4]


def test_both_sides_share_the_budget_of_one():
    current = _scored(60, 0.66, start="2003-01-01", seed=1)
    one, both = (
        accuracy_change(BASELINE, current, sides=sides, rng=np.random.default_rng(7)) for sides in ("fall", "both")
    )
    assert both.limit > one.limit


def test_the_log_loss_sees_probabilities_that_grew_too_sure():
    sure = _scored(120, 0.66, start="2003-01-01", seed=6)
    sure["probability"] = np.where(sure.probability > 0.5, 0.97, 0.03)
    assert Level.OK is _look(sure).level
    finding = log_loss_change(BASELINE, sure, rng=np.random.default_rng(7))
    assert (Level.ALERT, "log_loss_change") == (finding.level, finding.name)
    assert finding.params["current"] > finding.params["baseline"] > 0
    assert Level.OK is log_loss_change(BASELINE, _scored(60, 0.66, seed=1), rng=np.random.default_rng(7)).level


def test_the_control_chart_names_the_group_that_fell_below():
    baseline = _scored(800, 0.66)
    good, bad = _scored(45, 0.66, start="2003-01-01", seed=2), _scored(40, 0.45, start="2003-03-01", seed=3)
    assert Level.OK is accuracy_groups(baseline, good).level
    finding = accuracy_groups(baseline, pd.concat([good, bad]))
    assert (Level.ALERT, 4) == (finding.level, finding.n)
    assert "2003-02" <= finding.params["alarm_at"][:7] <= "2003-03"
    assert finding.value < finding.limit


@pytest.mark.parametrize(("bars", "current"), [(159, 40), (800, 19), (0, 40), (800, 0)])
def test_a_control_chart_without_groups_is_unknown(bars, current):
    finding = accuracy_groups(_scored(bars, 0.66), _scored(current, 0.3))
    assert Level.UNKNOWN is finding.level
    assert "160 and 20 needed" in finding.note


@pytest.mark.parametrize("sides", ["fall", "both"])
def test_a_calibration_that_is_remembered_is_the_one_that_would_be_drawn(sides):
    baseline, current = BASELINE, _scored(60, 0.66, start="2003-01-01", seed=2)
    found = []
    for remembered in (False, False, True):
        if not remembered:
            accuracy._KNOWN.clear()
        rng = np.random.default_rng(5)
        finding = accuracy_change(baseline, current, rng=rng, sides=sides)
        found.append((finding, rng.random()))
    assert found[0] == found[1] == found[2]
    other = accuracy_change(baseline, current, rng=np.random.default_rng(6), sides=sides)
    assert other.limit != found[0][0].limit
