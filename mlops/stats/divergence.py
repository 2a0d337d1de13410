"""Distances between two samples by their shares in bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mlops.stats.dependent import Floats, finite_series

PSI_BINS = 10  # deciles, the credit-scoring custom (Siddiqi 2006)
SHARE_FLOOR = 1e-4  # an empty bin counts as one row in ten thousand, so that its logarithm exists


def quantile_edges(ordered: Floats, bins: int) -> Floats:
    """Inner edges, shape (at most bins - 1,), at the quantiles of an ascending sample; ties merge their bins."""
    at = np.linspace(0, 1, bins + 1)[1:-1] * (ordered.size - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, ordered.size - 1)
    edges = ordered[low] + (at - low) * (ordered[high] - ordered[low])
    return np.unique(edges)


def psi_shares(p: Floats, q: Floats, *, floor: float = SHARE_FLOOR) -> Floats:
    """Population stability index of shares `q` against `p` along the last axis, in nats, >= 0."""
    p, q = np.maximum(p, floor), np.maximum(q, floor)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def psi(reference: ArrayLike, current: ArrayLike, *, bins: int = PSI_BINS, floor: float = SHARE_FLOOR) -> float:
    """Population stability index of `current` against `reference`.

    Bins are quantiles of the reference; where ties make quantiles coincide their bins are one. Shares under `floor`
    are raised to it.

    Parameters
    ----------
    reference, current : array_like of shape (n,), (m,)
        NaN is refused.

    Returns
    -------
    float
        >= 0, in nats; 0 when both fill the bins alike. By custom 0.1 is worth a look and 0.25 a shift.

    Raises
    ------
    DataError
        A sample is empty, not one-dimensional or not finite.

    References
    ----------
    Siddiqi (2006), Credit Risk Scorecards, ch. 8.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(100.0)
    >>> psi(x, x)
    0.0
    """
    ordered = np.sort(finite_series(reference, "reference", least=1))
    edges = quantile_edges(ordered, bins)
    shares = [_shares(s, edges) for s in (ordered, finite_series(current, "current", least=1))]
    return float(psi_shares(shares[0], shares[1], floor=floor))


def _shares(sample: Floats, edges: Floats) -> Floats:
    return np.bincount(np.searchsorted(edges, sample, side="right"), minlength=edges.size + 1) / sample.size
