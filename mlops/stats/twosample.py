"""Distance of two distributions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kolmogorov

from mlops.stats.dependent import Floats, finite_series

Ranks = NDArray[np.intp]
MARKS = 199  # quantiles of the reference at which the gap is read first


def ks_distance(reference_sorted: ArrayLike, current: ArrayLike) -> float:
    """Kolmogorov-Smirnov distance: the largest gap between two empirical distribution functions.

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
    reference = finite_series(reference_sorted, "reference_sorted", least=1)[None]
    window = np.sort(finite_series(current, "current", least=1))[None]
    at = (np.arange(1, MARKS + 1) * reference.size) // (MARKS + 1)
    marks = np.unique(reference[0, at])[None]
    return float(ks_distances(reference, window, ranks(reference, marks), ranks(window, marks))[0])


def ranks(ordered: Floats, marks: Floats) -> Ranks:
    """How many of the ascending values of each row of `ordered` lie below each of its `marks`.

    Examples
    --------
    >>> import numpy as np
    >>> ranks(np.array([[1.0, 2.0, 2.0, 3.0]]), np.array([[2.0, 9.0]])).tolist()
    [[1, 4]]
    """
    return np.array([row.searchsorted(at, "left") for row, at in zip(ordered, marks, strict=True)]).reshape(marks.shape)


def ks_distances(
    reference: Floats,
    current: Floats,
    marked_reference: Ranks,
    marked_current: Ranks,
    *,
    place: Ranks | None = None,
) -> Floats:
    """Kolmogorov-Smirnov distances of many features at once, from samples that are sorted already.

    The gap takes its largest value at, or just before, a current row: elsewhere only the reference moves, one way. So
    the reference is never walked through, only looked up, and not for every row: between two places that were looked
    up both functions only rise, which bounds the gap there. The gap is read at the marks first, and further only
    where that bound exceeds what was found. The result is exact, whatever the marks: they save look-ups.

    Parameters
    ----------
    reference : ndarray of shape (references, n)
        Each row ascending, finite, n >= 1, contiguous: not checked.
    current : ndarray of shape (features, m)
        Each row ascending, finite, m >= 1: not checked.
    marked_reference, marked_current : ndarray of int, shape (features, marks)
        `ranks` of the same ascending marks in either sample: values below each.
    place : ndarray of int, shape (features,), optional
        Row of `reference` that belongs to each feature, where it is not its own.

    Returns
    -------
    ndarray of shape (features,)
        As `ks_distance` of each pair.
    """
    marks = _Marks.of(reference, current, marked_reference, marked_current, place)
    distance: Floats = np.asarray(np.abs(marks.past / marks.n - marks.now / marks.m).max(axis=1))
    bound = marks.bound()
    feature, part = np.arange(len(distance)), bound.argmax(axis=1)
    marks.look(feature, part, distance)  # settles most of the others
    bound[feature, part] = 0.0
    feature, part = np.nonzero(bound > distance[:, None])
    marks.look(feature, part, distance)
    return distance


def ks_p_values(distances: Floats, n: int, m: int) -> Floats:
    """p-values of KS distances between `n` and `m` **independent** rows, by Stephens's form of Kolmogorov's law.

    Null: both samples have one continuous law. Within 0.004 of scipy's exact law at n m / (n + m) = 900, 0.000003 at
    10,000, at a thousandth of its cost. Rows in time are not independent: see `block_p_value`.

    References
    ----------
    Stephens (1970), JRSS B 32(1).

    Examples
    --------
    >>> import numpy as np
    >>> round(float(ks_p_values(np.array([0.0452]), 10_000, 1000)[0]), 3)
    0.047
    """
    root = np.sqrt(n * m / (n + m))
    return np.asarray(kolmogorov((root + 0.12 + 0.11 / root) * distances))


@dataclass(frozen=True, slots=True)
class _Marks:
    """Both samples with what lies below each mark, and beside the first and last one: nothing, and everything."""

    reference: Floats
    current: Floats
    past: Ranks
    now: Ranks
    place: Ranks | None

    @classmethod
    def of(cls, reference: Floats, current: Floats, past: Ranks, now: Ranks, place: Ranks | None) -> _Marks:
        ends = [np.empty((len(now), now.shape[1] + 2), dtype=np.intp) for _ in (past, now)]
        for end, marked, rows in zip(ends, (past, now), (reference.shape[1], current.shape[1]), strict=True):
            end[:, 0], end[:, 1:-1], end[:, -1] = 0, marked, rows
        return cls(reference, current, ends[0], ends[1], place)

    @property
    def n(self) -> int:
        return int(self.reference.shape[1])

    @property
    def m(self) -> int:
        return int(self.current.shape[1])

    def bound(self) -> Floats:
        """Upper bound of the gap between any two marks that follow each other."""
        past, now = self.past / self.n, self.now / self.m
        return np.maximum(now[:, 1:] - past[:, :-1], past[:, 1:] - now[:, :-1])

    def look(self, feature: Ranks, part: Ranks, distance: Floats) -> None:
        """Raise the distance of each feature by the rows between these marks; features in order."""
        start = self.now[feature, part]
        rows = self.now[feature, part + 1] - start
        of = np.repeat(np.arange(rows.size), rows)
        if not of.size:
            return
        first = (feature if self.place is None else self.place[feature]) * self.n
        sides = (feature, start - np.cumsum(rows) + rows, first, self.past[feature, part], self.past[feature, part + 1])
        feature, start, first, least, most = (side[of] for side in sides)
        row = start + np.arange(of.size)
        below, upto = _lookup(self.reference.ravel(), first, least, most, self.current[feature, row])
        gap = np.maximum((row + 1) / self.m - upto / self.n, below / self.n - row / self.m)
        new = np.flatnonzero(np.diff(feature, prepend=-1))
        distance[feature[new]] = np.maximum(distance[feature[new]], np.maximum.reduceat(gap, new))


def _lookup(flat: Floats, first: Ranks, least: Ranks, most: Ranks, values: Floats) -> tuple[Ranks, Ranks]:
    """How many values of its reference, which begins at `first`, lie below, and up to, each of the values."""
    upto = _upto(flat, first, least, most, values)
    below = upto.copy()
    tied = np.flatnonzero((flat[first + upto - 1] == values) & (upto > 0))
    if tied.size:
        lower = np.nextafter(values[tied], -np.inf)
        below[tied] = _upto(flat, first[tied], least[tied], most[tied], lower)
    return below, upto


def _upto(flat: Floats, first: Ranks, least: Ranks, most: Ranks, values: Floats) -> Ranks:
    """How many of the reference's values are at most each value: between `least` and `most`; all by halving at once."""
    rank = least.copy()
    before = first - 1
    for step in 2 ** np.arange(int((most - least).max(initial=0)).bit_length())[::-1]:
        further = np.minimum(rank + step, most)
        rank = np.where(flat[before + further] <= values, further, rank)
    return rank
