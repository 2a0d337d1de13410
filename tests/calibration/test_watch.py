"""How often the watch takes back a champion that is no worse, where skill wanders. Rates are printed with -s."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from benchmarks.simulated.world import Law, World, announced
from mlops import policy
from mlops.experiment import Plan, compare
from mlops.experiment.gates import paired_log_loss
from mlops.monitor import accuracy_change
from mlops.stats import log_losses
from mlops.types import Level, ModelRef, Report, Verdict

pytestmark = pytest.mark.calibration
PAST, HALF, UNITS = 1000, 126, 20
WATCH = Plan(0.975, 1, HALF, power=1.0)
NEW, OLD = ModelRef("m", 2), ModelRef("m", 1)
RUNS = 200


def _wandering(rng, sd, phi=0.99):
    steps = rng.standard_normal(PAST + HALF + 2000)
    return sd * lfilter([np.sqrt(1 - phi**2)], [1, -phi], steps)[2000:]


def _models(seed, shared, own):
    """Labels and forecasts of the new champion and the one before: right in .61, and what of that comes and goes."""
    world, rng = World(Law(), PAST + HALF, seed), np.random.default_rng(seed)
    common, noise = _wandering(rng, shared), world._noise
    said = []
    for _ in range(2):
        mine = np.sqrt(0.8) * noise + np.sqrt(0.2) * World(Law(), PAST + HALF, int(rng.integers(1 << 40)))._noise
        real = np.clip(0.61 + common + _wandering(rng, own), 0.51, 0.9)
        said.append(announced(world._hidden, mine, 0.61, real[:, None]))
    return world.labels, *said


def _frame(labels, said, version):
    times = pd.date_range("2000-01-01", periods=len(labels), freq="D", tz="UTC").repeat(UNITS)
    keys = {"event_time": times, "unit": np.tile(np.arange(UNITS).astype(str), len(labels)), "version": version}
    return pd.DataFrame({**keys, "probability": said.ravel(), "label": labels.ravel()})


def _taken_back(seed, shared, own):
    """Whether any weekly look of the watch rolls back; and whether its paired test alone did."""
    labels, new, old = _models(seed, shared, own)
    mine, other = _frame(labels, new, 2), _frame(labels, old, 1)
    past, since = mine[: PAST * UNITS], PAST * UNITS
    difference = (log_losses(new, labels) - log_losses(old, labels)).mean(axis=1)[PAST:]
    proven = paired_log_loss(difference, WATCH).params["crossed_at"]
    chart = accuracy_change(past, mine[since:], false_alarms_per_year=0.05, rng=np.random.default_rng(0))
    if chart.level is not Level.ALERT:
        return proven is not None, proven is not None
    alarm = int((mine["event_time"] <= chart.params["alarm_at"]).sum() / UNITS) - PAST
    for bars in range(10, HALF + 1, 5):
        both = pd.concat([one[since : since + bars * UNITS] for one in (mine, other)])
        found = compare(both, champion=2, challenger=1, settings=WATCH)
        level = Level.ALERT if bars >= alarm else Level.OK
        report = Report(NEW, datetime(2003, 1, 1, tzinfo=UTC), (*found, replace(chart, level=level)))
        if policy.on_watch(report, OLD).verdict is Verdict.ROLLBACK:
            return True, proven is not None
    return False, proven is not None


@pytest.mark.parametrize(("shared", "own", "most"), [(0.0, 0.0, 0.05), (0.03, 0.0, 0.05), (0.03, 0.01, 0.09)])
def test_a_champion_that_is_no_worse_is_taken_back_at_most_as_documented(shared, own, most):
    found = np.array([_taken_back(seed, shared, own) for seed in range(RUNS)])
    both, paired = found.mean(axis=0)
    print(f"watch  skill wanders by {shared:.0%} in common, {own:.0%} alone: {both:.1%}, the paired test {paired:.1%}")
    assert both <= most + 3 * np.sqrt(most * (1 - most) / RUNS)
