"""If these units move so much, what do the others do? By the t copula in a moment, by a vine copula in seconds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.joint import JointLaw, checked_returns, checked_weights, standardised
from mlops.risk.stress.marginal import CELLS, from_coordinates

DRAWS = 10_000
LEAST_VINE_UNITS = 3  # of two a vine is one pair, and skfolio asks for three
LEAST_VINE_BARS = 500  # 190 pairs of 20 units, a bivariate copula each: fewer bars cannot tell the families apart


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """What the rest does, given the move.

    Attributes
    ----------
    mean, low, high : ndarray of shape (N,)
        Of each unit's return: its mean, and the 5 % and 95 % quantiles of the draws. The given units stand as given.
    profit : ndarray of shape (draws,)
        Of the book, as a fraction of equity.
    sigmas : float
        How far out the given move is: its Mahalanobis distance in standard deviations.
    method : str
        "t copula" or "vine copula".
    note : str
        Why nothing is known, where `profit` is empty.
    """

    mean: Floats
    low: Floats
    high: Floats
    profit: Floats
    sigmas: float
    method: str
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there was enough to say anything."""
        return self.profit.size > 0


def conditional_stress(
    law: JointLaw,
    weights: ArrayLike,
    given: Mapping[int, float],
    *,
    rng: np.random.Generator,
    horizon: int = 1,
    draws: int = DRAWS,
) -> Conditional:
    """The law of all units given the returns of some, under the t copula and the law's own marginals.

    In the copula's coordinates the conditional law is a t with `dof + k` degrees of freedom, its mean the regression
    on the k given, its scale larger the farther out these are: an extreme move makes the others uncertain too.

    Parameters
    ----------
    law : JointLaw
        One with `volatility="constant"` answers for a usual day; a filtered one for tomorrow.
    given : mapping of int to float
        Number of the unit -> its simple return over the horizon. At least one.
    horizon : int
        In bars; volatility grows with its square root, nothing else changes.

    Raises
    ------
    DataError
        A unit is not one of the law's, its return is below -1, or its volatility is 0.

    References
    ----------
    Ding (2016), On the conditional distribution of the multivariate t distribution, The American Statistician 70.

    Examples
    --------
    >>> import numpy as np
    >>> from mlops.risk.stress.joint import elliptical
    >>> law = elliptical(1e-4 * np.array([[1.0, 0.5], [0.5, 1.0]]), 5.0)
    >>> found = conditional_stress(law, [0.5, 0.5], {0: -0.04}, rng=np.random.default_rng(0))
    >>> found.mean.round(3).tolist()
    [-0.04, -0.02]
    """
    vector = checked_weights(weights, law.units)
    if not law.known:
        gap = np.full(law.units, np.nan)
        return Conditional(gap, gap, gap, np.empty(0), np.nan, "t copula", law.note)
    scale = law.volatility * np.sqrt(horizon)
    fixed = np.array(_checked(given, law.units), dtype=np.intp)
    moves = np.array([given[int(i)] for i in fixed])
    if not (scale[fixed] > 0).all():
        raise DataError(
            f"a given unit must move at all, got a volatility of 0 in {fixed.tolist()}. Choose another one."
        )
    place = np.array([_coordinate(law, int(i), m / scale[i]) for i, m in zip(fixed, moves, strict=True)])
    free = np.setdiff1d(np.arange(law.units), fixed)
    inner = law.correlation[np.ix_(fixed, fixed)]
    slope = np.linalg.solve(inner, law.correlation[np.ix_(fixed, free)]).T
    left = law.correlation[np.ix_(free, free)] - slope @ law.correlation[np.ix_(fixed, free)]
    distance = float(place @ np.linalg.solve(inner, place))
    root = np.linalg.cholesky(left + 1e-12 * np.eye(free.size))
    normal = rng.standard_normal((draws, free.size)) @ root.T
    nu, k = law.dof.value, fixed.size
    stretch = np.ones((draws, 1)) if np.isinf(nu) else np.sqrt((nu + distance) / rng.chisquare(nu + k, (draws, 1)))
    coordinates = np.empty((draws, law.units))
    coordinates[:, fixed] = place
    coordinates[:, free] = slope @ place + normal * stretch
    returns = np.maximum(standardised(law, coordinates) * scale, -1.0)
    returns[:, fixed] = moves
    return _told(returns, vector, float(np.sqrt(distance)), "t copula")


def vine_stress(
    returns: ArrayLike,
    weights: ArrayLike,
    given: Mapping[int, float],
    *,
    seed: int = 7,
    draws: int = DRAWS,
) -> Conditional:
    """The same by skfolio's vine copula: pairs may be tied differently, and more strongly in crashes than in rallies.

    Fits on the returns as they are (not filtered), so it answers for a usual day. Takes about 5 CPU seconds for 20
    units and 2,800 bars, 2.6 for 10; the cost grows with the number of pairs.

    Parameters
    ----------
    returns : array_like of shape (T, N)
        Simple returns; NaN is refused. Under 500 bars or three units: unknown.

    References
    ----------
    Aas, Czado, Frigessi and Bakken (2009), Insurance: Mathematics and Economics 44; skfolio 1.0, `VineCopula`.
    """
    table = checked_returns(returns)
    bars, units = table.shape
    vector = checked_weights(weights, units)
    fixed = _checked(given, units)
    if bars < LEAST_VINE_BARS or units < LEAST_VINE_UNITS:
        few = (bars, LEAST_VINE_BARS, "bars") if bars < LEAST_VINE_BARS else (units, LEAST_VINE_UNITS, "units")
        gap, note = np.full(units, np.nan), f"{few[0]} {few[2]}, {few[1]} needed"
        return Conditional(gap, gap, gap, np.empty(0), np.nan, "vine copula", note)
    if not (table.std(axis=0) > 0).all():
        still = np.flatnonzero(table.std(axis=0) == 0).tolist()
        raise DataError(f"units of a vine must move, got constant columns {still}. Leave them out: they stay at 0.")
    from skfolio.distribution import VineCopula  # 1.8 s to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its optimisers, on the way
        vine = VineCopula(log_transform=True, central_assets=list(fixed), n_jobs=1, random_state=seed).fit(table)
        drawn = np.asarray(vine.sample(n_samples=draws, conditioning={i: given[i] for i in fixed}))
    plain = np.cov(table, rowvar=False).reshape(units, units)[np.ix_(fixed, fixed)]
    moves = np.array([given[i] for i in fixed])
    distance = float(np.sqrt(moves @ np.linalg.solve(plain, moves)))
    return _told(np.maximum(drawn, -1.0), vector, distance, "vine copula")


def _told(returns: Floats, weights: Floats, sigmas: float, method: str) -> Conditional:
    low, high = np.quantile(returns, [0.05, 0.95], axis=0)
    return Conditional(returns.mean(axis=0), low, high, returns @ weights, sigmas, method)


def _checked(given: Mapping[int, float], units: int) -> Sequence[int]:
    if not given or not all(0 <= i < units for i in given):
        raise DataError(f"given units must be some of 0 to {units - 1}, got {list(given)}. Name at least one.")
    if not all(-1 <= move < np.inf for move in given.values()):
        raise DataError(f"given returns must be finite and at least -1, got {list(given.values())}. -0.2 is -20 %.")
    return sorted(given)


def _coordinate(law: JointLaw, unit: int, standard: float) -> float:
    """The copula's coordinate at which the unit's standardised return is `standard`; held within the table."""
    table = law.table[unit]
    c = float(np.interp(standard, table, np.linspace(-1, 1, CELLS + 1)))
    last = 1 - 2 / CELLS  # past the last finite coordinate the table is flat
    return float(from_coordinates(np.clip(c, -last, last)))
