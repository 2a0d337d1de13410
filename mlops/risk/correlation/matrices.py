"""Correlation matrices over a window, four ways; singular ones, gaps and all.

One representation carries all of it: standardised scores, shape (days, units), whose columns have length one. The
matrix is scores' @ scores, so it is positive semi-definite whatever the data; with more units than days its eigenvalues
are those of the small scores @ scores'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError

Floats = NDArray[np.float64]
Kind = Literal["pearson", "spearman", "ewma", "shrunk"]

WINDOW = 60  # days, the user's default
DECAY = 0.94  # RiskMetrics (1996), daily data
LEAST_DAYS = 20  # under it a correlation has a standard error over 0.2
LEAST_SHARE = 0.9  # of the days that a unit must have; a gap pulls its correlations to zero by at most its share
SINGULAR = 1e-12  # beside the largest eigenvalue, a direction in which nothing moved
CONSTANT = 1e-12  # a column that moves less than this, beside its size, is rounding


@dataclass(frozen=True)
class Correlation:
    """What moved with what over `n` days.

    `matrix` has `columns` of what was given, in that order; `left_out` says of every other column why it has no
    correlation. `shrinkage` is 0 but for "shrunk". `scores`: see the module.
    """

    kind: Kind
    matrix: Floats
    columns: NDArray[np.intp]
    n: int
    scores: Floats = field(repr=False)
    left_out: Mapping[int, str] = field(default_factory=dict)
    shrinkage: float = 0.0

    @property
    def mean(self) -> float:
        """Mean over all pairs; NaN where there is none."""
        return mean_of_pairs(self.matrix)

    @property
    def eigenvalues(self) -> Floats:
        """All of them, shape (k,), descending."""
        every = np.full(len(self.columns), self.shrinkage)
        values = self._lifted(self._smaller[0][::-1])
        every[: len(values)] = values
        return every

    @property
    def axes(self) -> tuple[Floats, Floats]:
        """Eigenvalues (m,), ascending, and eigenvectors (k, m) of all directions in which the units moved.

        With more units than days what is left out has the eigenvalue `shrinkage`.
        """
        values, vectors = self._smaller
        if self._tall:
            return values, vectors
        good = values > SINGULAR * values[-1]
        return self._lifted(values[good]), self.scores.T @ (vectors[:, good] / np.sqrt(values[good]))

    @cached_property
    def _smaller(self) -> tuple[Floats, Floats]:
        """Eigenvalues, ascending, and vectors of the matrix, or with more units than days of the days' side."""
        values, vectors = np.linalg.eigh(self.matrix if self._tall else self.scores @ self.scores.T)
        return np.maximum(values, 0.0), vectors

    def _lifted(self, values: Floats) -> Floats:
        return values if self._tall else (1 - self.shrinkage) * values + self.shrinkage

    @property
    def _tall(self) -> bool:
        days, units = self.scores.shape
        return bool(days >= units)


def correlation(returns: Floats, kind: Kind = "pearson", *, decay: float = DECAY) -> Correlation:
    """Correlation of the columns over all rows given.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Simple returns, oldest first. NaN: the unit has no bar that day. Such a day says nothing of that unit; a unit
        with under 90 % of the days, and one that does not move, has no correlation and is left out.
    kind : {"pearson", "spearman", "ewma", "shrunk"}
        "ewma" weighs a day by `decay` to the power of its age. "shrunk" moves Pearson's towards no correlation by as
        much as lessens the expected squared error most; it is never singular.
    decay : float
        In (0, 1).

    Raises
    ------
    DataError
        An infinite value, not two dimensions, an unknown kind.

    References
    ----------
    RiskMetrics (1996); Ledoit and Wolf (2004), Journal of Multivariate Analysis 88, on standardised returns.

    Examples
    --------
    >>> import numpy as np
    >>> r = np.random.default_rng(0).normal(size=(60, 3))
    >>> r[:, 2] = 0.0
    >>> found = correlation(r)
    >>> found.matrix.shape, dict(found.left_out)
    ((2, 2), {2: 'it did not move in 60 days'})
    """
    table = checked_returns(returns)
    if kind not in get_args(Kind):
        raise DataError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}. Choose one.")
    if not 0 < decay < 1:
        raise DataError(f"decay must lie between 0 and 1, got {decay}. RiskMetrics takes 0.94 for daily data.")
    values = doubled_ranks(table) if kind == "spearman" else table
    weights = ages(np.arange(len(table) - 1, -1, -1), decay) if kind == "ewma" else None
    return assembled(values, kind, weights)


def checked_returns(returns: Floats) -> Floats:
    """(T, N) as floats; NaN may stand for a day without a bar, infinity for nothing."""
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2:
        raise DataError(f"returns must have the shape (days, units), got {table.ndim} dimensions. Pass a table.")
    if np.isinf(table).any():
        raise DataError("returns must be finite, got an infinite one. Look for a price of zero.")
    return table


def doubled_ranks(table: Floats) -> Floats:
    """Twice the rank of each value in its column, ties shared, NaN where there is none."""
    columns = np.ascontiguousarray(table.T)
    order = columns.argsort(axis=1)  # NaN comes last
    ordered = np.take_along_axis(columns, order, axis=1)
    place = np.broadcast_to(np.arange(1.0, columns.shape[1] + 1), columns.shape)
    total = 2 * place
    if (tied := ordered[:, 1:] == ordered[:, :-1]).any():
        opens = np.pad(~tied, ((0, 0), (1, 0)), constant_values=True)
        closes = np.pad(~tied, ((0, 0), (0, 1)), constant_values=True)
        last = np.minimum.accumulate(np.where(closes, place, np.inf)[:, ::-1], axis=1)[:, ::-1]
        total = np.maximum.accumulate(np.where(opens, place, 0.0), axis=1) + last
    ranks = np.empty_like(columns)
    np.put_along_axis(ranks, order, total, axis=1)
    ranks[np.isnan(columns)] = np.nan
    return ranks.T


def ages(bars: NDArray[np.int_], decay: float) -> Floats:
    """Weights of days that are so many bars old."""
    return np.asarray(decay ** bars.astype(np.float64))


def deviations(table: Floats) -> tuple[Floats, Floats]:
    """Columns without their mean, 0 where there is no bar; their standard deviations over the bars that they have."""
    missing = np.isnan(table)
    values = np.where(missing, 0.0, table)
    bars = np.maximum(len(table) - missing.sum(axis=0), 1)
    away = values - values.sum(axis=0) / bars
    away[missing] = 0.0
    return away, np.sqrt(np.einsum("ij,ij->j", away, away) / bars)


def taken(matrix: Floats, at: NDArray[np.intp]) -> Floats:
    """Rows and columns `at`; the matrix itself where that is all of it."""
    if len(at) == len(matrix) and bool((at[:-1] < at[1:]).all()):
        return matrix
    return np.asarray(matrix.take(at, axis=0).take(at, axis=1))


def mean_of_pairs(matrix: Floats) -> float:
    k = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (k * (k - 1))) if k > 1 else float("nan")


def assembled(values: Floats, kind: Kind, weights: Floats | None) -> Correlation:
    """Correlation of returns, or of their ranks, with the weights of the days."""
    scores, columns, left_out = _scores(values, weights)
    matrix = scores.T @ scores
    shrinkage = _shrinkage(scores) if kind == "shrunk" else 0.0
    if shrinkage:
        matrix *= 1 - shrinkage
    np.fill_diagonal(matrix, 1.0)
    return Correlation(kind, matrix, columns, len(values), scores, left_out, shrinkage)


def _scores(values: Floats, weights: Floats | None) -> tuple[Floats, NDArray[np.intp], dict[int, str]]:
    """Columns without their mean, of length one; those kept; why the others are not."""
    n, width = values.shape
    missing = np.isnan(values)
    if gaps := bool(missing.any()):
        values = np.where(missing, 0.0, values)
    centre, total = _centres(values, missing if gaps else None, weights)
    away = values - centre
    if gaps:
        away[missing] = 0.0
    if weights is not None:
        away *= np.sqrt(weights)[:, None]
    length = np.sqrt(np.einsum("ij,ij->j", away, away))
    still = length <= CONSTANT * np.abs(centre) * np.sqrt(total)
    days = n - missing.sum(axis=0) if gaps else np.full(width, n)
    short = days < max(LEAST_DAYS, LEAST_SHARE * n)
    columns = np.flatnonzero(~(still | short))
    left_out = {int(i): _why(int(days[i]), n, bool(short[i])) for i in np.flatnonzero(still | short)}
    if len(columns) < width:
        away, length = away[:, columns], length[columns]
    away /= length
    return away, columns, left_out


def _centres(values: Floats, missing: NDArray[np.bool_] | None, weights: Floats | None) -> tuple[Floats, Floats]:
    """Mean of each column over the days that it has (missing ones are 0 in `values`), and their total weight."""
    weight = np.ones(len(values)) if weights is None else weights
    total = np.maximum(weight.sum() - (np.zeros(values.shape[1]) if missing is None else weight @ missing), 0.0)
    return (weight @ values) / np.where(total > 0, total, 1.0), total


def _why(days: int, n: int, short: bool) -> str:
    needed = max(LEAST_DAYS, int(np.ceil(LEAST_SHARE * n)))
    return f"it has {days} of {n} days, {needed} needed" if short else f"it did not move in {days} days"


def _shrinkage(scores: Floats) -> float:
    """Ledoit and Wolf's intensity, from the days' side: the work is days x days x units."""
    n, k = scores.shape
    if k < 2:
        return 0.0
    small = scores @ scores.T * n  # of scores with variance one
    squares = float((small * small).sum()) / n**2  # |S|^2
    spread = squares - k  # |S - I|^2; the mean variance is one
    noise = float((np.diag(small) ** 2).sum()) / n**2 - squares / n
    return float(np.clip(noise / spread, 0.0, 1.0)) if spread > 0 else 1.0
