"""From rows to bars: units of one bar move together, so a bar counts once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlops.stats.dependent import Floats


def by_bar(bar: NDArray[np.intp], values: Floats) -> Floats:
    """Mean of `values` over the rows of each bar, shape (bars,), in order of the bar numbers 0, 1, ... (all present).

    Examples
    --------
    >>> import numpy as np
    >>> by_bar(np.array([1, 0, 1]), np.array([1.0, 5.0, 3.0]))
    array([5., 2.])
    """
    return np.bincount(bar, weights=values) / np.bincount(bar)


def constant_forecast(bar: NDArray[np.intp], label: Floats, base_rate: float | None = None) -> Floats:
    """What a forecaster without features would say of each row, shape (rows,).

    `base_rate` throughout; without one, the share of ones in the bars before the row's, half a one and half a zero
    added (Krichevsky and Trofimov 1981). Where labels span several bars the latter knows a little more than it could
    have, which is hard on the model, never kind.
    """
    if base_rate is not None:
        return np.full(label.size, base_rate)
    ones, rows = np.bincount(bar, weights=label), np.bincount(bar)
    before = (np.cumsum(ones) - ones + 0.5) / (np.cumsum(rows) - rows + 1.0)
    return np.asarray(before[bar], dtype=np.float64)
