"""Tables of (event_time, unit) rows, as the detectors read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError

Floats = NDArray[np.float64]
KEYS = ("event_time", "unit")


@dataclass(frozen=True, slots=True)
class Column:
    """One quantity of a panel: `values` and the `bar` (0, 1, ... in order of time) of each, both of shape (rows,).

    `ordered` are the values again, ascending, and `ordered_bar` their bars: sorted once for all detectors.
    """

    values: Floats
    bar: NDArray[np.intp]
    bars: int
    ordered: Floats = field(init=False, repr=False, compare=False)
    ordered_bar: NDArray[np.intp] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        order = np.argsort(self.values)
        object.__setattr__(self, "ordered", self.values[order])
        object.__setattr__(self, "ordered_bar", self.bar[order])


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
    bar, times = instants(frame)
    table = frame[list(names)].to_numpy(dtype=np.float64, copy=False)
    if not np.isfinite(table).all():
        row, column = (int(i[0]) for i in np.nonzero(~np.isfinite(table)))
        got = f"{table[row, column]} in {names[column]}, row {row}"
        raise DataError(f"{what} must be finite, got {got}. Drop that row.")
    return {name: Column(np.ascontiguousarray(table[:, i]), bar, len(times)) for i, name in enumerate(names)}


def instants(frame: pd.DataFrame) -> tuple[NDArray[np.intp], pd.Index]:
    """The bar number of each row, and the instants in order."""
    bar, times = pd.factorize(frame["event_time"], sort=True)
    return bar, pd.Index(times)
