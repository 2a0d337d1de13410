"""How long it takes to read a million predictions with their features into arrays.

    python -m benchmarks.ledger_read [--rows 1000000] [--features 20] [--repeat 5] [--url sqlite:///...]

Writes that many predictions and outcomes to a fresh SQLite file (or to the empty database at `--url`), then reads them
through `Ledger.telemetry.predictions` and `Ledger.telemetry.matured`. The last line is JSON; `seconds` is the median of
`predictions`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.io.ledger import Ledger

UNITS = 20  # as many stocks as the shipped data have
START = datetime(2000, 1, 1, tzinfo=UTC)
END = datetime(2200, 1, 1, tzinfo=UTC)


def rows(n: int, k: int) -> tuple[pd.DataFrame, pd.DataFrame, NDArray[np.float32]]:
    """n predictions of UNITS units, one bar a minute, their outcomes, and features of shape (n, k)."""
    rng = np.random.default_rng(7)
    times = pd.date_range(START, periods=-(-n // UNITS), freq="min").repeat(UNITS)[:n]
    frame = pd.DataFrame(
        {
            "model": "volatility",
            "version": 1,
            "unit": np.resize([f"U{i:02d}" for i in range(UNITS)], n),
            "event_time": times,
            "known_at": times,
            "matures_at": times + timedelta(minutes=5),
            "role": "champion",
            "probability": rng.random(n),
        }
    )
    ends = frame[["model", "unit", "event_time"]].assign(
        known_at=frame["matures_at"], label=rng.integers(0, 2, n).astype(float), value=rng.normal(0, 0.01, n)
    )
    return frame, ends, rng.normal(size=(n, k)).astype(np.float32)


def clocked(act: Callable[[], object]) -> float:
    """Seconds that `act` takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def measure(url: str, n: int, k: int, repeat: int) -> dict[str, float]:
    """Write once, read `repeat` times; medians."""
    frame, ends, features = rows(n, k)
    names = [f"f{i:02d}" for i in range(k)]
    with Ledger(url) as ledger:
        wrote = clocked(lambda: ledger.telemetry.add_predictions(frame, features, names, "0" * 32))
        ended = clocked(lambda: ledger.telemetry.add_outcomes(ends))
        reads = [
            clocked(lambda: ledger.telemetry.predictions("volatility", start=START, end=END, as_of=END))
            for _ in range(repeat)
        ]
        joins = [
            clocked(lambda: ledger.telemetry.matured("volatility", start=START, end=END, as_of=END))
            for _ in range(repeat)
        ]
        found, values, _ = ledger.telemetry.predictions("volatility", start=START, end=END, as_of=END)
    if len(found) != n or not np.array_equal(values, features):
        raise SystemExit(f"read must give back the {n} rows that were written, got {len(found)} or other values.")
    return {
        "seconds": round(statistics.median(reads), 3),
        "seconds_matured": round(statistics.median(joins), 3),
        "rows": n,
        "features": k,
        "insert_rows_per_s": round(n / wrote),
        "insert_outcomes_per_s": round(n / ended),
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rows", type=int, default=1_000_000)
    ask.add_argument("--features", type=int, default=20)
    ask.add_argument("--repeat", type=int, default=5)
    ask.add_argument("--url", default="")
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.url or f"sqlite:///{Path(folder) / 'ledger.db'}"
        found = measure(url, given.rows, given.features, given.repeat)
    for name, value in found.items():
        print(f"{name:24} {value:>14,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
