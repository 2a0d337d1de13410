"""How fast a book is revalued, and what one second of the live page costs: `python -m benchmarks.risk`.

One thread, single-precision scenarios, 99 % VaR and ES, beside numpy in double precision and skfolio's measures on the
same scenarios. Medians of wall time; the limit is reading the table of scenarios once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import orjson
from skfolio.measures import cvar, value_at_risk

from mlops.risk.correlation.diversification import effective_dimension
from mlops.risk.correlation.matrices import correlation
from mlops.risk.options.greeks import NAMES, values
from mlops.risk.var.fitted import fit
from mlops.risk.var.revaluation import ScenarioBook
from mlops.risk.var.snapshot import snapshot

SIZES = ((500, 1_000), (5_000, 1_000), (5_000, 10_000))  # positions, scenarios
GROUPS, OPTIONS, ASSETS, WINDOW = 40, 1_000, 200, 60


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call; the first two do not count."""
    work(), work()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took)


def market(positions: int, scenarios: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((scenarios, positions), dtype=np.float32) * np.float32(0.01)
    return table, rng.normal(0, 1 / positions, positions)


def revaluations() -> dict[str, dict[str, float]]:
    """Full revaluations a second, ours and the peers', and one changed position in microseconds."""
    found = {}
    for positions, scenarios in SIZES:
        table, held = market(positions, scenarios)
        book, double = ScenarioBook(table, held), table.astype(np.float64)
        changed = iter(np.random.default_rng(1).integers(0, positions, 1_000_000).tolist())
        repeats = 25 if scenarios > 1_000 else 101

        def ours(book: ScenarioBook = book, held: Any = held) -> Any:
            book.revalue(held)
            return book.loss()

        def move(book: ScenarioBook = book, changed: Any = changed, held: Any = held) -> Any:
            i = next(changed)
            book.move(i, held[i] * 1.001)
            return book.loss()

        def plain(double: Any = double, held: Any = held) -> Any:
            profit = np.sort(double @ held)
            return profit[int(0.01 * len(profit))], profit[: int(0.01 * len(profit))].mean()

        def peer(double: Any = double, held: Any = held) -> Any:
            profit = double @ held
            return value_at_risk(profit, beta=0.99), cvar(profit, beta=0.99)

        found[f"{positions} x {scenarios}"] = {
            "ours_per_s": 1 / seconds(ours, repeats),
            "numpy_per_s": 1 / seconds(plain, repeats),
            "skfolio_per_s": 1 / seconds(peer, repeats),
            "read_once_per_s": 1 / seconds(lambda table=table: table.sum(), repeats),
            "position_us": 1e6 * seconds(move, 501),
        }
    return found


def second() -> float:
    """Milliseconds of one whole snapshot: 5,000 positions, 1,000 scenarios, 40 groups, options, correlation, JSON."""
    table, held = market(5_000, 1_000)
    book, groups = ScenarioBook(table, held), np.arange(5_000) % GROUPS
    rng = np.random.default_rng(2)
    sign = np.where(rng.random(OPTIONS) < 0.5, 1.0, -1.0)
    spread = [rng.uniform(80, 120, OPTIONS), rng.uniform(70, 130, OPTIONS), rng.uniform(0.02, 2, OPTIONS)]
    terms = [*spread, rng.uniform(0.1, 0.6, OPTIONS), np.full(OPTIONS, 0.03), np.zeros(OPTIONS), sign]
    returns = rng.standard_normal((WINDOW, ASSETS))

    def work() -> bytes:
        book.revalue(held)
        loss, parts = book.loss(), book.components(groups=groups)
        exposed = np.bincount(groups, held, GROUPS)
        greeks = values(*terms).sum(axis=1)
        moved = correlation(returns)
        state = {
            "var": loss.var,
            "es": loss.es,
            "component_var": parts.var,
            "component_es": parts.es,
            "exposure": exposed,
            "greeks": dict(zip(NAMES, greeks.tolist(), strict=True)),
            "correlation": {"mean": moved.mean, "dimension": effective_dimension(moved)},
        }
        return orjson.dumps(state, option=orjson.OPT_SERIALIZE_NUMPY)

    return 1e3 * seconds(work, 51)


def filtered() -> float:
    """Milliseconds of the live page's VaR: 500 units, 2,750 bars, the average of three filtered models."""
    rng = np.random.default_rng(3)
    table = (rng.standard_t(4, (2_750, 1)) * 0.008 + rng.normal(0, 0.01, (2_750, 500))).astype(np.float32)
    fitted = fit(("fhs_gjr", "evt_gjr_skewt", "fhs_ewma"), table.mean(axis=1))
    held = rng.normal(0, 0.01, 500)
    return 1e3 * seconds(lambda: snapshot(table, held, fitted), 51)


def main() -> None:
    rows, whole, live = revaluations(), second(), filtered()
    print(f"{'positions x scenarios':<24}{'ours/s':>10}{'numpy/s':>10}{'skfolio/s':>11}{'read/s':>10}{'1 moved':>10}")
    for name, row in rows.items():
        print(
            f"{name:<24}{row['ours_per_s']:>10,.0f}{row['numpy_per_s']:>10,.0f}{row['skfolio_per_s']:>11,.0f}"
            f"{row['read_once_per_s']:>10,.0f}{row['position_us']:>8.1f}us"
        )
    print(f"one whole snapshot {whole:.2f} ms; the live page's VaR with components {live:.2f} ms")
    large = rows["5000 x 1000"]
    told = {
        "revaluations_per_s": round(large["ours_per_s"]),
        "position_us": round(large["position_us"], 1),
        "snapshot_ms": round(whole, 2),
        "live_var_ms": round(live, 2),
        "ratio_numpy": round(large["ours_per_s"] / large["numpy_per_s"], 1),
        "ratio_skfolio": round(large["ours_per_s"] / large["skfolio_per_s"], 1),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
