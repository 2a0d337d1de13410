"""The measures of drift. A new one is a dataclass and a line in `DETECTORS`; the contract tests find it there.

What all of them share: the null is "the current window is one more stretch of the reference's process", and its
distribution is taken from the reference's own stretches of as many bars (`mlops.stats.block_p_value`), so the error
rate holds under autocorrelation and between units that move together. Assumes at least `min_blocks` such stretches
and a process that wanders no slower than the reference is long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import chdtrc

from mlops.monitor.binned import Binned, Detector, Sample, fold
from mlops.monitor.panel import Floats
from mlops.stats import cohens_w, jensen_shannon, ks_distances, ks_p_values, psi_shares

AS_CHI_SQUARE = float(8 * np.log(2))  # the divergence in bits is an eighth of chi-square a row in nats, for small ones


@dataclass(frozen=True, slots=True)
class _Calibrated:
    """Too few current rows, or of the reference's blocks, and nothing is said."""

    name: ClassVar[str]
    of_categories: ClassVar[bool | None] = False
    by_area: ClassVar[bool] = False
    of_squares: ClassVar[bool] = False
    limit: float = 0.1
    min_rows: int = 100
    min_blocks: int = 10

    @property
    def law(self) -> str:
        return self.name

    def reported(self, distances: Floats) -> Floats:
        return distances

    def values(self, reference: Sample, current: Sample, distances: Floats) -> Floats:
        return self.reported(distances)

    def independent(self, values: Floats, reference: Sample, current: Sample) -> Floats | None:
        return None


@dataclass(frozen=True, slots=True)
class KS(_Calibrated):
    """Kolmogorov-Smirnov distance of numeric features: the largest gap of the distribution functions, in [0, 1].

    Null: one more stretch of the reference. Error rate: that of `feature_drift`, also under autocorrelation. The null
    is resolved to the reference's bins (a half or a tenth of a percent), the reported distance is exact. `p_iid` is
    what the plain test would say: it fires in 24 / 75 / 99 % of the windows without drift at an autocorrelation of
    0.5 / 0.9 / 0.99. `limit`: 0.1 is a shift of a quarter of a standard deviation.

    References
    ----------
    Smirnov (1939); Stephens (1970), JRSS B 32.
    """

    name: ClassVar[str] = "ks"

    def distances(self, p: Binned, q: Binned, *, category: bool) -> Floats:
        return np.asarray(np.abs((p.share - q.share).cumsum(axis=-1)).max(axis=-1))

    def values(self, reference: Sample, current: Sample, distances: Floats) -> Floats:
        marked = reference.marked, current.marked
        return ks_distances(reference.ordered, current.ordered, *marked, place=reference.place)

    def independent(self, values: Floats, reference: Sample, current: Sample) -> Floats | None:
        return ks_p_values(values, reference.rows, current.rows)


@dataclass(frozen=True, slots=True)
class PSI(_Calibrated):
    """Population stability index, in nats, over deciles of the reference, or over the values of a category.

    Null: one more stretch of the reference. Error rate: that of `feature_drift`, also under autocorrelation. Ties
    merge bins; shares under 1e-4 are raised to it. `limit`: by custom 0.1 is worth a look, 0.25 a shift.

    References
    ----------
    Siddiqi (2006), Credit Risk Scorecards, ch. 8.
    """

    name: ClassVar[str] = "psi"
    of_categories: ClassVar[bool | None] = None
    of_squares: ClassVar[bool] = True
    bins: int = 10

    @property
    def law(self) -> str:
        return f"{self.name}-{self.bins}"

    def distances(self, p: Binned, q: Binned, *, category: bool) -> Floats:
        return psi_shares(fold(p.share, self.bins, category=category), fold(q.share, self.bins, category=category))


@dataclass(frozen=True, slots=True)
class Wasserstein(_Calibrated):
    """Wasserstein (earth mover's) distance of numeric features, in standard deviations of the reference.

    Null: one more stretch of the reference. Error rate: that of `feature_drift`, also under autocorrelation. Sees what
    the others do not: how far the tails went. The area between the distribution functions by bins: exact but for what
    cancels where they cross within one, so never too large. A shift by d standard deviations has the distance d;
    `limit` 0.25 is as large a shift as the other limits.

    References
    ----------
    Vallender (1974), Theory of Probability and Its Applications 18.
    """

    name: ClassVar[str] = "wasserstein"
    by_area: ClassVar[bool] = True
    limit: float = 0.25

    def distances(self, p: Binned, q: Binned, *, category: bool) -> Floats:
        return np.asarray(np.abs(p.area - q.area).sum(axis=-1))


@dataclass(frozen=True, slots=True)
class JensenShannon(_Calibrated):
    """Jensen-Shannon distance in [0, 1], over deciles of the reference, or over the values of a category.

    Null: one more stretch of the reference. Error rate: that of `feature_drift`, also under autocorrelation. Bounded,
    and needs no floor. `limit`: 0.1 is a shift of a quarter of a standard deviation; noise alone is 0.04 in 1,000
    independent rows, 0.09 in 200, so read it beside `usual`.

    References
    ----------
    Lin (1991), IEEE Transactions on Information Theory 37; Endres and Schindelin (2003), ibid. 49.
    """

    name: ClassVar[str] = "jensen_shannon"
    of_categories: ClassVar[bool | None] = None
    of_squares: ClassVar[bool] = True
    bins: int = 10

    @property
    def law(self) -> str:
        return f"{self.name}-{self.bins}"

    def distances(self, p: Binned, q: Binned, *, category: bool) -> Floats:
        p_share, q_share = (fold(shares.share, self.bins, category=category) for shares in (p, q))
        return jensen_shannon(p_share, q_share) ** 2 * AS_CHI_SQUARE

    def reported(self, distances: Floats) -> Floats:
        return np.asarray(np.sqrt(distances / AS_CHI_SQUARE))


@dataclass(frozen=True, slots=True)
class ChiSquare(_Calibrated):
    """Chi-square of the shares of a category's values, reported as Cohen's w: root of the statistic per row.

    Null: one more stretch of the reference. Error rate: that of `feature_drift`, also under autocorrelation; `p_iid`
    is Pearson's two-sample test, which holds for independent rows only. A feature is a category when the reference
    has at most 20 distinct values of it; values it never had count together. `limit`: 0.3 is a medium effect.

    References
    ----------
    Pearson (1900), Phil. Mag. 50; Cohen (1988), ch. 7; Wilson and Hilferty (1931), PNAS 17.
    """

    name: ClassVar[str] = "chi_square"
    of_categories: ClassVar[bool | None] = True
    of_squares: ClassVar[bool] = True
    limit: float = 0.3

    def distances(self, p: Binned, q: Binned, *, category: bool) -> Floats:
        return np.asarray(cohens_w(fold(p.share, 1, category=True), fold(q.share, 1, category=True)) ** 2)

    def reported(self, distances: Floats) -> Floats:
        return np.asarray(np.sqrt(distances))

    def independent(self, values: Floats, reference: Sample, current: Sample) -> Floats | None:
        n, m = reference.rows, current.rows
        p, q = (fold(sample.binned.share, 1, category=True) for sample in (reference, current))
        pooled = (n * p + m * q) / (n + m)
        occurs = pooled * (n + m) > 0.5  # less than a row is rounding
        statistic = np.where(occurs, (p - q) ** 2 / np.where(occurs, pooled, 1.0), 0.0).sum(axis=-1) * n * m / (n + m)
        dof = occurs.sum(axis=-1) - 1
        return np.where(dof > 0, chdtrc(np.maximum(dof, 1), statistic), 1.0)


DETECTORS: Mapping[str, type[Detector]] = {
    "ks": KS,
    "psi": PSI,
    "wasserstein": Wasserstein,
    "jensen_shannon": JensenShannon,
    "chi_square": ChiSquare,
}
