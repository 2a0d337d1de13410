"""river's detectors on the streams of `benchmarks.change`; runs in an environment of its own, of river and numpy.

Each detector with a knob is calibrated to one false alarm in 10,000 labels on the same quiet stream of accuracy 0.60,
by halving; a fresh detector follows each alarm. One JSON object in the last line.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from river import drift
from river.drift import binary

Detector = Callable[[int], bool]  # 1: the label was missed; True: an alarm
RATE, QUIET, AFTER = 1e-4, 5000, 15_000
HALVINGS = 7
SECONDS = 240.0  # a detector that takes longer is cut off and says so


def streams(seed: int, before: float, after: float, runs: int, quiet: int = QUIET, later: int = AFTER) -> np.ndarray:
    """1 where the label was missed; the same generator as ours."""
    chance = np.repeat([before, after], [quiet, later])
    return (np.random.default_rng(seed).random((runs, quiet + later)) >= chance).astype(np.int8)


def fresh(kind: Any, cast: Callable[[int], Any], **given: Any) -> Callable[[], Detector]:
    def make() -> Detector:
        detector = kind(**given)

        def step(miss: int) -> bool:
            detector.update(cast(miss))
            return bool(detector.drift_detected)

        return step

    return make


# name -> knob to detector, and where the knob starts (the run length grows from low to high)
KNOBS: dict[str, tuple[Callable[[float], Callable[[], Detector]], float, float]] = {
    "PageHinkley": (lambda q: fresh(drift.PageHinkley, float, threshold=q, delta=0.025, mode="up"), 2.0, 60.0),
    "ADWIN": (lambda q: fresh(drift.ADWIN, float, delta=10**-q), 0.0, 3.0),
    "HDDM_A": (lambda q: fresh(binary.HDDMA, bool, **_confidence(q)), 0.5, 5.0),
    "HDDM_W": (lambda q: fresh(binary.HDDMW, bool, lambda_val=0.01, **_confidence(q)), 1.0, 7.0),
}
DEFAULTS: dict[str, Callable[[], Detector]] = {
    "DDM (default)": fresh(binary.DDM, bool),
    "ADWIN (default)": fresh(drift.ADWIN, float),
    "PageHinkley (default)": fresh(drift.PageHinkley, float, mode="up"),
}


def _confidence(q: float) -> dict[str, float]:
    return {"drift_confidence": 10**-q, "warning_confidence": min(0.5, 5 * 10**-q)}


def run_length(make: Callable[[], Detector], misses: list[int]) -> float:
    detector, alarms = make(), 0
    for miss in misses:
        if detector(miss):
            detector, alarms = make(), alarms + 1
    return len(misses) / max(alarms, 0.5)


def delay(make: Callable[[], Detector], rows: np.ndarray) -> float:
    """Mean labels from the change to the alarm; who was silent to the end counts with all of it."""
    found = []
    for row in rows:
        detector = make()
        at = next((i for i, miss in enumerate(row.tolist()) if detector(miss)), rows.shape[1])
        if at >= QUIET:
            found.append(at - QUIET + 1)
    return float(np.mean(found)) if found else math.nan


def calibrated(name: str, quiet: list[int]) -> tuple[Callable[[], Detector], float, float]:
    knob, low, high = KNOBS[name]
    best = (math.nan, math.nan)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        length = run_length(knob(middle), quiet)
        if not abs(math.log(length * RATE)) >= abs(math.log(best[1] * RATE)):
            best = (middle, length)
        low, high = (middle, high) if length * RATE < 1 else (low, middle)
    return knob(best[0]), best[0], best[1]


def main() -> None:
    plan = json.loads(sys.argv[1])
    quiet = streams(plan["seed"], 0.60, 0.60, 1, plan["quiet"], 0)[0].tolist()
    rows = {tuple(d): streams(plan["seed"] + 1 + i, *d, plan["runs"]) for i, d in enumerate(plan["drops"])}
    found = {}
    for name in [*KNOBS, *DEFAULTS]:
        began = time.process_time()
        if name in KNOBS:
            make, at, length = calibrated(name, quiet)
        else:
            make, at, length = DEFAULTS[name], math.nan, run_length(DEFAULTS[name], quiet)
        found[name] = {"knob": round(at, 4) if at == at else None, "arl0": round(length)}
        for (before, after), misses in rows.items():
            if time.process_time() - began < SECONDS:
                found[name][f"delay_{before * 100:.0f}_{after * 100:.0f}"] = round(delay(make, misses))
        detector, sample = make(), quiet[:50_000]
        start = time.process_time()
        for miss in sample:
            detector(miss)
        found[name]["updates_per_s"] = round(len(sample) / (time.process_time() - start))
        print(name, found[name], file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
