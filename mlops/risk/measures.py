"""VaR and ES of a sample of profits, and whose they are. One quantile definition everywhere.

The quantile is the *lower* one: of n equally likely outcomes the VaR is the loss at place ceil((1 - confidence) n) from
the worst. ES is the mean of the worst share of exactly 1 - confidence, so the outcome at the edge counts in part.
Both equal `skfolio.measures.value_at_risk` and `cvar`, in the same floating point: (1 - 0.99) * 1000 is a little
over 10, so the VaR of 1,000 outcomes at 99 % is the 11th largest loss, while other packages take the 10th or between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops.errors import DataError

Floats = NDArray[np.float64]
CONFIDENCES = (0.95, 0.975, 0.99)
WINDOW = 0.5  # half width of the window of VaR components, as a share of the tail's ranks (see `marginal_loss`)


@dataclass(frozen=True, slots=True)
class Loss:
    """VaR and ES as positive losses."""

    var: float
    es: float


@dataclass(frozen=True, slots=True)
class Losses:
    """VaR and ES as positive losses, shape (..., confidences) or (positions,)."""

    var: Floats
    es: Floats


def var_es(pnl: ArrayLike, confidence: float = 0.99, *, weights: ArrayLike | None = None) -> Loss:
    """VaR and ES of one sample.

    Parameters
    ----------
    pnl : array_like of shape (n,)
        Profits as a fraction of equity (losses negative), in any order. NaN is refused.
    weights : array_like of shape (n,), optional
        How likely each is; not negative, made to sum to one.

    Returns
    -------
    Loss
        In the unit of `pnl`, a loss positive. Negative where even the tail earns.

    Raises
    ------
    DataError
        No outcome, a value that is not finite, weights that are negative or all zero, or no confidence in (0, 1).

    References
    ----------
    Acerbi and Tasche (2002), On the coherence of expected shortfall, definition 2.6.

    Examples
    --------
    >>> loss = var_es([-0.03, 0.01, -0.02, 0.02], 0.75)
    >>> loss.var, loss.es
    (0.03, 0.03)
    """
    sample = finite(pnl, "pnl")
    loss = sample_losses(sample[None, :], (confidence,)) if weights is None else _weighted(sample, confidence, weights)
    return Loss(float(loss.var[..., 0].item()), float(loss.es[..., 0].item()))


def sample_losses(pnl: Floats, confidences: Sequence[float] = CONFIDENCES) -> Losses:
    """VaR and ES of many samples at many confidences: `pnl` of shape (m, n), finite -> arrays of shape (m, k)."""
    n = pnl.shape[-1]
    shares = [1.0 - check_confidence(confidence) for confidence in confidences]
    last = rank(max(shares), n)
    tail = np.partition(pnl, last, axis=-1)[..., : last + 1]
    tail.sort(axis=-1)
    upto = np.cumsum(tail, axis=-1)
    var, es = np.empty((*pnl.shape[:-1], len(shares))), np.empty((*pnl.shape[:-1], len(shares)))
    for j, share in enumerate(shares):
        edge, mass = rank(share, n), share * n
        before = upto[..., edge - 1] if edge else 0.0
        var[..., j] = -tail[..., edge]
        es[..., j] = -(before + (mass - edge) * tail[..., edge]) / mass
    return Losses(var, es)


def rank(share: float, n: int) -> int:
    """Place (from 0) of the VaR among n outcomes in ascending order, `share` being 1 - confidence.

    Examples
    --------
    >>> rank(1 - 0.99, 1000), rank(1 - 0.99, 250)
    (10, 2)
    """
    return min(n - 1, max(0, ceil(share * n) - 1))


def tail_weights(pnl: Floats, confidence: float, *, weights: Floats | None = None) -> tuple[NDArray[np.intp], Floats]:
    """Rows of the tail, the worst first, and the share each has in the ES (they sum to one)."""
    n, share = pnl.size, 1.0 - check_confidence(confidence)
    if weights is None:
        edge, mass = rank(share, n), share * n
        rows = np.argpartition(pnl, edge)[: edge + 1]
        rows = rows[np.argsort(pnl[rows], kind="stable")]
        part = np.full(edge + 1, 1.0 / mass)
        part[-1] = (mass - edge) / mass
        return rows, part
    order = np.argsort(pnl, kind="stable")
    upto = np.cumsum(weights[order])
    edge = min(n - 1, int(np.searchsorted(upto, share)))
    part = weights[order[: edge + 1]] / share
    part[-1] = 1.0 - (upto[edge - 1] / share if edge else 0.0)
    return order[: edge + 1], part


def marginal_loss(
    returns: NDArray[np.floating],
    weights: Floats,
    confidence: float = 0.99,
    *,
    chances: ArrayLike | None = None,
    total: Loss | None = None,
    pnl: Floats | None = None,
) -> Losses:
    """How much VaR and ES grow per unit of weight in each position (Euler): `weights * marginal` adds up to the total.

    ES: minus the mean return of the position over the tail's scenarios, which is exact. VaR: the same over a window of
    scenarios around the quantile (half as many ranks on either side as the tail has rows, so 6 of 1,000 at 99 %), then
    scaled by one factor so that components add up to the VaR: the quantile's scenario alone would tell the news of that
    one day. Where the window loses nothing there is no such factor, and the quantile's scenario is taken alone.

    Parameters
    ----------
    returns : ndarray of shape (scenarios, positions)
        Finite. What a unit of weight earns; filtered ones are `returns * scale[:, None]` (`Fitted.scenarios`).
    weights : ndarray of shape (positions,)
        Value over equity, signed.
    chances : array_like of shape (scenarios,), optional
        How likely each scenario is.
    total : Loss, optional
        What the components shall add up to (a model's headline); by default the scenarios' own.
    pnl : ndarray of shape (scenarios,), optional
        `returns @ weights`, where it is known already.

    Returns
    -------
    Losses
        Each of shape (positions,). A negative value is a hedge: more of it lowers the risk. NaN where `total` is a loss
        and the scenarios' own is a gain, or the reverse: no factor leads from one to the other.

    References
    ----------
    Tasche (1999), Risk contributions and performance measurement; Hallerbach (2003), Decomposing portfolio VaR.

    Examples
    --------
    >>> import numpy as np
    >>> scenarios, held = np.random.default_rng(0).normal(0, 0.01, (500, 2)), np.array([0.6, 0.4])
    >>> each = marginal_loss(scenarios, held)
    >>> bool(np.isclose(held @ each.es, var_es(scenarios @ held).es))
    True
    """
    pnl = returns @ weights if pnl is None else pnl
    likely = None if chances is None else _shares(np.asarray(chances, dtype=np.float64), pnl.size)
    rows, part = tail_weights(pnl, confidence, weights=likely)
    es = -(part @ returns[rows])
    goal = Loss(-float(pnl[rows[-1]]), -float(part @ pnl[rows])) if total is None else total
    window = _window(pnl, rows)
    var = -returns[window].mean(axis=0, dtype=np.float64)
    if weights @ var <= 0 or goal.var <= 0:
        var = -returns[rows[-1]]
    return Losses(_to(var, weights, goal.var), _to(es, weights, goal.es))


def component_loss(marginal: Losses, weights: Floats, groups: NDArray[np.intp] | None = None) -> Losses:
    """What each position, or each group of them, has in the VaR and ES; both add up to the total.

    Parameters
    ----------
    groups : ndarray of int, shape (positions,), optional
        Number of each position's group (book, strategy, symbol), from 0.

    Examples
    --------
    >>> import numpy as np
    >>> marginal = Losses(np.array([0.02, 0.03, 0.01]), np.array([0.03, 0.04, 0.02]))
    >>> component_loss(marginal, np.array([0.5, 0.5, 1.0]), np.array([0, 0, 1])).var.round(3).tolist()
    [0.025, 0.01]
    """
    var, es = weights * marginal.var, weights * marginal.es
    if groups is None:
        return Losses(var, es)
    each = (np.asarray(np.bincount(groups, weights=parts), dtype=np.float64) for parts in (var, es))
    return Losses(*each)


def finite(values: ArrayLike, name: str, *, least: int = 1) -> Floats:
    """`values` as one finite series of at least `least`, else a `DataError`."""
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or series.size < least:
        raise DataError(f"{name} must be one series of {least} or more, got shape {series.shape}. Pass one a bar.")
    if not np.isfinite(series).all():
        bad = int((~np.isfinite(series)).sum())
        raise DataError(f"{name} must be finite, got {bad} that are not. Leave out or repair those bars.")
    return series


def check_confidence(confidence: float) -> float:
    """`confidence` when it lies strictly between 0 and 1, else a `DataError`."""
    if not 0 < confidence < 1:
        raise DataError(f"confidence must lie between 0 and 1, got {confidence}. Give a fraction: 0.99 is 99 %.")
    return confidence


def _weighted(sample: Floats, confidence: float, weights: ArrayLike) -> Losses:
    rows, part = tail_weights(sample, confidence, weights=_shares(np.asarray(weights, dtype=np.float64), sample.size))
    return Losses(-sample[rows[-1:]], np.atleast_1d(-(part @ sample[rows])))


def _shares(weights: Floats, n: int) -> Floats:
    if weights.shape != (n,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise DataError(
            f"weights must be {n} finite numbers >= 0, not all zero, got shape {weights.shape}. Check them."
        )
    return np.asarray(weights / weights.sum())


def _window(pnl: Floats, tail: NDArray[np.intp]) -> NDArray[np.intp]:
    edge = tail.size - 1
    half = min(edge, max(1, round(WINDOW * tail.size)), pnl.size - 1 - edge)
    if half <= 0:
        return tail[-1:]
    return np.asarray(np.argpartition(pnl, (edge - half, edge + half))[edge - half : edge + half + 1])


def _to(marginal: Floats, weights: Floats, goal: float) -> Floats:
    sums = float(weights @ marginal)
    if sums == goal:
        return marginal
    return marginal * (goal / sums if sums * goal > 0 else np.nan)
