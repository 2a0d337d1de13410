"""A t copula out of ranks: correlation and degrees of freedom by pseudo-maximum likelihood."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln, stdtrit
from scipy.stats import rankdata

from mlops.risk.measures import Floats
from mlops.stats.results import Estimate

Copula = Literal["t", "gaussian"]
DOF = (1.5, 100.0)  # of the copula; beyond the higher one it is Gaussian for every purpose
CHI2_95 = 3.841  # of one degree of freedom, for the interval by profile likelihood
GAUSSIAN = float("inf")


def fit_copula(filtered: Floats, copula: Copula, dof: float | None) -> tuple[Floats, Estimate]:
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
    optimum = minimize_scalar(
        lambda s: -fitted(float(np.exp(s)))[0], bounds=(low, high), method="bounded", options={"xatol": 0.02}
    )
    top, nu = -float(optimum.fun), float(np.exp(optimum.x))

    def beyond(s: float) -> float:
        return fitted(float(np.exp(s)))[0] - top + CHI2_95 / 2

    ends = [
        float(np.exp(brentq(beyond, optimum.x, end, xtol=0.02))) if beyond(end) < 0 else float(np.exp(end))
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
