"""What a drift check costs and how often it cries wolf: `python -m benchmarks.drift [--python NAME=PATH ...]`.

100 features, the reference summarised before. CPU seconds, the lower of two passes' medians; the limit (transpose and
sort the current window, nothing else) is measured in the same run. scipy's loop stands beside it, and every peer whose
Python is given: `--python evidently=/tmp/e/bin/python --python nannyml=/tmp/n/bin/python`, each in an
environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import ks_2samp

from mlops.monitor import DETECTORS, KS, ReferenceSummary, feature_drift, summarise

FEATURES, SHIFTED, SHIFT = 100, 25, 0.25
NAMES = [f"f{i}" for i in range(FEATURES)]
SIZES = {"10k": (10_000, 1_000), "1m": (1_000_000, 10_000)}
CHECKS_A_YEAR = 52
PEERS = Path(__file__).with_name("drift_peers.py")
OTHERS = ("alibi", "evidently", "frouros", "nannyml")
PEER_SECONDS = 900


def tables(rows: int, window: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A reference and a current window of which a quarter of the features moved by a quarter of a deviation."""
    rng = np.random.default_rng(20261122)
    moved = np.where(np.arange(FEATURES) < SHIFTED, SHIFT, 0.0)
    past, now = rng.standard_normal((rows, FEATURES)), rng.standard_normal((window, FEATURES)) + moved
    return panel(past, "2000-01-01"), panel(now, "2010-01-01")


def panel(values: NDArray[np.float64], start: str) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=[f"f{i}" for i in range(values.shape[1])])
    frame.insert(0, "event_time", pd.date_range(start, periods=len(frame), freq="min", tz="UTC"))
    return frame


def cpu(work: Callable[[], Any], repeats: int) -> float:
    """CPU seconds of a call, the lower of two passes' medians; each pass begins with a call that does not count."""
    passes = []
    for _ in range(2):
        work()
        passes.append(median(once(work)[1] for _ in range(repeats)))
    return min(passes)


def once(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    return work(), time.process_time() - began


def sort_only(current: pd.DataFrame) -> Callable[[], Any]:
    values = np.ascontiguousarray(current[NAMES].to_numpy())
    return lambda: np.sort(np.ascontiguousarray(values.T), axis=1)


def check(summary: ReferenceSummary, current: pd.DataFrame, detectors: dict[str, Any]) -> Callable[[], Any]:
    return lambda: feature_drift(summary, current, detectors=detectors)


def measured(size: str) -> dict[str, float]:
    """Seconds of everything at one size; the largest difference of our KS from scipy's."""
    past, now = tables(*SIZES[size])
    summary, summarised = once(lambda: summarise(past))
    summary, calibrated = once(lambda: summary.calibrated(len(now), [make() for make in DETECTORS.values()]))
    ks = check(summary, now, {"ks": KS})
    loop, looped = once(lambda: [ks_2samp(past[name], now[name]) for name in NAMES])
    repeats = 50 if size == "10k" else 9
    ours = ks()
    return {
        "summarise": summarised,
        "null": calibrated,
        "limit": cpu(sort_only(now), repeats),
        "ks": cpu(ks, repeats),
        "all": cpu(check(summary, now, dict(DETECTORS)), repeats),
        "scipy": looped,
        "d_diff": max(abs(f.value - float(s.statistic)) for f, s in zip(ours, loop, strict=True)),
        "p_diff": max(abs(f.params["p_iid"] - float(s.pvalue)) for f, s in zip(ours, loop, strict=True)),
    }


def false_alarms(phi: float, features: int = 400) -> dict[str, float]:
    """Share of unmoved AR(1) features called at 5 %, 1,000 rows against 10,000: by detector, and by plain KS."""
    noise = np.random.default_rng(5).standard_normal((features, 13_000))
    values = lfilter([1], [1, -phi], noise, axis=1)[:, 2000:].T
    found = feature_drift(panel(values[:10_000], "2000-01-01"), panel(values[10_000:], "2010-01-01"))
    rates = {name: [f.params["p"] <= 0.05 for f in found if f.name == name] for name in DETECTORS}
    rates["plain KS"] = [f.params["p_iid"] <= 0.05 for f in found if f.name == "ks"]
    return {name: float(np.mean(hits)) for name, hits in rates.items() if hits}


def peer(name: str, python: str) -> dict[str, float | str]:
    """CPU seconds of a peer in its own environment, or why there are none."""
    quiet = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "OMP_NUM_THREADS": "1"}
    seconds: dict[str, float | str] = {}
    for size, (rows, window) in SIZES.items():
        command = [python, str(PEERS), name, str(rows), str(window)]
        try:
            run = subprocess.run(  # the person who measures names the interpreter
                command, capture_output=True, text=True, timeout=PEER_SECONDS, env={**os.environ, **quiet}
            )
        except subprocess.TimeoutExpired:
            seconds[size] = f"over {PEER_SECONDS} s"
            continue
        lines = run.stdout.strip().splitlines()
        seconds[size] = float(lines[-1]) if run.returncode == 0 and lines else run.stderr.strip()[-200:]
    return seconds


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="a peer's interpreter")
    pythons = dict(given.split("=", 1) for given in ask.parse_args().python)
    sizes = {size: measured(size) for size in SIZES}
    rates = {phi: false_alarms(phi) for phi in (0.0, 0.5, 0.9, 0.99)}
    peers: dict[str, Any] = {"scipy_loop": {size: found["scipy"] for size, found in sizes.items()}}
    for name in OTHERS:
        peers[name] = peer(name, pythons[name]) if name in pythons else "not run"

    print(f"{FEATURES} features; CPU seconds; Python {sys.version.split()[0]}\n")
    print(f"{'':34s}{'10,000 x 1,000':>18s}{'1,000,000 x 10,000':>20s}")
    for key, name in {
        "limit": "limit: sort the window",
        "ks": "check, KS",
        "all": "check, every detector",
        "scipy": "scipy.stats.ks_2samp, a loop",
        "summarise": "summary, once a version",
        "null": "null, once a window length",
        "d_diff": "largest |D - scipy's D|",
        "p_diff": "largest |p - scipy's p|",
    }.items():
        print(f"{name:34s}{sizes['10k'][key]:18.3g}{sizes['1m'][key]:20.3g}")
    for name in OTHERS:
        print(f"{name:34s}{peers[name]}")
    print(f"\ncalled at 5 % where nothing moved (1,000 rows against 10,000), and a year of {CHECKS_A_YEAR} checks")
    for phi, rate in rates.items():
        cells = "".join(f"  {name} {share:6.1%} ({share * CHECKS_A_YEAR:4.1f})" for name, share in rate.items())
        print(f"phi {phi:4.2f}{cells}")
    result = {
        "cpu_s_1m": round(sizes["1m"]["ks"], 5),
        "limit_ratio": round(sizes["1m"]["ks"] / sizes["1m"]["limit"], 3),
        "ms_10k": round(1e3 * sizes["10k"]["ks"], 3),
        "max_abs_d_diff": max(found["d_diff"] for found in sizes.values()),
        "false_alarm_phi_0_9": rates[0.9]["ks"],
        "false_alarm_phi_0_99": rates[0.99]["ks"],
        "cpu_s_1m_every_detector": round(sizes["1m"]["all"], 5),
        "peers": peers,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
