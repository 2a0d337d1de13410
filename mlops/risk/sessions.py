"""One row of closes a session, for units whose bars close at different times of day, on different days, or more often.

Paired instant by instant, a European close beside an American one gives rows in which only one of the two moves: their
correlation is 0 whatever the truth, and the VaR of both is far too low. So bars are brought to common closes here, and
a unit that cannot be is left out with the reason. What a unit that closes earlier has still to do of a session's move
lies in its next bar: `synchronised` puts it back, by regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.risk.backfill import MIN_BARS, Floats

DAY = 24 * 3600 * 1_000_000  # microseconds
LEAST_SHARE = 2 / 3  # of the others' sessions: five of seven days are enough, one a week is not
HALF = 0.5  # of the units must have a bar, or it is no session; and of a unit's bars must have moved
CLOSED = 0.05  # of a usual weekday's bars: fewer, and the market never opens on that weekday
SAME_CLOSE = 0.02  # of a session: half an hour of a day; closer closes count as one
SEASON = 0.06  # of a session: an hour and a half of a day, more than a clock changes by
LEAST_RUN, BY_CHANCE = 10, 1e-6  # unchanged closes running that a unit's own past makes that unlikely: a stuck price
CUTS = 8  # pauses looked at: more exchanges than that close around the clock
LEAST_DAYS = 20  # bars that tell on which weekdays a market opens
Instants = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sessions:
    """Closes (T, N) at `times`, the last close of each session; NaN where a unit has no bar.

    `early` (N,): by how much of a session each unit closes before that, 0 to 1. `left_out`: unit -> why its returns
    must not be set beside the others'; its closes are there.
    """

    times: pd.DatetimeIndex
    closes: Floats
    early: Floats
    left_out: dict[str, str]


def sessions(bars: pd.DataFrame, units: Sequence[str]) -> Sessions:
    """Bring bars to common closes.

    A session is as long as the usual time between two bars of a unit (the higher median over units), and is cut where
    the units' closes leave the longest pause. A bar that comes more often counts by the last one before the session's
    close. Weekdays on which some unit's market never opens are no sessions: what moved meanwhile lies in the next one.

    Parameters
    ----------
    bars : DataFrame
        event_time (UTC), symbol, close; one bar a symbol and instant.

    Examples
    --------
    >>> days = pd.date_range("2026-03-02", periods=3, tz="UTC")
    >>> paris, york = days + pd.Timedelta(hours=16), days + pd.Timedelta(hours=21)
    >>> rows = [(at, "P", 10.0) for at in paris] + [(at, "N", 20.0) for at in york]
    >>> found = sessions(pd.DataFrame(rows, columns=["event_time", "symbol", "close"]), ["P", "N"])
    >>> found.closes.tolist(), found.early.round(3).tolist()
    ([[10.0, 20.0], [10.0, 20.0], [10.0, 20.0]], [0.208, 0.0])
    """
    rows = bars[bars["symbol"].isin(list(units))].sort_values("event_time", kind="stable")
    at = rows["event_time"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    unit = pd.Categorical(rows["symbol"], categories=list(units)).codes.astype(np.intp)
    times, period, left_out = _ends(at, unit, units)
    row = np.searchsorted(times, at)
    inside = row < len(times)
    stamps = np.full((len(times), len(units)), -1, dtype=np.int64)
    closes = np.full(stamps.shape, np.nan)
    # Of several bars of a session the last one stays: they ascend.
    stamps[row[inside], unit[inside]] = at[inside]
    closes[row[inside], unit[inside]] = rows["close"].to_numpy(dtype=np.float64)[inside]
    early = np.zeros(len(units))
    for i in range(len(units)):
        there = stamps[:, i] >= 0
        if there.any():
            early[i] = float(np.median(times[there] - stamps[there, i])) / period
    left_out |= _stuck(closes, units, left_out)
    index = pd.DatetimeIndex(times.astype("datetime64[us]")).tz_localize("UTC")
    return Sessions(index, closes, np.minimum(early, 1.0), left_out)


def synchronised(returns: Floats, early: Floats) -> Floats:
    """Returns (T, N) as if all units closed together.

    What a unit that closes earlier has still to move is expected from what those that close later did and its own bar
    does not explain, by least squares on its next bar; it is added to this bar and taken from the next one. Sums over
    time stay, and so does a table whose units close together. Where the next bar goes against the others' (a reversal
    is no late news) nothing is moved. On a driftless walk seen at two times of day the correlation comes out as that
    of the walk (tests/jobs/portfolio/test_returns.py).

    References
    ----------
    Burns, Engle and Mezrich (1998), Correlations and volatilities of asynchronous data, J. Derivatives 5, whose vector
    moving average this is with one regressor for all later units.
    """
    result = np.array(returns, dtype=np.float64)
    for i in np.flatnonzero(early > early.min(initial=np.inf) + SAME_CLOSE):
        own, news = returns[:, i], _news(returns[:, early < early[i] - SAME_CLOSE], returns[:, i])
        pairs = np.isfinite(news[:-1]) & np.isfinite(own[1:])
        if pairs.sum() < MIN_BARS or not (spread := float(news[:-1][pairs] @ news[:-1][pairs])) > 0:
            continue
        to_come = np.nan_to_num(news) * max(0.0, float(news[:-1][pairs] @ own[1:][pairs]) / spread)
        result[:, i] += to_come
        result[1:, i] -= to_come[:-1]
    return np.maximum(result, -1.0)


def _news(later: Floats, own: Floats) -> Floats:
    """What the mean of the later units did and the own bar does not explain, in the direction of the own moves."""
    count = np.isfinite(later).sum(axis=1)
    moved = np.divide(np.nansum(later, axis=1), count, out=np.full(len(later), np.nan), where=count > 0)
    both = np.isfinite(moved) & np.isfinite(own)
    slope = float(moved[both] @ own[both]) / max(float(own[both] @ own[both]), np.finfo(float).tiny)
    return np.where(both, np.sign(slope) * (moved - slope * own), np.nan)


def _ends(at: Instants, unit: NDArray[np.intp], units: Sequence[str]) -> tuple[Instants, int, dict[str, str]]:
    """The last close of each session, a session's length, and the units that have no part in it."""
    gaps = {i: _gap(at[unit == i]) for i in range(len(units))}
    known = sorted(gap for gap in gaps.values() if gap)
    if not known:
        return np.unique(at), DAY, {}
    period = known[len(known) // 2]
    coarse = [i for i, gap in gaps.items() if 2 * gap > period]  # of finer bars any close will do
    left_out = {units[i]: _no_clock(units[i]) for i in coarse if not _clock(at[unit == i], period)}
    own = np.isin(unit, [i for i in coarse if units[i] not in left_out])
    cell = (at - _cut(at[own], period)) // period
    rows, place = np.unique(cell[own], return_inverse=True)
    there = np.zeros((len(rows), len(units)), dtype=np.bool_)
    there[place, unit[own]] = True
    began = np.logical_or.accumulate(there, axis=0)
    alive = began & np.logical_or.accumulate(there[::-1], axis=0)[::-1]
    usual = there.sum(axis=1) >= HALF * np.maximum(alive.sum(axis=1), 1)
    for i in np.flatnonzero(there.any(axis=0)).tolist():
        life = usual & began[:, i]
        share = there[life, i].mean() if life.any() else 0.0
        if life.sum() >= LEAST_DAYS and share < LEAST_SHARE:
            left_out[units[i]] = (
                f"{units[i]} has a bar at {share:.0%} of the others' sessions, {LEAST_SHARE:.0%} are needed: "
                "load it as often as the others."
            )
    good = np.array([name not in left_out for name in units])
    usual &= _open(rows, there & good, period)
    ends = np.full(len(rows), -1, dtype=np.int64)
    np.maximum.at(ends, place, np.where(good[unit[own]], at[own], -1))
    usual &= (ends >= 0) & _complete(ends, there & good, at[own], unit[own], place, period)
    return ends[usual], period, left_out


def _gap(at: Instants) -> int:
    """The usual time between two bars, 0 where there are too few; a day's is a day whatever the season's clock."""
    gap = int(np.median(np.diff(at))) if len(at) > 2 else 0
    return DAY if abs(gap - DAY) < DAY / 6 else gap


def _cut(at: Instants, period: int) -> int:
    """Where a session begins: in the middle of a long pause of the circle on which closes lie.

    Of the pauses of half the longest one or more, that which leaves the fewest sessions: Tokyo and New York close on
    the same days, not New York and the Tokyo that follows, which has a Monday of its own.
    """
    begins, pauses = _pauses(at, period)
    cuts = ((begins + pauses // 2) % period)[2 * pauses >= pauses.max()]
    return min((len(np.unique((at - cut) // period)), int(cut)) for cut in cuts)[1]


def _pauses(at: Instants, period: int) -> tuple[Instants, Instants]:
    """Beginnings and lengths of the times at which nobody closes, the longest first."""
    phases = np.unique(at % period)
    lengths = np.diff(np.append(phases, phases[0] + period))
    order = np.argsort(-lengths, kind="stable")[:CUTS]
    return phases[order], lengths[order]


def _clock(at: Instants, period: int) -> bool:
    """Whether a unit's closes lie in one half of the circle, whatever the season's clock and short days."""
    return len(at) < LEAST_DAYS or 2 * int(_pauses(at, period)[1][0]) > period


def _no_clock(unit: str) -> str:
    return f"{unit} closes at no fixed time: load it with bars of one clock."


def _open(rows: Instants, there: NDArray[np.bool_], period: int) -> NDArray[np.bool_]:
    """Sessions on weekdays on which every unit's market opens."""
    if period > DAY:
        return np.ones(len(rows), dtype=np.bool_)
    weekday = (rows * period // DAY) % 7
    counts = np.array([there[weekday == day].sum(axis=0) for day in range(7)])
    never = (counts < CLOSED * counts.max(axis=0)) & (counts.sum(axis=0) >= LEAST_DAYS)
    return np.asarray(~never.any(axis=1)[weekday])


def _complete(
    ends: Instants,
    there: NDArray[np.bool_],
    at: Instants,
    unit: NDArray[np.intp],
    place: NDArray[np.intp],
    period: int,
) -> NDArray[np.bool_]:
    """All sessions but a last one in which a unit that closes later than any other so far has still to close."""
    whole = np.ones(len(ends), dtype=np.bool_)
    last = len(ends) - 1
    missing = (place == last - 1) & there[last - 1, unit] & ~there[last, unit] if last > 0 else np.zeros(0, np.bool_)
    if missing.any():
        due = int(at[missing].max()) + period
        whole[last] = due <= int(ends[last]) + SEASON * period
    return whole


def _stuck(closes: Floats, units: Sequence[str], left_out: dict[str, str]) -> dict[str, str]:
    """Units whose price does not move any more, or hardly ever did."""
    stuck = {}
    for i, name in enumerate(units):
        there = np.flatnonzero(np.isfinite(closes[:, i]))
        if name in left_out or len(there) < MIN_BARS:
            continue
        column = pd.Series(closes[there[0] :, i]).ffill().to_numpy()
        still = np.diff(column) == 0
        run = len(still) if still.all() else int(still[::-1].argmin())
        before = still[: len(still) - run].mean() if run < len(still) else 1.0
        if still.mean() > HALF:
            stuck[name] = f"{name} did not move at {still.mean():.0%} of its bars: no VaR can be had of them."
        elif run >= LEAST_RUN and before**run < BY_CHANCE:
            stuck[name] = f"{name} has had one price for {run} bars: its risk is not known."
    return stuck
