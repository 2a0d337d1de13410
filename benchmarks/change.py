"""How late a fall of accuracy is found, at one false alarm in 10,000 labels, beside river's detectors.

The same streams for all: 5,000 quiet labels, then the fall; the mean delay of the runs that were silent before it.
`known`: the accuracy before is given; `learned`: from 10,000 labels, drawn anew for each run. river is not among our
dependencies: it is installed into a folder that is thrown away, or, without a network, left out.
`python -m benchmarks.change` (`--fast` for fewer runs; `--river PYTHON` names an interpreter that has river).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mlops.stats import LabelChart, label_alarms, label_chart, label_path, run_length, sr_mixture

RATE, LABELS, QUIET, AFTER = 1e-4, 10_000, 5000, 15_000
DROPS = ((0.60, 0.50), (0.58, 0.53), (0.55, 0.50))
GOALS = {"known": (209, 574, 573), "learned": (248, 629, 619)}
SEED = 11
RIVER = "river==0.26.1"
Rows = np.ndarray
Found = dict[str, dict[str, Any]]


def streams(seed: int, before: float, after: float, runs: int, quiet: int = QUIET, later: int = AFTER) -> Rows:
    """1 where the label was missed; `benchmarks/change_peers.py` draws the same."""
    chance = np.repeat([before, after], [quiet, later])
    return (np.random.default_rng(seed).random((runs, quiet + later)) >= chance).astype(np.int8)


@cache
def learned_chart(accuracy: float) -> LabelChart:
    return label_chart(accuracy, labels=LABELS, false_alarms=RATE)


@cache
def known_chart(accuracy: float) -> LabelChart:
    return label_chart(accuracy, false_alarms=RATE)


def delays(over: Rows) -> np.ndarray:
    first = np.where(over.any(axis=1), over.argmax(axis=1), over.shape[1])
    return first[first >= QUIET] - QUIET + 1


def key(before: float, after: float) -> str:
    return f"{before * 100:.0f}_{after * 100:.0f}"


def known(row: Rows, before: float, _: np.random.Generator) -> Rows:
    chart = known_chart(before)
    return label_path(chart, 1 - row) >= chart.limit


def learned(row: Rows, before: float, rng: np.random.Generator) -> Rows:
    chart = learned_chart(round(rng.binomial(LABELS, before) / LABELS, 3))
    return label_path(chart, 1 - row) >= chart.limit


def mixture(row: Rows, before: float, _: np.random.Generator) -> Rows:
    return sr_mixture(1 - row, accuracy=before) >= -np.log(RATE)


OURS: dict[str, Callable[[Rows, float, np.random.Generator], Rows]] = {
    "known": known,
    "learned": learned,
    "mixture (no calibration)": mixture,
}


def measure(runs: int) -> Found:
    found: Found = {name: {} for name in OURS}
    for i, (before, after) in enumerate(DROPS):
        rows = streams(SEED + 1 + i, before, after, runs)
        for name, detector in OURS.items():
            some = rows if name != "mixture (no calibration)" else rows[: runs // 4]
            rng = np.random.default_rng(SEED)
            late = np.concatenate([delays(detector(row, before, rng)[None]) for row in some])
            found[name][f"delay_{key(before, after)}"] = round(float(late.mean()), 1)
            found[name][f"error_{key(before, after)}"] = round(float(late.std() / np.sqrt(late.size)), 1)
    return found


def quiet_lengths(labels: int) -> tuple[float, float]:
    """Labels to a false alarm on quiet streams of the three accuracies, all together: known, and learned."""
    rng = np.random.default_rng(SEED)
    alarms = {"known": 0, "learned": 0}
    for before, _ in DROPS:
        for _ in range(labels // 100_000):
            right = rng.random(100_000) < before
            charts = {"known": known_chart(before)}
            charts["learned"] = learned_chart(round(rng.binomial(LABELS, before) / LABELS, 3))
            for name, chart in charts.items():
                alarms[name] += len(label_alarms(chart, right))
    total = len(DROPS) * (labels // 100_000) * 100_000
    return total / alarms["known"], total / alarms["learned"]


def exact() -> float:
    """The least of the three charts' mean run lengths, by the Markov chain."""
    charts = {before: known_chart(before) for before, _ in DROPS}
    return min(run_length(p, up=c.up, down=c.down, limit=c.limit) for p, c in charts.items())


def speed(work: Callable[[Rows], object], labels: int = 1_000_000) -> float:
    right = (np.random.default_rng(0).random(labels) < 0.6).astype(np.float64)
    spent = []
    for _ in range(5):
        start = time.process_time()
        work(right)
        spent.append(time.process_time() - start)
    return labels / float(np.median(spent))


def peers(python: str | None, runs: int, quiet: int) -> Found | str:
    """river's, in an environment of its own; or why not."""
    script = Path(__file__).with_name("change_peers.py")
    plan = json.dumps({"seed": SEED, "drops": DROPS, "runs": runs, "quiet": quiet})
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = python or _river(Path(folder))
            done = subprocess.run(
                [python, str(script), plan], stdout=subprocess.PIPE, text=True, timeout=3600, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"not run: {type(error).__name__}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _river(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", RIVER]
    subprocess.run(command, timeout=300, check=True)
    return python


def table(found: Found, lengths: dict[str, float]) -> None:
    names = [key(*drop) for drop in DROPS]
    print(f"{'mean delay in labels':28s} {'labels a false alarm':>21s} " + " ".join(f"{n:>9s}" for n in names))
    for name, row in found.items():
        length = lengths.get(name, row.get("arl0", float("nan")))
        shown = " ".join(f"{row.get(f'delay_{n}', float('nan')):9.0f}" for n in names)
        print(f"{name:28s} {length:21,.0f} {shown}")
    for name, goals in GOALS.items():
        print(f"{'goal, ' + name:28s} {'10,000':>21s} " + " ".join(f"{g:9d}" for g in goals))


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("--fast", action="store_true")
    given.add_argument("--river", default=None)
    arguments = given.parse_args()
    runs, labels = (400, 1_000_000) if arguments.fast else (3000, 10_000_000)
    ours, (quiet, quiet_learned) = measure(runs), quiet_lengths(labels)
    theirs = peers(arguments.river, runs=60 if arguments.fast else 120, quiet=100_000 if arguments.fast else 400_000)
    chart = label_chart(0.6, false_alarms=RATE)
    rates = {
        "CUSUM": speed(lambda x: label_path(chart, x)),
        "mixture": speed(lambda x: sr_mixture(x, accuracy=0.6)),
    }
    lengths = {"known": quiet, "learned": quiet_learned}
    table({**ours, **(theirs if isinstance(theirs, dict) else {})}, lengths)
    print("labels a second: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()))
    if isinstance(theirs, str):
        print(f"river: {theirs}")
    names = [key(*drop) for drop in DROPS]
    out: dict[str, Any] = {"arl0": round(exact()), "arl0_simulated": round(quiet)}
    out |= {"learned_arl0_simulated": round(quiet_learned)}
    out |= {f"delay_{n}": ours["known"][f"delay_{n}"] for n in names}
    out |= {f"learned_{n}": ours["learned"][f"delay_{n}"] for n in names}
    out |= {f"mixture_{n}": ours["mixture (no calibration)"][f"delay_{n}"] for n in names}
    out |= {"updates_per_s": round(rates["CUSUM"]), "mixture_updates_per_s": round(rates["mixture"]), "peers": theirs}
    print(json.dumps(out))


if __name__ == "__main__":
    main()
