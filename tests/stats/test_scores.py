import numpy as np
import pytest
from sklearn import metrics

from mlops.stats import accuracy, auc, brier, by_bar, constant_forecast, log_loss

RNG = np.random.default_rng(0)
LABEL = (RNG.random(300) < 0.4).astype(float)
P = np.round(np.clip(0.4 + 0.2 * (LABEL - 0.4) + RNG.normal(0, 0.2, 300), 0.01, 0.99), 2)  # rounded: ties


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (log_loss, metrics.log_loss(LABEL, P)),
        (brier, metrics.brier_score_loss(LABEL, P)),
        (auc, metrics.roc_auc_score(LABEL, P)),
        (accuracy, metrics.accuracy_score(LABEL, P >= 0.5)),
    ],
)
def test_scores_are_those_of_scikit_learn(ours, theirs):
    assert theirs == pytest.approx(ours(P, LABEL), rel=1e-12)


def test_a_sure_miss_costs_much_and_not_infinity():
    assert 13.8 == pytest.approx(log_loss(np.array([0.0]), np.array([1.0])), abs=0.05)


def test_one_class_has_no_auc():
    assert np.isnan(auc(P, np.ones(300)))


def test_a_bar_counts_once_whatever_its_rows():
    assert [2.0, 5.0] == list(by_bar(np.array([0, 1, 0]), np.array([1.0, 5.0, 3.0])))


def test_the_constant_forecast_knows_earlier_bars_only():
    bar, label = np.array([0, 0, 1, 2]), np.array([1.0, 1.0, 0.0, 1.0])
    assert [0.5, 0.5, 2.5 / 3, 2.5 / 4] == pytest.approx(list(constant_forecast(bar, label)))
    assert [0.3] * 4 == list(constant_forecast(bar, label, 0.3))
