"""Which quotes are prices: a spread too wide is none, and a jump waits until something confirms it.

A *mark* is the last confirmed price of a unit. A quote within its usual move of the mark is the next mark. One that
jumped is not, until quotes have stood beyond the jump for `Trust.confirm`, or a fill agrees with a quote. Quotes must
come throughout that time: a silence counts for half of it at most, so that a slow feed needs three. The mark then moves
by the least of what was quoted in that time, so that a spike on top of a true move is not taken with it. A jump by a
ratio of splits is confirmed by neither: quotes and fills look the same after a split and after a crash.

Several units that jump together confirm nothing: a feed that is wrong is often wrong in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

DAY = timedelta(days=1)
WEEK = 7 * DAY  # a mark that is older allows a fill no larger move
AT_ONCE = timedelta(minutes=5)  # a longer pause lets a market move further, and makes a bad tick no rarer
SPLITS = range(2, 21)  # of 2 to 20 for 1, either way: nearly all that were ever made
SPLIT_ERROR = 0.03  # how far from its ratio a split is seen: what a stock usually moves beside it
QUOTE, FILL, BAR = "quote", "fill", "bar"


class Mark(NamedTuple):
    """A confirmed price, and when it was seen."""

    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """What one source said of a unit at an instant; a fill and a bar have their price as bid and ask."""

    at: datetime
    bid: float
    ask: float
    source: str = QUOTE


@dataclass(frozen=True, slots=True)
class Trust:
    """Limits of what is believed at once. Fractions of the price; `volatility` is the unit's own, a calendar day.

    `signed`: the price may be negative (a future's). `splits`: the unit may be split (a share). `level`: of a price
    nearer to zero, fractions are of this. `unbid`: where nobody bids, an ask up to this is as close as a spread may be.
    """

    spread: float = 0.05
    floor: float = 0.01
    sigmas: float = 5.0
    volatility: float = 0.02
    confirm: timedelta = timedelta(seconds=5)
    signed: bool = False
    splits: bool = True
    level: float = 0.0
    unbid: float = 0.0

    def scale(self, value: float) -> float:
        """What fractions of a price are taken of."""
        return max(abs(value), self.level)

    def usual(self, elapsed: timedelta) -> float:
        """The largest move that one observation is believed, after `elapsed`; a larger one has to be confirmed."""
        return self._move(min(abs(elapsed), AT_ONCE))

    def possible(self, elapsed: timedelta) -> float:
        """The largest move that a market may well have made in `elapsed`: a fill beyond it needs a second word."""
        return self._move(min(abs(elapsed), WEEK))

    def _move(self, elapsed: timedelta) -> float:
        return max(self.floor, self.sigmas * self.volatility * math.sqrt(elapsed / DAY))


@dataclass(frozen=True, slots=True)
class Jump:
    """A price that is not confirmed: the newest, its time, and `since` when all prices have been beyond the mark.

    `sustained`: it has stood for long enough to count, but for `split`, the ratio of a split that it looks like
    (2.0: two of today's price make the mark, 0.5: the mark is half of it; NaN: like none).
    """

    value: float
    at: datetime
    since: datetime
    sustained: bool = False
    split: float = math.nan


@dataclass(frozen=True, slots=True)
class Assessed:
    """The mark after some observations, what jumped away from it, and the last quote where that is no price."""

    mark: Mark | None
    jump: Jump | None = None
    unusable: Observation | None = None


def price(observation: Observation, mark: Mark | None, trust: Trust) -> float:
    """What an observation says the price is; NaN where it says nothing new.

    The middle, where bid and ask are close, or nobody bids and next to nothing is asked (`Trust.unbid`). A wide or
    one-sided quote is a range: the price is its edge next to the mark, and it says nothing where the mark is within.
    Crossed, infinite and (but for a future's) quotes without a positive ask say nothing.

    Examples
    --------
    >>> at, quotes = datetime(2026, 1, 2), ((149.0, 151.0), (0.01, 150.0), (0.01, 120.0))
    >>> [price(Observation(at, *quote), Mark(150.0, at), Trust()) for quote in quotes]
    [150.0, nan, 120.0]
    """
    bid, ask = observation.bid, observation.ask
    if not (math.isfinite(bid) and math.isfinite(ask)) or bid > ask or (ask <= 0 and not trust.signed):
        return math.nan
    middle = bid + (ask - bid) / 2
    if bid == 0 < ask <= trust.unbid:
        return middle
    if (bid > 0 or trust.signed) and ask - bid <= trust.spread * trust.scale(middle):
        return middle
    if mark is None or bid <= mark.value <= ask:
        return math.nan
    return bid if mark.value < bid else ask


def assess(mark: Mark | None, observations: Sequence[Observation], trust: Trust, known: Jump | None = None) -> Assessed:
    """The mark after observations that came later than it.

    Parameters
    ----------
    mark : Mark or None
        None: nothing was seen before, the first price is taken as it is.
    observations : sequence of Observation
        In order of time, the newest last. Where the newest is a jump, enough of those before to see it confirmed.
    known : Jump, optional
        What had jumped away from this mark before.

    Examples
    --------
    >>> at = datetime(2026, 1, 2)
    >>> found = assess(Mark(100.0, at), [Observation(at + timedelta(seconds=1), 299.0, 301.0)], Trust())
    >>> found.mark.value, found.jump.value
    (100.0, 300.0)
    """
    priced = [(o, value) for o in observations if not math.isnan(value := price(o, mark, trust))]
    unusable = observations[-1] if observations and (not priced or priced[-1][0] is not observations[-1]) else None
    if not priced:
        return Assessed(mark, unusable=unusable)
    newest = Mark(priced[-1][1], priced[-1][0].at)
    if mark is None or not jumped(mark, newest, trust):
        return Assessed(newest, unusable=unusable)
    run = _run(mark, priced, trust)
    stood = _stood(run, trust)
    level = min((stood or run)[::-1], key=lambda pair: abs(pair[1] - mark.value))
    least = Mark(level[1], level[0].at)
    split = split_of(mark, least, trust, known)
    if math.isnan(split) and _agreed(run, trust):
        return Assessed(newest, unusable=unusable)
    if math.isnan(split) and stood:
        return assess(least, [o for o in observations if o.at > least.at], trust)  # of another mark nothing is known
    return Assessed(mark, Jump(*newest, run[0][0].at, bool(stood), split), unusable)


def split_of(mark: Mark, newest: Mark, trust: Trust, known: Jump | None = None) -> float:
    """The ratio of the split that a jump looks like; NaN where it looks like none.

    One that did is still one where the share may well have moved so far since: time settles no split.
    """
    if not trust.splits:
        return math.nan
    split = split_ratio(mark.value, newest.value)
    if math.isnan(split) and known is not None and not math.isnan(known.split):
        moved = abs(newest.value * known.split / mark.value - 1)
        if moved <= SPLIT_ERROR + trust.possible(newest.at - known.since):
            return known.split
    return split


def split_ratio(before: float, after: float) -> float:
    """Old price over new one, as the ratio of splits that it is next to; NaN where it is next to none.

    Examples
    --------
    >>> split_ratio(100.0, 50.5), split_ratio(10.0, 30.0), split_ratio(100.0, 60.0)
    (2.0, 0.3333333333333333, nan)
    """
    if not (before > 0 and after > 0):
        return math.nan
    factor = max(before / after, after / before)
    n = min(SPLITS, key=lambda ratio: abs(factor / ratio - 1))
    if abs(factor / n - 1) > SPLIT_ERROR:
        return math.nan
    return float(n) if before > after else 1 / n


def jumped(mark: Mark, newest: Mark, trust: Trust) -> bool:
    """Whether a price is too far from the mark to be believed at once."""
    return abs(newest.value - mark.value) > trust.usual(newest.at - mark.at) * trust.scale(mark.value)


def _run(mark: Mark, priced: Sequence[tuple[Observation, float]], trust: Trust) -> list[tuple[Observation, float]]:
    """The last observations that all jumped to the side of the newest."""
    up, run = priced[-1][1] > mark.value, list[tuple[Observation, float]]()
    for observation, value in reversed(priced):
        if (value > mark.value) != up or not jumped(mark, Mark(value, observation.at), trust):
            break
        run.append((observation, value))
    return run[::-1]


def _stood(run: Sequence[tuple[Observation, float]], trust: Trust) -> Sequence[tuple[Observation, float]]:
    """The last observations that have stood for long enough together; none where they have not."""
    total = timedelta(0)
    for i in range(len(run) - 1, -1, -1):
        if total >= trust.confirm:
            return run[i:]
        if i:
            total += min(run[i][0].at - run[i - 1][0].at, trust.confirm / 2)
    return []


def _agreed(run: Sequence[tuple[Observation, float]], trust: Trust) -> bool:
    """Whether the last fill and the last quote say the same."""
    last = {o.source: Mark(value, o.at) for o, value in run}
    return {QUOTE, FILL} <= last.keys() and not jumped(last[QUOTE], last[FILL], trust)
