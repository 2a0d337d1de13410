"""How long one look at ten models takes: every finding of the monitor job, from its frames.

    python -m benchmarks.monitor

Each model: 20 units, 20 features; a reference of 20,000 rows (1,000 bars) and its summary as the bundle has them; a
year of matured rows (252 bars), of which the last 1,000 are the window. No ledger and no MLflow in the figure. The
first look of a process at a model also calibrates the chart of its labels, which is then kept: scheduled jobs are
processes of their own, so theirs is always the first (`seconds_10_models`); a replay's is not (`seconds_10_again`).
CPU seconds of this process, so that a busy machine counts less.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import pandas as pd

from jobs import monitor
from jobs.monitoring import charts
from mlops import monitor as room
from mlops.settings import Settings
from mlops.types import Finding, Level

MODELS, FEATURES, UNITS, REPEATS = 10, 20, 20, 5
WINDOW, HORIZON = 1000, 5
NAMES = tuple(f"feature_{i}" for i in range(FEATURES))
KEYS = ["event_time", "unit"]


@dataclass(frozen=True)
class Bench:
    """As much of a context and a bundle as the findings ask for."""

    settings: Settings
    names: tuple[str, ...]
    meta: dict[str, float]
    stored: bytes

    def summary(self) -> bytes:
        return self.stored


@dataclass(frozen=True)
class Model:
    bench: Bench
    reference: pd.DataFrame
    rows: pd.DataFrame


def panel(bars: int, start: str, rng: np.random.Generator) -> pd.DataFrame:
    rows = bars * UNITS
    frame = pd.DataFrame(rng.normal(size=(rows, FEATURES)).astype(np.float32), columns=list(NAMES))
    frame.insert(0, "event_time", np.repeat(pd.date_range(start, periods=bars, tz="UTC"), UNITS))
    frame.insert(1, "unit", np.tile([f"U{i}" for i in range(UNITS)], bars))
    frame["probability"] = rng.uniform(0.2, 0.8, rows)
    frame["label"] = (rng.random(rows) < frame["probability"]).astype(float)
    frame["value"] = rng.normal(0, 0.01, rows)
    return frame


def made(seed: int) -> Model:
    rng = np.random.default_rng(seed)
    reference = panel(1000, "2000-01-01", rng).drop(columns="value")
    stored = room.kept_summary(reference, NAMES, window=WINDOW).to_bytes()
    bench = Bench(Settings(), NAMES, {"horizon_bars": HORIZON, "base_rate": 0.5}, stored)
    return Model(bench, reference, panel(252, "2003-01-01", rng))


def inputs(model: Model) -> tuple[Finding, ...]:
    past = monitor._summary(model.bench, model.bench, model.reference)  # type: ignore[arg-type]
    now = model.rows.tail(WINDOW)[[*KEYS, *NAMES]]
    return (
        *room.feature_drift(past, now),
        room.threshold_cost(past, now.event_time.nunique(), rows=len(now), threshold=0.05),
    )


def label_free(model: Model) -> tuple[Finding, ...]:
    now = model.rows.tail(WINDOW)[[*KEYS, "probability"]]
    return monitor._label_free(model.bench, model.reference, now)  # type: ignore[arg-type]


def matured(model: Model) -> tuple[Finding, ...]:
    rows, predicted = model.rows.drop(columns=list(NAMES)), model.rows.drop(columns=["label", "value"])
    known = rows.assign(known_at=rows.event_time)
    found = charts.charts(model.bench, model.bench, model.reference, known, monitor.LONG_AGO)  # type: ignore[arg-type]
    rest = monitor._matured(model.bench, model.bench, model.reference, rows, predicted)  # type: ignore[arg-type]
    return (*found, *rest)


PARTS: dict[str, Callable[[Model], tuple[Finding, ...]]] = {
    "inputs: drift, 5 detectors": inputs,
    "label-free": label_free,
    "matured": matured,
}


def timed(work: Callable[[Model], tuple[Finding, ...]], models: list[Model]) -> float:
    start = time.process_time()
    for model in models:
        work(model)
    return time.process_time() - start


def main() -> None:
    models = [made(seed) for seed in range(MODELS)]
    warm = made(99)
    found = [finding for work in PARTS.values() for finding in work(warm)]
    first = sum(timed(work, models) for work in PARTS.values())
    seconds = {name: median(timed(work, models) for _ in range(REPEATS)) for name, work in PARTS.items()}
    unknown = sum(finding.level is Level.UNKNOWN for finding in found)
    print(
        f"{MODELS} models, {len(found)} findings each ({unknown} unknown), {WINDOW} predictions x {FEATURES} features"
    )
    print(f"reference of 20,000 rows; median of {REPEATS}\n")
    for name, spent in [*seconds.items(), ("all", sum(seconds.values())), ("all, first look", first)]:
        print(f"{name:28s} {spent:8.3f} CPU s {spent / MODELS * 1e3:8.1f} ms a model")
    figures = {"seconds_10_models": first, "seconds_10_again": sum(seconds.values())}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()} | {"findings": len(found)}))


if __name__ == "__main__":
    main()
