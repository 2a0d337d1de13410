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
        at the close earns first), known_at (when all of the unit's bars that the label is made of were known, the one
        `horizon` later as the last, as a rule: a bar that arrives late, or is revised, holds up the labels that are
        made of it). Sorted by event_time, unit.
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
                "known_at": _known_at(strategy, rows["known_at"]),
            }
        )
        parts.append(part.dropna())
    return pd.concat(parts, ignore_index=True).sort_values(["event_time", "unit"], ignore_index=True)


def _known_at(strategy: Strategy, bars: pd.Series) -> pd.Series:
    """When the last bar was known of those that the label at each bar of a unit is made of."""
    if strategy.label_past is None:
        return bars.cummax().shift(-strategy.horizon)
    span = strategy.label_past + 1 + strategy.horizon
    times = pd.DatetimeIndex(bars).as_unit("us")
    latest = pd.Series(times.asi8).rolling(span, min_periods=1).max()
    known = pd.DatetimeIndex(latest.to_numpy(np.int64).view("M8[us]")).tz_localize("UTC")
    return pd.Series(known, index=bars.index).astype(bars.dtype).shift(-strategy.horizon)
