"""How many times the rarer outcome has really happened: what rare labels can say of two forecasts.

Between rare events that come together every bar is alike: the difference of two forecasts hardly varies, and its mean
looks proven. What it does at an event is in no variance that was seen. So nothing is proven before some have happened.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlops.experiment.plan import Plan
from mlops.stats import ewc_error, look_times

Floats = NDArray[np.float64]


def happened(label: Floats, bar: NDArray[np.intp]) -> Floats:
    """Whether a bar has a row with label 0, and one with label 1; zeros and ones of shape (2, bars).

    Parameters
    ----------
    label : ndarray of shape (rows,)
        0 or 1.
    bar : ndarray of shape (rows,)
        Number of each row's bar, 0 .. bars - 1.
    """
    return np.array([np.bincount(bar, weights=side) > 0 for side in (label < 0.5, label > 0.5)], dtype=np.float64)


def effective_events(events: Floats) -> float:
    """Bars with an event, over the long-run variance of having one: events of one cluster, or of one label, are one.

    `events` has shape (n,): 1 for each bar with the event, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> round(effective_events(np.repeat([0.0, 1.0, 0.0], [40, 10, 40])), 1)
    1.0
    >>> effective_events(np.ones(50))
    50.0
    """
    count, plain = float(events.sum()), float(events.var()) if events.size else 0.0
    if plain == 0:
        return count
    return count / max(1.0, float(ewc_error(events, cautious=True)) ** 2 * events.size / plain)


def enough_at(events: Floats, plan: Plan) -> int:
    """Bars at the first planned look with `plan.min_events` effective events of either label; past the horizon while
    there is none. `events`: as `happened` returns them, in order of time.
    """
    looks = look_times(horizon=plan.horizon_bars, look_every=plan.look_every, min_n=plan.min_bars)
    for n in (n for n in looks if n <= events.shape[1]):
        if min(effective_events(side[:n]) for side in events) >= plan.min_events:
            return n
    return plan.horizon_bars + 1
