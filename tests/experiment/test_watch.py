import numpy as np
import pytest

from mlops.experiment import Plan
from mlops.experiment.watch import simulated_budget

PLAN = Plan(0.975, 1, 126, power=1.0)


def test_a_record_of_independent_bars_hardly_changes_the_plan_and_never_widens_it():
    plan, rate = simulated_budget(np.random.default_rng(0).normal(size=400), PLAN, np.random.default_rng(1))
    assert 0.7 * PLAN.alpha < plan.alpha <= PLAN.alpha
    assert rate <= PLAN.alpha


def test_a_record_whose_bars_depend_on_each_other_for_long_tightens_the_plan():
    noise = np.random.default_rng(0).normal(size=1020)
    record = np.convolve(noise, np.ones(20), mode="valid")  # labels that span 20 bars
    plan, rate = simulated_budget(record, PLAN, np.random.default_rng(1))
    assert plan.confidence > PLAN.confidence
    assert rate <= PLAN.alpha or plan.alpha == pytest.approx(PLAN.alpha / 8)


@pytest.mark.parametrize("record", [np.zeros(100), np.arange(10.0)])
def test_a_record_that_says_nothing_changes_nothing(record):
    plan, rate = simulated_budget(record, PLAN, np.random.default_rng(1))
    assert (PLAN, True) == (plan, np.isnan(rate))
