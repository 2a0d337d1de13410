"""Do they crash together? Tail dependence of each pair, counted and implied by a t copula, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from scipy.stats import rankdata

from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.joint import checked_returns
from mlops.stats.resample import stationary_indices
from mlops.stats.results import ALPHA, check_share

LEVEL = 0.05
LEAST_TAIL = 25  # bars in the tail; of fewer a share has an interval from nothing to half
PATHS = 400
MIDPOINTS = 400  # of the integral over the tail


@dataclass(frozen=True, slots=True, eq=False)
class TailDependence:
    """Chance that one unit is in its worst `level`, given that the other is: (N, N) each, 1 on the diagonal.

    Attributes
    ----------
    counted, low, high : ndarray
        The share of bars, with a block-bootstrap interval. NaN where nothing is known, and for a constant unit.
    implied : ndarray
        What a t copula of these correlations and degrees of freedom says of the same level.
    limit : ndarray
        What it says of levels that go to 0 (the coefficient of lower tail dependence); 0 under a Gaussian copula.
    gaussian : ndarray
        What a Gaussian copula says of the level.
    """

    counted: Floats
    low: Floats
    high: Floats
    implied: Floats
    limit: Floats
    gaussian: Floats
    level: float
    n: int
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there was enough to say anything."""
        return not self.note


def tail_dependence(
    returns: ArrayLike,
    correlation: ArrayLike,
    dof: float,
    *,
    rng: np.random.Generator,
    level: float = LEVEL,
    upper: bool = False,
    block: float | None = None,
    alpha: float = ALPHA,
) -> TailDependence:
    """Tail dependence of each pair of units.

    The interval is by a stationary bootstrap of bars (basic: mirrored at the estimate), because crashes come in
    clusters; about `1 - alpha` at one look at one pair. Two independent units have `level`, not 0.

    Parameters
    ----------
    returns : array_like of shape (T, N)
        Simple returns (or filtered ones), oldest first; NaN is refused. Fewer than 25 bars in the tail: unknown.
    correlation : array_like of shape (N, N)
        Of the copula, with its `dof`, for what is implied.
    upper : bool
        Joint rallies instead of joint crashes.
    block : float, optional
        Mean block length in bars; by default T ** (1/3).

    References
    ----------
    Demarta and McNeil (2005), International Statistical Review 73; Politis and Romano (1994), JASA 89.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(3).standard_normal((2000, 2)) * 0.01
    >>> found = tail_dependence(x, np.eye(2), np.inf, rng=np.random.default_rng(1))
    >>> round(float(found.counted[0, 1]), 2), round(float(found.gaussian[0, 1]), 2)
    (0.04, 0.05)
    """
    table = checked_returns(returns)
    bars, units = table.shape
    share = check_share(level, "level")
    k = int(share * bars)
    if k < LEAST_TAIL:
        gap = np.full((units, units), np.nan)
        note = f"{bars} bars, {int(np.ceil(LEAST_TAIL / share))} needed"
        return TailDependence(gap, gap, gap, gap, gap, gap, share, bars, note)
    rho = np.asarray(correlation, dtype=np.float64)
    if rho.shape != (units, units) or (np.abs(rho) > 1 + 1e-12).any() or not dof > 0:
        raise DataError(
            f"correlation must be ({units}, {units}) with a positive dof, got {rho.shape}, {dof}. Fit them."
        )
    place = rankdata(-table if upper else table, axis=0, method="ordinal")
    inside = (place <= k).astype(np.float32)
    inside[:, table.std(axis=0) == 0] = np.nan
    drawn = stationary_indices(bars, length=bars, paths=PATHS, block=block or bars ** (1 / 3), rng=rng)
    again = np.array([_shares(inside[rows]) for rows in drawn])
    ends = np.quantile(again, [alpha / 2, 1 - alpha / 2], axis=0)
    counted = np.asarray(inside.T @ inside / k, dtype=np.float64)
    low, high = np.clip(2 * counted - ends[1], 0, 1), np.clip(2 * counted - ends[0], 0, 1)
    implied, gaussian = joint_tail(rho, dof, share), joint_tail(rho, np.inf, share)
    return TailDependence(counted, low, high, implied, tail_coefficient(rho, dof), gaussian, share, bars)


def tail_coefficient(correlation: ArrayLike, dof: float) -> Floats:
    """Coefficient of tail dependence of a t copula, lower and upper alike; 0 under a Gaussian one, 1 where rho is 1.

    Examples
    --------
    >>> round(float(tail_coefficient(0.5, 4.0)), 2)
    0.25
    """
    rho = np.clip(np.asarray(correlation, dtype=np.float64), -1.0, 1.0)
    if np.isinf(dof):
        return np.where(rho >= 1, 1.0, 0.0)[()]
    return np.asarray(2 * stdtr(dof + 1, -np.sqrt((dof + 1) * (1 - rho) / (1 + np.maximum(rho, -1 + 1e-12)))))[()]


def joint_tail(correlation: ArrayLike, dof: float, level: float) -> Floats:
    """P(V <= level | U <= level) under a t copula (Gaussian for infinite `dof`), by an integral over the tail."""
    rho = np.clip(np.asarray(correlation, dtype=np.float64), -1 + 1e-9, 1 - 1e-9)[..., None]
    v = (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS
    u, mass = level * v**3, 3 * v**2  # denser towards 0, where the integrand bends
    if np.isinf(dof):
        s, edge = np.asarray(ndtri(u)), float(ndtri(level))
        return np.asarray(ndtr((edge - rho * s) / np.sqrt(1 - rho**2)) @ mass / MIDPOINTS)
    s, edge = np.asarray(stdtrit(dof, u)), float(stdtrit(dof, level))
    spread = np.sqrt((1 - rho**2) * (dof + s**2) / (dof + 1))
    return np.asarray(stdtr(dof + 1, (edge - rho * s) / spread) @ mass / MIDPOINTS)


def _shares(inside: NDArray[np.float32]) -> Floats:
    """Joint over single counts of a drawn sample; symmetric."""
    joint = (inside.T @ inside).astype(np.float64)
    count = np.diag(joint)
    both = count[:, None] + count[None, :]
    return np.divide(2 * joint, both, out=np.zeros_like(joint), where=both > 0)
