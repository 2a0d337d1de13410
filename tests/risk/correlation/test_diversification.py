import numpy as np
import pytest
from skfolio.measures import effective_number_assets

from mlops.errors import DataError
from mlops.risk.correlation.diversification import (
    absorption,
    clusters,
    concentration,
    diversification_ratio,
    effective_bets,
    effective_dimension,
    risk_contributions,
)
from mlops.risk.correlation.matrices import correlation


def _exact(matrix, days=60, seed=0):
    """Returns whose sample correlation is `matrix`, to rounding."""
    rng = np.random.default_rng(seed)
    z, _ = np.linalg.qr(rng.standard_normal((days, len(matrix))) - rng.standard_normal(len(matrix)))
    z, _ = np.linalg.qr(z - z.mean(axis=0))
    return z @ np.linalg.cholesky(matrix + 1e-15 * np.eye(len(matrix))).T


def _equal(k, r):
    return np.full((k, k), r) + (1 - r) * np.eye(k)


def test_concentration_is_skfolios_and_even_weights_are_as_many_as_they_are():
    weights = np.random.default_rng(0).dirichlet(np.ones(7))
    assert effective_number_assets(weights) == pytest.approx(concentration(weights).names)
    even = concentration(np.full(4, -0.25))
    assert (even.hhi, even.names, even.entropy) == pytest.approx((0.25, 4, 4))
    assert concentration(np.array([0.0, 2.0])).entropy == pytest.approx(1.0)
    assert np.isnan(concentration(np.zeros(3)).hhi)
    with pytest.raises(DataError, match="finite"):
        concentration(np.array([1.0, np.nan]))


def test_the_ratio_is_the_root_of_the_number_when_nothing_is_alike_and_one_when_all_is():
    w, v = np.full(4, 0.25), np.array([1.0, 1.0, 1.0, 1.0])
    assert diversification_ratio(w, v, correlation(_exact(np.eye(4)))) == pytest.approx(2.0)
    assert diversification_ratio(w, v, correlation(np.repeat(_exact(np.eye(1)), 4, axis=1))) == pytest.approx(1.0)
    assert np.isnan(diversification_ratio(np.zeros(4), v, correlation(_exact(np.eye(4)))))


def test_contributions_add_up_and_a_hedge_has_a_negative_one():
    found = correlation(_exact(_equal(3, 0.8)))
    parts = risk_contributions(np.array([1.0, 1.0, -0.5]), np.array([1.0, 2.0, 1.0]), found)
    assert parts.sum() == pytest.approx(1.0)
    assert parts[2] < 0
    assert parts[1] > parts[0] > 0


def test_equal_weights_in_a_market_that_moves_as_one_are_one_bet():
    found = correlation(_exact(_equal(10, 0.9)))
    assert effective_bets(np.full(10, 0.1), np.ones(10), found) == pytest.approx(1.0, abs=1e-6)
    pair = correlation(_exact(np.eye(2)))
    spread = np.linalg.eigh(pair.matrix)[1].sum(axis=1)  # as much along one component as along the other
    assert effective_bets(spread, np.ones(2), pair) == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize("kind", ["pearson", "shrunk"])
def test_bets_are_the_same_from_either_side_of_the_scores(kind):
    """80 units of 60 days, against the whole matrix's own decomposition."""
    rng = np.random.default_rng(1)
    found = correlation(rng.standard_normal((60, 80)) + rng.standard_normal((60, 1)), kind)
    w, v = rng.standard_normal(80), rng.uniform(1, 2, 80)
    values, vectors = np.linalg.eigh(found.matrix)
    brought = np.maximum(values, 0) * (vectors.T @ (w * v)) ** 2
    if kind == "shrunk":  # eigenvalues that are all the same are one direction
        brought = np.append(brought[values > values[0] + 1e-9], brought[values <= values[0] + 1e-9].sum())
    share = brought[brought > 0] / brought.sum()
    expected = np.exp(-(share * np.log(share)).sum())
    assert expected == pytest.approx(effective_bets(w, v, found), rel=1e-6)


def test_the_market_offers_as_many_bets_as_units_when_they_are_alone():
    assert effective_dimension(correlation(_exact(np.eye(6)))) == pytest.approx(6.0)
    assert effective_dimension(correlation(np.repeat(_exact(np.eye(1)), 5, axis=1))) == pytest.approx(1.0, abs=1e-6)
    assert absorption(correlation(_exact(_equal(5, 0.5)))) == pytest.approx((1 + 4 * 0.5) / 5)
    assert np.isnan(effective_dimension(correlation(np.zeros((60, 3)))))


def test_clusters_are_units_whose_mean_correlation_is_high_and_like_stands_beside_like():
    blocks = np.kron(np.eye(3), np.ones((2, 2))) * 0.8 + 0.1 + 0.1 * np.eye(6)
    shuffled = [0, 2, 4, 1, 3, 5]
    labels, order = clusters(correlation(_exact(blocks)[:, shuffled]))
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert sorted(order.tolist()) == list(range(6))
    assert all(labels[order[i]] == labels[order[i + 1]] for i in (0, 2, 4))
    assert clusters(correlation(_exact(_equal(4, 0.3))))[0].tolist() == [0, 1, 2, 3]
    assert clusters(correlation(np.zeros((60, 2))))[0].tolist() == []
