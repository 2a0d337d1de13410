"""One arm of a comparison: what a version said and earned, on its bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.stats import by_bar

Floats = NDArray[np.float64]
KEYS = ("version", "unit", "event_time")
ROW = ("probability", "label")  # one value a row
SCORING = "scoring_s"  # seconds, one value a scoring
BOOK = ("equity", "traded", "exposure")  # one value a bar


@dataclass(frozen=True, slots=True)
class Arm:
    """What one version said and earned, by column.

    `columns` have a value a row, in the order of `event_time` and `unit` (`scoring_s`: a value a scoring); `bar`
    numbers the bar of each row and `times` are theirs. `book` has a row a bar of its own and any of the columns
    `BOOK`; None where there is no book.
    """

    version: int
    times: pd.Index
    bar: NDArray[np.intp]
    unit: NDArray[np.object_]
    columns: Mapping[str, Floats]
    book: pd.DataFrame | None = None

    def __getitem__(self, column: str) -> Floats:
        if column in BOOK and self.book is not None:
            return self.book[column].to_numpy(dtype=np.float64)
        return self.columns[column]

    def has(self, column: str) -> bool:
        """Whether the column is there."""
        return column in self.columns or (column in BOOK and self.book is not None and column in self.book)

    def keys(self) -> pd.MultiIndex:
        """`event_time` and `unit` of each row."""
        return pd.MultiIndex.from_arrays([self.times[self.bar], self.unit], names=["event_time", "unit"])

    def a_bar(self, rows: Floats) -> pd.Series:
        """Mean over the rows of each bar, by time."""
        return pd.Series(by_bar(self.bar, rows) if rows.size else rows, index=self.times, dtype=np.float64)

    def returns(self) -> pd.Series:
        """Simple net return of the book over each bar but its first, by time."""
        equity = self["equity"]
        index = self.book.index[1:] if self.book is not None else self.times[1:]
        return pd.Series(np.diff(equity) / equity[:-1], index=index, dtype=np.float64)


def arms_of(
    matured: pd.DataFrame,
    books: Mapping[int, pd.DataFrame] | None = None,
    *,
    scorings: Mapping[int, Floats] | None = None,
    versions: Sequence[int] | None = None,
) -> dict[int, Arm]:
    """The arms of a comparison, by version.

    Parameters
    ----------
    matured : DataFrame
        Columns `version`, `unit`, `event_time` and any others, rows in any order; NaN is refused.
    books : mapping of version to DataFrame, optional
        Index `event_time`, ascending, and any of `equity` (> 0), `traded`, `exposure`.
    scorings : mapping of version to array, optional
        Seconds that each scoring took, of those that succeeded; in no order.
    versions : sequence of int, optional
        Those wanted, also without rows, in this order; by default all that have rows.

    Raises
    ------
    DataError
        A key is missing, a value that is read is not finite, or an equity is not positive.
    """
    if missing := [name for name in KEYS if name not in matured.columns]:
        raise DataError(f"matured must have the columns {missing}, got {list(matured)}. Pass the ledger's join.")
    read = [name for name in matured.columns if name in ROW]
    for version, book in (books or {}).items():
        _refuse(book[[name for name in book.columns if name in BOOK]], f"book of v{version}")
        if "equity" in book.columns and (book["equity"] <= 0).any():
            raise DataError(f"equity of v{version} must be positive, got {book['equity'].min()}. The book is ruined.")
    _refuse(matured[read], "matured")
    for version, seconds in (scorings or {}).items():
        _refuse(pd.DataFrame({SCORING: seconds}), f"scorings of v{version}")
    ordered = matured.sort_values(["event_time", "unit"], kind="stable")
    arms = {}
    for version in versions or sorted({int(number) for number in ordered["version"]}):
        rows = ordered[ordered["version"] == version]
        columns = {name: rows[name].to_numpy(dtype=np.float64) for name in read}
        if scorings is not None and version in scorings:
            columns[SCORING] = np.asarray(scorings[version], dtype=np.float64)
        arms[version] = _arm(version, rows, columns, (books or {}).get(version))
    return arms


def _arm(version: int, rows: pd.DataFrame, columns: Mapping[str, Floats], book: pd.DataFrame | None) -> Arm:
    bar, times = pd.factorize(rows["event_time"])
    return Arm(version, pd.Index(times, name="event_time"), bar, rows["unit"].to_numpy(dtype=object), columns, book)


def _refuse(table: pd.DataFrame, argument: str) -> None:
    if not np.isfinite(table.to_numpy(dtype=np.float64)).all():
        raise DataError(f"{argument} must be finite in {list(table.columns)}, got NaN. Pass matured rows only.")
