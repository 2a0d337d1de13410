"""A plan is stored and read as it was; one that nobody can follow is refused by the name of its field."""

import json

import pytest

from mlops.errors import DataError
from mlops.experiment import Plan

PLAN = Plan(0.99, 500, 300, margin=0.001, min_bars=160, arms=3)


def test_a_plan_is_read_as_it_was_stored_but_for_its_arms():
    assert PLAN == Plan.read(PLAN.stored(), arms=3)
    assert 2 == Plan.read(PLAN.stored(), arms=2).arms


def test_each_look_counts_the_arms_that_had_joined_by_its_last_bar():
    plan = Plan(0.94, arms=3, joined=(40, 41))
    assert [0.06, 0.03, 0.02] == pytest.approx(plan.alphas([40, 41, 42]))
    assert PLAN.stored() == Plan.read(PLAN.stored(), arms=3).stored()
    with pytest.raises(DataError, match=r"plan's joined must name fewer than arms \(1\), got \(40,\)"):
        Plan(joined=(40,))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("confidence", 1.0, "confidence must be above 0.5 and below 1, got 1.0"),
        ("confidence", "0.95", "confidence must be a finite number, got '0.95'"),
        ("margin", float("nan"), "margin must be a finite number, got nan"),
        ("margin", -0.1, "margin must be at least 0"),
        ("horizon_bars", 0, "horizon_bars must be a whole number, at least 1, got 0"),
        ("horizon_bars", 100.5, "horizon_bars must be a whole number"),
        ("min_samples", True, "min_samples must be a whole number"),
        ("min_bars", 301, r"min_bars must be at most horizon_bars \(300\), got 301"),
        ("look_every", 301, r"look_every must be at most horizon_bars \(300\), got 301"),
        ("power", 0, "power must be above 0"),
        ("srm_alpha", 0, "srm_alpha must be above 0 and at most 1"),
        ("chart_alarms", 0, "chart_alarms must be above 0, or nothing, got 0"),
        ("chart_alarms", "1", "chart_alarms must be above 0, or nothing, got '1'"),
        ("evidence", "hope", "evidence must be one of"),
    ],
)
def test_a_plan_that_nobody_can_follow_is_refused_by_name(field, value, rule):
    altered = json.dumps(json.loads(PLAN.stored()) | {field: value})
    with pytest.raises(DataError, match=rule):
        Plan.read(altered, arms=1)


@pytest.mark.parametrize("stored", ["", "[]", "{}", '{"confidence": 0.9}', PLAN.stored()[:-1] + ', "arms": 2}'])
def test_what_is_no_plan_is_refused(stored):
    with pytest.raises(DataError, match="plan must"):
        Plan.read(stored, arms=1)
