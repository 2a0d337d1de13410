"""One trial: pure and seeded."""

import numpy as np
import optuna
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from mlops.compute import Compute
from mlops.learn import calibration, tune
from mlops.learn.gbm import GBM, fit, space
from mlops.learn.learner import Table
from mlops.learn.splits import Fold

PARAMS = {"num_iterations": 30, "num_leaves": 5, "learning_rate": 0.1, "min_data_in_leaf": 50, "lambda_l2": 1.0}
FOLD = Fold(np.arange(1500), np.arange(1500, 2000))


def _table(signal=1.5, n=2000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = (rng.random(n) < 1 / (1 + np.exp(-signal * x[:, 0]))).astype(float)
    return Table(x, y)


def test_the_same_rows_parameters_and_seed_give_the_same_booster():
    first, again, other = (fit(_table(), PARAMS, seed).files() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_fold_is_scored_by_a_booster_that_saw_its_training_rows_only():
    table = _table()
    spoiled = Table(table.x, np.where(np.arange(2000) < 1500, table.y, 1 - table.y))

    margin = tune.score_fold(FOLD, GBM, table, PARAMS, 1)

    assert (500,) == margin.shape
    assert np.array_equal(margin, tune.score_fold(FOLD, GBM, spoiled, PARAMS, 1))
    assert roc_auc_score(table.y[FOLD.test], margin) > 0.75


def test_workers_do_not_change_the_numbers():
    folds = [Fold(np.arange(k), np.arange(k, k + 300)) for k in (800, 1100, 1400)]
    one, two = (tune.score_folds(GBM, _table(), folds, PARAMS, 1, Compute(n)) for n in (1, 2))
    assert [m.tobytes() for m in one] == [m.tobytes() for m in two]


def test_the_log_loss_of_margins_is_that_of_their_probabilities():
    rng = np.random.default_rng(0)
    margin, y = rng.normal(size=500), rng.integers(0, 2, 500).astype(float)
    assert log_loss(y, 1 / (1 + np.exp(-margin))) == pytest.approx(tune.log_loss(margin, y))
    assert 1000.0 == pytest.approx(tune.log_loss(np.array([1000.0]), np.array([0.0])))  # no overflow


def test_calibration_finds_the_slope_and_intercept_that_made_the_labels():
    rng = np.random.default_rng(1)
    margin = rng.normal(size=50_000)
    y = (rng.random(50_000) < 1 / (1 + np.exp(-(0.5 * margin - 0.3)))).astype(float)

    found = calibration.calibrate(margin, y)

    assert (0.5, -0.3) == pytest.approx((found.slope, found.intercept), abs=0.03)
    assert y.mean() == pytest.approx(found(margin).mean(), abs=1e-4)


def test_no_probability_is_certain():
    with np.errstate(over="ignore"):
        found = calibration.Calibrator(1.0, 0.0)(np.array([-1e3, 0.0, 1e3]))
    assert [calibration.CLIP, 0.5, 1 - calibration.CLIP] == list(found)


def test_every_suggestion_of_the_space_can_be_fitted():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        params = space(study.ask())
        assert np.isfinite(tune.score_fold(FOLD, GBM, _table(), params, 1)).all()
