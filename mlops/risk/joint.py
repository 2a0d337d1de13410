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
from scipy.optimize import brentq, minimize_scalar
from scipy.signal import lfilter
from scipy.special import gammaln, ndtr, stdtr, stdtrit
from scipy.stats import rankdata

from mlops.errors import DataError
from mlops.stats.results import Estimate, unknown_estimate

Floats = NDArray[np.float64]
Copula = Literal["t", "gaussian"]
Volatility = Literal["garch", "ewma", "constant"]

LEAST_BARS = 250  # a year of days; at 5 % a side that is a dozen bars in each tail
DECAY = 0.94  # RiskMetrics (1996), daily
TAIL = 0.05  # share of the filtered returns on either side that the Pareto law takes over
LEAST_TAIL = 12  # exceedances under which no Pareto law is fitted
SHAPE = (-0.5, 0.45)  # of the Pareto law; the variance is infinite from 0.5 on, and PWM holds below it
FARTHEST = 1e-7  # probability beyond which a marginal is cut off: once in forty thousand years of days
CELLS = 2048  # of the tables of the marginals
DOF = (1.5, 100.0)  # of the copula; beyond the higher one it is Gaussian for every purpose
GAUSSIAN = float("inf")
ALPHAS = np.array([0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3])
PERSISTENCE = np.array([0.5, 0.7, 0.8, 0.88, 0.93, 0.96, 0.975, 0.985, 0.992, 0.996])
CHI2_95 = 3.841  # of one degree of freedom, for the interval by profile likelihood


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
    correlation, found = np.eye(units), Estimate("dof", GAUSSIAN, GAUSSIAN, GAUSSIAN, bars)
    if moving.any():
        inner, found = _copula(live, copula, dof)
        correlation[np.ix_(moving, moving)] = inner
    tables = np.zeros((units, CELLS + 1))
    for unit, column in zip(np.flatnonzero(moving), live.T, strict=True):
        tables[unit] = _marginal(column, found.value)
    return JointLaw(np.sqrt(h), omega, alpha, beta, correlation, found, tables, bars, copula, volatility)


def from_coordinates(grid: ArrayLike) -> Floats:
    """t = 2c / (1 - |c|): the copula's coordinate at places of a table; infinite at its ends."""
    c = np.asarray(grid, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(2 * c / (1 - np.abs(c)))


def copula_cdf(t: Floats, dof: float) -> Floats:
    """Distribution function of the copula's coordinate: Student's, or the normal one for infinite `dof`."""
    return np.asarray(ndtr(t) if np.isinf(dof) else stdtr(dof, t))


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
    none, one = np.zeros(units), np.ones(units)
    squares = returns**2
    if volatility == "constant":
        h = squares.mean(axis=0)
        return h, none, none, one, _over(returns, np.broadcast_to(h, returns.shape))
    if volatility == "ewma":
        alpha, beta, omega = np.full(units, 1 - DECAY), np.full(units, DECAY), none
    else:
        alpha, beta = _garch(squares)
        omega = squares.mean(axis=0) * (1 - alpha - beta)
    path = np.column_stack([_variance(squares[:, i], omega[i], alpha[i], beta[i]) for i in range(units)])
    held = (none, none, one) if volatility == "ewma" else (omega, alpha, beta)
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


def _copula(filtered: Floats, copula: Copula, dof: float | None) -> tuple[Floats, Estimate]:
    """Correlation and degrees of freedom, by pseudo-maximum likelihood on ranks."""
    bars, units = filtered.shape
    # Average ranks are halves of whole numbers, so that a table of 2T quantiles serves every unit.
    place = np.rint(2 * rankdata(filtered, axis=0)).astype(np.intp)
    shares = np.arange(2 * bars + 1) / (2 * (bars + 1))
    with np.errstate(divide="ignore"):
        normal = stdtrit(np.inf, shares)[place]
    start = _shrunk(normal.T @ normal / bars, bars)
    if copula == "gaussian" or units == 1:
        return start, Estimate("dof", GAUSSIAN, GAUSSIAN, GAUSSIAN, bars)

    def fitted(nu: float) -> tuple[float, Floats]:
        x = stdtrit(nu, shares)[place]
        scatter = _scatter(x, nu, start)
        return _likelihood(x, nu, scatter), scatter

    if dof is not None:
        return fitted(dof)[1], Estimate("dof", dof, np.nan, np.nan, bars, "given")
    low, high = np.log(DOF)
    found = minimize_scalar(
        lambda s: -fitted(float(np.exp(s)))[0], bounds=(low, high), method="bounded", options={"xatol": 0.02}
    )
    top, nu = -float(found.fun), float(np.exp(found.x))

    def beyond(s: float) -> float:
        return fitted(float(np.exp(s)))[0] - top + CHI2_95 / 2

    ends = [
        float(np.exp(brentq(beyond, found.x, end, xtol=0.02))) if beyond(end) < 0 else float(np.exp(end))
        for end in (low, high)
    ]
    return fitted(nu)[1], Estimate("dof", nu, ends[0], ends[1], bars, "interval as if filtered bars were independent")


def _shrunk(scatter: Floats, bars: int) -> Floats:
    """A correlation matrix out of a scatter, drawn towards the mean correlation by N / (N + T)."""
    scale = np.sqrt(np.diag(scatter))
    plain = scatter / np.outer(scale, scale)
    units = scale.size
    if units == 1:
        return np.ones((1, 1))
    mean = np.clip((plain.sum() - units) / (units * (units - 1)), 0.0, 0.99)
    share = units / (units + bars)
    mixed = (1 - share) * plain + share * mean
    np.fill_diagonal(mixed, 1.0)
    return np.asarray((mixed + mixed.T) / 2)


def _scatter(x: Floats, nu: float, start: Floats, rounds: int = 6) -> Floats:
    """Scatter of a multivariate t of known degrees of freedom, by expectation and maximisation."""
    bars, units = x.shape
    scatter = start
    for _ in range(rounds):
        weight = (nu + units) / (nu + _distances(x, scatter)[0])
        scatter = _shrunk((x * weight[:, None]).T @ x / bars, bars)
    return scatter


def _distances(x: Floats, scatter: Floats) -> tuple[Floats, float]:
    """Squared Mahalanobis distance of each row, and the logarithm of the determinant."""
    root = np.linalg.cholesky(scatter)
    return (np.linalg.solve(root, x.T) ** 2).sum(axis=0), 2 * float(np.log(np.diag(root)).sum())


def _likelihood(x: Floats, nu: float, correlation: Floats) -> float:
    """Logarithm of the density of the t copula at `x`, its coordinates (Demarta and McNeil 2005, eq. 7)."""
    bars, units = x.shape
    distance, determinant = _distances(x, correlation)
    constant = gammaln((nu + units) / 2) + (units - 1) * gammaln(nu / 2) - units * gammaln((nu + 1) / 2)
    joint = (nu + units) / 2 * np.log1p(distance / nu).sum()
    alone = (nu + 1) / 2 * np.log1p(x**2 / nu).sum()
    return float(bars * (constant - determinant / 2) - joint + alone)


def _marginal(filtered: Floats, dof: float) -> Floats:
    """The table of one unit."""
    middle = (np.arange(1, 4097) - 0.5) / 4096
    quantile = _quantiles(filtered)
    plain = quantile(middle)
    mean, scale = float(plain.mean()), float(plain.std())
    share = copula_cdf(from_coordinates(np.linspace(-1, 1, CELLS + 1)), dof)
    return np.asarray((quantile(np.clip(share, FARTHEST, 1 - FARTHEST)) - mean) / scale)


def _quantiles(sample: Floats):  # type: ignore[no-untyped-def]
    """Quantile function of a sample, with a Pareto law beyond TAIL on either side."""
    x = np.sort(sample)
    n = x.size
    places = (np.arange(1, n + 1) - 0.5) / n
    k = max(LEAST_TAIL, int(TAIL * n))
    low, high = x[k], x[n - 1 - k]
    left, right = _pareto(low - x[:k][::-1]), _pareto(x[n - k :] - high)
    at_low, at_high = (k + 0.5) / n, 1 - (k + 0.5) / n

    def quantile(share: Floats) -> Floats:
        found = np.interp(share, places, x)
        below, above = share < at_low, share > at_high
        found[below] = low - _excess(share[below] / at_low, *left)
        found[above] = high + _excess((1 - share[above]) / at_low, *right)
        return found

    return quantile


def _pareto(excess: Floats) -> tuple[float, float]:
    """Shape and scale by probability-weighted moments; `excess` ascends."""
    k = excess.size
    weight = 1 - (np.arange(1, k + 1) - 0.35) / k
    mean, moment = float(excess.mean()), float((weight * excess).mean())
    if mean <= 2 * moment or mean == 0:
        return 0.0, mean
    shape = float(np.clip(2 - mean / (mean - 2 * moment), *SHAPE))
    return shape, mean * (1 - shape)


def _excess(share: Floats, shape: float, scale: float) -> Floats:
    return -scale * np.log(share) if abs(shape) < 1e-9 else scale / shape * (share**-shape - 1)


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
    none, one = np.zeros(scale.size), np.ones(scale.size)
    given = Estimate("dof", dof, np.nan, np.nan, 0, "given")
    kind: Copula = "gaussian" if np.isinf(dof) else "t"
    return JointLaw(scale, none, none, one, matrix / np.outer(scale, scale), given, table, 0, kind, "constant")
