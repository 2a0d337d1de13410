"""Does choosing the best backtest choose anything? Combinatorially symmetric cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops.errors import DataError
from mlops.stats.dependent import Floats

BLOCKS = 16  # Bailey et al. (2017): 12,870 splits
CELLS = 2_000_000  # performances held at once, 16 MB


@dataclass(frozen=True, slots=True)
class Overfitting:
    """What selecting the best in one half was worth in the other, over all splits.

    `pbo`: share of splits whose winner ends in the lower half out of sample. `logits`, `in_sample`, `out_of_sample`
    (one value a split): the winner's logit rank, its ratio where it won and where it was tested. `slope` of the latter
    on the former, negative where selecting hurts; `loss`: share of winners that lose out of sample. `n` bars used.
    """

    pbo: float
    logits: Floats
    in_sample: Floats
    out_of_sample: Floats
    slope: float
    loss: float
    trials: int
    n: int


def backtest_overfitting(returns: ArrayLike, *, blocks: int = BLOCKS) -> Overfitting:
    """Probability of backtest overfitting (PBO) by combinatorially symmetric cross-validation (CSCV).

    The bars are cut into `blocks` equal pieces in order; every half of them selects the column with the best Sharpe
    ratio, the other half ranks it. Not a test with an error rate but an estimate: near 0 where the best column is
    really better, one half **on average** where none is. Its splits share their bars, so one table of noise may give
    anything (nine in ten from 0.17 to 0.80 with 20 columns, 0.32 to 0.68 with 200): a low value proves no edge, a high
    one is a warning. `slope` is under 0 for noise too: what a column had in one half it lacks in the other. Assumes
    that the columns hold every variant tried, and that a piece is long beside the memory of the returns.

    Parameters
    ----------
    returns : array_like of shape (n, trials)
        Returns a bar, one column a variant, all on the same bars in order of time. NaN is refused. The earliest
        `n % blocks` bars are left out. A column that does not vary has a ratio of 0.
    blocks : int
        Even, 2 to 20; at least 2 bars each.

    Raises
    ------
    DataError
        `returns` is no finite table of two columns or more, or too short, or `blocks` is odd or out of range.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2017), The probability of backtest overfitting, Journal of Computational
    Finance 20(4).

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(480, 10))
    >>> edge = noise + np.where(np.arange(10) == 3, 0.5, 0.0)
    >>> backtest_overfitting(edge, blocks=8).pbo
    0.0
    """
    table = _table(returns, blocks)
    trials = table.shape[1]
    pieces = table.reshape(blocks, -1, trials)
    sums, squares = pieces.sum(axis=1), (pieces**2).sum(axis=1)
    splits = _splits(blocks)
    step = max(1, CELLS // trials)
    parts = [_judge(sums, squares, splits[at : at + step], len(table)) for at in range(0, len(splits), step)]
    ranks, inside, outside = (np.concatenate(column) for column in zip(*parts, strict=True))
    logits = np.log(ranks / (trials + 1 - ranks))
    spread = float(inside.var())
    slope = float(np.cov(inside, outside, bias=True)[0, 1]) / spread if spread > 0 else float("nan")
    return Overfitting(
        pbo=float((logits <= 0).mean()),
        logits=logits,
        in_sample=inside,
        out_of_sample=outside,
        slope=slope,
        loss=float((outside < 0).mean()),
        trials=trials,
        n=len(table),
    )


def _table(returns: ArrayLike, blocks: int) -> Floats:
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise DataError(f"returns must be a table (bars, trials >= 2), got {table.shape}. One column a variant.")
    if not np.isfinite(table).all():
        raise DataError("returns must be finite, got NaN or infinity. Score every variant on the same bars.")
    if blocks % 2 or not 2 <= blocks <= 20:
        raise DataError(f"blocks must be even and from 2 to 20, got {blocks}. 16 is the paper's choice.")
    if len(table) < 2 * blocks:
        raise DataError(f"returns must have at least {2 * blocks} bars, got {len(table)}. Wait, or take fewer blocks.")
    return table[len(table) % blocks :]


def _splits(blocks: int) -> NDArray[np.bool_]:
    """Every choice of half of the blocks, shape (splits, blocks)."""
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    member = np.zeros((len(chosen), blocks), dtype=np.bool_)
    np.put_along_axis(member, chosen, True, axis=1)
    return member


def _judge(sums: Floats, squares: Floats, splits: NDArray[np.bool_], n: int) -> tuple[Floats, Floats, Floats]:
    """Out-of-sample rank (1 worst) of each split's winner, and its ratio inside and outside."""
    inside = _ratios(sums, squares, splits, n // 2)
    outside = _ratios(sums, squares, ~splits, n // 2)
    winner = inside.argmax(axis=1)[:, None]
    won, then = np.take_along_axis(inside, winner, axis=1), np.take_along_axis(outside, winner, axis=1)
    below, ties = (outside < then).sum(axis=1), (outside == then).sum(axis=1)
    return below + (ties + 1) / 2, won[:, 0], then[:, 0]


def _ratios(sums: Floats, squares: Floats, splits: NDArray[np.bool_], n: int) -> Floats:
    member = splits.astype(np.float64)
    mean = member @ sums / n
    variance = (member @ squares / n - mean**2) * n / (n - 1)
    varies = variance > 1e-13 * (member @ squares / n)  # less is rounding
    return np.divide(mean, np.sqrt(np.maximum(variance, 0.0)), out=np.zeros_like(mean), where=varies)
