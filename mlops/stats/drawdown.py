"""How deep a curve fell from its peak, for one path or for many at once."""

from __future__ import annotations

import numpy as np

from mlops.stats.dependent import Floats


def max_drawdown(returns: Floats) -> Floats:
    """Deepest fall from a running peak, as a positive share of the peak, along the last axis.

    Parameters
    ----------
    returns : ndarray of shape (..., n)
        Simple returns, one a bar, in order of time; the curve starts at 1 before the first of them. NaN propagates.

    Returns
    -------
    ndarray of shape (...)
        In [0, 1] while no return is under -1; 0 for no bars.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(max_drawdown(np.array([0.10, -0.20, 0.05, -0.10]))), 4)
    0.244
    """
    curve = np.cumprod(1 + returns, axis=-1)
    peak = np.maximum(np.maximum.accumulate(curve, axis=-1), 1.0)
    return np.asarray((1 - curve / peak).max(axis=-1, initial=0.0))
