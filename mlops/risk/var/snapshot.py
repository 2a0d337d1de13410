"""What the book of this second may lose, and whose loss that would be.

Past returns of the units times the weights of now are what these holdings would have returned; the model that a job
fitted last night says from them what the next bar may lose. Nothing is fitted here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.risk.measures import Floats, Loss, component_loss, marginal_loss, var_es
from mlops.risk.var.fitted import Fitted

Table = NDArray[np.float32]
AS_IS = Loss(1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Options:
    """Options beside what is held outright.

    `deltas` of shape (N,): units of equity that they move with each unit, added up. `profits`: their profit as a
    fraction of equity, shape (S, M), in scenarios of shape (S, N).
    """

    deltas: Floats
    profits: Callable[[Table], Floats]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Losses as positive fractions of equity. `component_*` of shape (N + M,): N units held outright, then M options.

    They add up to `loss`. `curvature`: the part of the VaR that options add (> 0) or take away by not being linear.
    """

    confidence: float
    loss: Loss
    component_var: Floats
    component_es: Floats
    curvature: float = 0.0


def snapshot(
    returns: Table,
    weights: Floats,
    fitted: Fitted,
    *,
    confidence: float = 0.99,
    growth: Loss = AS_IS,
    options: Options | None = None,
) -> Snapshot:
    """VaR and ES of the next bars, and what each position has in them.

    Options enter the filter and the headline by their deltas. What their profit in the scenarios is beside that of
    their deltas moves VaR and ES by as much as it moves those of the scenarios.

    Parameters
    ----------
    returns : float32 ndarray of shape (T, N)
        Simple returns of the units, oldest first, finite.
    weights : ndarray of shape (N,)
        Value over equity of what is held outright, signed.
    growth : Loss
        VaR and ES over the horizon, each over that of one bar (`Fitted.over`).

    Raises
    ------
    DataError
        Fewer bars than the model needs, or a value that is not finite.
    """
    held = weights if options is None else weights + options.deltas
    if not held.any() and options is None:
        nothing = np.zeros(len(weights))
        return Snapshot(confidence, Loss(0.0, 0.0), nothing, nothing)
    past = (returns @ held.astype(np.float32)).astype(np.float64)
    now, scenarios = fitted.now(past, (confidence,)), fitted.scenarios(past)
    scale = scenarios.scale.astype(np.float32)
    table: NDArray[np.floating] = returns[-len(scale) :] * scale[:, None]
    profit, var, es = past[-len(scale) :] * scenarios.scale, float(now.var[0]), float(now.es[0])
    curvature = 0.0
    if options is not None:
        each = options.profits(np.asarray(table))
        straight, profit = profit, table @ weights + each.sum(axis=1)
        bent, plain = (var_es(sample, confidence, weights=scenarios.chances) for sample in (profit, straight))
        curvature, es = bent.var - plain.var, es + bent.es - plain.es
        var, table, weights = var + curvature, np.hstack([table, each]), np.append(weights, np.ones(each.shape[1]))
    loss = Loss(var * growth.var, max(es * growth.es, var * growth.var))
    marginal = marginal_loss(table, weights, confidence, chances=scenarios.chances, total=loss, pnl=profit)
    parts = component_loss(marginal, weights)
    return Snapshot(confidence, loss, parts.var, parts.es, curvature * growth.var)
