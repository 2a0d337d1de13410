"""Labels, and when each can be known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlops.learn.strategy import Strategy


def table(strategy: Strategy, bars: pd.DataFrame) -> pd.DataFrame:
    """One row a labelled bar.

    Parameters
    ----------
    bars : frame with BAR_COLUMNS

    Returns
    -------
    DataFrame
        event_time, unit, label (0.0 or 1.0), value (the unit's simple return over the next bar, what a position taken
        at the close earns first), known_at (when the unit's bar `horizon` later, and every one before it, was known: a
        bar that arrives late holds up the labels that are made of it). Sorted by event_time, unit.
    """
    parts = []
    for unit, rows in bars.sort_values("event_time").groupby("symbol", sort=True):
        close = rows["close"].to_numpy(dtype=np.float64)
        returns = np.concatenate([[np.nan], close[1:] / close[:-1] - 1])
        rows = rows.reset_index(drop=True)
        part = pd.DataFrame(
            {
                "event_time": rows["event_time"],
                "unit": unit,
                "label": strategy.label(returns),
                "value": np.append(returns[1:], np.nan),
                "known_at": rows["known_at"].cummax().shift(-strategy.horizon),
            }
        )
        parts.append(part.dropna())
    return pd.concat(parts, ignore_index=True).sort_values(["event_time", "unit"], ignore_index=True)
