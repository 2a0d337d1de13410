"""Tables of (event_time, unit) rows, as the detectors read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError

Floats = NDArray[np.float64]
KEYS = ("event_time", "unit")


@dataclass(frozen=True, slots=True)
class Column:
    """One quantity of a panel: `values` and the `bar` (0, 1, ... in order of time) of each, both of shape (rows,)."""

    values: Floats
    bar: NDArray[np.intp]
    bars: int


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with `event_time` and `unit` as columns, wherever they were."""
    named = [name for name in frame.index.names if name in KEYS]
    return frame.reset_index(level=named) if named else frame


def feature_names(frame: pd.DataFrame) -> tuple[str, ...]:
    """Every column but `event_time` and `unit`."""
    return tuple(str(c) for c in frame.columns if c not in KEYS)


def columns(frame: pd.DataFrame, names: Sequence[str], what: str) -> dict[str, Column]:
    """The named columns of a flat panel.

    Raises
    ------
    DataError
        `event_time` or a column is missing, or a value is NaN or infinite.
    """
    missing = [name for name in ("event_time", *names) if name not in frame.columns]
    if missing:
        raise DataError(f"{what} must have the columns {missing}, got {list(frame.columns)}. Store them with the rows.")
    times, bar = np.unique(frame["event_time"].to_numpy(), return_inverse=True)
    table = frame[list(names)].to_numpy(dtype=np.float64, copy=False)
    if not np.isfinite(table).all():
        row, column = (int(i[0]) for i in np.nonzero(~np.isfinite(table)))
        got = f"{table[row, column]} in {names[column]}, row {row}"
        raise DataError(f"{what} must be finite, got {got}. Drop that row.")
    return {name: Column(table[:, i], bar, times.size) for i, name in enumerate(names)}
