import numpy as np
import pytest
from arch.bootstrap import MCS, SPA

from mlops.errors import DataError
from mlops.stats import model_confidence_set, superior_predictive_ability

NOISE = np.random.default_rng(0).normal(size=(400, 6))
EDGE = np.array([0.0, 0.0, 0.0, 0.3, 0.5, -0.5])


def _rng():
    return np.random.default_rng(1)


LONG = np.random.default_rng(2).normal(size=(3000, 5)) - [0.0, 0.0, 0.06, 0.08, 0.1]


def test_with_many_independent_bars_the_set_is_that_of_arch():
    """Up to the error of a variance from 83 cosines, which moves a p-value of one half by a tenth."""
    theirs = MCS(LONG, size=0.05, reps=1000, block_size=1, seed=_rng())
    theirs.compute()
    found = model_confidence_set(LONG, rng=_rng(), block=1, paths=1000)
    assert theirs.pvalues["Pvalue"].sort_index().tolist() == pytest.approx(list(found.p_values), abs=0.15)
    assert tuple(theirs.included) == found.included


def test_with_many_independent_bars_the_test_is_that_of_arch():
    theirs = SPA(LONG[:, 0], LONG[:, 1:], block_size=1, reps=1000, seed=_rng())
    theirs.compute()
    found = superior_predictive_ability(LONG[:, 0], LONG[:, 1:], rng=_rng(), block=1, paths=1000)
    assert theirs.pvalues.tolist() == pytest.approx([found.p_lower, found.p_value, found.p_upper], abs=0.03)
    weak = superior_predictive_ability(LONG[:500, 0], LONG[:500, 1:3], rng=_rng(), block=1, paths=1000)
    theirs = SPA(LONG[:500, 0], LONG[:500, 1:3], block_size=1, reps=1000, seed=_rng())
    theirs.compute()
    assert theirs.pvalues.tolist() == pytest.approx([weak.p_lower, weak.p_value, weak.p_upper], abs=0.12)


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
    assert found.p_values[4] == found.p_values[6]
    assert (0, 1) == model_confidence_set(NOISE[:, [0, 0]], rng=_rng(), paths=50).included


def test_a_loss_that_is_always_the_higher_leaves():
    found = model_confidence_set(NOISE[:, :1] + [0.0, 0.1], rng=_rng(), paths=100)
    assert (0,) == found.included


def test_the_better_ones_are_named():
    losses = NOISE - EDGE
    found = superior_predictive_ability(losses[:, 0], losses[:, 1:], rng=_rng(), paths=500)
    assert (2, 3) == found.superior
    assert found.p_lower <= found.p_value <= found.p_upper < 0.01
    assert (losses[:, 0] - losses[:, 4]).mean() == pytest.approx(found.gains[3])


def test_a_benchmark_that_none_beats_stands():
    losses = NOISE + EDGE
    found = superior_predictive_ability(losses[:, 0] - 1, losses, rng=_rng(), paths=100)
    assert (1.0, ()) == (found.p_value, found.superior)


def test_all_may_be_better_by_and_by():
    """Where the last model is proven in a later step, arch's StepM raises."""
    for seed in range(20):
        losses = np.random.default_rng(seed).normal(size=(100, 3)) - [0.0, 0.7, 0.35]
        found = superior_predictive_ability(losses[:, 0], losses[:, 1:], rng=_rng(), paths=200)
        assert set(found.superior) <= {0, 1}
        assert 0 in found.superior


def test_a_challenger_that_is_the_benchmark_counts_for_nothing():
    losses = NOISE - EDGE
    alone = superior_predictive_ability(losses[:, 0], losses[:, 4:5], rng=_rng(), paths=200)
    with_copy = superior_predictive_ability(losses[:, 0], losses[:, [0, 4]], rng=_rng(), paths=200)
    assert alone.p_value == pytest.approx(with_copy.p_value, abs=0.02)
    assert (1,) == with_copy.superior


def test_too_few_bars_prove_nothing():
    few = model_confidence_set(NOISE[:10], rng=_rng())
    assert (tuple(range(6)), ()) == (few.included, few.excluded)
    assert "20 needed" in few.note
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


def test_drawing_in_parts_draws_as_much(monkeypatch):
    monkeypatch.setattr("mlops.stats.superiority.CELLS", 5000)
    found = superior_predictive_ability(NOISE[:, 0], NOISE[:, 1:], rng=_rng(), paths=101)
    assert 0.05 < found.p_value <= 1
    assert round(found.p_value * 101) == pytest.approx(found.p_value * 101)


def test_losses_are_left_alone_and_one_seed_gives_one_set():
    before = NOISE.copy()
    assert model_confidence_set(NOISE, rng=_rng(), paths=50) == model_confidence_set(NOISE, rng=_rng(), paths=50)
    assert np.array_equal(before, NOISE)
