from itertools import combinations

import numpy as np
import pytest
from scipy.stats import rankdata

from mlops.errors import DataError
from mlops.stats import backtest_overfitting

RNG = np.random.default_rng(0)


def _by_hand(returns, blocks):
    """Bailey et al. (2017), section 2.2, step by step."""
    pieces = np.split(returns, blocks)
    logits = []
    for inside in combinations(range(blocks), blocks // 2):
        one = np.concatenate([pieces[i] for i in inside])
        other = np.concatenate([pieces[i] for i in range(blocks) if i not in inside])
        winner = np.argmax(one.mean(axis=0) / one.std(axis=0, ddof=1))
        share = rankdata(other.mean(axis=0) / other.std(axis=0, ddof=1))[winner] / (returns.shape[1] + 1)
        logits.append(np.log(share / (1 - share)))
    return np.array(logits)


def test_it_is_the_paper_step_by_step():
    returns = RNG.normal(size=(120, 7)) + np.linspace(0, 0.3, 7)
    found = backtest_overfitting(returns, blocks=6)
    expected = _by_hand(returns, 6)
    assert expected == pytest.approx(found.logits)
    assert (expected <= 0).mean() == found.pbo
    assert (7, 120) == (found.trials, found.n)


def test_splitting_the_splits_changes_nothing(monkeypatch):
    returns = RNG.normal(size=(120, 7))
    whole = backtest_overfitting(returns, blocks=6)
    monkeypatch.setattr("mlops.stats.overfitting.CELLS", 21)
    assert whole.logits.tolist() == backtest_overfitting(returns, blocks=6).logits.tolist()


def test_a_real_edge_is_found_again_and_noise_is_not():
    noise = RNG.normal(size=(1600, 50))
    edge = noise + 0.2 * (np.arange(50) == 7)
    assert backtest_overfitting(edge).pbo < 0.05
    assert backtest_overfitting(edge).loss == 0.0
    assert backtest_overfitting(noise).pbo > 0.2
    assert backtest_overfitting(noise).slope < 0


def test_the_earliest_bars_are_left_out():
    returns = RNG.normal(size=(125, 5))
    assert backtest_overfitting(returns[5:], blocks=6).pbo == backtest_overfitting(returns, blocks=6).pbo
    assert 120 == backtest_overfitting(returns, blocks=6).n


def test_strategies_that_never_trade_have_a_ratio_of_zero():
    returns = np.column_stack([np.zeros(60), np.full(60, 0.001), RNG.normal(-1, 0.1, 60)])
    found = backtest_overfitting(returns, blocks=6)
    assert 0.0 == found.in_sample.max() == found.out_of_sample.max()


@pytest.mark.parametrize(
    ("returns", "blocks", "rule"),
    [
        (np.ones((60, 1)), 6, "trials >= 2"),
        (np.ones(60), 6, "trials >= 2"),
        (np.full((60, 2), np.nan), 6, "finite"),
        (np.ones((60, 2)), 5, "even"),
        (np.ones((60, 2)), 22, "from 2 to 20"),
        (np.ones((10, 2)), 6, "at least 12 bars, got 10"),
    ],
)
def test_what_cannot_be_cut_is_refused(returns, blocks, rule):
    with pytest.raises(DataError, match=rule):
        backtest_overfitting(returns, blocks=blocks)
