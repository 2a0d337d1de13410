"""Silence of a bot or a feed, against the clock of its own past: no calendar is needed, and no weekend is an alarm.

What came in the same hours of the weeks before is what should have come since the last row. Summer time moves a bar by
an hour against UTC; where it did, the bar is looked for at both hours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from mlops.types import Finding, Level

WEEK = timedelta(days=7)
WEEKS = 4  # weeks that are looked at: one with a holiday among them tells of fewer bars, and the fewest count
LEAST = 3  # bars without which nobody has a clock
# Of the world, and of the two summer times that most exchanges keep.
ZONES = (ZoneInfo("UTC"), ZoneInfo("America/New_York"), ZoneInfo("Europe/London"))

Instants = NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long silence is nothing to tell.

    Attributes
    ----------
    bars : int
        Bars that may be missing.
    late : timedelta
        How late a bar may be beside its usual time.
    unknown : timedelta
        Silence that is told where there is no week of rows behind it, from the last row or from `since` on.
    """

    bars: int
    late: timedelta
    unknown: timedelta


def silence(
    name: str, times: Instants, since: datetime | None, now: datetime, patience: Patience, *, lag: timedelta
) -> Finding:
    """Bars that are missing at `now`; ALERT from `patience.bars` on, UNKNOWN while there is no row at all.

    Parameters
    ----------
    times : datetime64[us] array, UTC, ascending
        Event times of the distinct bars of the past, as far back as they are kept in memory.
    since : datetime or None
        From when on rows are due: a champion's promotion. None: nothing is due before the first row.
    lag : timedelta
        How long after its event time a row usually comes.

    Returns
    -------
    Finding
        `value` bars are missing (NaN where there is no clock to count by); `n` rows make the clock; `params` has `last`
        and `quiet_s`, the seconds since.
    """
    past = times[times <= _stored(now)]
    last = _instant(past[-1]) if len(past) else None
    start = last or since
    if start is None:
        return Finding(name, math.nan, patience.bars, Level.UNKNOWN, 0, note="nothing has come yet")
    quiet = now - start - (lag if last else timedelta(0))
    expected = missing(past, now - lag - patience.late) if last else math.nan
    if math.isnan(expected):
        level = Level.ALERT if quiet >= patience.unknown else Level.OK if last else Level.UNKNOWN
    else:
        level = Level.ALERT if expected >= patience.bars else Level.OK
    params = {"last": last.isoformat() if last else "", "since": start.isoformat(), "quiet_s": quiet.total_seconds()}
    note = _note(last, start, quiet, expected)
    return Finding(name, expected, patience.bars, level, len(past), params, note=note)


def missing(times: Instants, until: datetime) -> float:
    """Bars that came between the last one and `until` in the weeks before, the fewest of them; NaN without a week."""
    last = _instant(times[-1])
    quiet = until - last
    if quiet <= timedelta(0):
        return 0.0
    step = WEEK * max(1, math.ceil(quiet / WEEK))
    counts = [
        _between(times, _earlier(last, step * week, zone), _earlier(until, step * week, zone))
        for week in range(1, WEEKS + 1)
        for zone in ZONES
        if len(times) >= LEAST and _instant(times[0]) <= last - step * week
    ]
    return float(min(counts)) if counts else math.nan


def _earlier(at: datetime, back: timedelta, zone: ZoneInfo) -> datetime:
    """The same hour on the clocks on the walls, so long before."""
    return (at.astimezone(zone) - back).astimezone(UTC)  # arithmetic within a zone is that of its wall clock


def _between(times: Instants, start: datetime, end: datetime) -> int:
    """Bars after `start` and until `end`."""
    first, after = np.searchsorted(times, [_stored(start), _stored(end)], side="right")
    return max(int(after - first), 0)


def _note(last: datetime | None, start: datetime, quiet: timedelta, expected: float) -> str:
    if last is None:
        return f"nothing has come since {start:%Y-%m-%d %H:%M} UTC"
    due = "" if math.isnan(expected) or not expected else f", {expected:.0f} bars are missing"
    return f"the last came at {last:%Y-%m-%d %H:%M} UTC, {_age(quiet)} ago{due}"


def _age(quiet: timedelta) -> str:
    """How long, in the largest unit that has two of it."""
    seconds = max(quiet.total_seconds(), 0.0)
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _stored(at: datetime) -> np.datetime64:
    return np.datetime64(at.replace(tzinfo=None), "us")


def _instant(at: np.datetime64) -> datetime:
    instant: datetime = at.astype("datetime64[us]").item()
    return instant.replace(tzinfo=UTC)


def instants(times: Sequence[datetime]) -> Instants:
    """Instants as an array."""
    return np.array([_stored(at) for at in times], dtype="datetime64[us]")
