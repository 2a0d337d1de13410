"""Walk-forward splits, purged by the label's horizon and embargoed, and the refusal of anything that overlaps.

The newest block can be held out: what was predicted there, by models that saw what came before it, is the only honest
record of a version, for search and calibration were fitted on every earlier test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

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


@dataclass(frozen=True, slots=True)
class Split:
    """Folds to choose and calibrate by, and folds of the block that was held out from all of that."""

    search: list[Fold]
    held_out: list[Fold]  # empty where history is too short


@dataclass(frozen=True, slots=True)
class Scheme:
    """How rows are split: walk-forward folds, and the newest bars held out from them.

    Parameters
    ----------
    folds : int
        Of the search, and steps in which the block that is held out is walked forward.
    horizon, embargo : int
        Bars of a label, and bars that are left out beside it wherever training ends and a test begins.
    share, least : float, int
        Of the bars that are held out, and how many at least.
    most : int
        A block is no longer, whatever its share.
    remain : int
        Bars that the search must keep: nothing is held out where fewer would be left.
    """

    folds: int
    horizon: int
    embargo: int
    share: float
    least: int
    most: int
    remain: int

    def split(self, rows: pd.DataFrame) -> Split:
        """Folds of `rows`; nothing that the search sees was known after the block that is held out began.

        Each step of the block is scored by a model of all that was known before it, as a version is fitted on all that
        is known when it is made.

        Parameters
        ----------
        rows : DataFrame
            event_time and known_at (of the label), sorted by event_time.

        Raises
        ------
        DataError
            As `walk_forward`.
        """
        times, bar = np.unique(rows["event_time"].to_numpy(), return_inverse=True)
        gap, length = self.horizon + self.embargo, self._length(len(times))
        given = {"folds": self.folds, "horizon": self.horizon, "embargo": self.embargo}
        if not self._fits(len(times)):
            return Split(walk_forward(rows, **given), [])
        begin = rows["event_time"].iloc[int(np.searchsorted(bar, len(times) - length))]
        early = np.flatnonzero((bar < len(times) - length - gap) & (rows["known_at"] < begin).to_numpy())
        searched = [Fold(early[f.train], early[f.test]) for f in walk_forward(rows.iloc[early], **given)]
        steps = TimeSeriesSplit(self.folds, gap=gap, test_size=length // self.folds).split(times)
        return Split(searched, [_purged(rows, *_rows(bar, *pair)) for pair in steps])

    @property
    def bars_needed(self) -> int:
        """Labelled bars from which on any are held out."""
        return next(bars for bars in count(self.least) if self._fits(bars))

    def _length(self, bars: int) -> int:
        """Bars of the block; whole steps."""
        return -(-max(self.least, min(self.most, round(self.share * bars))) // self.folds) * self.folds

    def _fits(self, bars: int) -> bool:
        gap = self.horizon + self.embargo
        return bars - self._length(bars) - gap >= max(self.remain, _fewest(self.folds, gap))


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
    if len(times) < (need := _fewest(folds, gap)):
        raise DataError(f"rows must have at least {need} bars for {folds} folds, got {len(times)}. Take fewer folds.")
    return [_purged(rows, *_rows(bar, *pair)) for pair in TimeSeriesSplit(folds, gap=gap).split(times)]


def refuse_overlap(train_known_at: pd.Series, test_event_time: pd.Series) -> None:
    """Raise LeakError where a training label was not known before the test began."""
    last, first = train_known_at.max(), test_event_time.min()
    if last >= first:
        raise LeakError(
            f"training labels must be known before the test begins ({first}), got {last}. Purge by the horizon."
        )


def _fewest(folds: int, gap: int) -> int:
    """Bars that so many folds take."""
    return (folds + 1) * (gap + 2)


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
