"""How long one look at ten models takes: drift of 20 features, change of accuracy, performance.

Each model: 1,000 current predictions (50 bars of 20 units), a reference of 20,000 rows (1,000 bars). Data in memory;
no file, ledger or MLflow in the figure. `python -m benchmarks.monitor`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pandas as pd

from mlops.monitor import accuracy_change, feature_drift, performance

MODELS, FEATURES, UNITS, REPEATS = 10, 20, 20, 5
NAMES = [f"feature_{i}" for i in range(FEATURES)]


def panel(bars: int, start: str, rng: np.random.Generator) -> pd.DataFrame:
    rows = bars * UNITS
    frame = pd.DataFrame(rng.normal(size=(rows, FEATURES)).astype(np.float32), columns=NAMES)
    frame.insert(0, "event_time", np.repeat(pd.date_range(start, periods=bars, tz="UTC"), UNITS))
    frame.insert(1, "unit", np.tile([f"U{i}" for i in range(UNITS)], bars))
    frame["probability"] = rng.uniform(0.2, 0.8, rows)
    frame["label"] = (rng.random(rows) < frame["probability"]).astype(float)
    return frame


def timed(
    work: Callable[[pd.DataFrame, pd.DataFrame], object], models: list[tuple[pd.DataFrame, pd.DataFrame]]
) -> float:
    start = time.perf_counter()
    for reference, current in models:
        work(reference, current)
    return time.perf_counter() - start


def main() -> None:
    rng = np.random.default_rng(0)
    models = [(panel(1000, "2000-01-01", rng), panel(50, "2003-01-01", rng)) for _ in range(MODELS)]
    keys = ["event_time", "unit", *NAMES]
    parts: dict[str, Callable[[pd.DataFrame, pd.DataFrame], object]] = {
        "feature drift (KS and PSI)": lambda reference, current: feature_drift(reference[keys], current[keys]),
        "accuracy change (CUSUM)": lambda reference, current: accuracy_change(
            reference, current, rng=np.random.default_rng(7)
        ),
        "performance": lambda reference, current: performance(current, base_rate=0.5),
    }
    for work in parts.values():
        work(*models[0])
    seconds = {name: median(timed(work, models) for _ in range(REPEATS)) for name, work in parts.items()}
    print(f"{MODELS} models, 1,000 predictions x {FEATURES} features, reference 20,000 rows; median of {REPEATS}\n")
    for name, spent in [*seconds.items(), ("all", sum(seconds.values()))]:
        print(f"{name:28s} {spent:8.3f} s {spent / MODELS * 1e3:8.1f} ms a model")
    print(json.dumps({"seconds_10_models": round(sum(seconds.values()), 4)}))


if __name__ == "__main__":
    main()
