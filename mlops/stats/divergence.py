"""Distances between two samples by their shares in bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from mlops.stats.dependent import Floats, finite_series

PSI_BINS = 10  # deciles, the credit-scoring custom (Siddiqi 2006)
SHARE_FLOOR = 1e-4  # an empty bin counts as one row in ten thousand, so that its logarithm exists


def quantile_edges(ordered: Floats, bins: int) -> Floats:
    """Inner edges, shape (..., bins - 1), at the quantiles of values that ascend along the last axis.

    Where ties make quantiles coincide, the bins between them are empty, whatever is counted.
    """
    at = np.linspace(0, 1, bins + 1)[1:-1] * (ordered.shape[-1] - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, ordered.shape[-1] - 1)
    edges = ordered[..., low] + (at - low) * (ordered[..., high] - ordered[..., low])
    return np.asarray(np.maximum.accumulate(edges, axis=-1))  # rounding must not turn two neighbours around


def psi_shares(p: Floats, q: Floats, *, floor: float = SHARE_FLOOR) -> Floats:
    """Population stability index of shares `q` against `p` along the last axis, in nats, >= 0."""
    p, q = np.maximum(p, floor), np.maximum(q, floor)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon distance of shares along the last axis: root of the divergence in bits, in [0, 1].

    A metric, finite without a floor where a bin is empty on one side; 1 where no bin is shared.

    References
    ----------
    Lin (1991), IEEE Transactions on Information Theory 37; Endres and Schindelin (2003), ibid. 49. As
    `scipy.spatial.distance.jensenshannon(p, q, base=2)`.

    Examples
    --------
    >>> import numpy as np
    >>> float(jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    1.0
    """
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / (2 * np.log(2))
    return np.asarray(np.sqrt(np.maximum(divergence, 0.0)))


def cohens_w(p: Floats, q: Floats, *, floor: float = SHARE_FLOOR) -> Floats:
    """Root of Pearson's chi-square of shares `q` against expected `p`, per row, along the last axis: Cohen's w, >= 0.

    Free of the number of rows: by custom 0.1 is small, 0.3 medium, 0.5 large. Expected shares under `floor` are raised
    to it, so a category that never was is a large effect and not an infinite one.

    References
    ----------
    Pearson (1900), Phil. Mag. 50; Cohen (1988), ch. 7.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(cohens_w(np.array([0.5, 0.5]), np.array([0.65, 0.35]))), 3)
    0.3
    """
    return np.asarray(np.sqrt(((q - p) ** 2 / np.maximum(p, floor)).sum(axis=-1)))


def areas(share: Floats, total: Floats, edges: Floats) -> Floats:
    """Integral of a distribution function over each bin; beyond the last edge that of what is left above it.

    The sum of the absolute differences of two samples' areas is their Wasserstein distance, the mass of tails
    included, but for what cancels where both functions cross within a bin: it is never too large, and some percent too
    small where nothing but noise is between them.

    Parameters
    ----------
    share : ndarray of shape (..., bins)
        Of the rows in each bin.
    total : ndarray of shape (..., bins)
        Sum of the values in each bin over the number of all rows.
    edges : ndarray of shape (..., bins - 1)
        Ascending, in the unit of the values. A value on an edge belongs above it.

    References
    ----------
    Vallender (1974), Theory of Probability and Its Applications 18: on a line the distance is the area between both
    distribution functions.

    Examples
    --------
    >>> import numpy as np
    >>> edges = np.array([1.0, 2.0])
    >>> x = areas(np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.0]), edges)  # the sample 0, 1
    >>> y = areas(np.array([0.0, 0.5, 0.5]), np.array([0.0, 0.5, 1.5]), edges)  # the sample 1, 3
    >>> float(np.abs(x - y).sum())
    1.5
    """
    upper = np.concatenate([edges, edges[..., -1:]], axis=-1)
    width = np.diff(upper, axis=-1, prepend=edges[..., :1])
    return np.asarray((np.cumsum(share, axis=-1) - share) * width + share * upper - total)


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
