"""How far the equity fell, open trades included: the curve under water, every fall with its dates, the day's loss.

Equity is marked to market: cash and what open positions are worth now. A drawdown of closed trades alone hides the loss
that has not been taken yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, tzinfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.risk.limits import Measured
from mlops.stats import underwater
from mlops.stats.dependent import Floats

NIGHT = np.timedelta64(2, "h")  # longer than any lunch break of an exchange
NIGHTS = 10  # the last ones: the shortest of them is what a night is at least
DAY, DAILY = np.timedelta64(1, "D"), np.timedelta64(28, "h")  # closes of a day are closer than that
RECENT, SATURDAY, FORTNIGHT = 60, 5, np.timedelta64(14, "D")
EVERY_DAY = frozenset(range(7))  # Monday is 0
EPISODE = ("peak_at", "trough_at", "recovered_at", "depth", "bars", "days")
Instants = NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Drawdown:
    """Where a curve stands, kept up value by value in constant time; `after` gives the next one.

    `current` and `worst` are positive shares of the peak before them, NaN while no equity was positive; over 1 where
    more than all was lost. The worst fall: from `peak_at` to `trough_at`; `recovered_at` is None while its peak was not
    reached again. `since`: the peak from which the curve is under water now, None at a peak. `n` values were seen.

    Examples
    --------
    >>> at = datetime(2026, 1, 2, tzinfo=UTC)
    >>> curve = Drawdown().after(100.0, at).after(80.0, at + timedelta(1)).after(90.0, at + timedelta(2))
    >>> round(curve.current, 2), round(curve.worst, 2), curve.trough_at.day, curve.recovered_at
    (0.1, 0.2, 3, None)
    """

    current: float = math.nan
    worst: float = math.nan
    peak_at: datetime | None = None
    trough_at: datetime | None = None
    recovered_at: datetime | None = None
    since: datetime | None = None
    n: int = 0
    peak: float = -math.inf
    at: datetime | None = None
    top_at: datetime | None = None  # where the present peak was reached last

    def after(self, equity: float, at: datetime) -> Drawdown:
        """With one more value.

        Raises
        ------
        DataError
            `equity` is not finite, or `at` is not after the value before.
        """
        if not math.isfinite(equity):
            raise DataError(f"equity must be finite, got {equity}. Leave the instant out until every price is known.")
        if self.at is not None and at <= self.at:
            raise DataError(f"equity must come in order of time, got {at} after {self.at}. Sort it, once an instant.")
        counted = replace(self, n=self.n + 1, at=at)
        if equity >= self.peak:
            healed = self.recovered_at or (at if self.trough_at is not None else None)
            high = replace(counted, peak=equity, top_at=at, since=None, recovered_at=healed)
            return high if equity <= 0 else replace(high, current=0.0, worst=max(0.0, self.worst))
        if self.peak <= 0:
            return counted
        depth, since = 1 - equity / self.peak, self.top_at
        fell = replace(counted, current=depth, since=since)
        if depth <= self.worst:
            return fell
        return replace(fell, worst=depth, peak_at=since, trough_at=at, recovered_at=None)

    def raised(self, peak: float, at: datetime) -> Drawdown:
        """With a peak that was seen between its values; the next value is held against it."""
        return replace(self, peak=peak, top_at=at) if peak > self.peak else self

    def measured(self) -> Measured:
        """The present drawdown, as lines are drawn on it."""
        why = "" if math.isfinite(self.current) else "no equity was above zero yet"
        return Measured("drawdown", self.current, n=self.n, why=why)


def drawdown(equity: Floats, times: Instants) -> Drawdown:
    """The same for a whole curve.

    Parameters
    ----------
    equity : ndarray of shape (n,)
        Marked to market, finite, in money.
    times : ndarray of datetime64, shape (n,)
        UTC, rising.

    Raises
    ------
    DataError
        A value is not finite, or the times do not rise.
    """
    _refuse(equity, times)
    if equity.size == 0:
        return Drawdown()
    peak, top = _peaks(equity)
    last, at = float(peak[-1]), _aware(times[-1])
    whole = Drawdown(n=equity.size, peak=last, at=at, top_at=_aware(times[top[-1]]))
    begun = int(np.argmax(peak > 0)) if last > 0 else equity.size
    if begun == equity.size:
        return whole
    depth = underwater(equity[begun:])
    current, low = float(depth[-1]), begun + int(np.argmax(depth))
    since = _aware(times[top[-1]]) if equity[-1] < last else None
    whole = replace(whole, current=current, worst=float(depth.max()), since=since)
    if whole.worst == 0:
        return whole
    back = np.flatnonzero(equity[low:] >= peak[low])
    recovered = _aware(times[low + back[0]]) if back.size else None
    return replace(whole, peak_at=_aware(times[top[low]]), trough_at=_aware(times[low]), recovered_at=recovered)


def episodes(equity: Floats, times: Instants) -> pd.DataFrame:
    """Every fall from a peak, in order. Arguments as `drawdown`.

    Columns `peak_at`, `trough_at`, `recovered_at` (NaT while it lasts), `depth` (a positive share of the peak), `bars`
    and `days` from the peak to the recovery, or to the end.

    Values before the first positive peak belong to no fall.
    """
    _refuse(equity, times)
    peak, top = _peaks(equity)
    under = (equity < peak) & (peak > 0)
    edge = np.diff(np.concatenate([[False], under, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)
    rows = []
    for start, end in zip(starts, ends, strict=True):
        low, first, open_still = start + int(np.argmin(equity[start:end])), int(top[start]), end == equity.size
        last = end - 1 if open_still else end
        until = np.datetime64("NaT") if open_still else times[end]
        days = float((times[last] - times[first]) / np.timedelta64(1, "D"))
        depth = float(1 - equity[low] / peak[start])
        rows.append((times[first], times[low], until, depth, last - first, days))
    frame = pd.DataFrame(rows, columns=[*EPISODE])
    return frame.assign(**{c: pd.to_datetime(frame[c], utc=True) for c in EPISODE[:3]})


def last_close(
    as_of: datetime, close: time = time(0), zone: tzinfo = UTC, days: frozenset[int] = EVERY_DAY
) -> datetime:
    """The last close at or before `as_of`: at `close` by the clock of `zone`, on the weekdays `days` (Monday is 0).

    Examples
    --------
    >>> from zoneinfo import ZoneInfo
    >>> monday = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    >>> last_close(monday, time(16), ZoneInfo("America/New_York"), frozenset(range(5))).isoformat()
    '2026-01-02T21:00:00+00:00'
    """
    if not days <= EVERY_DAY or not days:
        raise DataError(f"days must be weekdays from 0 (Monday) to 6, got {sorted(days)}. Name at least one.")
    day = as_of.astimezone(zone).date()
    while True:
        at = datetime.combine(day, close, zone).astimezone(UTC)
        if day.weekday() in days and at <= as_of:
            return at
        day -= timedelta(days=1)


def session_start(times: Instants, as_of: datetime) -> int:
    """How many of a book's bars, in order of time, lie at or before the last close before `as_of`.

    A close is told by the bars alone: before a gap of `NIGHT` or more. Bars that are all so far apart are closes
    themselves. The gap after the last bar counts once it is nearly as long as nights are: shorter, bars may be late. A
    book whose bars never pause begins its day at midnight UTC.

    Examples
    --------
    >>> days = np.array(["2026-01-01T21:00", "2026-01-02T21:00"], dtype="datetime64[us]")
    >>> [session_start(days, datetime(2026, 1, day, 23, 30, tzinfo=UTC)) for day in (1, 2, 4)]
    [1, 2, 2]
    """
    now = np.datetime64(as_of.astimezone(UTC).replace(tzinfo=None), "us")
    known = times[: int(np.searchsorted(times, now, side="left"))]
    if known.size < 2:
        return int(known.size)
    gaps = np.diff(known)
    nights = gaps[gaps >= NIGHT]
    if 2 * nights.size >= gaps.size or (nights.size and now - known[-1] >= nights[-NIGHTS:].min() * 0.9):
        return int(known.size)
    if nights.size:
        return int(np.flatnonzero(gaps >= NIGHT)[-1]) + 1
    return int(np.searchsorted(known, now.astype("datetime64[D]"), side="right"))


def overdue(times: Instants, as_of: datetime) -> bool:
    """Whether the last close before `as_of` is more than one session old, by the rhythm of a book's own closes.

    The next one is due after the usual time between two, of daily ones not on a Saturday or Sunday without any bar in
    the last two weeks; it may be late by half a session. A single bar is one of a day.

    Examples
    --------
    >>> week = np.array([f"2026-01-{day:02}T21:00" for day in range(5, 10)], dtype="datetime64[us]")
    >>> [overdue(week, datetime(2026, 1, day, 15, tzinfo=UTC)) for day in (9, 10, 11, 12, 13)]
    [False, False, False, False, True]
    """
    closes, now = _closes(times, as_of), np.datetime64(as_of.astimezone(UTC).replace(tzinfo=None), "us")
    if not closes.size:
        return True
    gaps = np.diff(closes)
    session = max(np.sort(gaps)[gaps.size // 2], DAY) if gaps.size else DAY
    due, recent = closes[-1] + session, np.unique(times[times >= closes[-1] - FORTNIGHT].astype("datetime64[D]"))
    days = {_weekday(at) for at in recent}
    while session < DAILY and _weekday(due) >= SATURDAY and _weekday(due) not in days:
        due += DAY
    return bool(now > due + session / 2)


def _closes(times: Instants, as_of: datetime) -> Instants:
    """The last `RECENT` closes up to the one with which the day of `as_of` began."""
    known = times[: session_start(times, as_of)]
    gaps = np.diff(known)
    if 2 * (gaps >= NIGHT).sum() >= gaps.size:
        return known[-RECENT:]
    ends = np.append(known[:-1][gaps >= NIGHT], known[-1:]) if (gaps >= NIGHT).any() else known[-1:]
    return ends[-RECENT:]


def _weekday(at: np.datetime64) -> int:
    """Weekday of an instant: Monday is 0, and the epoch was a Thursday."""
    return int((at.astype("datetime64[D]").astype(int) + 3) % 7)


def daily_loss(equity: Floats, times: Instants, since: datetime, opening: float = math.nan) -> Measured:
    """Loss since the last close, as a share of the equity then; a gain is negative.

    Parameters
    ----------
    equity, times : as `drawdown`
    since : datetime
        The last close (`last_close`). The last value at or before it is what the day began with.
    opening : float
        What the books were opened with, where they are younger than `since`. Without it their loss is not known.
    """
    _refuse(equity, times)
    before = int(np.searchsorted(times, np.datetime64(since.astimezone(UTC).replace(tzinfo=None)), side="right"))
    today = equity.size - before
    start = float(equity[before - 1]) if before else opening
    if not equity.size or not start > 0:
        why = (
            "there is no equity yet" if not equity.size else f"there was no equity above zero at {since:%Y-%m-%d %H:%M}"
        )
        return Measured("daily_loss", math.nan, why=why)
    return Measured("daily_loss", 1 - float(equity[-1]) / start, n=today)


def _peaks(equity: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Running peak, and where it was reached last."""
    peak = np.maximum.accumulate(equity)
    return peak, np.maximum.accumulate(np.where(equity >= peak, np.arange(equity.size), 0))


def _refuse(equity: Floats, times: Instants) -> None:
    if equity.shape != times.shape or equity.ndim != 1:
        raise DataError(f"equity must have a time a value, got shapes {equity.shape} and {times.shape}. Give both.")
    if not np.isfinite(equity).all():
        raise DataError("equity must be finite, got NaN or infinity. Leave the instant out until every price is known.")
    if not (np.diff(times) > np.timedelta64(0)).all():
        raise DataError("equity must come in order of time, got times that do not rise. Sort it, once an instant.")


def _aware(at: np.datetime64) -> datetime:
    naive: datetime = at.astype("datetime64[us]").astype(object)
    return naive.replace(tzinfo=UTC)
