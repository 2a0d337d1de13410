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


def feature_names(frame: pd.DataFrame) -> tuple[str, ...]:
    """Every column but `event_time` and `unit`."""
    return tuple(str(c) for c in frame.columns if c not in KEYS)


def matrix(frame: pd.DataFrame, names: Sequence[str], what: str) -> Floats:
    """The named columns of a flat panel, shape (names, rows): always a copy, so that it may be sorted in place.

    Raises
    ------
    DataError
        `event_time` or a column is missing, or a value is NaN or infinite.
    """
    missing = [name for name in ("event_time", *names) if name not in frame.columns]
    if missing:
        raise DataError(f"{what} must have the columns {missing}, got {list(frame.columns)}. Store them with the rows.")
    table = np.array(_chosen(frame, list(names)).to_numpy(dtype=np.float64).T, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(table.sum())  # a tenth of the cost of asking each value; huge ones may overflow
    if suspicious and not np.isfinite(table).all():
        column, row = (int(i[0]) for i in np.nonzero(~np.isfinite(table)))
        got = f"{table[column, row]} in {names[column]}, row {row}"
        raise DataError(f"{what} must be finite, got {got}. Drop that row.")
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
