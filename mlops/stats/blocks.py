"""How far a series strays from itself: the null of a drift test, taken from its own past."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from mlops.stats.dependent import Floats

STARTS_PER_BLOCK = 10
SPREAD_FLOOR = 0.15  # least sd of a log distance; the Kolmogorov law itself has 0.29, so this binds on constants only


def bar_counts(bar: NDArray[np.intp], code: NDArray[np.intp], *, bars: int, bins: int) -> Floats:
    """Rows in each bin at each bar, shape (bars, bins)."""
    return np.bincount(bar * bins + code, minlength=bars * bins).reshape(bars, bins).astype(np.float64)


def block_shares(counts: Floats, length: int) -> tuple[Floats, Floats]:
    """Shares of moving blocks of `length` bars, and of the rest of the series without that block.

    The blocks start a tenth of their length apart: closer ones hardly differ.

    Parameters
    ----------
    counts : ndarray of shape (bars, bins)
        Rows in each bin at each bar; no bar is empty.
    length : int
        Bars in a block, in [1, bars - 1].

    Returns
    -------
    block, rest : ndarray of shape (1 + (bars - length) // step, bins), step = max(1, length // 10)
        Each row sums to 1.
    """
    step = max(1, length // STARTS_PER_BLOCK)
    starts = np.arange(0, len(counts) - length + 1, step)
    upto = np.concatenate([np.zeros((1, counts.shape[1])), counts.cumsum(axis=0)])
    block = upto[starts + length] - upto[starts]
    rest = upto[-1] - block
    return block / block.sum(axis=1, keepdims=True), rest / rest.sum(axis=1, keepdims=True)


def block_p_value(distance: float, history: Floats, *, blocks: int, resolution: float) -> float:
    """How likely a distance at least this large is, judged by the distances of the past's own blocks.

    Null: the current window is one more block of the same process. The logarithm of the blocks' distances is taken as
    normal with unknown mean and spread, so the p-value is a Student tail with `blocks - 1` degrees of freedom: as many
    as blocks fit side by side, for moving blocks overlap. It is never less than the share of the past that was as
    far, so a past with rare excursions is believed. Error rate: measured in tests/calibration on AR(0) to AR(0.99)
    panels. Assumes that the process of the past wanders no slower than the past is long.

    Parameters
    ----------
    distance : float
        Of the current window from the whole reference.
    history : ndarray of shape (moving blocks,)
        Of each block from the rest of the reference.
    blocks : int
        Blocks that fit side by side, >= 2.
    resolution : float
        Distances under it are not told apart (half a row's weight).
    """
    logs = np.log(np.maximum(history, resolution))
    spread = max(float(logs.std()) * np.sqrt(blocks / (blocks - 1)), SPREAD_FLOOR)
    statistic = (np.log(max(distance, resolution)) - logs.mean()) / (spread * np.sqrt(1 + 1 / blocks))
    return max(float(student.sf(statistic, blocks - 1)), float((history >= distance).mean()))
