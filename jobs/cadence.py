"""How often bars come. The weekly looks count 252 bars a year: more frequent ones are refused."""

from __future__ import annotations

import pandas as pd

from mlops.errors import DataError


def daily(model: str, rows: pd.DataFrame) -> None:
    """Refuse rows of a model whose units have more than one bar a day.

    Parameters
    ----------
    rows : DataFrame
        Columns `unit` and `event_time`. Units may close at different times of the day.

    Raises
    ------
    DataError
        Half of the days of its units or more have several bars.
    """
    if rows.empty:
        return
    bars = rows[["unit", "event_time"]].drop_duplicates()
    a_day = float(bars.groupby([bars["unit"], bars["event_time"].dt.date]).size().median())
    if a_day > 1:
        raise DataError(
            f"bars of {model} must be daily or slower for its weekly looks, got {a_day:g} a day: their plans and rates "
            "count 252 bars a year. Let the bot predict one bar a day, or take the model out of the schedule."
        )
