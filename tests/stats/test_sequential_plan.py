import numpy as np
import pytest
from scipy.stats import norm

from mlops.errors import DataError
from mlops.stats import sequential_power, sequential_sample_size
from mlops.stats.sequential import DESIGN_SHARE
from mlops.stats.sequential_plan import _caution

PLAN = {"horizon": 2000, "look_every": 100}


def test_without_a_gain_it_is_the_error_that_was_spent_less_what_caution_saves():
    assert 0.03 < sequential_power(0.0, **PLAN).power < DESIGN_SHARE * 0.05


def test_one_look_is_the_fixed_test():
    found = sequential_power(0.06, horizon=2000, look_every=2000)
    caution = np.sqrt(_caution(np.array([64.0])))[0]
    drift = 0.06 * np.sqrt(2000)
    assert float(norm.sf(norm.isf(0.05 * DESIGN_SHARE) * caution - drift)) == pytest.approx(found.power, abs=2e-3)
    assert 2000 == found.mean_rows


def test_power_grows_with_the_gain_and_the_error_and_the_rows_shrink():
    gains = [sequential_power(gain, **PLAN) for gain in (0.02, 0.05, 0.1)]
    assert sorted(g.power for g in gains) == [g.power for g in gains]
    assert sorted((g.mean_rows for g in gains), reverse=True) == [g.mean_rows for g in gains]
    assert sequential_power(0.05, **PLAN, alpha=0.01).power < gains[1].power
    early = sequential_power(0.05, **PLAN, power=1.0)
    assert early.power < gains[1].power
    assert early.mean_rows < gains[1].mean_rows


@pytest.mark.parametrize("dof", [16.0, 100.0])
def test_the_larger_of_two_variances_is_larger_by_as_much_as_drawn(dof):
    power = np.random.default_rng(0).chisquare(1, (40_000, int(dof)))
    larger = np.maximum(power.mean(axis=1), power[:, : int(dof) // 2].mean(axis=1)).mean()
    assert larger == pytest.approx(_caution(np.array([dof]))[0], abs=0.01)


@pytest.mark.parametrize("power", [0.8, 0.95])
def test_the_planned_horizon_has_the_planned_power(power):
    rows = sequential_sample_size(0.05, looks=10, power=power)
    assert power == pytest.approx(sequential_power(0.05, horizon=rows, look_every=-(-rows // 10)).power, abs=2e-3)


def test_a_larger_gain_needs_fewer_rows_and_none_needs_no_end():
    assert sequential_sample_size(0.1, looks=5) < sequential_sample_size(0.05, looks=5)
    assert 40 == sequential_sample_size(2.0, looks=5)
    assert sequential_sample_size(0.0) is None
    assert sequential_sample_size(1e-6) is None


def test_impossible_plans_are_refused():
    with pytest.raises(DataError, match="looks must be at least 1"):
        sequential_sample_size(0.1, looks=0)
    with pytest.raises(DataError, match="effect must be at least 0"):
        sequential_power(-0.1, **PLAN)
    with pytest.raises(DataError, match="power must lie between 0 and 1"):
        sequential_sample_size(0.1, power=1.0)
