"""A score that is too good is found, with the features that carry it; a good one is not."""

import numpy as np
import pandas as pd
import pytest

from mlops.learn import splits, tune
from mlops.learn.gbm import GBM
from mlops.learn.learner import Table
from mlops.learn.plausible import FORESIGHT, foresight, too_good

NAMES = ("first", "second", "third")
PARAMS = {"num_iterations": 40, "num_leaves": 7, "learning_rate": 0.1, "min_data_in_leaf": 20}


def _judged(x, y, bound=0.9, names=NAMES):
    table = Table(x.astype(np.float32), y.astype(np.float64))
    at = pd.Series(pd.date_range("2020", periods=len(y), tz="UTC"))
    rows = pd.DataFrame({"event_time": at, "known_at": at + pd.Timedelta("1D")})
    folds = splits.walk_forward(rows, folds=3, horizon=1, embargo=1)
    margin = np.concatenate(tune.score_folds(GBM, table, folds, PARAMS, 7))
    return too_good(GBM, table, folds, margin, names, bound, np.random.default_rng(0), PARAMS)


@pytest.fixture
def noise():
    rng = np.random.default_rng(1)
    return rng.normal(size=(1200, 3)), (rng.random(1200) < 0.5).astype(float)


def test_a_feature_that_is_the_label_is_named(noise):
    x, y = noise
    x[:, 1] += 10 * y
    found = _judged(x, y)

    assert found.value > 0.99
    assert "AUC on rows that were not learned from must be at most 0.9, got 1.000: second (1.000)" == str(found)
    assert {"auc", *(f"{kind}.{name}" for kind in ("single", "drop") for name in NAMES)} == set(found.evidence)
    assert found.evidence["drop.second"] > 0.3 > found.evidence["drop.first"]


def test_two_features_that_are_the_label_only_together_are_both_named(noise):
    x, y = noise
    x[:, 2] = np.abs(x[:, 2]) * np.sign(x[:, 0]) * (2 * y - 1)
    found = _judged(x, y)
    assert {"first", "third"} == {text.split()[0] for text in found.carriers[:2]}


def test_a_feature_that_is_the_label_upside_down_is_named(noise):
    x, y = noise
    x[:, 0] -= 10 * y
    assert ["first (1.000)"] == _judged(x, y).carriers


def test_skill_under_the_bound_and_labels_that_are_all_the_same_pass(noise):
    x, y = noise
    x[:, 0] += y
    assert _judged(x, y) is None
    assert _judged(x, y, bound=0.6) is not None
    assert _judged(x, np.zeros(len(y))) is None


def _rows(**features):
    rng = np.random.default_rng(2)
    return pd.DataFrame({"value": 0.01 * rng.standard_t(4, 3000), "plain": rng.normal(size=3000)}).assign(**features)


def test_a_feature_that_was_joined_with_the_next_return_is_named_whatever_the_label():
    joined = _rows(joined=lambda rows: rows.value)
    noisy = _rows(joined=lambda rows: -np.sign(rows.value) * 0.01 + 0.01 * rows.plain)
    size = _rows(joined=lambda rows: rows.value**2)
    for rows, word in ((joined, "the return"), (noisy, "the return"), (size, "the absolute return")):
        found = foresight(rows, ("plain", "joined"))
        assert found.carriers[0].startswith("joined")
        assert word in found.measure
        assert found.value > FORESIGHT


def test_weak_signals_and_a_feature_that_never_moves_pass():
    assert foresight(_rows(stuck=1.0, weak=lambda rows: rows.value + 0.05 * rows.plain), ("stuck", "weak")) is None
