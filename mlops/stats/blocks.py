"""How far a series strays from itself: the null of a drift test, taken from its own past."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from mlops.stats.dependent import Floats

STARTS_PER_BLOCK = 10
MOST_STARTS = 2000  # more moving blocks than this say nothing new about a tail of one in a thousand
SPREAD_FLOOR = 0.15  # least relative spread; the Kolmogorov law itself has 0.29, so this binds on constants only


def block_starts(bars: int, length: int) -> NDArray[np.intp]:
    """First bars of the moving blocks of `length` bars: a tenth of their length apart, for closer ones hardly differ.

    Examples
    --------
    >>> block_starts(10, 8).tolist()
    [0, 1, 2]
    """
    step = max(1, length // STARTS_PER_BLOCK, -(-(bars - length) // MOST_STARTS))
    return np.arange(0, bars - length + 1, step)


def block_sums(weights: ArrayLike | None, code: NDArray[np.intp], cuts: NDArray[np.intp], *, bins: int) -> Floats:
    """Sum of the weights (None: the number of rows) in each bin, for rows between any two of the `cuts`.

    Parameters
    ----------
    weights : array_like of shape (rows,) or None
        In order of time.
    code : ndarray of shape (rows,)
        Bin of each row, in [0, bins).
    cuts : ndarray of shape (windows, 2)
        First row of each window, and the one after its last.

    Returns
    -------
    ndarray of shape (windows, bins)
        A pass over the rows and one over the windows, however much these overlap.

    Examples
    --------
    >>> import numpy as np
    >>> block_sums(None, np.array([0, 1, 1]), np.array([[0, 2], [1, 3]]), bins=2).tolist()
    [[1.0, 1.0], [0.0, 2.0]]
    """
    at = np.unique(cuts)
    piece = np.repeat(np.arange(at.size - 1), np.diff(at))
    rows = slice(at[0], at[-1])
    given = None if weights is None else np.asarray(weights, dtype=np.float64)[rows]
    pieces = np.bincount(piece * bins + code[rows], weights=given, minlength=(at.size - 1) * bins)
    upto = np.zeros((at.size, bins))
    np.cumsum(pieces.reshape(-1, bins), axis=0, out=upto[1:])
    first, last = np.searchsorted(at, cuts).T
    return np.asarray(upto[last] - upto[first])


def block_p_value(
    distance: ArrayLike, history: Floats, *, blocks: int, resolution: ArrayLike, one_square: ArrayLike = False
) -> Floats:
    """How likely a distance at least this large is, judged by the distances of the past's own blocks.

    Null: the current window is one more block of the same process. The logarithm of the blocks' distances is taken as
    normal with unknown mean and spread, so the p-value is a Student tail with `blocks - 1` degrees of freedom: as many
    as blocks fit side by side, for moving blocks overlap. It is never less than the share of the past that was as
    far, so a past with rare excursions is believed. A past of which more than half is under the `resolution` says
    nothing of a spread: what goes beyond the farthest of its blocks has there the chance of a new farthest, 1 / (blocks
    + 1), and less in proportion as it is farther. Error rate: measured in tests/calibration on AR(0) to AR(0.99)
    panels, and on ranks within a bar. Assumes that the process of the past wanders no slower than the past is long.

    Parameters
    ----------
    distance : array_like of shape (...)
        Of the current window from the whole reference.
    history : ndarray of shape (..., moving blocks)
        Of each block from the rest of the reference.
    blocks : int
        Blocks that fit side by side, >= 2.
    resolution : float or array_like of shape (...)
        Distances under it are not told apart, > 0.
    one_square : array_like of bool, shape (...)
        Where the distance is one squared mean, as chi-square of two categories: its logarithm is far from normal, its
        cube root is not (Wilson and Hilferty 1931). Of more squares the logarithm errs less far out.

    Examples
    --------
    >>> import numpy as np
    >>> past = np.array([0.1, 0.12, 0.09, 0.11])
    >>> float(block_p_value(0.5, past, blocks=4, resolution=0.001)) < 0.01
    True
    """
    now, least = np.asarray(distance, dtype=np.float64), np.asarray(resolution, dtype=np.float64)
    square = np.asarray(one_square, dtype=np.bool_)
    past, here = _transformed(history, square[..., None], least[..., None]), _transformed(now, square, least)
    blocks = min(blocks, history.shape[-1])
    floor = SPREAD_FLOOR * np.where(square, past.mean(axis=-1), 1.0)
    spread = np.maximum(past.std(axis=-1) * np.sqrt(blocks / (blocks - 1)), floor)
    statistic = (here - past.mean(axis=-1)) / (spread * np.sqrt(1 + 1 / blocks))
    farthest = np.maximum(history.max(axis=-1), least)
    still = np.median(history, axis=-1) <= least
    new = np.where(still & (now > least), farthest / np.maximum(now, farthest) / (blocks + 1), 0.0)
    as_far = (history >= now[..., None]).mean(axis=-1)
    return np.asarray(np.maximum.reduce([stdtr(blocks - 1, -statistic), as_far, new]))


def _transformed(distance: Floats, one_square: NDArray[np.bool_], resolution: Floats) -> Floats:
    logs = np.log(np.maximum(distance, resolution))
    return np.where(one_square, np.cbrt(distance), logs) if one_square.any() else logs
