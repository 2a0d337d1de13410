"""Did the assignment of units to arms go as planned? Any number of arms, at any time."""

from __future__ import annotations

from math import exp, inf, log

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, logsumexp

from mlops.errors import DataError
from mlops.stats.anytime import MOST_LOG_E
from mlops.stats.dependent import Floats

# How near to the plan a broken assignment may be, in units that the plan counts for; all at once, equally weighted.
CONCENTRATIONS = np.array([1.0, 10.0, 100.0, 1000.0])


def srm_e_value(counts: ArrayLike, weights: ArrayLike) -> float:
    """Sample-ratio mismatch of any number of arms, watched all the time: were units not assigned as planned?

    Null: each unit fell to arm j with the chance that its epoch's `weights` say, on its own. Error rate: the chance
    that the e-value **ever** reaches 1 / alpha is at most `alpha`, exactly; `min(1, 1 / e)` is a p-value at every
    moment. Block a verdict at 1,000 (alpha 0.001, customary). Count units, not rows: a unit is assigned once, its rows
    follow it.

    Where the weights were changed without assigning anew, each epoch counts the units first assigned in it; the
    evidence of the epochs multiplies.

    Parameters
    ----------
    counts, weights : array_like of shape (arms,) or (epochs, arms)
        Units assigned, and what was planned: >= 0, any scale. An arm of weight 0 must have no units, else the answer is
        infinite. An epoch of weights only 0 is refused.

    Returns
    -------
    float
        >= 0; 1 for nothing assigned. A mean of Dirichlet-multinomial likelihood ratios around the plan.

    Raises
    ------
    DataError
        The shapes differ, or a count or weight is negative or not finite.

    References
    ----------
    Lindon and Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS 35; Fabijan et al. (2019), KDD.

    Examples
    --------
    >>> srm_e_value([90, 10], [0.9, 0.1]) < 1, srm_e_value([50, 25, 25], [0.8, 0.1, 0.1]) > 1e6
    (True, True)
    """
    assigned, planned = _epochs(counts, "counts"), _epochs(weights, "weights")
    if assigned.shape != planned.shape:
        raise DataError(f"counts and weights must have one shape, got {assigned.shape} and {planned.shape}. Pair them.")
    total = planned.sum(axis=1, keepdims=True)
    if (total <= 0).any():
        raise DataError("weights must have a positive one in each epoch, got none. Leave out what assigned nothing.")
    shares = planned / total
    if (assigned[shares == 0] > 0).any():
        return inf
    logs = np.sum([_log_ratios(c[s > 0], s[s > 0]) for c, s in zip(assigned, shares, strict=True)], axis=0)
    return exp(min(float(logsumexp(logs)) - log(CONCENTRATIONS.size), MOST_LOG_E))


def _log_ratios(counts: Floats, shares: Floats) -> Floats:
    """Dirichlet-multinomial over multinomial, one for each concentration, of one epoch; shape (concentrations,)."""
    prior = CONCENTRATIONS[:, None] * shares
    n = counts.sum()
    ratio = gammaln(CONCENTRATIONS) - gammaln(CONCENTRATIONS + n) + (gammaln(prior + counts) - gammaln(prior)).sum(1)
    return np.asarray(ratio - (counts * np.log(shares)).sum())


def _epochs(values: ArrayLike, name: str) -> Floats:
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.ndim != 2 or not np.isfinite(table).all() or (table < 0).any():
        raise DataError(f"{name} must be finite, >= 0 and of shape (epochs, arms), got {table.tolist()}. Mend them.")
    return table
