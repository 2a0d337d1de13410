"""The cells of `benchmarks.decisions`: which years are simulated, under which law, and what is read off them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import sqrt
from statistics import median

from benchmarks.simulated.world import Law
from benchmarks.simulated.years import Year

Z = 1.96
FALL_AT = 90  # the calendar's trainings are at bar 24: their comparisons are open by then
NULL = 3_000  # years for a rate that must be under 5 % or 0.1 %
MOVES = {"told": "told", "retrained": "retrain", "promoted": "promote", "rolled_back": "rollback"}


@dataclass(frozen=True, slots=True)
class Rate:
    """What is read off the years of a cell: `of` each year a number or a truth; `goal` as people write it."""

    key: str
    of: Callable[[Year], float]
    goal: str = ""
    share: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """Years of one kind under one law.

    `times`: moves whose median bars are told, and the ends of their keys. `min_samples`: paired predictions that a
    promotion needs, where not as shipped: 1,000 shut out fewer than four units.
    """

    name: str
    kind: str
    law: Law
    years: int
    rates: tuple[Rate, ...]
    times: tuple[tuple[str, str], ...] = ()
    min_samples: int | None = None


def _moved(name: str, key: str, goal: str = "") -> Rate:
    return Rate(key, lambda year: getattr(year, name) is not None, goal)


def _compared(name: str, key: str, law: Law, years: int, goal: str = "") -> Cell:
    end = key.removeprefix("promote_")
    return Cell(name, "compared", law, years, (_moved("promoted", key, goal),), (("promoted", end),))


def _watched(name: str, key: str, law: Law, years: int) -> Cell:
    end = key.removeprefix("rollback_")
    return Cell(name, "watched", law, years, (_moved("rolled_back", key),), (("rolled_back", end),))


def _fallen(name: str, end: str, law: Law, years: int, goal: str = "", kind: str = "monitored") -> Cell:
    rates = (_moved("told", f"told_fall_{end}", goal), _moved("retrained", f"retrain_fall_{end}"))
    if kind == "weekly":  # it is trained anyway
        return Cell(name, kind, law, years, rates[:1], (("told", end),))
    return Cell(name, kind, law, years, rates, (("told", end), ("retrained", end)))


def _falls(points: int, law: Law | None = None) -> Law:
    return replace(law or LAW, fall=points / 100, fall_at=FALL_AT)


def _gains(points: int, **more: object) -> Law:
    return replace(LAW, gain=points / 100, **more)  # type: ignore[arg-type]


LAW = Law()
ONE, FEW = replace(LAW, units=1, skill=0.501, gain=0.249), 100
CELLS = (
    Cell("unchanged", "monitored", LAW, 60, (
        Rate("told_unchanged_per_year", lambda year: year.alerts, "at most 1", share=False),
        _moved("retrained", "retrain_unchanged"),
        Rate("words_unchanged_share", lambda year: year.words / year.weeks, "at most 0.05", share=False),
        Rate("loud_unchanged_share", lambda year: year.any_loud / year.weeks, share=False),
    )),
    _fallen("falls by 10 points", "10", _falls(10), 60, "0.95"),
    _fallen("falls by 5 points", "5", _falls(5), 60, "0.80"),
    _fallen("falls by 3 points", "3", _falls(3), 60),
    _fallen("falls by 10 points, trained weekly", "10_weekly_training", _falls(10), 30, "0.95", "weekly"),
    _fallen("falls by 5 points, trained weekly", "5_weekly_training", _falls(5), 30, "0.80", "weekly"),
    _compared("equal challenger", "promote_equal", LAW, NULL, "at most 0.05"),
    _compared("challenger 2 points worse", "promote_worse", _gains(-2), NULL, "at most 0.001"),
    _compared("rare clustered labels, equal", "promote_rare_equal", replace(LAW, rare=True), 1_000, "at most 0.05"),
    _compared("1 point better, unrelated P&L", "promote_1_point_unrelated_pnl", _gains(1), 300),
    _compared("1 point better, related P&L", "promote_1_point", _gains(1, pnl="related"), 300),
    _compared("2 points better, unrelated P&L", "promote_2_points_unrelated_pnl", _gains(2), 400, "0.80"),
    _compared("2 points better, related P&L", "promote_2_points", _gains(2, pnl="related"), 400, "0.80"),
    _compared("4 points better, unrelated P&L", "promote_4_points_unrelated_pnl", _gains(4), 300),
    _compared("4 points better, related P&L", "promote_4_points", _gains(4, pnl="related"), 300),
    _compared("4 points better, books at 4 % a day", "promote_4_points_volatile", _gains(4, volatility=0.04), 400,
              "0.90"),
    _compared("1 unit, right .75 against .50", "promote_1_unit", ONE, 40),
    replace(_compared("1 unit, right .75 against .50, 100 samples", "promote_1_unit_100_samples", ONE, 200),
            min_samples=FEW),
    _watched("new champion as good as the one before", "rollback_good", LAW, 400),
    _watched("new champion 10 points worse than its record", "rollback_bad_10", replace(LAW, bad=0.10), 200),
    _watched("new champion 5 points worse than its record", "rollback_bad_5", replace(LAW, bad=0.05), 200),
)  # fmt: skip
UNITS, HORIZONS, SKILLS = (1, 4, 20, 200), (1, 5), (0.515, 0.55, 0.61)


def _grid(units: int, horizon: int, skill: float) -> tuple[Cell, ...]:
    law = replace(LAW, units=units, horizon=horizon, skill=skill)
    name, end = f"{units} units, {horizon}-bar labels, skill {skill:.3f}", f"{units}u_{horizon}b_{1000 * skill:.0f}"
    many = 200 if units > LAW.units else 10**9  # at 200 units a year costs ten times as much
    better = _compared(
        f"{name}: 2 points better", f"promote_2_points_{end}", replace(law, gain=0.02), min(60, many // 8)
    )
    return (
        _fallen(f"{name}: falls by 10", f"10_{end}", _falls(10, law), min(6, many // 50)),
        replace(better, min_samples=FEW) if units < LAW.units else better,
        _watched(f"{name}: 10 points worse", f"rollback_bad_10_{end}", replace(law, bad=0.10), min(30, many // 10)),
    )


GRID = tuple(cell for units, h, skill in product(UNITS, HORIZONS, SKILLS) for cell in _grid(units, h, skill))


def rate(values: Sequence[float], *, share: bool) -> tuple[float, float, float]:
    """The mean with its 95 % interval: Wilson's of a share, else by the standard error.

    Examples
    --------
    >>> [round(x, 3) for x in rate([0] * 100, share=True)]
    [0.0, 0.0, 0.037]
    """
    n, mean = len(values), sum(values) / len(values)
    if share:
        middle, width = mean + Z**2 / (2 * n), Z * sqrt(mean * (1 - mean) / n + Z**2 / (4 * n * n))
        low, high = ((middle + sign * width) / (1 + Z**2 / n) for sign in (-1, 1))
        return mean, max(0.0, low), min(1.0, high)
    error = sqrt(sum((x - mean) ** 2 for x in values) / max(n - 1, 1) / n)
    return mean, max(0.0, mean - Z * error), mean + Z * error


def figures(cell: Cell, years: Sequence[Year]) -> dict[str, float | list[float]]:
    """The keys of a cell: each rate with its interval and number of years, and the median bars of its moves."""
    found: dict[str, float | list[float]] = {}
    for one in cell.rates:
        mean, low, high = rate([float(one.of(year)) for year in years], share=one.share)
        interval = [round(low, 4), round(high, 4)]
        found |= {one.key: round(mean, 4), f"{one.key}_interval": interval, f"{one.key}_years": len(years)}
    for name, end in cell.times:
        bars = [at for year in years if (at := getattr(year, name)) is not None]
        if bars:
            found[f"bars_to_{MOVES[name]}_{end}"] = median(bars)
    return found
