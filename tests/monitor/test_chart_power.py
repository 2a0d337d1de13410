"""What the silence of the accuracy chart is worth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated.world import Law, World
from mlops.monitor import accuracy_change, chart_power, layers
from mlops.types import Finding, Level

LAW = Law(fall_at=60)
OLD, NEW = "2000-01-03", "2007-06-04"


def _rows(labels, forecasts, start):
    bars, units = labels.shape
    times = np.repeat(pd.bdate_range(start, periods=bars, tz="UTC"), units)
    keys = {"event_time": times, "unit": np.tile(np.arange(units), bars)}
    return pd.DataFrame({**keys, "probability": forecasts.ravel(), "label": labels.ravel()})


def _charted(law, seed, bars):
    """The baseline of a world, its chart, and the bar of the chart's alarm, if any."""
    world = World(law, bars, seed)
    record = world.record(1, 1)
    baseline = _rows(record.labels[-500:], record.forecasts[-500:], OLD)
    chart = accuracy_change(baseline, _rows(world.labels, world.forecasts(1, 0), NEW), rng=np.random.default_rng(7))
    at = chart.params.get("alarm_at")
    return baseline, chart, None if at is None else int(pd.bdate_range(NEW, periods=bars).searchsorted(at[:10]))


def _power(baseline, chart):
    return chart_power(baseline, chart, rng=np.random.default_rng(7))


def test_the_longer_a_chart_is_quiet_and_the_deeper_the_fall_the_more_its_silence_is_worth():
    found = [_power(*_charted(LAW, 3, bars)[:2]) for bars in (20, 50)]
    assert found[0].value < found[1].value
    chances = [found[1].params[f"fall_{points}"] for points in (10, 5, 3)]
    assert chances == sorted(chances, reverse=True)
    assert "would have been seen by now with" in found[1].note
    assert found[1].params["bars"] == 50


def test_nothing_is_said_of_a_chart_that_is_not_known_and_one_that_spoke_is_not_called_quiet():
    baseline, chart, _ = _charted(LAW, 3, 5)
    assert _power(baseline, chart).level is Level.UNKNOWN
    baseline, chart, at = _charted(replace(LAW, fall=0.3), 3, 150)
    assert at is not None
    assert "not quiet" in _power(baseline, chart).note


@pytest.mark.parametrize("fall", [0.05, 0.03])
def test_as_many_falls_are_seen_as_was_said(fall):
    said, seen = [], []
    for seed in range(40):
        baseline, _, at = _charted(replace(LAW, units=4, fall=fall), 100 + seed, 60 + 126)
        _, quiet, _ = _charted(replace(LAW, units=4), 100 + seed, 60 + 126)
        if at is None or at >= 60:
            said.append(_power(baseline, quiet).params[f"fall_{100 * fall:.0f}"])
            seen.append(at is not None)
    assert np.mean(seen) == pytest.approx(np.mean(said), abs=0.17)  # two standard errors


def test_a_quiet_verdict_says_what_it_is_worth_and_accuses_nobody():
    quiet = Finding("accuracy_change", 0.1, 1.0, Level.OK, 90)
    power = Finding("chart_power", 0.93, 0.0, Level.OK, 90, note="a fall of 10 points would have been seen")
    *_, verdict = layers((quiet, power))
    assert verdict.note == "nothing has changed; a fall of 10 points would have been seen"
    *_, verdict = layers((replace(quiet, level=Level.ALERT), power))
    assert "would have been seen" not in verdict.note
