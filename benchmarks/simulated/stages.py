"""Stages of a simulated challenger: its units are assigned as by a bot; looks that move nobody are known before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from benchmarks.simulated.world import Floats
from jobs.comparison import plans
from jobs.context import Context
from mlops.experiment.gates import allowed_drawdown
from mlops.io.ledger import ComparisonRow
from mlops.types import Stage
from registry_hooks.aliases import traded
from registry_hooks.assignment import Assigner
from registry_hooks.stages import stages


def assign(context: Context, model: str, units: Sequence[str], at: datetime) -> None:
    """Assign the units, as a bot does at its next bar."""
    assigner, found = Assigner(model, context.ledger), traded(context.ledger, model)
    assigner.learn(found)
    assigner.assign_now(found, units, at)


def moves_at(context: Context, trial: ComparisonRow, start: int, now: int, returns: tuple[Floats, Floats]) -> int:
    """Bar before which no look moves a challenger from its stage, unless a test speaks.

    Parameters
    ----------
    start, now : int
        First bar of the comparison, and of the looks that are asked about.
    returns : pair of float64 ndarray of shape (bars,)
        Of the champion's book and of the challenger's.
    """
    if stages(context.ledger, trial.model).get(trial.challenger) is not Stage.AB:
        nominated = trial.kind == "compare"  # one that waits is given a share after the test has spoken
        return start + context.settings.experiment.shadow_bars if nominated else returns[0].size
    plan, champion = plans.plan(context, trial), returns[0][start + 1 :]
    one, other = (_deepest(path[start + 1 :]) for path in returns)
    excess = other - one
    for i in np.flatnonzero(excess > plan.drawdown_margin).tolist():  # the least margin that there is
        if start + 2 + i >= now and excess[i] > allowed_drawdown(champion[: i + 1], plan):
            return int(start + 2 + i)
    return returns[0].size


def _deepest(returns: Floats) -> Floats:
    """The deepest fall until each bar, a fraction of the peak."""
    equity = np.cumprod(1 + returns)
    return np.asarray(np.maximum.accumulate(1 - equity / np.maximum(np.maximum.accumulate(equity), 1.0)))
