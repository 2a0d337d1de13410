"""Tables of (event_time, unit) rows, as the detectors read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError

Floats = NDArray[np.float64]
KEYS = ("event_time", "unit")


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with `event_time` and `unit` as columns, wherever they were."""
    named = [name for name in frame.index.names if name in KEYS]
    return frame.reset_index(level=named) if named else frame


def last_window(frame: pd.DataFrame, *, rows: int, bars: int) -> pd.DataFrame:
    """The newest `rows` rows of a panel in order of time, or those of its newest `bars` bars, whichever are more.

    Examples
    --------
    >>> days = pd.date_range("2000-01-01", periods=5, tz="UTC").repeat(2)
    >>> [len(last_window(pd.DataFrame({"event_time": days}), rows=n, bars=2)) for n in (3, 5)]
    [4, 5]
    """
    times = frame["event_time"]
    newest = times.drop_duplicates().iloc[-bars:]
    within = int((times >= newest.iloc[0]).sum()) if len(newest) else 0
    return frame.iloc[-max(rows, within) :]


def newest_bars(frame: pd.DataFrame, *, rows: int, bars: int) -> pd.DataFrame:
    """The last window, as `last_window` has it, without a bar that would be cut."""
    cut = len(frame) - len(last_window(frame, rows=rows, bars=bars))
    return frame.loc[frame["event_time"] > frame["event_time"].iloc[cut - 1]] if cut else frame


def feature_names(frame: pd.DataFrame) -> tuple[str, ...]:
    """Every column but `event_time` and `unit`."""
    return tuple(str(c) for c in frame.columns if c not in KEYS)


def matrix(frame: pd.DataFrame, names: Sequence[str], source: str) -> Floats:
    """The named columns of a flat panel, shape (names, rows): always a copy, so that it may be sorted in place.

    Raises
    ------
    DataError
        `event_time` or a column is missing, or a value is NaN or infinite.
    """
    missing = [name for name in ("event_time", *names) if name not in frame.columns]
    if missing:
        raise DataError(
            f"{source} must have the columns {missing}, got {list(frame.columns)}. Store them with the rows."
        )
    table = np.array(_chosen(frame, list(names)).to_numpy(dtype=np.float64).T, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(table.sum())  # a tenth of the cost of asking each value; huge ones may overflow
    if suspicious and not np.isfinite(table).all():
        column, row = (int(i[0]) for i in np.nonzero(~np.isfinite(table)))
        got = f"{table[column, row]} in {names[column]}, row {row}"
        raise DataError(f"{source} must be finite, got {got}. Drop that row.")
    return table


def _chosen(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The named columns; without a copy where they lie side by side."""
    if not names:
        return frame[names]
    first = frame.columns.tolist().index(names[0])
    beside = frame.iloc[:, first : first + len(names)]
    return beside if beside.columns.tolist() == names else frame[names]


def instants(frame: pd.DataFrame) -> tuple[NDArray[np.intp], pd.Index]:
    """The bar number of each row, and the instants in order."""
    bar, times = pd.factorize(frame["event_time"], sort=True)
    return bar, pd.Index(times)
