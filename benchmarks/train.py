"""How long one training takes: volatility, 15 years of 20 stocks, the default settings. `python -m benchmarks.train`.

Bars in, a registered version out: leak audit, features, search, final fit, bundle, registry, ledger; against a fresh
SQLite MLflow in a temporary folder. `seconds` is all of it, median of the repeats, each in a folder of its own;
`search` is the part in which trials are scored and written as runs, from which `trials_per_s` comes. Not in the
figure: the imports, the making of MLflow's tables, reading the bars.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import structlog

from jobs import train
from jobs.context import opened
from mlops.io import bar_feed
from mlops.learn import STRATEGIES
from mlops.settings import Settings

STRATEGY = STRATEGIES["volatility"]
START, AS_OF = datetime(1990, 1, 1, tzinfo=UTC), datetime(2005, 1, 1, tzinfo=UTC)
STEPS = ("prepare", "search", "build", "_register")


def clocked(work: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*args: Any, **given: Any) -> Any:
        begin = time.perf_counter()
        try:
            return work(*args, **given)
        finally:
            spent[name] = time.perf_counter() - begin

    return timed


def once(bars: pd.DataFrame, folder: Path) -> dict[str, float]:
    """Seconds of each step of one training, and of all."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow leaves the last one there
    spent: dict[str, float] = {}
    originals = {step: getattr(train, step) for step in STEPS}
    for step, work in originals.items():
        setattr(train, step, clocked(work, step.lstrip("_"), spent))
    try:
        with opened(Settings(state=folder, tracking_uri=f"sqlite:///{folder}/mlflow.db")) as context:
            # Artifacts go to the temporary folder, too.
            context.client.create_experiment(STRATEGY.name, artifact_location=str(folder / "artifacts"))
            clocked(train.train, "all", spent)(context, STRATEGY, bars, as_of=AS_OF, start=None)
    finally:
        for step, work in originals.items():
            setattr(train, step, work)
    return spent


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--repeat", type=int, default=3)
    repeat = ask.parse_args().repeat
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.WARNING)
    bars = bar_feed.load_bars("sp500", start=START, end=AS_OF).frame
    runs = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(once(bars, Path(folder)))
    trials = Settings().train.trials
    seconds = {name: median(run[name] for run in runs) for name in runs[0]}
    units, years = bars["symbol"].nunique(), (bars["event_time"].max() - bars["event_time"].min()).days / 365.25
    print(f"{STRATEGY.name}, {len(bars):,} bars ({units} symbols, {years:.0f} years), {trials} trials; of {repeat}\n")
    for name, spent in seconds.items():
        print(f"{name:12s} {spent:8.2f} s")
    found = {"seconds": round(seconds["all"], 2), "trials_per_s": round(trials / seconds["search"], 3)}
    print(json.dumps({**found, "seconds_search": round(seconds["search"], 2)}))


if __name__ == "__main__":
    main()
