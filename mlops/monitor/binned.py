"""A sample seen through the bins of a reference, and what a detector of drift makes of two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.monitor.panel import Floats

Ranks = NDArray[np.intp]
CATEGORIES = 20  # distinct values up to which a feature is a category: 200 bins would hold one value each anyway


@dataclass(frozen=True, slots=True)
class Binned:
    """Shares of the rows in each bin, shape (..., bins), and the area under the distribution function in each.

    Areas are in standard deviations of the reference (`mlops.stats.areas`); of categories they are 0, and left out
    where no detector reads them. The bins of a category are its values, one each, in turn with what lies between them.
    """

    share: Floats
    area: Floats

    def mixed(self, weight: Floats, other: Binned, other_weight: Floats) -> Binned:
        """What a mixture of both holds, by linearity."""
        share = weight * self.share + other_weight * other.share
        return Binned(share, weight * self.area + other_weight * other.area)


@dataclass(frozen=True, slots=True)
class Sample:
    """Features of one kind: ascending values, those below each edge, and the bins.

    `ordered` has a row a feature; or those of `place`, and others.
    """

    ordered: Floats
    marked: Ranks
    binned: Binned
    rows: int
    place: Ranks | None = None


class Detector(Protocol):
    """How far two samples are apart. Its fields are its parameters; `DETECTORS` lists them all."""

    name: ClassVar[str]
    of_categories: ClassVar[bool | None]  # True: categories only; False: numbers only; None: both
    by_area: ClassVar[bool]  # whether `distances` reads `Binned.area`
    of_squares: ClassVar[bool]  # `distances` are chi-square a row, about: of two categories one square (block_p_value)

    @property
    def limit(self) -> float:
        """Effect from which significant drift is an ALERT; under it, WARN."""

    @property
    def min_rows(self) -> int:
        """Current rows under which nothing is said."""

    @property
    def min_blocks(self) -> int:
        """Stretches of the reference as long as the current window under which nothing is said."""

    @property
    def law(self) -> str:
        """Name of the null distribution: what `distances` depends on."""

    def distances(self, p: Binned, q: Binned, *, category: bool) -> Floats:
        """Distance of `q` from `p` along the last axis: the same measure for the window and for the null."""

    def reported(self, distances: Floats) -> Floats:
        """Distances in the unit that a person reads."""

    def values(self, reference: Sample, current: Sample, distances: Floats) -> Floats:
        """Reported values, shape (features,): the `reported` distances, or a finer measure of the same."""

    def independent(self, values: Floats, reference: Sample, current: Sample) -> Floats | None:
        """p-values that would hold for independent rows, where there is such a law; never used to decide."""


def fold(share: Floats, bins: int, *, category: bool) -> Floats:
    """Shares in `bins` equal parts of the reference; of categories: one each, and last what was never seen.

    Raises
    ------
    DataError
        `bins` does not divide the number of the reference's bins.
    """
    if category:
        known = share[..., 1 : 2 * CATEGORIES : 2]
        other = share[..., 0 : 2 * CATEGORIES + 1 : 2].sum(axis=-1, keepdims=True)
        return np.concatenate([known, np.maximum(other, 0.0)], axis=-1)  # a difference may round to -1e-17
    if share.shape[-1] % bins:
        raise DataError(f"bins must divide {share.shape[-1]}, got {bins}. Take 10 or 20.")
    return np.asarray(share.reshape(*share.shape[:-1], bins, -1).sum(axis=-1))
