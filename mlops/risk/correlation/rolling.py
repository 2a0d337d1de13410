"""Correlation one day at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from mlops.errors import DataError
from mlops.risk.correlation.matrices import (
    DECAY,
    LEAST_DAYS,
    WINDOW,
    Correlation,
    Floats,
    Kind,
    ages,
    assembled,
    checked_returns,
    correlation,
)


class RollingCorrelation:
    """The same, one day at a time. Exact on every day: nothing is carried on but the window (and whole-numbered ranks).

    Examples
    --------
    >>> rolling = RollingCorrelation(window=20)
    >>> rng = np.random.default_rng(1)
    >>> for _ in range(20):
    ...     now = rolling.update({"A": rng.normal(), "B": rng.normal()})
    >>> [rolling.units[i] for i in now.columns], now.matrix.shape
    (['A', 'B'], (2, 2))
    """

    def __init__(self, window: int = WINDOW, kind: Kind = "pearson", *, decay: float = DECAY) -> None:
        if window < LEAST_DAYS:
            raise DataError(f"window must be at least {LEAST_DAYS} days, got {window}. Take a longer one.")
        self.window, self.kind, self.decay = window, kind, decay
        self.units: list[str] = []
        self._column: dict[str, int] = {}
        self._days, self._ranks = np.empty((window, 0)), np.empty((window, 0))
        self._seen = 0

    def update(self, day: Mapping[str, float]) -> Correlation:
        """One day's simple returns by unit; `left_out` and `kept` count along `units`.

        A unit that is not named has no bar today. A new one joins once it has 90 % of the window, one without any bar
        in the window is forgotten.
        """
        self._widen([unit for unit in day if unit not in self._column])
        row = np.full(len(self.units), np.nan)
        row[[self._column[unit] for unit in day]] = checked_returns(np.array([list(day.values())], dtype=np.float64))[0]
        place = self._seen % self.window
        if self.kind == "spearman":
            _move_ranks(self._ranks, self._days, place, row)
        self._days[place] = row
        self._seen += 1
        self._forget()
        return self._now()

    def _now(self) -> Correlation:
        held = min(self._seen, self.window)
        values = (self._ranks if self.kind == "spearman" else self._days)[:held]
        if self.kind == "spearman":
            values = np.where(np.isnan(self._days[:held]), np.nan, values)
        if self.kind != "ewma":
            return assembled(values, self.kind, None)
        age = (self._seen - 1 - np.arange(held)) % self.window
        return assembled(values, self.kind, ages(age, self.decay))

    def _widen(self, units: list[str]) -> None:
        if units:
            self._column |= {unit: len(self.units) + i for i, unit in enumerate(units)}
            self.units += units
            empty = np.full((self.window, len(units)), np.nan)
            self._days, self._ranks = np.hstack([self._days, empty]), np.hstack([self._ranks, empty])

    def _forget(self) -> None:
        gone = np.asarray(np.isnan(self._days).all(axis=0))
        if gone.any():
            self._days, self._ranks = self._days[:, ~gone], self._ranks[:, ~gone]
            self.units = [unit for unit, out in zip(self.units, gone.tolist(), strict=True) if not out]
            self._column = {unit: i for i, unit in enumerate(self.units)}


def rolling_correlation(returns: Floats, window: int = WINDOW, kind: Kind = "pearson") -> Iterator[Correlation]:
    """`correlation` of every full window of `returns`, shape (T, N): T - window + 1 of them, oldest first."""
    table = checked_returns(returns)
    for end in range(window, len(table) + 1):
        yield correlation(table[end - window : end], kind)


def _move_ranks(ranks: Floats, days: Floats, place: int, row: Floats) -> None:
    """The row at `place` goes out of the doubled ranks and the new one comes in. Comparisons with NaN are false."""
    old = days[place]
    ranks -= np.add(days > old, days >= old, dtype=np.float64)
    fresh = np.isnan(days)
    higher, as_high = days > row, days >= row
    higher[place] = as_high[place] = False
    ranks += np.add(higher, as_high, dtype=np.float64)
    below, equal = days < row, days == row
    below[place] = equal[place] = False
    ranks[fresh] = 0.0  # of days without a bar: never read
    ranks[place] = 2.0 * below.sum(axis=0) + equal.sum(axis=0) + 2.0
