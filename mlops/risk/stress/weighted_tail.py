"""VaR and ES out of simulated losses, weighted or not, with the error that the simulation leaves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from mlops.errors import DataError
from mlops.risk.measures import Floats, rank
from mlops.stats.results import Estimate, check_share

WIDTH = 1.96  # of the 95 % intervals
LEAST_STEP = 2  # losses on either side of the quantile, for its density


def weighted_tail(
    losses: ArrayLike, confidence: float, *, groups: int, weights: ArrayLike | None = None, name: str = "var"
) -> tuple[Estimate, Estimate]:
    """VaR and ES with 95 % intervals of the simulation's own error (not of the law that was simulated).

    The error is that of the mean of the influence over `groups` that are independent of each other: pairs of mirror
    images, or scrambles of one Sobol sequence. The density at the VaR is taken from its neighbours.

    Parameters
    ----------
    losses : array_like of shape (n,)
        Group by group, each as long as the others.
    groups : int
        At least 2.
    weights : array_like of shape (n,), optional
        Likelihood ratios of importance sampling, of mean 1.

    References
    ----------
    Glynn (1996), Importance sampling for Monte Carlo estimation of quantiles; Trindade, Uryasev, Shapiro and Zrazhevsky
    (2007), Journal of Banking and Finance 31 (asymptotic normality of ES).

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.random.default_rng(0).standard_normal(100_000)
    >>> var, es = weighted_tail(losses, 0.99, groups=100_000)
    >>> var.low < 2.326 < var.high, es.low < 2.665 < es.high
    (True, True)
    """
    loss = np.asarray(losses, dtype=np.float64)
    if groups < 2 or loss.size % groups or not np.isfinite(loss).all():
        raise DataError(
            f"losses must be finite and fall into groups alike, got {loss.size} in {groups}. Simulate anew."
        )
    alpha = 1 - check_share(confidence, "confidence")
    mass = np.full(loss.size, 1 / loss.size) if weights is None else np.asarray(weights, dtype=np.float64) / loss.size
    order = np.argsort(-loss)
    ranked, upto = loss[order], np.cumsum(mass[order])
    place = rank(alpha, loss.size) if weights is None else min(int(np.searchsorted(upto, alpha)), loss.size - 1)
    var = float(ranked[place])
    beyond = np.maximum(loss - var, 0) * mass
    es = var + float(beyond.sum()) / alpha
    var_error = _error((loss >= var) * mass, groups) / _density(ranked, upto, place, alpha)
    es_error = _error(beyond, groups) / alpha
    width = float(stdtrit(groups - 1, 0.975))
    return (
        Estimate(name, var, var - width * var_error, var + width * var_error, loss.size),
        Estimate("es", es, es - width * es_error, es + width * es_error, loss.size),
    )


def _error(parts: Floats, groups: int) -> float:
    """Standard error of the sum of `parts`, of independent groups."""
    sums = parts.reshape(groups, -1).sum(axis=1)
    return float(sums.std(ddof=1) * np.sqrt(groups))


def _density(ranked: Floats, upto: Floats, place: int, alpha: float) -> float:
    """Density of the losses at the VaR: mass between its neighbours of half and of one and a half times its tail."""
    a = min(int(np.searchsorted(upto, 0.7 * alpha)), place - LEAST_STEP)
    b = max(int(np.searchsorted(upto, 1.3 * alpha)), place + LEAST_STEP)
    a, b = max(a, 0), min(b, ranked.size - 1)
    gap = float(ranked[a] - ranked[b])
    return float(upto[b] - upto[a]) / gap if gap > 0 else np.inf
