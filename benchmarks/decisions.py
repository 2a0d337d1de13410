"""Error rates of whole decisions, from bar to alias: who is told, retrained, promoted, rolled back, and how soon.

`jobs.monitor` and `jobs.compare` as they ship, with their settings, schedule, queue and cool-downs, on simulated years
(`benchmarks.simulated`). A rate has a 95 % interval (Wilson); a year is 252 daily bars.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import structlog

from benchmarks.simulated.platform import platforms
from benchmarks.simulated.world import Law
from benchmarks.simulated.years import KINDS, Year

CHUNK = 20  # years on one ledger
Z = 1.96
FALL_AT = 90  # the calendar's trainings are at bar 24: their comparisons are open by then
NULL = 3_000  # years for a rate that must be under 5 % or 0.1 %


@dataclass(frozen=True, slots=True)
class Rate:
    """What is read off the years of a cell: `of` each year a number or a truth; `goal` as people write it."""

    key: str
    of: Callable[[Year], float]
    goal: str = ""
    share: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """Years of one kind under one law."""

    name: str
    kind: str
    law: Law
    years: int
    rates: tuple[Rate, ...]


def _promoted(key: str, goal: str = "") -> tuple[Rate, ...]:
    return (Rate(key, lambda year: year.promoted is not None, goal),)


def _rolled(key: str) -> tuple[Rate, ...]:
    return (Rate(key, lambda year: year.rolled_back is not None),)


def _fell(points: str, told: str = "", suffix: str = "") -> tuple[Rate, ...]:
    return (
        Rate(f"told_fall_{points}{suffix}", lambda year: year.told is not None, told),
        Rate(f"retrain_fall_{points}{suffix}", lambda year: year.retrained is not None),
    )


LAW = Law()
CELLS = (
    Cell("unchanged", "monitored", LAW, 60, (
        Rate("told_unchanged_per_year", lambda year: year.alerts, "at most 1", share=False),
        Rate("retrain_unchanged", lambda year: year.retrained is not None),
        Rate("words_unchanged_share", lambda year: year.words / year.weeks, "at most 0.05", share=False),
        Rate("loud_unchanged_share", lambda year: year.any_loud / year.weeks, share=False),
    )),
    Cell("falls by 10 points", "monitored", replace(LAW, fall=0.10, fall_at=FALL_AT), 60, _fell("10", "0.95")),
    Cell("falls by 5 points", "monitored", replace(LAW, fall=0.05, fall_at=FALL_AT), 60, _fell("5", "0.80")),
    Cell("falls by 3 points", "monitored", replace(LAW, fall=0.03, fall_at=FALL_AT), 40, _fell("3")),
    Cell("falls by 10 points, trained weekly", "weekly", replace(LAW, fall=0.10, fall_at=FALL_AT), 20,
         _fell("10", "0.95", "_weekly_training")),
    Cell("falls by 5 points, trained weekly", "weekly", replace(LAW, fall=0.05, fall_at=FALL_AT), 20,
         _fell("5", "0.80", "_weekly_training")),
    Cell("equal challenger", "compared", LAW, NULL, _promoted("promote_equal", "at most 0.05")),
    Cell("challenger 2 points worse", "compared", replace(LAW, gain=-0.02), NULL,
         _promoted("promote_worse", "at most 0.001")),
    Cell("rare clustered labels, equal", "compared", replace(LAW, rare=True), NULL,
         _promoted("promote_rare_equal", "at most 0.05")),
    Cell("1 point better", "compared", replace(LAW, gain=0.01), 300, _promoted("promote_1_point")),
    Cell("2 points better, related P&L", "compared", replace(LAW, gain=0.02, pnl="related"), 400,
         _promoted("promote_2_points", "0.80")),
    Cell("2 points better, unrelated P&L", "compared", replace(LAW, gain=0.02), 400,
         _promoted("promote_2_points_unrelated_pnl", "0.80")),
    Cell("4 points better, unrelated P&L", "compared", replace(LAW, gain=0.04), 300, _promoted("promote_4_points")),
    Cell("4 points better, books at 4 % a day", "compared", replace(LAW, gain=0.04, volatility=0.04), 400,
         _promoted("promote_4_points_volatile", "0.90")),
    Cell("1 unit, right .75 against .50", "compared", replace(LAW, units=1, skill=0.501, gain=0.249), 200,
         _promoted("promote_1_unit")),
    Cell("new champion as good as the one before", "watched", LAW, 200, _rolled("rollback_good")),
    Cell("new champion 10 points worse than its record", "watched", replace(LAW, bad=0.10), 100,
         _rolled("rollback_bad_10")),
)  # fmt: skip
GRID = tuple(
    Cell(f"{units} units, {h}-bar labels, skill {skill:.3f}: falls by 10", "monitored",
         replace(LAW, units=units, horizon=h, skill=skill, fall=min(0.10, skill - 0.4), fall_at=FALL_AT), 12,
         _fell("10", suffix=f"_{units}_units_{h}_bars_skill_{1000 * skill:.0f}"))
    for units, h, skill in ((1, 5, 0.61), (4, 5, 0.61), (200, 5, 0.61), (20, 1, 0.61), (20, 5, 0.55), (20, 5, 0.515))
)  # fmt: skip


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


def simulate(cell: Cell, first: int, count: int, seed: int) -> tuple[list[Year], int]:
    """So many years of a cell, each from a seed of its own, and the CPU milliseconds that they took."""
    quiet()
    begun = time.process_time()
    with platforms() as house:
        years = [KINDS[cell.kind](house, cell.law, seed + number) for number in range(first, first + count)]
    return years, round(1e3 * (time.process_time() - begun))


def quiet() -> None:
    """Findings are written to no log here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def measured(cells: Sequence[Cell], scale: float, jobs: int) -> Iterator[tuple[Cell, list[Year], float]]:
    """Each cell with all of its years, as they get done."""
    found: dict[str, list[Year]] = {cell.name: [] for cell in cells}
    spent, left, names = Counter[str](), Counter[str](), dict[Any, str]()
    with ProcessPoolExecutor(jobs) as pool:
        for cell in sorted(cells, key=lambda cell: cell.kind == "compared"):
            base, years = 1_000_000 * (1 + _number(cell)), max(1, round(scale * cell.years))
            for first in range(0, years, CHUNK):
                task = pool.submit(simulate_named, cell.name, first, min(CHUNK, years - first), base)
                names[task], left[cell.name] = cell.name, left[cell.name] + 1
        for task in as_completed(names):
            name, (made, milliseconds) = names[task], task.result()
            found[name] += made
            spent[name] += milliseconds
            left[name] -= 1
            if not left[name]:
                yield next(cell for cell in cells if cell.name == name), found[name], spent[name] / 1e3


def simulate_named(name: str, first: int, count: int, seed: int) -> tuple[list[Year], int]:
    """As `simulate`, of a cell by its name: its rates are functions, which do not travel between processes."""
    return simulate(next(cell for cell in (*CELLS, *GRID) if cell.name == name), first, count, seed)


def _number(cell: Cell) -> int:
    return [one.name for one in (*CELLS, *GRID)].index(cell.name)


def told(cell: Cell, years: Sequence[Year], spent: float) -> dict[str, float | list[float]]:
    """Print a cell's lines; its figures."""
    figures: dict[str, float | list[float]] = {}
    for one in cell.rates:
        values = [float(one.of(year)) for year in years]
        mean, low, high = rate(values, share=one.share)
        goal = f"goal {one.goal}" if one.goal else ""
        figure = f"{mean:7.4f}  ({low:.4f} to {high:.4f})"
        print(f"{cell.name:46s} {one.key:38s} {figure}  {len(years):5d} {goal}", flush=True)
        figures |= {one.key: round(mean, 4), f"{one.key}_interval": [round(low, 4), round(high, 4)]}
    figures |= _times(cell, years)
    print(f"{'':46s} {spent / len(years):.2f} CPU s a year", flush=True)
    return figures


def _times(cell: Cell, years: Sequence[Year]) -> Mapping[str, float]:
    """Median bars until something happened, where it did in some years."""
    suffix = cell.rates[0].key.removeprefix("told_fall").removeprefix("told")
    found = {}
    for what in ("promoted", "rolled_back", "told", "retrained"):
        bars = [getattr(year, what) for year in years if getattr(year, what) is not None]
        if bars:
            print(f"{'':46s} {what}: median {median(bars):.0f} bars, {len(bars)} of {len(years)}", flush=True)
            found[f"bars_to_{what}{suffix}" if what == "told" else f"{cell.rates[0].key}_bars_{what}"] = median(bars)
    loud = Counter[str]()
    for year in years:
        loud.update(year.loud)
    weeks = sum(year.weeks for year in years)
    if weeks and not cell.law.fall:
        worst = ", ".join(f"{name} {n / weeks:.3f}" for name, n in loud.most_common(12))
        print(f"{'':46s} share of weeks at WARN or ALERT: {worst}", flush=True)
    return found


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="Times the years of each cell.")
    parser.add_argument("--only", default="", help="Cells whose name contains one of these, comma-separated.")
    parser.add_argument("--jobs", type=int, default=2, help="Processes.")
    parser.add_argument("--grid", action="store_true", help="Also other units, horizons and skills.")
    chosen = parser.parse_args(arguments)
    cells = [*CELLS, *(GRID if chosen.grid else ())]
    cells = [cell for cell in cells if any(part in cell.name for part in chosen.only.split(","))]
    figures: dict[str, float | list[float]] = {}
    begun = time.monotonic()
    for cell, years, spent in measured(cells, chosen.scale, chosen.jobs):
        figures |= told(cell, years, spent)
    print(f"{time.monotonic() - begun:.0f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
