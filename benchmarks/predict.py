"""What keeping every prediction costs the one who predicts: `python -m benchmarks.predict`.

The bare model (its pyfunc on a frame of the bar's features) and the whole bot (checks, scores, spool, other arms) take
turns on the same bars in one process, so that whatever else the machine does hits both. `p99_ratio` is the bot's 99th
percentile over the bare model's: the worse one of a ledger that answers, and a ledger that somebody has locked all the
time. The courier carries to the ledger meanwhile, as in production. Beside it: with a shadow that scores each bar, too.
"""

from __future__ import annotations

import argparse
import json
import logging
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from jobs import train
from jobs.context import Context, opened
from mlops.io import bar_feed
from mlops.learn import STRATEGIES, features
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef, Role
from registry_hooks import aliases, apply
from registry_hooks.bot.client import Bot

MODEL, STRATEGY = "volatility", STRATEGIES["volatility"]
NOW = datetime(2007, 1, 6, tzinfo=UTC)
END = NOW + timedelta(days=9)
WARM_UP = 50


@dataclass(frozen=True)
class Times:
    """Seconds of each bar."""

    bare: NDArray[np.float64]
    bot: NDArray[np.float64]

    def ratio(self, q: float) -> float:
        return float(np.quantile(self.bot, q) / np.quantile(self.bare, q))


def code(probe: pd.DataFrame) -> tuple[list[str], NDArray[np.float32]]:
    """The bot's own features."""
    return features.last_row(STRATEGY, probe)


def bars() -> tuple[pd.DataFrame, list[str]]:
    frame = bar_feed.load_bars("sp500", start=datetime(2000, 1, 1, tzinfo=UTC), end=NOW).frame
    return frame, sorted(frame["symbol"].unique())


@contextmanager
def context(history: pd.DataFrame) -> Iterator[Context]:
    """Two trained versions, the first one champion, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        small = TrainSettings(trials=1, folds=2)
        with opened(Settings(state=Path(folder), tracking_uri=f"sqlite:///{folder}/mlflow.db", train=small)) as here:
            here.client.create_experiment(MODEL, artifact_location=f"{folder}/artifacts")
            for year in (2006, 2007):
                train.train(here, STRATEGY, history, as_of=datetime(year, 1, 6, tzinfo=UTC), start=None)
            apply.promote(here.registry, ModelRef(MODEL, 1), "first", here.act("benchmark", NOW), expected=None)
            yield here


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else can write to the ledger."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def measure(bot: Bot, units: list[str], n: int, pause_s: float, start: datetime) -> Times:
    """The same bars through the bare model and through the bot, in an order that changes by chance."""
    rng = np.random.default_rng(11)
    model, names = bot._arms.champion.model, list(bot.names)
    bare, whole = np.empty(n), np.empty(n)

    def alone(values: NDArray[np.float32]) -> None:
        model.predict(pd.DataFrame(values, columns=names))

    def by_bot(values: NDArray[np.float32], at: datetime) -> None:
        bot.boundary(at)
        bot.score(units, values, event_time=at, known_at=at, matures_at=at + timedelta(days=5))

    for i in range(-WARM_UP, n):
        values = rng.normal(1.0, 0.3, (len(units), len(names))).astype(np.float32)
        at = start + timedelta(seconds=i)
        steps = [(whole, lambda v=values, t=at: by_bot(v, t)), (bare, lambda v=values: alone(v))]
        for times, step in steps if rng.random() < 0.5 else steps[::-1]:
            began = time.perf_counter()
            step()
            if i >= 0:
                times[i] = time.perf_counter() - began
            time.sleep(pause_s)
    return Times(bare, whole)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--bars", type=int, default=4000)
    ask.add_argument("--pause-ms", type=float, default=5.0, help="between two predictions")
    given = ask.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.WARNING)
    history, units = bars()
    found: dict[str, Times] = {}
    with context(history) as here:

        def run(case: str, away: AbstractContextManager[None]) -> None:
            start = NOW + timedelta(days=len(found))
            with Bot(MODEL, here.registry, features=code, names=STRATEGY.feature_names) as bot:
                time.sleep(5)  # the courier's imports are its own, not the bot's
                with away:
                    found[case] = measure(bot, units, given.bars, given.pause_ms / 1e3, start)
                bot.flush(120)

        run("ledger answers", nullcontext())
        run("ledger locked", locked(here.settings.state / "ledger.db"))
        here.client.set_model_version_tag(MODEL, "2", aliases.ROLE_TAG, Role.SHADOW)
        run("and a shadow", nullcontext())
        kept = len(here.ledger.telemetry.predictions(MODEL, start=NOW - timedelta(days=1), end=END, as_of=END)[0])
    expected = 4 * (given.bars + WARM_UP) * len(units)  # three runs, and the shadow's own
    print(f"{len(units)} units x {len(STRATEGY.feature_names)} features, {given.bars} bars, a pause between two\n")
    print(f"{'':16s}{'bare p50':>10s}{'bot p50':>10s}{'bare p99':>10s}{'bot p99':>10s}{'p99 ratio':>11s}")
    for case, times in found.items():
        ms = [1e3 * np.quantile(one, q) for q in (0.5, 0.99) for one in (times.bare, times.bot)]
        print(f"{case:16s}" + "".join(f"{value:8.3f}ms" for value in ms) + f"{times.ratio(0.99):11.3f}")
    print(f"kept in the ledger: {kept} of {expected}")
    two = [found[case] for case in ("ledger answers", "ledger locked")]
    result = {
        "p99_ratio": round(max(times.ratio(0.99) for times in two), 3),
        "p50_ratio": round(max(times.ratio(0.5) for times in two), 3),
        "p99_ratio_with_shadow": round(found["and a shadow"].ratio(0.99), 3),
        "rows_lost": expected - kept,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
