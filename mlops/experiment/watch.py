"""The watch on a new champion: its false-alarm budget, by the plan or simulated on that model's own record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from mlops.experiment.plan import Plan
from mlops.stats import (
    block_length,
    finite_series,
    look_times,
    nominal_levels,
    p_greater,
    stationary_indices,
)
from mlops.stats.sequential import DESIGN_SHARE

PATHS = 4000  # standard error of a 5 % rate: 0.3 points
LEAST_RECORD = 60  # bars: fewer say nothing of how their differences depend on each other
LADDER = 2.0 ** -np.arange(0, 3.01, 0.25)  # of the stated alpha; a budget is never widened


def simulated_budget(record: ArrayLike, plan: Plan, rng: np.random.Generator) -> tuple[Plan, float]:
    """The plan at which a watch on a model with this record raises false alarms no more often than stated.

    The record's differences, their mean taken away, are drawn again in stationary blocks as long as the watch: worlds
    in which both models are equal, with this record's tails and dependence. The nominal alpha is lowered until the
    share of such worlds that would be rolled back is at most the plan's.

    Parameters
    ----------
    record : array_like of shape (n,)
        Differences in log-loss a bar between the two models, from their comparison. Under 60 of them, or none that
        vary: the plan stays as it is.

    Returns
    -------
    Trial, float
        The plan with its `confidence` raised where needed, and the simulated share of false alarms at it; NaN where
        the record was too short.
    """
    series = finite_series(record, "record")
    if series.size < LEAST_RECORD or np.ptp(series) == 0:
        return plan, float("nan")
    centred = series - series.mean()
    block = block_length(centred, centred**2)
    drawn = centred[stationary_indices(series.size, length=plan.horizon_bars, paths=PATHS, block=block, rng=rng)]
    looks = look_times(horizon=plan.horizon_bars, look_every=plan.look_every, min_n=plan.min_bars)
    p = np.column_stack([p_greater(drawn[:, :n]) for n in looks])
    rate = float("nan")
    for share in LADDER:
        levels = np.asarray(nominal_levels(looks, plan.horizon_bars, DESIGN_SHARE * plan.alpha * share, plan.power))
        rate = float((p <= levels).any(axis=1).mean())
        if rate <= plan.alpha:
            break
    return replace(plan, confidence=float(1 - share * (1 - plan.confidence))), rate
