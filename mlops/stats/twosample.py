"""Distance of two distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mlops.stats.dependent import finite_series


def ks_distance(reference_sorted: ArrayLike, current: ArrayLike) -> float:
    """Kolmogorov-Smirnov distance: the largest gap between two empirical distribution functions.

    Sort the reference once; only the current rows are looked up in it, so a call costs m log n, not n + m. The gap
    takes its largest value at, or just before, a current row: elsewhere only the reference moves, one way.

    Parameters
    ----------
    reference_sorted : array_like of shape (n,)
        Ascending. NaN is refused.
    current : array_like of shape (m,)
        Any order. NaN is refused.

    Returns
    -------
    float
        In [0, 1]; equals `scipy.stats.ks_2samp(...).statistic`, ties included.

    Raises
    ------
    DataError
        A sample is empty, not one-dimensional or not finite.

    Examples
    --------
    >>> ks_distance([1.0, 2.0, 3.0, 4.0], [3.0, 4.0])
    0.5
    """
    reference = finite_series(reference_sorted, "reference_sorted", least=1)
    y = np.sort(finite_series(current, "current", least=1))
    # Ties: F_current just before y counts rows < y, at y rows <= y; unique levels make both exact.
    levels, counts = np.unique(y, return_counts=True)
    upto = np.cumsum(counts) / y.size
    before = upto - counts / y.size
    above = upto - np.searchsorted(reference, levels, side="right") / reference.size
    below = np.searchsorted(reference, levels, side="left") / reference.size - before
    return float(max(above.max(), below.max()))
