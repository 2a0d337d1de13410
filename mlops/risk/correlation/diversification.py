"""How many bets a book really is: ratio, effective bets, concentration, absorption, clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from mlops.errors import DataError
from mlops.risk.correlation.matrices import Correlation, Floats

ABSORBING = 0.2  # Kritzman et al. (2011): the share of the eigenvectors that is counted
CLUSTER = 0.5  # mean correlation at which two groups are one
LEAST_BET = 1e-9  # of an eigenvalue's share: under it a direction is rounding


@dataclass(frozen=True, slots=True)
class Concentration:
    """Concentration of shares that add up to one: `hhi` is the sum of squares, 1/N when even and 1 when all is in one.

    `names` is 1 / hhi and `entropy` the exponential of the entropy: both are the number of equal parts that would be as
    concentrated. NaN of a book that holds nothing.
    """

    hhi: float
    names: float
    entropy: float


def concentration(parts: Floats) -> Concentration:
    """Concentration of weights or risk contributions, shape (N,); signs are dropped: a short is a bet too. Refuses NaN.

    Examples
    --------
    >>> concentration(np.array([0.5, -0.5, 0.0]))
    Concentration(hhi=0.5, names=2.0, entropy=2.0)
    """
    size = np.abs(_finite(parts, "parts"))
    if not size.sum() > 0:
        return Concentration(np.nan, np.nan, np.nan)
    share = size / size.sum()
    hhi = float((share**2).sum())
    return Concentration(hhi, 1 / hhi, _exp_entropy(share))


def diversification_ratio(weights: Floats, volatility: Floats, correlation: Correlation) -> float:
    """Weighted mean volatility of the positions over the book's volatility: 1 when all is one bet, root N when none is
    like another. Shorts count with their size above, so a hedged book has a high one. NaN of a book without risk.

    Parameters
    ----------
    weights, volatility : ndarray of shape (k,)
        Of the units of `correlation`, in its order.

    References
    ----------
    Choueifaty and Coignard (2008), Journal of Portfolio Management 35.
    """
    alone = _finite(weights, "weights") * _finite(volatility, "volatility")
    together = float(alone @ correlation.matrix @ alone)
    total = float(np.abs(alone).sum())
    return total / np.sqrt(together) if together > (LEAST_BET * total) ** 2 else np.nan


def risk_contributions(weights: Floats, volatility: Floats, correlation: Correlation) -> Floats:
    """Share of the book's variance that each unit brings, shape (k,); they add up to 1, a hedge has a negative one."""
    alone = weights * volatility
    each = alone * (correlation.matrix @ alone)
    total = float(each.sum())
    return each / total if total > 0 else np.zeros_like(each)


def effective_dimension(correlation: Correlation) -> float:
    """Bets that the market offers: exponential of the entropy of the eigenvalues' shares, 1 to k.

    References
    ----------
    Roy and Vetterli (2007), The effective rank.
    """
    k = len(correlation.columns)
    return _exp_entropy(correlation.eigenvalues / k) if k else np.nan


def absorption(correlation: Correlation, share: float = ABSORBING) -> float:
    """Share of all variance that the first fifth of the eigenvectors takes: high when the market is one trade.

    References
    ----------
    Kritzman, Li, Page and Rigobon (2011), Journal of Portfolio Management 37; here of correlations.
    """
    k = len(correlation.columns)
    first = int(np.ceil(share * k - 1e-9))
    return float(correlation.eigenvalues[:first].sum()) / k if k else np.nan


def effective_bets(weights: Floats, volatility: Floats, correlation: Correlation) -> float:
    """Bets that the book makes: exponential of the entropy of its variance over the principal components, 1 to k.

    A book of equal weights in a market that moves as one is one bet, which is what a person wants to know.
    (Minimum-torsion bets would call it k, for it holds every unit alike.) Where eigenvalues are alike, components are
    arbitrary, and so is how a book spreads over them: read it beside the diversification ratio, whose square is also a
    number of bets. NaN of a book without risk.

    References
    ----------
    Meucci (2009), Managing Diversification, Risk 22.
    """
    alone = _finite(weights, "weights") * _finite(volatility, "volatility")
    values, vectors = correlation.axes
    along = vectors.T @ alone
    brought = values * along**2
    if correlation.shrinkage and vectors.shape[1] < len(alone):  # what no component holds is one more direction
        brought = np.append(brought, correlation.shrinkage * max(float(alone @ alone - along @ along), 0.0))
    total = float(brought.sum())
    return _exp_entropy(brought / total) if total > (LEAST_BET * np.abs(alone).sum()) ** 2 else np.nan


def clusters(correlation: Correlation, least: float = CLUSTER) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Groups of units that move together, and an order in which like stands beside like.

    Average linkage on 1 - correlation: two groups are joined while the mean correlation between them is at least
    `least`.

    Returns
    -------
    (labels, order) : two ndarrays of int, shape (k,)
        Labels count from 0 in the order of the first unit of each; `order` holds positions along `found.columns`.
    """
    k = len(correlation.columns)
    if k < 2:
        return np.zeros(k, dtype=np.intp), np.arange(k)
    apart = 1 - correlation.matrix
    np.fill_diagonal(apart, 0.0)
    pairs = squareform(apart, checks=False)
    tree = linkage(np.maximum(pairs, 0.0, out=pairs), method="average")
    raw = fcluster(tree, 1 - least + 1e-12, criterion="distance")
    _, first, labels = np.unique(raw, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels], np.asarray(leaves_list(tree), dtype=np.intp)


def _exp_entropy(share: Floats) -> float:
    held = share[share > LEAST_BET]
    return float(np.exp(-(held * np.log(held)).sum()))


def _finite(values: Floats, name: str) -> Floats:
    vector = np.asarray(values, dtype=np.float64)
    if not np.isfinite(vector).all():
        at = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise DataError(f"{name} must be finite, got {vector[at]} at {at}. Leave that unit out, or give it a number.")
    return vector
