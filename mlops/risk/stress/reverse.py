"""What loses so much? The most plausible move of the market that costs the book a given share of equity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import ndtr, stdtr

from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.joint import checked_weights

STARTS = 8  # directions from which the search sets out: a book of options may lose on several sides
EXACT = 1e-6  # of equity, by which the loss may miss its goal


@dataclass(frozen=True, slots=True, eq=False)
class ReverseStress:
    """The move, and how far out it is.

    Attributes
    ----------
    moves : ndarray of shape (N,)
        Return of each unit; NaN where no move was found.
    loss : float
        What the book loses in it, positive, as a fraction of equity.
    sigmas : float
        Mahalanobis distance in standard deviations; the smallest of any move that loses as much.
    chance : float
        That a bar (or what the covariance is of) loses at least as much. Exact for a linear book, otherwise that of
        the half-space beyond the move: the first-order approximation (FORM).
    note : str
        Why no move was found.
    """

    moves: Floats
    loss: float
    sigmas: float
    chance: float
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether a move was found."""
        return not self.note


def reverse_stress(
    covariance: ArrayLike,
    weights: ArrayLike,
    loss: float = 0.2,
    *,
    dof: float = np.inf,
    revalue: Callable[[Floats], float] | None = None,
    seed: int = 7,
) -> ReverseStress:
    """The move of least Mahalanobis distance that loses `loss`: the likeliest one under any elliptical law.

    For a linear book in closed form: `-loss * S w / (w' S w)`. With `revalue` numerically (SLSQP in whitened
    coordinates, from several directions); a deeper minimum elsewhere cannot be ruled out.

    Parameters
    ----------
    covariance : array_like of shape (N, N)
        Of the returns over the horizon that is meant; singular is allowed: the search keeps to what moves at all.
    weights : array_like of shape (N,)
        Value over equity; of a book with `revalue` the first guess.
    loss : float
        Positive fraction of equity.
    dof : float
        Degrees of freedom of the law, above 2, for `chance`.
    revalue : callable, optional
        Returns of shape (N,) -> profit as a fraction of equity.

    References
    ----------
    Breuer, Jandacka, Rheinberger and Summer (2009), International Journal of Central Banking 5; Hasofer and Lind
    (1974), Journal of the Engineering Mechanics Division 100 (FORM).

    Examples
    --------
    >>> found = reverse_stress([[4e-4, 0.0], [0.0, 4e-4]], [0.5, 0.5])
    >>> found.moves.round(6).tolist(), round(found.sigmas, 3)
    ([-0.2, -0.2], 14.142)
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    vector = checked_weights(weights, matrix.shape[0])
    if not 0 < loss < np.inf:
        raise DataError(f"loss must be a positive fraction of equity, got {loss}. 0.2 is a loss of 20 %.")
    if not dof > 2:
        raise DataError(f"dof must be above 2, got {dof}. There is no covariance below it.")
    root = _root(matrix)
    if revalue is None:
        force = root.T @ vector
        size = float(np.linalg.norm(force))
        if size == 0:
            return _none(vector.size, "nothing that the book holds moves")
        return _told(root, -loss / size * force / size, loss, dof)
    return _searched(root, vector, loss, dof, revalue, np.random.default_rng(seed))


def _searched(
    root: Floats, weights: Floats, loss: float, dof: float, revalue: Callable[[Floats], float], rng: np.random.Generator
) -> ReverseStress:
    def gap(z: Floats) -> float:
        return revalue(root @ z) + loss

    goal: Any = {"type": "eq", "fun": gap}
    search: Any = minimize  # its types know no objective that returns its gradient, too
    limits: Any = {"maxiter": 300, "ftol": 1e-10}
    force = root.T @ weights
    ahead = -force / np.linalg.norm(force) if np.linalg.norm(force) > 0 else None
    starts = rng.standard_normal((STARTS, root.shape[1]))
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    tried = [starts, -starts] if ahead is None else [ahead[None], -ahead[None], starts]
    best: Floats | None = None
    for way in np.vstack(tried):
        solution = search(
            lambda z: (float(z @ z) / 2, z), 3.0 * way, jac=True, constraints=goal, method="SLSQP", options=limits
        )
        good = abs(gap(solution.x)) <= EXACT
        if good and (best is None or solution.x @ solution.x < best @ best):
            best = solution.x
    if best is None:
        return _none(weights.size, f"no move was found that loses {loss:.0%}")
    return _told(root, best, -revalue(root @ best), dof)


def _told(root: Floats, z: Floats, loss: float, dof: float) -> ReverseStress:
    moves, sigmas = root @ z, float(np.linalg.norm(z))
    if (moves < -1).any():
        return _none(moves.size, "the likeliest move asks a unit to lose more than all of it")
    chance = ndtr(-sigmas) if np.isinf(dof) else stdtr(dof, -sigmas * np.sqrt(dof / (dof - 2)))
    return ReverseStress(moves, loss, sigmas, float(chance))


def _root(matrix: Floats) -> Floats:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise DataError(f"covariance must be a finite square matrix, got shape {matrix.shape}. Leave units out.")
    size, ways = np.linalg.eigh((matrix + matrix.T) / 2)
    if size[0] < -1e-8 * max(size[-1], 0.0):
        raise DataError(f"covariance must be positive semidefinite, got an eigenvalue of {size[0]:g}. Repair it.")
    keep = size > 1e-12 * max(size[-1], 0.0)
    return np.asarray(ways[:, keep] * np.sqrt(size[keep]))


def _none(units: int, note: str) -> ReverseStress:
    return ReverseStress(np.full(units, np.nan), np.nan, np.nan, np.nan, note)
