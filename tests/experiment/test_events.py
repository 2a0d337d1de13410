import numpy as np
import pytest

from benchmarks.simulated.world import Law, World
from mlops.experiment import Plan
from mlops.experiment.events import effective_events, enough_at, happened
from mlops.experiment.gates import paired_log_loss, skill
from mlops.stats import log_losses
from mlops.types import Level


def _bars(labels):
    return happened(labels.ravel(), np.repeat(np.arange(len(labels)), labels.shape[1]))


def _proof(law, seed, *, events):
    world = World(law, 252, seed)
    loss = [log_losses(world.forecasts(v).ravel(), world.labels.ravel()) for v in (1, 2)]
    plan = Plan(margin=0.0002, min_events=events)
    difference = (loss[0] - loss[1]).reshape(252, -1).mean(axis=1)
    return paired_log_loss(difference, plan, enough_at(_bars(world.labels), plan)).level


def test_equal_forecasts_of_rare_clustered_labels_are_not_proven_apart():
    law = Law(rare=True)
    proven = [sum(_proof(law, seed, events=n) is Level.OK for seed in range(60)) for n in (0.0, 5.0)]
    assert proven[0] > 15
    assert proven[1] <= 3


def test_labels_that_come_every_day_lose_no_proof():
    law = Law(gain=0.06)
    assert all(_proof(law, seed, events=0.0) is _proof(law, seed, events=5.0) for seed in range(20))


def test_a_constant_difference_proves_nothing_while_one_label_never_came():
    plan, quiet = Plan(), happened(np.zeros(100), np.arange(100))
    assert 253 == enough_at(quiet, plan)
    found = paired_log_loss(np.full(100, 0.01), plan, 253)
    assert (Level.UNKNOWN, None) == (found.level, found.params["crossed_at"])
    assert "has not happened 5 times independently yet" in found.note
    assert Level.UNKNOWN is skill(np.full(100, 0.01), plan, 253).level
    assert Level.OK is paired_log_loss(np.full(100, 0.01), plan).level
    late = Plan(evidence="anytime")
    assert Level.UNKNOWN is paired_log_loss(np.full(100, 0.01), late, 253).level


def test_a_cluster_counts_once_and_independent_events_count_each():
    rng = np.random.default_rng(0)
    alone = (rng.random(2000) < 0.05).astype(float)
    clusters = np.repeat(alone[:400], 5)
    assert alone.sum() * 0.6 < effective_events(alone) <= alone.sum()
    assert effective_events(clusters) < clusters.sum() / 2
    assert [0.0, 40.0] == [effective_events(np.zeros(40)), effective_events(np.ones(40))]


@pytest.mark.parametrize("n", [10, 60])
def test_what_was_enough_at_a_look_is_the_same_when_more_bars_came(n):
    seen, plan = _bars(World(Law(units=1), 252, n).labels), Plan()
    first = enough_at(seen, plan)
    assert first == enough_at(seen[:, : first + 3], plan)
    assert 253 == enough_at(seen[:, : first - 1], plan)


def test_both_labels_of_each_bar_are_told():
    assert [[1, 0], [1, 1]] == happened(np.array([0.0, 1.0, 1.0]), np.array([0, 0, 1])).astype(int).tolist()
