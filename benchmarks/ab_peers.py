"""GrowthBook's sequential test on the sums of `benchmarks.ab`; runs in an environment of its own, of gbstats.

Reads one npz file: `n` (looks,), and for each world `WORLD/a` and `WORLD/b` (runs, looks, 2): sum and sum of squares of
either arm so far. Prints a JSON object: the share of runs whose interval of the difference ever left zero out.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
from gbstats.models.statistics import SampleMeanStatistic


def outside(n: int, a: np.ndarray, b: np.ndarray, tuned: float) -> bool:
    """Whether the interval leaves zero out; of the difference, where the default is a ratio of means."""
    config = SequentialConfig(difference_type="absolute", alpha=0.05, sequential_tuning_parameter=tuned)
    arms = [SampleMeanStatistic(n=n, sum=float(s), sum_squares=float(q)) for s, q in (a, b)]
    low, high = SequentialTwoSidedTTest(*arms, config).confidence_interval
    return bool(low > 0 or high < 0)


def main() -> None:
    sums, tuned = np.load(sys.argv[1]), float(sys.argv[2])
    found = {}
    for world in sorted({name.split("/")[0] for name in sums.files if "/" in name}):
        a, b = sums[f"{world}/a"], sums[f"{world}/b"]
        ever = [
            any(outside(int(n), *arms, tuned) for n, *arms in zip(sums["n"], one, other, strict=True))
            for one, other in zip(a, b, strict=True)
        ]
        found[world] = float(np.mean(ever))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
