"""Error rates of whole decisions, from bar to alias: who is told, retrained, promoted, rolled back, and how soon.

`jobs.monitor` and `jobs.compare` as they ship, with their settings, schedule, queue and cool-downs, on simulated years
(`benchmarks.simulated`). A rate has a 95 % interval (Wilson); a year is 252 daily bars. Years are stored as they get
done (`--store`): a run that was stopped goes on where it was, and years of other code are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.simulated.cells import CELLS, GRID, Cell, figures
from benchmarks.simulated.chunks import Chunk, Store, run
from benchmarks.simulated.years import Year


def told(cell: Cell, chunks: Sequence[Chunk]) -> dict[str, float | list[float]]:
    """Print a cell's lines; its figures."""
    years, spent = [year for chunk in chunks for year in chunk.years], sum(chunk.cpu_s for chunk in chunks)
    found = figures(cell, years)
    for one in cell.rates:
        low, high = found[f"{one.key}_interval"]  # type: ignore[misc]
        goal = f"goal {one.goal}" if one.goal else ""
        print(f"{cell.name:52s} {one.key:36s} {found[one.key]:7.4f}  ({low:.4f} to {high:.4f})  {len(years):5d} {goal}")
    times = ", ".join(f"{key} {value:.0f}" for key, value in found.items() if key.startswith("bars_to_"))
    print(f"{'':52s} {spent / len(years):.2f} CPU s a year{'; ' if times else ''}{times}")
    _loud(cell, years)
    return found


def _loud(cell: Cell, years: Sequence[Year]) -> None:
    """Which findings were at WARN or ALERT while nothing was wrong."""
    total, weeks = Counter[str](), sum(year.weeks for year in years)
    for year in years:
        total.update(year.loud)
    if total and not cell.law.fall:
        worst = ", ".join(f"{name} {n / weeks:.3f}" for name, n in total.most_common(12))
        print(f"{'':52s} share of weeks at WARN or ALERT: {worst}")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="Times the years of each cell.")
    parser.add_argument("--only", default="", help="Cells whose name contains one of these, comma-separated.")
    parser.add_argument("--jobs", type=int, default=2, help="Processes.")
    parser.add_argument("--grid", action="store_true", help="Also other units, horizons and skills.")
    parser.add_argument("--store", type=Path, default=Path(".state/decisions.jsonl"), help="File of the years.")
    parser.add_argument("--minutes", type=float, default=1e9, help="Begin no further years after so many.")
    parser.add_argument("--mixed", action="store_true", help="Merge years of other code, too.")
    chosen = parser.parse_args(arguments)
    cells = [*CELLS, *(GRID if chosen.grid else ())]
    cells = [cell for cell in cells if any(part in cell.name for part in chosen.only.split(","))]
    chosen.store.parent.mkdir(parents=True, exist_ok=True)
    begun, store = time.monotonic(), Store(chosen.store, mixed=chosen.mixed)
    run(store, store.left(cells, chosen.scale), chosen.jobs, begun + 60 * chosen.minutes)
    found: dict[str, float | list[float]] = {}
    for cell in cells:
        if chunks := store.of(cell):
            found |= told(cell, chunks)
    cpu = sum(chunk.cpu_s for cell in cells for chunk in store.of(cell))
    print(f"{time.monotonic() - begun:.0f} s, {cpu:.0f} CPU s in all with the years that were stored")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
