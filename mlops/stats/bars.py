"""From rows to bars: units of one bar move together, so a bar counts once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops.stats.dependent import Floats


def by_bar(event_time: NDArray[Any], values: Floats) -> tuple[NDArray[Any], Floats]:
    """Instants in order and the mean of `values` over the rows of each: shapes (bars,), (bars,).

    Examples
    --------
    >>> import numpy as np
    >>> by_bar(np.array([2, 1, 2]), np.array([1.0, 5.0, 3.0]))
    (array([1, 2]), array([5., 2.]))
    """
    times, bar = np.unique(event_time, return_inverse=True)
    return times, np.bincount(bar, weights=values) / np.bincount(bar)


def constant_forecast(event_time: NDArray[Any], label: Floats, base_rate: float | None = None) -> Floats:
    """What a forecaster without features would say of each row, shape (rows,).

    `base_rate` throughout; without one, the share of ones in the bars before the row's, half a one and half a zero
    added (Krichevsky and Trofimov 1981). Where labels span several bars the latter knows a little more than it could
    have, which is hard on the model, never kind.
    """
    if base_rate is not None:
        return np.full(label.size, base_rate)
    _, bar = np.unique(event_time, return_inverse=True)
    ones, rows = np.bincount(bar, weights=label), np.bincount(bar)
    before = (np.cumsum(ones) - ones + 0.5) / (np.cumsum(rows) - rows + 1.0)
    return np.asarray(before[bar], dtype=np.float64)
