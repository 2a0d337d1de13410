"""Walk-forward splits, purged by the label's horizon and embargoed, and the refusal of anything that overlaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import TimeSeriesSplit

from mlops.errors import DataError, LeakError


@dataclass(frozen=True, slots=True)
class Fold:
    """Row numbers of one split of a table."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def walk_forward(rows: pd.DataFrame, *, folds: int, horizon: int, embargo: int) -> list[Fold]:
    """Folds over unique times: each trains on the past, leaves `horizon + embargo` bars out, tests on what follows.

    A label that comes later than `horizon` bars, as where a symbol pauses, is purged from the folds that it overlaps.

    Parameters
    ----------
    rows : DataFrame
        event_time and known_at (of the label), sorted by event_time.

    Raises
    ------
    DataError
        Too few bars for so many folds, or none whose label was known in time.
    """
    times, bar = np.unique(rows["event_time"].to_numpy(), return_inverse=True)
    gap = horizon + embargo
    if len(times) < (need := (folds + 1) * (gap + 2)):
        raise DataError(f"rows must have at least {need} bars for {folds} folds, got {len(times)}. Take fewer folds.")
    return [_purged(rows, *_rows(bar, *pair)) for pair in TimeSeriesSplit(folds, gap=gap).split(times)]


def refuse_overlap(train_known_at: pd.Series, test_event_time: pd.Series) -> None:
    """Raise LeakError where a training label was not known before the test began."""
    last, first = train_known_at.max(), test_event_time.min()
    if last >= first:
        raise LeakError(
            f"training labels must be known before the test begins ({first}), got {last}. Purge by the horizon."
        )


def _purged(rows: pd.DataFrame, train: NDArray[np.intp], test: NDArray[np.intp]) -> Fold:
    known_at, begin = rows["known_at"].iloc[train], rows["event_time"].iloc[test[0]]
    fold = Fold(train[(known_at < begin).to_numpy()], test)
    if not len(fold.train):
        raise DataError(f"labels must be known before the test begins ({begin}), got none. Give more history.")
    refuse_overlap(rows["known_at"].iloc[fold.train], rows["event_time"].iloc[fold.test])
    return fold


def _rows(bar: NDArray[np.intp], train: NDArray[np.intp], test: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for bars in (train, test):
        yield np.flatnonzero((bar >= bars[0]) & (bar <= bars[-1]))
