"""How long until a bot trades by a new champion: `python -m benchmarks.swap`.

A real MLflow server, the platform's service in a process of its own, and a bot here that scores some 80 bars a second
in two threads. The clock runs from the request that moves the alias to the bar boundary that takes the version up:
webhook, reading, download, digest, proof and swap are all in it, for each version is new to the bot. `p99_s` is with
webhooks, `lost_p99_s` with every webhook lost (the bot's own look at the registry finds it).

`torn_reads` counts bars whose scores are not bit for bit what the version that they name gives on those features.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import structlog
from mlflow import MlflowClient

from benchmarks.predict import MODEL, STRATEGY, bars, code
from jobs import demo, train
from jobs.context import Context
from jobs.stack.servers import free_port
from mlops.settings import TrainSettings
from mlops.types import ModelRef, Role
from registry_hooks import apply
from registry_hooks.bot.client import Bot
from registry_hooks.bundle import Bundle

LIMIT_S = 120.0
BARS = 16  # different ones
NOW = datetime(2026, 1, 5, tzinfo=UTC)


class Watched(MlflowClient):
    """Remembers when the alias `champion` was moved."""

    moved = 0.0

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        if alias == Role.CHAMPION:
            self.moved = time.monotonic()
        super().set_registered_model_alias(name, alias, version)


@dataclass
class Traders:
    """Threads that score all the time, and hold each score against what its version says."""

    bot: Bot
    units: list[str]
    kinds: Sequence[Bundle]  # version v is a copy of kinds[v % 2]
    scored: int = 0
    torn: int = 0
    failed: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def trading(self) -> Iterator[None]:
        rng = np.random.default_rng(5)
        shape = (len(self.units), len(self.bot.names))
        self._bars = [rng.normal(1.0, 0.3, shape).astype(np.float32) for _ in range(BARS)]
        self._expected = [[one.score(bar, self.bot.names) for bar in self._bars] for one in self.kinds]
        threads = [threading.Thread(target=self._trade, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _trade(self, i: int) -> None:
        while not self._stop.is_set():
            at = NOW + timedelta(milliseconds=i)
            times = {"event_time": at, "known_at": at, "matures_at": at + timedelta(days=5)}
            try:
                scored = self.bot.score(self.units, self._bars[i % BARS], **times)
            except Exception:
                self.failed += 1
                raise
            expected = self._expected[int(scored.version[0]) % 2][i % BARS]
            self.torn += not np.array_equal(expected, scored.probability)
            self.scored += 1
            i += 2
            time.sleep(0.02)


def copies(context: Context, n: int) -> list[Bundle]:
    """n versions: odd ones copies of the first that was trained, even ones of the second. The two kinds, even first."""
    rows = [context.ledger.registry.bundle(MODEL, version) for version in (2, 1)]
    for version in range(3, n + 1):
        row = rows[version % 2]
        mlflow.register_model(f"models:/{row.model_id}", MODEL)
        context.ledger.registry.add_bundle(replace(row, version=version))
    return [apply.prove_loadable(context.registry, ModelRef(MODEL, version)) for version in (2, 1)]


def promoted(context: Context, bot: Bot, pause_s: float) -> float:
    """Seconds from the move of the alias to the boundary that takes it up, at a moment of its own."""
    time.sleep(pause_s)
    old, act = bot.champion, context.act("benchmark", datetime.now(UTC))
    apply.promote(context.registry, ModelRef(MODEL, old + 1), "newer", act, expected=old)
    began = context.client.moved  # type: ignore[attr-defined]
    while bot.champion != old + 1:
        bot.boundary(datetime.now(UTC))
        if time.monotonic() - began > LIMIT_S:
            raise TimeoutError(f"v{old + 1} must be taken up within {LIMIT_S} s, got v{bot.champion}")
        time.sleep(0.005)
    return time.monotonic() - began


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--heard", type=int, default=40, help="promotions with webhooks")
    ask.add_argument("--lost", type=int, default=12, help="promotions without")
    given = ask.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.WARNING)
    history, units = bars()
    rng = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder, demo.stage(Path(folder), free_port(), free_port()) as (staged, _):
        small = staged.settings.model_copy(update={"train": TrainSettings(trials=1, folds=2)})
        uri = staged.settings.tracking_uri
        context = Context(small, replace(staged.registry, client=Watched(uri, registry_uri=uri)))
        for year in (2006, 2007):
            train.train(context, STRATEGY, history, as_of=datetime(year, 1, 6, tzinfo=UTC), start=None)
        kinds = copies(context, given.heard + given.lost + 1)
        apply.promote(context.registry, ModelRef(MODEL, 1), "first", context.act("benchmark", NOW), expected=None)
        own = replace(
            context.registry, cache=Path(folder) / "bot" / "bundles"
        )  # the promoter's copies are not the bot's
        with Bot(MODEL, own, features=code, names=STRATEGY.feature_names) as bot:
            traders = Traders(bot, units, kinds)
            with traders.trading():
                heard = [promoted(context, bot, pause) for pause in rng.uniform(0.2, 2.0, given.heard)]
                for hook in context.client.list_webhooks():
                    context.client.delete_webhook(hook.webhook_id)
                time.sleep(2)  # MLflow remembers its webhooks for a second
                lost = [promoted(context, bot, pause) for pause in rng.uniform(0.2, 12.0, given.lost)]
            bot.flush(120)
    print(f"{given.heard} promotions with webhooks, {given.lost} with every webhook lost; {traders.scored} bars\n")
    for name, times in (("webhook", heard), ("lost", lost)):
        middle, late = np.quantile(times, (0.5, 0.99))
        print(f"{name:10s} median {middle:6.2f} s   p99 {late:6.2f} s   max {max(times):6.2f} s")
    print(f"torn reads {traders.torn}, failed predictions {traders.failed}")
    result = {
        "p99_s": round(float(np.quantile(heard, 0.99)), 3),
        "lost_p99_s": round(float(np.quantile(lost, 0.99)), 3),
        "torn_reads": traders.torn,
        "failed": traders.failed,
        "bars": traders.scored,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
