"""Sizing on the way: what a bot asks at each bar."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from math import isfinite, nan

import numpy as np

from mlops.errors import DataError
from mlops.risk.correlation.breakdown import State, breakdown
from mlops.risk.correlation.matrices import WINDOW, Floats
from mlops.risk.correlation.sizing import Sized, SizingLimits, forecast, size
from mlops.risk.correlation.threshold import ALARMS_PER_YEAR, LEAST_DAYS, Calibration, calibrate
from mlops.risk.sessions import synchronised

RECALIBRATED = 250  # bars between two calibrations: a year
HISTORY = 2000  # bars that are kept: eight years


class Sizer:
    """Sizing bar by bar, by what was known at each: the returns so far, and a threshold calibrated on them once a year.

    Units whose bars close at different times come in several updates a session. They share a row: an update begins a
    new one where it brings a unit that the last row has. Who came earlier is `synchronised` with who came later.

    Parameters
    ----------
    seed : int
        Of the calibrations; with the bar's number it makes each of them the same in every run.

    Examples
    --------
    >>> sizer = Sizer(SizingLimits(max_weight=0.1))
    >>> sizer.update({"A": 10.0, "B": 20.0})
    >>> sizer.size({"A": 0.3}).weights.tolist()  # no history yet: only the caps hold
    [0.1]
    """

    def __init__(
        self,
        limits: SizingLimits | None = None,
        *,
        window: int = WINDOW,
        alarms_per_year: float = ALARMS_PER_YEAR,
        seed: int = 0,
    ) -> None:
        self.limits, self.window, self.alarms_per_year = limits or SizingLimits(), window, alarms_per_year
        self.state, self._seed = State.UNKNOWN, seed
        self._units: dict[str, int] = {}
        self._turns: dict[str, int] = {}  # unit -> which update of its session it came in
        self._turn = 0
        self._closes: dict[str, float] = {}
        self._returns: deque[Floats] = deque(maxlen=HISTORY)
        self._calibration, self._bars, self._due = Calibration(nan, nan, nan, 0, 0, window), 0, LEAST_DAYS

    def update(self, closes: Mapping[str, float]) -> None:
        """One closed bar, a price a unit; a unit that is not named has none today.

        Raises
        ------
        DataError
            A price is not positive and finite.
        """
        for unit, close in closes.items():
            if not (close > 0 and isfinite(close)):
                raise DataError(f"close of {unit} must be positive and finite, got {close}. Leave the unit out today.")
        moved = {unit: close / self._closes[unit] - 1 for unit, close in closes.items() if unit in self._closes}
        self._closes |= closes
        self._units |= {unit: len(self._units) + i for i, unit in enumerate(u for u in moved if u not in self._units)}
        if not self._joins(moved):
            self._returns.append(np.empty(0))
            self._bars, self._turn = self._bars + 1, 0
        row = np.full(len(self._units), nan)
        row[: len(self._returns[-1])] = self._returns[-1]
        row[[self._units[unit] for unit in moved]] = list(moved.values())
        self._returns[-1] = row
        self._turns |= dict.fromkeys(moved, self._turn)
        self._turn += 1
        if self._bars >= self._due:
            self._calibrate()
        now = breakdown(self._table(2 * self.window), self._calibration, last=self.state)
        self.state = now.state

    def _joins(self, moved: Mapping[str, float]) -> bool:
        """Whether an update belongs to the session of the last row: it has some units, and none of these."""
        last = self._returns[-1] if self._returns else np.empty(0)
        there = [self._units[unit] < len(last) and isfinite(last[self._units[unit]]) for unit in moved]
        return bool(np.isfinite(last).any()) and bool(there) and not any(there)

    def size(self, wanted: Mapping[str, float]) -> Sized:
        """Weights of the units wanted, in that order."""
        table = self._table(self.window)
        own = np.full((len(table), len(wanted)), nan)
        for i, unit in enumerate(wanted):
            if unit in self._units:
                own[:, i] = table[:, self._units[unit]]
        known = forecast(own, state=self.state, window=self.window)
        return size(np.array(list(wanted.values()), dtype=np.float64), known, self.limits)

    def _calibrate(self) -> None:
        calibration = calibrate(
            self._table(HISTORY),
            rng=np.random.default_rng([self._seed, self._bars]),
            window=self.window,
            alarms_per_year=self.alarms_per_year,
            bars_per_year=self.limits.bars_per_year,
        )
        if calibration.known:
            self._calibration = calibration
        self._due = self._bars + (RECALIBRATED if calibration.known else self.window)

    def _table(self, bars: int) -> Floats:
        """The last bars, NaN where a unit had none or was not there yet."""
        rows = list(islice(reversed(self._returns), bars))[::-1]
        table = np.full((len(rows), len(self._units)), nan)
        for t, row in enumerate(rows):
            table[t, : len(row)] = row
        turns = np.array([self._turns.get(unit, 0) for unit in self._units], dtype=np.float64)
        return synchronised(table, turns.max() - turns) if turns.any() else table
