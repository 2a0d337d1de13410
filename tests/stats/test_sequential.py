import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from mlops.errors import DataError
from mlops.stats import look_times, nominal_levels, sequential_test

PLAN = {"horizon": 252, "look_every": 5}


def _ever_crosses(levels, times):
    """The same probability by another road: the multivariate normal distribution function."""
    correlation = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    return 1 - multivariate_normal(np.zeros(len(times)), correlation).cdf(norm.isf(levels))


@pytest.mark.parametrize("power", [1.0, 3.0])
@pytest.mark.parametrize("looks", [(100,), (50, 100), (20, 45, 70, 100)])
def test_boundaries_spend_exactly_alpha(looks, power):
    levels = nominal_levels(looks, 100, 0.05, power)
    assert 0.05 == pytest.approx(_ever_crosses(np.array(levels), np.array(looks) / 100), abs=2e-5)


def test_each_look_spends_its_share():
    looks = (25, 50, 75, 100)
    levels = nominal_levels(looks, 100, 0.025, 3.0)
    spent = [_ever_crosses(np.array(levels[:k]), np.array(looks[:k]) / 100) for k in (1, 2, 3)]
    assert [0.025 * (n / 100) ** 3 for n in looks[:3]] == pytest.approx(spent, abs=2e-5)


def test_the_last_of_many_looks_still_has_room():
    levels = nominal_levels(look_times(**PLAN), 252, 0.05, 3.0)
    assert 44 == len(levels)
    assert sorted(levels[1:-1]) == list(levels[1:-1])  # the first takes all that was saved until bar 40
    assert 0.02 < levels[-1] < 0.05


def test_looks_are_planned_and_the_horizon_is_the_last():
    assert (40, 45, 50, 52) == look_times(horizon=52, look_every=5, min_n=38)


def test_peeking_in_between_changes_nothing():
    x = np.random.default_rng(0).normal(0.15, 1, 252)
    seen = [sequential_test(x[:n], **PLAN) for n in range(1, 253)]
    crossed_at = {result.crossed_at for result in seen if result.crossed}
    assert 1 == len(crossed_at)
    first = crossed_at.pop()
    assert all(result.crossed == (n >= first) for n, result in enumerate(seen, start=1))


def test_before_the_first_look_nothing_is_said():
    result = sequential_test(np.full(39, 5.0), **PLAN)
    assert (0, False, 1.0, None, False) == (
        result.looks,
        result.crossed,
        result.p_greater,
        result.crossed_at,
        result.finished,
    )


def test_rows_past_the_horizon_are_not_looked_at():
    x = np.random.default_rng(1).normal(0, 1, 252)
    late = np.concatenate([x, np.full(500, 3.0)])
    assert sequential_test(x, **PLAN) == sequential_test(late, **PLAN)
    assert sequential_test(x, **PLAN).finished
    assert sequential_test(x, **PLAN).n_needed is None


def test_it_tells_how_many_bars_the_present_estimate_needs():
    x = np.random.default_rng(3).normal(0.22, 1, 252)
    early = sequential_test(x[:90], **PLAN)
    assert not early.crossed
    assert early.n_needed is not None
    assert 90 < early.n_needed <= 252
    assert sequential_test(-x[:90], **PLAN).n_needed is None


def test_a_series_of_zeros_never_crosses():
    assert not sequential_test(np.zeros(252), **PLAN).crossed


@pytest.mark.parametrize(("horizon", "look_every", "min_n"), [(10, 20, 5), (10, 0, 5), (10, 5, 11)])
def test_an_impossible_plan_is_refused(horizon, look_every, min_n):
    with pytest.raises(DataError, match="between 1 and horizon"):
        look_times(horizon=horizon, look_every=look_every, min_n=min_n)


@pytest.mark.parametrize(("alpha", "power"), [(0.0, 1.0), (0.5, 1.0), (0.05, 0.0)])
def test_an_impossible_spending_is_refused(alpha, power):
    with pytest.raises(DataError, match="alpha must be in"):
        nominal_levels((50, 100), 100, alpha, power)


def test_no_series_yet_is_no_evidence():
    assert (0, 0.0, False) == (lambda r: (r.n, r.estimate, r.crossed))(sequential_test([], **PLAN))
