"""How far the mean correlation strays while nothing changes: the statistic over history, and the null of its alarm.

The null is that correlation is constant while volatility does what it likes. Days are drawn from the past as they were,
all units together and freed of their volatility, and are given volatility paths of the past anew. So the units' number,
their joint tails and the wildness of their volatility are those of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan, nan

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.risk.correlation.matrices import DECAY, LEAST_SHARE, WINDOW, Floats, checked_returns, doubled_ranks

ALARMS_PER_YEAR = 1.0  # the user's default: alarms that a person wants to hear, true and false
CHANCE = 0.1  # at most this share of them may be chance: with the default, one false alarm in ten years
RELEASE = 0.5  # of the threshold: an alarm ends where the rise is half gone, so that it does not flicker
QUIET = 0.95  # share of quiet days that are called calm
LEAST_DAYS = 250  # to calibrate: a year; under it the tail of a joint day is unknown
YEARS = 200  # simulated: 20 false alarms at the default, which puts the threshold right to about 3 %
PATH_DAYS = 500  # judged in each simulated path
MOST_UNITS = 100  # in a simulated world: more hardly change the law of the mean, and 100 err on the quiet side
BARS_PER_YEAR = 252
EDGE = 1e-3  # as near as a mean correlation is let to its bounds
FLOOR = 0.1  # of a unit's volatility: a price that was stuck for weeks does not make the next move infinite


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where the alarm is; `asdict` is JSON. NaN thresholds mean that there was too little to calibrate, see `note`.

    `threshold` and `shifting` are shifts (see `breakdown`). `chance_per_year`: alarms a year by chance alone, simulated
    at the threshold. `units` and `days` were used.
    """

    threshold: float
    shifting: float
    chance_per_year: float
    units: int
    days: int
    window: int
    note: str = ""

    @property
    def known(self) -> bool:
        return not isnan(self.threshold)


def calibrate(
    returns: Floats,
    *,
    rng: np.random.Generator,
    window: int = WINDOW,
    alarms_per_year: float = ALARMS_PER_YEAR,
    bars_per_year: int = BARS_PER_YEAR,
    years: int = YEARS,
) -> Calibration:
    """The threshold at which a tenth of the permitted alarms would come by chance, from what is known so far.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Simple returns, oldest first, all that is known. NaN: no bar. Units with under 90 % of the days are left out,
        then days on which one of the others has none. Under 250 days or 2 units the result is unknown.
    alarms_per_year : float
        True and false ones together. A tenth is the rate under constant correlation; whether the rest suffices for what
        the market does is measured in benchmarks/correlation.py.

    Raises
    ------
    DataError
        No finite table, or a rate that is not positive.
    """
    if not alarms_per_year > 0:
        raise DataError(f"alarms_per_year must be positive, got {alarms_per_year}. One a year is the default.")
    table, days = complete(checked_returns(returns))
    units = table.shape[1]
    if days < LEAST_DAYS or units < 2:
        note = f"{days} days with {units} units that move, {LEAST_DAYS} and 2 needed"
        return Calibration(nan, nan, nan, units, days, window, note)
    if units > MOST_UNITS:
        table = table[:, np.sort(rng.choice(units, MOST_UNITS, replace=False))]
    paths = max(1, ceil(years * bars_per_year / PATH_DAYS))
    quiet = shifts(_quiet_world(table, 2 * window + PATH_DAYS - 1, paths, rng), window)
    asked = CHANCE * alarms_per_year / bars_per_year * quiet.size
    threshold = _threshold(quiet, asked)
    rate = _alarms(quiet, threshold) / quiet.size * bars_per_year
    shifting = max(float(np.quantile(np.abs(quiet), QUIET)), EDGE)
    return Calibration(threshold, shifting, rate, units, days, window)


def mean_rank_correlation(returns: Floats, window: int = WINDOW) -> Floats:
    """Mean Spearman correlation of all pairs, over each window.

    Parameters
    ----------
    returns : ndarray of shape (T, ..., N)
        Without NaN; the axes between are worlds.

    Returns
    -------
    ndarray of shape (T - window + 1, ...)
        Of the pairs that move in the window; 0 where there is none. Ranks are moved on, not made anew: the work is
        window x N a day.
    """
    return _means(returns, window)[0]


def shifts(returns: Floats, window: int = WINDOW) -> Floats:
    """The statistic of `breakdown` for each day from day 2 windows on; shapes as `mean_rank_correlation`."""
    mean, units = _means(returns, window)
    at = level(mean, units)
    return np.asarray(at[window:] - at[:-window])


def _means(returns: Floats, window: int) -> tuple[Floats, Floats]:
    days = np.array(returns[:window])
    ranks = doubled_ranks(days.reshape(window, -1)).reshape(days.shape).astype(np.float32)
    shape = (len(returns) - window + 1, *returns.shape[1:-1])
    mean, units = np.zeros(shape), np.zeros(shape)
    for t in range(shape[0]):
        away = ranks - np.float32(window + 1)  # twice the mean rank, ties or not
        length = np.sqrt((away * away).sum(axis=0))
        moving = length > 0
        summed = (away / np.where(moving, length, 1)).sum(axis=-1)
        k = moving.sum(axis=-1)
        units[t], mean[t] = k, ((summed**2).sum(axis=0) - k) / np.maximum(k * (k - 1), 1)
        if t + window < len(returns):
            _move(ranks, days, t % window, returns[t + window])
    return mean, units


def _move(ranks: NDArray[np.float32], days: Floats, place: int, new: Floats) -> None:
    old = days[place].copy()
    ranks -= days > old
    ranks -= days >= old
    days[place] = new
    higher, as_high = days > new, days >= new
    ranks += higher
    ranks += as_high
    ranks[place] = 2.0 * len(days) - higher.sum(axis=0) - as_high.sum(axis=0) + 1


def level(mean: Floats | float, units: Floats | int) -> Floats:
    k = np.asarray(units)
    return np.asarray(np.log(np.maximum(1 + (k - 1) * mean, EDGE) / np.maximum(1 - np.asarray(mean), EDGE)))


def _quiet_world(table: Floats, length: int, paths: int, rng: np.random.Generator) -> Floats:
    """Constant correlation, real volatility: shape (length, paths, units)."""
    volatility = _volatility(table)
    joint = (table / volatility)[rng.integers(len(table), size=(length, paths))]
    start = rng.integers(len(table), size=paths)
    return np.asarray(joint * volatility[(start + np.arange(length)[:, None]) % len(table)])


def _volatility(table: Floats) -> Floats:
    """Volatility of each day, known the day before: exponentially weighted, (T, N)."""
    variance = np.empty_like(table)
    now = np.mean(table[:WINDOW] ** 2, axis=0)
    for t, row in enumerate(table):
        variance[t] = now
        now = DECAY * now + (1 - DECAY) * row**2
    return np.asarray(np.sqrt(np.maximum(variance, FLOOR**2 * np.mean(table**2, axis=0))))


def _alarms(shift: Floats, threshold: float) -> int:
    """Onsets over all paths, shape (days, paths)."""
    on, count = np.zeros(shift.shape[1], dtype=bool), 0
    for over, lasting in zip(shift > threshold, shift > RELEASE * threshold, strict=True):
        count += int((over & ~on).sum())
        on = over | (on & lasting)
    return count


def _threshold(quiet: Floats, asked: float) -> float:
    """The least one with at most so many alarms."""
    low, high = 0.0, float(max(quiet.max(), EDGE))
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if _alarms(quiet, middle) > asked else (low, middle)
    return max(high, EDGE)


def complete(table: Floats) -> tuple[Floats, int]:
    """Units with enough days that move, on the days that all of them have."""
    present = ~np.isnan(table)
    enough = present.sum(axis=0) >= LEAST_SHARE * len(table) if len(table) else np.zeros(table.shape[1], dtype=bool)
    table = table[:, enough]
    table = table[~np.isnan(table).any(axis=1)]
    table = table[:, np.ptp(table, axis=0) > 0] if len(table) else table
    return table, len(table)
