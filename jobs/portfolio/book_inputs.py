"""What moves books, read from frames: scores by bar and version, fills with their versions, bars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.books.book import SCALE, exact
from mlops.books.virtual import Bar, BarScores
from mlops.errors import DataError
from mlops.experiment import Fill
from mlops.types import LARGEST

By = dict[datetime, dict[int, BarScores]]
Was = dict[datetime, dict[int, str]]


@dataclass(frozen=True, slots=True)
class Refused:
    """A fill that stands in the ledger and that no book can take, and why."""

    fill_id: str
    unit: str
    why: str


@dataclass(frozen=True, slots=True)
class Units:
    """What fills are booked by: multipliers other than 1, splits by time; units that cannot be read, and why.

    `foreign`: the currency of each unit that is in another one than the books.
    """

    multipliers: Mapping[str, float] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
    splits: Sequence[Fill] = ()
    told_at: Mapping[int, datetime] = field(default_factory=dict)  # when a person told of each split, by its number

    def between(self, start: datetime | None, end: datetime) -> list[Fill]:
        """The splits after an instant (None: all), until another."""
        return [split for split in self.splits if split.at and (start is None or start < split.at) and split.at <= end]

    def known(self, start: datetime | None, as_of: datetime) -> list[Fill]:
        """The same until `as_of`, of which a person had told by then."""
        return [split for split in self.between(start, as_of) if self.told_at.get(split.number, as_of) <= as_of]

    def late(self, fill: Fill, taken: datetime | None) -> Fill:
        """A fill as it is booked by who has taken the splits until `taken`: of units of then, at the same value."""
        for split in () if taken is None or fill.at is None else self.between(None, taken):
            if split.unit == fill.unit and split.at and fill.at and fill.at < split.at:
                fill = resized(fill, split.split)
        return fill


def filled(
    rows: pd.DataFrame, units: Units, taken: datetime | None = None
) -> tuple[list[tuple[Fill, int]], list[Refused]]:
    """Fills with the version that each was traded by, in the order of `rows`; and those that cannot be booked.

    `taken`: the last bar of their book, whose splits are in it.
    """
    times = [_aware(at) for at in _naive(rows["event_time"])]
    names = ("fill_id", "unit", "id", "version", "quantity", "price", "fee")
    fills, refused = list[tuple[Fill, int]](), list[Refused]()
    for at, row in zip(times, rows[list(names)].itertuples(index=False), strict=True):
        fill_id, unit, number, version, *numbers = row
        try:
            fill = units.late(_fill(unit, at, int(number), numbers, units), taken)
            fills.append((fill, int(version)))
        except DataError as error:
            refused.append(Refused(fill_id, unit, str(error)))
    return fills, refused


def resized(fill: Fill, ratio: Fraction | None) -> Fill:
    """The same trade in units of after a split."""
    if ratio is None:
        return fill
    return replace(fill, quantity=round(fill.quantity * ratio), price=fill.price / float(ratio))


def _fill(unit: str, at: datetime, number: int, numbers: Sequence[float], units: Units) -> Fill:
    """A fill that every book can take; raises DataError."""
    quantity, price, fee = numbers
    if unit in units.unusable:
        raise DataError(units.unusable[unit])
    if not abs(price) < LARGEST:  # also NaN
        raise DataError(f"price of {unit} must be under {LARGEST:g} either way, got {price}. Void the fill.")
    fill = Fill(unit, exact(quantity), price, exact(fee), 0, at, number, units.multipliers.get(unit, 1.0))
    if abs(fill.value) >= LARGEST * SCALE:
        value = fill.value / SCALE
        raise DataError(f"value of a fill of {unit} must be under {LARGEST:g}, got {value:g}. Void the fill.")
    return fill


def scores_by_bar(
    scores: pd.DataFrame,
) -> tuple[By, Was]:
    """What was said, and what each version was then, by bar and version. `scores` are sorted by time and version."""
    times, versions = _naive(scores["event_time"]), scores["version"].to_numpy()
    units, roles, probability = scores["unit"].to_numpy(), scores["role"].to_numpy(), scores["probability"].to_numpy()
    known = _naive(scores["known_at"])
    by_bar: dict[datetime, dict[int, BarScores]] = defaultdict(dict)
    was: dict[datetime, dict[int, str]] = defaultdict(dict)
    for start, end in _runs((times[1:] != times[:-1]) | (versions[1:] != versions[:-1]), len(times)):
        bar, version = _aware(times[start]), int(versions[start])
        by_bar[bar][version] = BarScores(
            units[start:end].tolist(), probability[start:end], _aware(known[start:end].max())
        )
        was[bar][version] = roles[start]
    return dict(by_bar), dict(was)


def book_bars(bars: pd.DataFrame, since: datetime, as_of: datetime) -> list[Bar]:
    """Bars from `since` on that were known at `as_of`."""
    rows = bars.iloc[bars["event_time"].searchsorted(pd.Timestamp(since)) :]
    rows = rows[(rows["event_time"] <= as_of) & (rows["known_at"] <= as_of)]
    times, known = _naive(rows["event_time"]), _naive(rows["known_at"])
    symbols, prices, ordered = rows["symbol"].tolist(), rows["close"].tolist(), list[Bar]()
    for start, end in _runs(times[1:] != times[:-1], len(times)):
        named = dict(zip(symbols[start:end], prices[start:end], strict=True))
        ordered.append(Bar(_aware(times[start]), _aware(known[start:end].max()), named))
    return ordered


def _runs(changes: NDArray[np.bool_], n: int) -> Iterable[tuple[int, int]]:
    """Where equal neighbours start and end."""
    if n == 0:
        return ()
    starts = [0, *(np.flatnonzero(changes) + 1).tolist()]
    return zip(starts, [*starts[1:], n], strict=True)


def _naive(column: pd.Series) -> NDArray[Any]:
    utc: NDArray[Any] = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return utc


def _aware(at: np.datetime64) -> datetime:
    naive: datetime = at.astype(object)
    return naive.replace(tzinfo=UTC)
