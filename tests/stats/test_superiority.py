import numpy as np
import pytest
from arch.bootstrap import MCS, SPA

from mlops.errors import DataError
from mlops.stats import model_confidence_set, superior_predictive_ability
from mlops.stats.dependent import ewc_error

NOISE = np.random.default_rng(0).normal(size=(400, 6))
EDGE = np.array([0.0, 0.0, 0.0, 0.3, 0.5, -0.5])


def _rng():
    return np.random.default_rng(1)


def test_the_set_is_that_of_arch():
    losses = NOISE - EDGE
    theirs = MCS(losses, size=0.05, reps=500, block_size=1, seed=_rng())
    theirs.compute()
    found = model_confidence_set(losses, rng=_rng(), block=1, paths=500)
    assert tuple(theirs.included) == found.included
    assert tuple(theirs.excluded) == found.excluded
    assert theirs.pvalues["Pvalue"].sort_index().tolist() == list(found.p_values)


def test_the_best_stays_and_the_worst_leaves():
    found = model_confidence_set(NOISE - EDGE, rng=_rng(), paths=500)
    assert 4 in found.included
    assert {0, 1, 2, 5} <= set(found.excluded)


def test_a_copy_of_a_model_shares_its_fate():
    losses = NOISE - EDGE
    copied = np.column_stack([losses, losses[:, 4], losses[:, 0]])
    found = model_confidence_set(copied, rng=_rng(), paths=500)
    assert {4, 6} <= set(found.included)
    assert {0, 7} <= set(found.excluded)
    assert found.p_values[0] == found.p_values[7]


def test_a_loss_that_is_always_the_higher_leaves():
    found = model_confidence_set(NOISE[:, :1] + [0.0, 0.1], rng=_rng(), paths=100)
    assert (0,) == found.included


def test_the_test_is_archs_on_differences_in_units_of_their_error():
    losses = NOISE - EDGE
    gains = (losses[:, [0]] - losses[:, 1:]) / (ewc_error((losses[:, [0]] - losses[:, 1:]).T) * 20)
    theirs = SPA(np.zeros(400), -gains, block_size=2, reps=500, seed=_rng())
    theirs.compute()
    found = superior_predictive_ability(losses[:, 0], losses[:, 1:], rng=_rng(), block=2, paths=500)
    assert theirs.pvalues.tolist() == [found.p_lower, found.p_value, found.p_upper]
    assert (2, 3) == found.superior
    assert found.p_value < 0.01
    assert (losses[:, 0] - losses[:, 4]).mean() == pytest.approx(found.gains[3])


def test_all_may_be_better_by_and_by():
    """Where the last model is proven in a later step, arch's own StepM raises."""
    for seed in range(20):
        losses = np.random.default_rng(seed).normal(size=(100, 3)) - [0.0, 0.7, 0.35]
        found = superior_predictive_ability(losses[:, 0], losses[:, 1:], rng=_rng(), paths=200)
        assert set(found.superior) <= {0, 1}
        assert 0 in found.superior


def test_a_challenger_that_is_the_benchmark_counts_for_nothing():
    losses = NOISE - EDGE
    alone = superior_predictive_ability(losses[:, 0], losses[:, 4:5], rng=_rng(), paths=200)
    with_copy = superior_predictive_ability(losses[:, 0], losses[:, [0, 4]], rng=_rng(), paths=200)
    assert alone.p_value == with_copy.p_value
    assert (1,) == with_copy.superior


def test_too_few_bars_prove_nothing():
    few = model_confidence_set(NOISE[:10], rng=_rng())
    assert (tuple(range(6)), ()) == (few.included, few.excluded)
    assert "20 needed" in few.note
    assert "alike" in model_confidence_set(np.ones((50, 2)), rng=_rng()).note
    none = superior_predictive_ability(NOISE[:10, 0], NOISE[:10, 1:], rng=_rng())
    assert np.isnan(none.p_value)
    assert () == none.superior
    assert "no challenger differs" in superior_predictive_ability(NOISE[:, 0], NOISE[:, :1], rng=_rng()).note
    assert np.isnan(superior_predictive_ability([], np.empty((0, 2)), rng=_rng()).gains).all()


@pytest.mark.parametrize(
    ("losses", "rule"), [(NOISE[:, :1], "models >= 2"), (NOISE[:, 0], "models >= 2"), (NOISE * np.nan, "finite")]
)
def test_what_is_no_table_of_losses_is_refused(losses, rule):
    with pytest.raises(DataError, match=rule):
        model_confidence_set(losses, rng=_rng())


def test_losses_on_other_bars_are_refused():
    with pytest.raises(DataError, match="must have the benchmark's 400 bars, got 399"):
        superior_predictive_ability(NOISE[:, 0], NOISE[1:], rng=_rng())
