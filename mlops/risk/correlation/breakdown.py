"""Is diversification going away? One statistic of the whole market, and an alarm whose chance is known.

A pair's correlation over 60 days wanders so far by chance alone that some pair of twenty "breaks" on most days. The
mean over all pairs does not. `mlops.risk.correlation.threshold` says how far it goes while nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import nan

import numpy as np

from mlops.risk.correlation.matrices import Floats, checked_returns, correlation, deviations, mean_of_pairs, taken
from mlops.risk.correlation.threshold import EDGE, RELEASE, Calibration, complete, level, shifts
from mlops.types import Finding, Level

BREAKDOWN = 0.5  # the user's default: change of a pair's correlation that counts as one
UNITS_APART = 1.25  # a threshold serves up to a quarter more units than it was made for, or fewer


class State(StrEnum):
    CALM = "calm"
    SHIFTING = "shifting"  # further than on 95 % of quiet days, up or down: no alarm
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Where correlation stands, and the numbers behind it.

    `mean` and `before`: mean Spearman correlation of all pairs over the last window and over the one before it.
    `shift`: by how much it rose, on the scale of `threshold`. `from_volatility`: the part of `mean - before` that would
    follow from the market's variance alone, with every unit's beta and own risk as they were before. `pairs_changed`:
    share of pairs whose correlation moved by more than `BREAKDOWN`; it is shown and decides nothing.
    """

    state: State
    shift: float
    threshold: float
    mean: float
    before: float
    from_volatility: float
    pairs_changed: float
    units: int
    n: int
    note: str

    @property
    def finding(self) -> Finding:
        levels = {State.CALM: Level.OK, State.SHIFTING: Level.WARN, State.BROKEN: Level.ALERT}
        params = {"mean": self.mean, "before": self.before, "from_volatility": self.from_volatility}
        return Finding(
            "correlation_breakdown",
            self.shift,
            self.threshold,
            levels.get(self.state, Level.UNKNOWN),
            self.n,
            {**params, "pairs_changed": self.pairs_changed, "units": self.units, "state": self.state.value},
            note=self.note,
        )


def breakdown(
    returns: Floats, calibration: Calibration, *, last: State = State.UNKNOWN, limit: float = BREAKDOWN
) -> Breakdown:
    """Did the mean correlation of the last window rise over that of the window before it, further than chance goes?

    The shift is the difference of log((1 + (k - 1) r) / (1 - r)), r the mean Spearman correlation of k units: Fisher's
    transformation for k measurements, whose error does not depend on r. Null: correlation is constant, volatility is
    not. Error rate: `calibration.chance_per_year`, measured in tests/calibration. Assumes that a day, freed of its
    volatility, says nothing of the next. Only a rise can be an alarm; a fall as far is "shifting".

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Simple returns, oldest first; the last two windows are used. NaN: no bar, see `correlation`.
    last : State
        At the bar before: an alarm lasts until the rise is half gone.
    limit : float
        Change of a pair's correlation that is counted in `pairs_changed`.

    References
    ----------
    Fisher (1925), Statistical Methods for Research Workers, ch. 7 (intraclass); Forbes and Rigobon (2002), Journal of
    Finance 57 (correlation rises with variance).
    """
    window, table = calibration.window, checked_returns(returns)
    if len(table) < 2 * window:
        return _unknown(calibration, len(table), f"{len(table)} days, {2 * window} needed")
    past, now = table[-2 * window : -window], table[-window:]
    earlier, later = correlation(past, "spearman"), correlation(now, "spearman")
    both = np.intersect1d(earlier.columns, later.columns)
    if len(both) < 2:
        return _unknown(calibration, len(table), f"{len(both)} units moved on both windows' days, 2 needed")
    a, b = (taken(side.matrix, np.searchsorted(side.columns, both)) for side in (earlier, later))
    before, mean = mean_of_pairs(a), mean_of_pairs(b)
    shift = float(level(mean, len(both)) - level(before, len(both)))
    state = advance(last, shift, calibration)
    if _others(calibration, len(both)):
        state = State.UNKNOWN
    volatility = _from_volatility(past[:, both], now[:, both])
    moved = np.abs(np.subtract(b, a, out=a), out=a)  # in place: fresh memory costs more than the sums
    changed = int(np.count_nonzero(moved > limit)) / (len(both) * (len(both) - 1))
    return Breakdown(
        state,
        shift,
        calibration.threshold,
        mean,
        before,
        volatility,
        changed,
        len(both),
        2 * window,
        _note(state, calibration, mean, before, volatility, len(both)),
    )


def advance(last: State, shift: float, calibration: Calibration) -> State:
    """The state after one more day."""
    if not calibration.known:
        return State.UNKNOWN
    if shift > calibration.threshold * (RELEASE if last is State.BROKEN else 1.0):
        return State.BROKEN
    return State.SHIFTING if abs(shift) > calibration.shifting else State.CALM


def states(returns: Floats, calibration: Calibration) -> Iterator[tuple[State, float]]:
    """State and shift of each day from day 2 windows on, by one calibration; days on which a unit has no bar are left
    out.

    The last one is what `breakdown` takes as `last`.
    """
    table, last = complete(checked_returns(returns))[0], State.UNKNOWN
    if len(table) < 2 * calibration.window or table.shape[1] < 2:
        return
    for shift in shifts(table, calibration.window).tolist():
        last = advance(last, shift, calibration)
        yield last, shift


def _others(calibration: Calibration, units: int) -> bool:
    """Whether the units are too many more, or fewer, than those that the threshold was made for."""
    few, many = sorted((units, calibration.units))
    return many > UNITS_APART * few


def _from_volatility(past: Floats, now: Floats) -> float:
    """Rise of the mean correlation in a one-factor market whose variance went from that of `past` to that of `now`."""
    before, scale = deviations(past)
    scale = np.where(scale > 0, scale, 1.0)
    before, after = before / scale, deviations(now)[0] / scale
    market = before.mean(axis=1)
    variance, later = float(np.var(market)), float(np.var(after.mean(axis=1)))
    if not variance > 0:
        return 0.0
    beta = (market @ before) / (len(before) * variance)
    own = np.maximum(1 - beta**2 * variance, EDGE)
    return _one_factor(beta, own, later) - _one_factor(beta, own, variance)


def _one_factor(beta: Floats, own: Floats, variance: float) -> float:
    load = beta * np.sqrt(variance) / np.sqrt(beta**2 * variance + own)
    return float((load.sum() ** 2 - (load**2).sum()) / (len(load) * (len(load) - 1)))


def _unknown(calibration: Calibration, n: int, why: str) -> Breakdown:
    return Breakdown(State.UNKNOWN, nan, calibration.threshold, nan, nan, nan, nan, 0, n, why)


def _note(state: State, calibration: Calibration, mean: float, before: float, volatility: float, units: int) -> str:
    words = f"mean correlation of {units} units {mean:.2f}, {calibration.window} days before {before:.2f}"
    if state is not State.UNKNOWN:
        return f"{words}; {volatility:+.2f} of {mean - before:+.2f} would follow from the market's variance alone"
    why = calibration.note or f"calibrated for {calibration.units} units: calibrate again"
    return f"{words}; no threshold: {why}"
