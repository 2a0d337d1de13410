"""The joint law that simulations draw from: volatility of each unit, its marginal, and a t copula between them.

Semi-parametric: GARCH or EWMA filters each unit's volatility, the filtered returns give the marginal (their own
order statistics in the middle, a generalised Pareto law beyond 5 % on either side), a t copula ties them together.
Its degrees of freedom are estimated. A Gaussian copula is there to compare with: it knows no joint crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import lfilter
from scipy.special import stdtrit

from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.marginal import CELLS, FARTHEST, from_coordinates, marginal
from mlops.risk.stress.tcopula import GAUSSIAN, Copula, fit_copula
from mlops.stats.results import Estimate, unknown_estimate

Volatility = Literal["garch", "ewma", "constant"]

LEAST_BARS = 250  # a year of days; at 5 % a side that is a dozen bars in each tail
DECAY = 0.94  # RiskMetrics (1996), daily
ALPHAS = np.array([0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3])
PERSISTENCE = np.array([0.5, 0.7, 0.8, 0.88, 0.93, 0.96, 0.975, 0.985, 0.992, 0.996])


@dataclass(frozen=True, slots=True, eq=False)
class JointLaw:
    """What a bar's returns may be, unit by unit and together.

    Attributes
    ----------
    volatility : ndarray of shape (N,)
        Standard deviation of the next bar, as a fraction.
    omega, alpha, beta : ndarray of shape (N,)
        Of `h' = omega + alpha r^2 + beta h`; alpha and beta are 0 and 1 where the volatility is held.
    correlation : ndarray of shape (N, N)
        Of the copula; positive definite.
    dof : Estimate
        Degrees of freedom of the copula with a 95 % interval; infinite for the Gaussian one.
    table : ndarray of shape (N, CELLS + 1)
        Standardised return (mean 0, variance 1) over `c = t / (2 + |t|)` from -1 to 1, of the copula's coordinate t.
    n : int
        Bars used. `note` says why nothing is known where `known` is false.
    """

    volatility: Floats
    omega: Floats
    alpha: Floats
    beta: Floats
    correlation: Floats
    dof: Estimate
    table: Floats
    n: int
    copula: Copula = "t"
    filtered: Volatility = "garch"
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there was enough to say anything."""
        return not self.note

    @property
    def units(self) -> int:
        return self.volatility.size


def checked_returns(returns: ArrayLike) -> Floats:
    """`returns` as (T, N), or a `DataError` that says where they are not finite or lose more than everything."""
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0:
        raise DataError(f"returns must have the shape (bars, units), got {table.shape}. Pass one column a unit.")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise DataError(
            f"returns must be finite, got {table[row, column]} in row {row}, column {column}. Drop bar or unit."
        )
    if (table < -1).any():
        raise DataError(f"returns must be at least -1, got {table.min():g}. Pass simple returns as fractions.")
    return table


def checked_weights(weights: ArrayLike, units: int) -> Floats:
    """`weights` as (N,), or a `DataError`."""
    vector = np.asarray(weights, dtype=np.float64)
    if vector.shape != (units,) or not np.isfinite(vector).all():
        raise DataError(f"weights must be {units} finite numbers, got {vector.shape}: {vector}. Pass value / equity.")
    return vector


def fit_joint(
    returns: ArrayLike, *, copula: Copula = "t", volatility: Volatility = "garch", dof: float | None = None
) -> JointLaw:
    """Estimate the joint law of the next bar from returns.

    Assumes that the filtered returns are identically distributed, that one number of degrees of freedom serves all
    pairs, and that dependence in the two tails is alike. The mean is taken to be 0: that of some years of bars is
    mostly noise. Correlations are shrunk by N / (N + T) towards their mean, so that duplicate columns and more units
    than bars leave them positive definite.

    Parameters
    ----------
    returns : array_like of shape (T, N)
        Simple returns, oldest first; NaN is refused. Under 250 bars: a law that is not `known`.
    copula : {"t", "gaussian"}
        "gaussian" for comparison only: it understates joint crashes (ES by a fifth and more).
    volatility : {"garch", "ewma", "constant"}
        "garch": GARCH(1,1) by quasi-maximum likelihood with variance targeting, path by path. "ewma": that of the next
        bar, held. "constant": the standard deviation of all bars, held.
    dof : float, optional
        Given rather than estimated.

    Raises
    ------
    DataError
        Not a finite table of returns of at least -1.

    References
    ----------
    Francq, Horvath and Zakoian (2011), Journal of Financial Econometrics 9 (variance targeting); McNeil and Frey
    (2000), Journal of Empirical Finance 7; Hosking and Wallis (1987), Technometrics 29 (Pareto law);
    Demarta and McNeil (2005), International Statistical Review 73 (t copula); Ledoit and Wolf (2004), Journal of
    Portfolio Management 30 (the target).

    Examples
    --------
    >>> import numpy as np
    >>> law = fit_joint(0.01 * np.random.default_rng(0).standard_normal((500, 3)))
    >>> law.known, law.units, law.dof.value > 10
    (True, 3, True)
    >>> fit_joint(np.zeros((10, 2))).note
    '10 bars, 250 needed'
    """
    table = checked_returns(returns)
    bars, units = table.shape
    if bars < LEAST_BARS:
        return _unknown(bars, units, copula, volatility)
    h, omega, alpha, beta, filtered = _filtered(table, volatility)
    moving = table.std(axis=0) > 0
    live = filtered[:, moving]
    correlation, dof_estimate = np.eye(units), Estimate("dof", GAUSSIAN, GAUSSIAN, GAUSSIAN, bars)
    if moving.any():
        inner, dof_estimate = fit_copula(live, copula, dof)
        correlation[np.ix_(moving, moving)] = inner
    tables = np.zeros((units, CELLS + 1))
    for unit, column in zip(np.flatnonzero(moving), live.T, strict=True):
        tables[unit] = marginal(column, dof_estimate.value)
    return JointLaw(np.sqrt(h), omega, alpha, beta, correlation, dof_estimate, tables, bars, copula, volatility)


def standardised(law: JointLaw, coordinates: Floats) -> Floats:
    """The standardised returns of the copula's `coordinates`, shape (..., N)."""
    place = (coordinates / (2 + np.abs(coordinates)) + 1) * (CELLS / 2)
    below = np.minimum(place.astype(np.intp), CELLS - 1)
    units = np.arange(law.units)
    low, high = law.table[units, below], law.table[units, below + 1]
    return np.asarray(low + (place - below) * (high - low))


def _unknown(bars: int, units: int, copula: Copula, volatility: Volatility) -> JointLaw:
    note, gap = f"{bars} bars, {LEAST_BARS} needed", np.full(units, np.nan)
    nothing = unknown_estimate("dof", bars, note)
    table = np.full((units, CELLS + 1), np.nan)
    return JointLaw(gap, gap, gap, gap, np.full((units, units), np.nan), nothing, table, bars, copula, volatility, note)


def _filtered(returns: Floats, volatility: Volatility) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Variance of the next bar, omega, alpha, beta, and the returns over their own volatility."""
    units = returns.shape[1]
    none, ones = np.zeros(units), np.ones(units)
    squares = returns**2
    if volatility == "constant":
        h = squares.mean(axis=0)
        return h, none, none, ones, _over(returns, np.broadcast_to(h, returns.shape))
    if volatility == "ewma":
        alpha, beta, omega = np.full(units, 1 - DECAY), np.full(units, DECAY), none
    else:
        alpha, beta = _garch(squares)
        omega = squares.mean(axis=0) * (1 - alpha - beta)
    path = np.column_stack([_variance(squares[:, i], omega[i], alpha[i], beta[i]) for i in range(units)])
    held = (none, none, ones) if volatility == "ewma" else (omega, alpha, beta)
    return path[-1], *held, _over(returns, path[:-1])


def _over(returns: Floats, variance: Floats) -> Floats:
    return np.divide(returns, np.sqrt(variance), out=np.zeros_like(returns), where=variance > 0)


def _variance(squares: Floats, omega: Floats | float, alpha: float, beta: float) -> Floats:
    """Conditional variance of each bar and of the one after the last, along the first axis; begins at the mean."""
    start = squares.mean(axis=0)
    shocks = np.concatenate([np.atleast_1d(start)[None] if squares.ndim > 1 else np.array([start]), alpha * squares])
    shocks[1:] += omega
    return np.asarray(lfilter([1.0], [1.0, -beta], shocks, axis=0))


def _garch(squares: Floats) -> tuple[Floats, Floats]:
    """alpha and beta of each unit, by a grid and a finer one around its best point."""
    mean = squares.mean(axis=0)
    best = np.full(mean.size, np.inf)
    alpha, beta = np.zeros(mean.size), np.zeros(mean.size)

    def look(a: float, persistence: float, where: NDArray[np.intp]) -> None:
        b = persistence - a
        h = _variance(squares[:, where], mean[where] * (1 - persistence), a, b)[:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = (np.log(h) + squares[:, where] / h).sum(axis=0)
        better = where[loss < best[where]]
        best[better], alpha[better], beta[better] = loss[loss < best[where]], a, b

    everyone = np.flatnonzero(mean > 0)
    for a in ALPHAS:
        for p in PERSISTENCE[PERSISTENCE > a]:
            look(a, p, everyone)
    for i in everyone:
        a0, p0 = alpha[i], alpha[i] + beta[i]
        for a in a0 * np.array([0.75, 0.87, 1.0, 1.15, 1.3]):
            for p in 1 - (1 - p0) * np.array([0.7, 0.85, 1.0, 1.2, 1.45]):
                if a < p:
                    look(float(a), float(p), np.array([i]))
    return alpha, beta


def elliptical(covariance: ArrayLike, dof: float = GAUSSIAN) -> JointLaw:
    """A multivariate t (normal for infinite `dof`) as a law: no filter, the marginals of the same family.

    Parameters
    ----------
    covariance : array_like of shape (N, N)
        Positive definite; of one bar's returns.
    dof : float
        Above 2.

    Examples
    --------
    >>> elliptical([[1e-4]], 5.0).volatility.round(6).tolist()
    [0.01]
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    scale = np.sqrt(np.diag(matrix))
    if not dof > 2:
        raise DataError(f"dof must be above 2, got {dof}. There is no variance below it.")
    coordinates = from_coordinates(np.linspace(-1, 1, CELLS + 1))
    end = -float(stdtrit(dof, FARTHEST))
    spread = 1.0 if np.isinf(dof) else np.sqrt((dof - 2) / dof)
    table = np.tile(spread * np.clip(coordinates, -end, end), (scale.size, 1))
    none, ones = np.zeros(scale.size), np.ones(scale.size)
    given = Estimate("dof", dof, np.nan, np.nan, 0, "given")
    kind: Copula = "gaussian" if np.isinf(dof) else "t"
    return JointLaw(scale, none, none, ones, matrix / np.outer(scale, scale), given, table, 0, kind, "constant")
