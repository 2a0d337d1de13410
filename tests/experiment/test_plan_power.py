"""What it is worth that no challenger was proven better."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulated.world import Law, World
from mlops.experiment import Plan
from mlops.experiment.gates import paired_log_loss
from mlops.experiment.plan_power import nats_of_points, plan_power
from mlops.stats import log_losses
from mlops.types import Level

LAW, PLAN = Law(gain=0.02), Plan(margin=0.0002)


def _compared(law, seed, bars=252):
    """The difference a bar, and the champion's forecasts."""
    world = World(law, bars, seed)
    one, other = (world.forecasts(version, 0) for version in (1, 2))
    losses = [log_losses(p.ravel(), world.labels.ravel()) for p in (one, other)]
    return (losses[0] - losses[1]).reshape(one.shape).mean(axis=1), one.ravel()


@pytest.mark.parametrize("skill", [0.55, 0.61, 0.7])
def test_points_of_accuracy_are_worth_the_nats_that_sharper_forecasts_gain(skill):
    difference, forecasts = _compared(replace(LAW, skill=skill, horizon=1), 1, 6000)
    assert nats_of_points(forecasts, 0.02) == pytest.approx(difference.mean(), rel=0.15)


def test_rare_labels_and_constant_forecasts_have_no_points_to_gain():
    assert np.isnan(nats_of_points(np.full(100, 0.3), 0.02))
    assert np.isnan(nats_of_points(np.linspace(0.05, 0.06, 100), 0.02))
    assert np.isnan(nats_of_points(np.empty(0), 0.02))


@pytest.mark.parametrize(
    ("bars", "plan"), [(19, PLAN), (100, replace(PLAN, evidence="anytime"))], ids=["few bars", "no plan"]
)
def test_what_cannot_be_known_is_unknown(bars, plan):
    difference, forecasts = _compared(LAW, 2, bars)
    assert plan_power(difference, forecasts, plan).level is Level.UNKNOWN
    assert plan_power(np.zeros(100), forecasts, PLAN).level is Level.UNKNOWN  # two versions that say the same


def test_nothing_would_have_been_proven_before_the_first_look_or_without_events():
    difference, forecasts = _compared(LAW, 2)
    assert plan_power(difference[:39], forecasts[: 39 * 20], PLAN).value == 0.0
    assert plan_power(difference, forecasts, PLAN, least_bars=253).value == 0.0


def test_as_many_better_challengers_are_proven_as_was_said():
    proven, said = [], []
    for seed in range(120):
        difference, forecasts = _compared(LAW, 5_000 + seed)
        proven.append(paired_log_loss(difference, PLAN).level is Level.OK)
        said.append(plan_power(difference, forecasts, PLAN).params["points_2"])
    assert np.mean(proven) == pytest.approx(np.mean(said), abs=0.1)  # two standard errors
