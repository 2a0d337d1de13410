"""Series drawn anew from one series, with its dependence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stationary_indices(n: int, *, length: int, paths: int, block: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Row numbers of `paths` stationary-bootstrap series.

    Blocks start anywhere with equal chance, have geometric lengths of mean `block` and wrap around the end.

    Parameters
    ----------
    n, length, paths : int
        Rows to draw from, length of each drawn series, number of series.
    block : float
        Mean block length in rows, at least 1 (1 is the plain bootstrap).

    Returns
    -------
    ndarray of int, shape (paths, length)

    References
    ----------
    Politis and Romano (1994), The stationary bootstrap, JASA 89.

    Examples
    --------
    >>> import numpy as np
    >>> stationary_indices(5, length=4, paths=2, block=2.0, rng=np.random.default_rng(0)).shape
    (2, 4)
    """
    fresh = rng.random((paths, length)) < 1 / max(block, 1.0)
    fresh[:, 0] = True
    starts = rng.integers(n, size=(paths, length))
    opened = np.maximum.accumulate(np.where(fresh, np.arange(length), 0), axis=1)
    return (np.take_along_axis(starts, opened, axis=1) + np.arange(length) - opened) % n


def circular_indices(n: int, *, length: int, paths: int, block: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Row numbers of `paths` circular-block-bootstrap series.

    Blocks start anywhere with equal chance, are `block` rows long (the last is cut) and wrap around the end.
    Parameters and result as `stationary_indices`.

    References
    ----------
    Politis and Romano (1992), A circular block-resampling procedure for stationary data.

    Examples
    --------
    >>> import numpy as np
    >>> circular_indices(5, length=4, paths=2, block=2, rng=np.random.default_rng(0)).shape
    (2, 4)
    """
    blocks = -(-length // block)
    starts = rng.integers(n, size=(paths, blocks, 1))
    return ((starts + np.arange(block)) % n).reshape(paths, -1)[:, :length]
