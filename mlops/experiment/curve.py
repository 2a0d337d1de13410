"""The shadow book of an arm, from its matured predictions: what it would have earned, net of costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Position = Callable[[NDArray[np.float64]], NDArray[np.float64]]
BOOK_COLUMNS = ("equity", "traded", "exposure", "fees")


def equity_curve(scored: pd.DataFrame, position: Position, cost_rate: float) -> pd.Series:
    """Equity of a book that holds `position(probability) / units` of each unit from one bar to the next.

    Parameters
    ----------
    scored : DataFrame
        One version's rows: `event_time`, `unit`, `probability`, and `value`, the unit's simple return over the next
        bar. A unit without a row at a bar is not held over it.
    position : callable
        Probabilities -> target weight of a unit before it is shared among the units, -1 to 1.
    cost_rate : float
        Fraction of the traded value, paid when weights change.

    Returns
    -------
    Series
        Index `event_time`; 1.0 before the first bar, so the first value already holds its return. Empty for no rows.
    """
    return shadow_curve(scored, position, cost_rate)["equity"]


def shadow_curve(scored: pd.DataFrame, position: Position, cost_rate: float) -> pd.DataFrame:
    """The book of `equity_curve` bar by bar.

    Parameters
    ----------
    scored, position, cost_rate
        As `equity_curve`.

    Returns
    -------
    DataFrame
        Index `event_time`, ascending. `equity` as there; `traded` and `fees` in the money of `equity`; `exposure`:
        sum of the absolute weights that were held over the bar, a share of equity.
    """
    if scored.empty:
        return pd.DataFrame({name: pd.Series(dtype=np.float64) for name in BOOK_COLUMNS})
    weight = position(scored["probability"].to_numpy(dtype=np.float64))
    table = scored[["event_time", "unit", "value"]].assign(weight=weight)
    wide = table.pivot(index="event_time", columns="unit", values=["weight", "value"]).fillna(0.0)
    held, earned = wide["weight"].to_numpy() / wide["weight"].shape[1], wide["value"].to_numpy()
    traded = np.abs(np.diff(held, axis=0, prepend=np.zeros((1, held.shape[1])))).sum(axis=1)
    equity = np.cumprod(1 + (held * earned).sum(axis=1) - cost_rate * traded)
    before = np.concatenate([[1.0], equity[:-1]])
    book = {
        "equity": equity,
        "traded": traded * before,
        "exposure": np.abs(held).sum(axis=1),
        "fees": cost_rate * traded * before,
    }
    return pd.DataFrame(book, index=wide.index)
