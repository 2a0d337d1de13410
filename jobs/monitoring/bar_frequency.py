"""How often bars come. Folds, plans and charts count distinct closes: units that do not share theirs are refused.

The weekly looks count 252 bars a year, so that they refuse more frequent ones, too.
"""

from __future__ import annotations

import pandas as pd

from mlops.errors import DataError

LEAST_STEPS = 5  # from one bar of a unit to its next: of fewer, one odd close would be half
EXAMPLES = 3  # closes that an error names


def together(model: str, rows: pd.DataFrame) -> None:
    """Refuse rows of a model whose units close at different times.

    Odd closes are no matter: half days, daylight saving, a holiday of one market.

    Parameters
    ----------
    rows : DataFrame
        Columns `unit` and `event_time`, in any order; under six bars a unit say nothing.

    Raises
    ------
    DataError
        From one bar of a unit to its next, other units usually close in between.
    """
    bars = _bars(rows).sort_values("event_time", kind="stable")
    bars["count"] = pd.factorize(bars["event_time"])[0]
    steps = bars.groupby("unit")["count"].diff().groupby(bars["unit"])
    if bars.empty or steps.count().median() < LEAST_STEPS or (closes := float(steps.median().median())) <= 1:
        return
    a_day = float(bars.groupby(bars["event_time"].dt.date)["event_time"].nunique().median())
    got = f"{a_day:g} closes a day" if a_day > 1 else f"{closes:g} closes for each bar of a unit"
    raise DataError(
        f"units of {model} must close together, for its folds, plans and charts count every close as one bar, "
        f"got {got} ({_examples(bars)}). Bring all units to one close a day, or make a model per market."
    )


def daily(model: str, rows: pd.DataFrame) -> None:
    """Refuse rows of a model whose units have more than one bar a day, or do not close together.

    Parameters
    ----------
    rows : DataFrame
        Columns `unit` and `event_time`.

    Raises
    ------
    DataError
        Half of the days of its units or more have several bars; or as `together`.
    """
    if rows.empty:
        return
    bars = _bars(rows)
    a_day = float(bars.groupby([bars["unit"], bars["event_time"].dt.date]).size().median())
    if a_day > 1:
        raise DataError(
            f"bars of {model} must be daily or slower for its weekly looks, got {a_day:g} a day: their plans and rates "
            "count 252 bars a year. Let the bot predict one bar a day, or take the model out of the schedule."
        )
    together(model, rows)


def _bars(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["unit", "event_time"]].drop_duplicates()


def _examples(bars: pd.DataFrame) -> str:
    """Units that close at different times, the latest of them first."""
    last = bars.drop_duplicates("unit", keep="last")
    rows = last.assign(time=last["event_time"].dt.strftime("%H:%M"))
    rows = rows.sort_values(["event_time", "unit"], ascending=[False, True]).drop_duplicates("time").head(EXAMPLES)
    return ", ".join(f"{unit} at {time}" for unit, time in zip(rows["unit"], rows["time"], strict=True)) + " UTC"
