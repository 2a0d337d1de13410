"""What an estimate and a test say, in one shape for all of them. NaN means unknown, and the note says why."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan, nan
from typing import Literal

from scipy.special import ndtri

from mlops.errors import DataError

ALPHA = 0.05  # the user's default: chance of a false alarm under the null
POWER = 0.8  # the user's default: chance to see an effect that is there
MOST_ROWS = 10**9  # more than this is "never", not a plan

Alternative = Literal["two-sided", "less", "greater"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value` of the quantity `name` over `n` rows, with a two-sided interval from `low` to `high`."""

    name: str
    value: float
    low: float
    high: float
    n: int
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there was enough to say anything."""
        return not isnan(self.value)


@dataclass(frozen=True, slots=True)
class HypothesisTest:
    """What one test of one null hypothesis found.

    `p_value` is NaN where the rows do not allow a test, and `note` says what is missing; it also warns where the
    approximation is poor. `effect` is the size of what was tested, its interval always two-sided at `1 - alpha`. `n`
    rows were used (pairs for paired tests, else both samples together). `n_needed`: rows, counted alike, at which the
    test would see the present estimate, were it the truth, with 80 % power; None where that is never or not computed.
    It says how long to wait, not whether the effect is real.
    """

    name: str
    statistic: float
    p_value: float
    effect: Estimate
    n: int
    n_needed: int | None = None
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there was enough for a test."""
        return not isnan(self.p_value)


def unknown_estimate(name: str, n: int, note: str) -> Estimate:
    """An estimate that could not be made."""
    return Estimate(name, nan, nan, nan, n, note)


def unknown_test(name: str, effect: str, n: int, note: str) -> HypothesisTest:
    """A test that could not be made."""
    return HypothesisTest(name, nan, nan, unknown_estimate(effect, n, note), n, note=note)


def per_cent(chance: float) -> str:
    """A chance for people: whole per cent, and never quite none or all, for it was estimated.

    Examples
    --------
    >>> [per_cent(x) for x in (0.001, 0.934, 1.0)]
    ['under 1 %', '93 %', 'over 99 %']
    """
    if not 0.005 <= chance <= 0.995:
        return "under 1 %" if chance < 0.5 else "over 99 %"
    return f"{100 * chance:.0f} %"


def check_share(value: float, name: str) -> float:
    """`value` when it lies strictly between 0 and 1, else a `DataError`."""
    if not 0 < value < 1:
        raise DataError(f"{name} must lie between 0 and 1, got {value}. Give a fraction: 0.05 is 5 %.")
    return value


def rows_needed(n: int, z: float, *, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Rows at which a statistic that is `z` standard errors from zero at `n` rows would be found with `power`.

    Two-sided normal approximation; the statistic grows with the root of the rows. None above a billion.

    Examples
    --------
    >>> rows_needed(100, 1.4)
    401
    """
    if not z or isnan(z):
        return None
    rows = n * ((ndtri(power) - ndtri(alpha / 2)) / z) ** 2
    return ceil(rows) if rows < MOST_ROWS else None
