"""The same check by a peer, in the peer's own environment: prints CPU seconds. Started by `benchmarks.drift`."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

FEATURES, SHIFTED, SHIFT = 100, 25, 0.25
NAMES = [f"f{i}" for i in range(FEATURES)]


def evidently(past: pd.DataFrame, now: pd.DataFrame) -> Callable[[], Any]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=NAMES)
    reference, current = (Dataset.from_pandas(frame, data_definition=definition) for frame in (past, now))
    return lambda: Report([DataDriftPreset(num_method="ks")]).run(current, reference).dict()


def nannyml(past: pd.DataFrame, now: pd.DataFrame) -> Callable[[], Any]:
    import nannyml

    check = nannyml.UnivariateDriftCalculator(
        column_names=NAMES, continuous_methods=["kolmogorov_smirnov"], chunk_size=len(now)
    )
    check.fit(past)
    return lambda: check.calculate(now)


def alibi(past: pd.DataFrame, now: pd.DataFrame) -> Callable[[], Any]:
    from alibi_detect.cd import KSDrift

    check, window = KSDrift(past.to_numpy(), p_val=0.05), now.to_numpy()
    return lambda: check.predict(window)


def frouros(past: pd.DataFrame, now: pd.DataFrame) -> Callable[[], Any]:
    from frouros.detectors.data_drift import KSTest

    checks = [KSTest() for _ in NAMES]
    for check, name in zip(checks, NAMES, strict=True):
        check.fit(X=past[name].to_numpy())
    return lambda: [check.compare(X=now[name].to_numpy()) for check, name in zip(checks, NAMES, strict=True)]


PEERS = {"alibi": alibi, "evidently": evidently, "frouros": frouros, "nannyml": nannyml}


def main() -> None:
    name, rows, window = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(20261122)
    moved = np.where(np.arange(FEATURES) < SHIFTED, SHIFT, 0.0)
    past = pd.DataFrame(rng.standard_normal((rows, FEATURES)), columns=NAMES)
    now = pd.DataFrame(rng.standard_normal((window, FEATURES)) + moved, columns=NAMES)
    work = PEERS[name](past, now)
    spent = []
    for _ in range(1 if rows > 100_000 else 3):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    print(float(np.median(spent)))


if __name__ == "__main__":
    main()
