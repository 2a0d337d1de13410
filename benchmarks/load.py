"""A thousand predictions a second for ten minutes, while the jobs look: what is lost, and how long an answer takes.

    python -m benchmarks.load [--seconds 600] [--rate 1000] [--only sqlite|postgresql]

The whole set-up in a temporary folder: MLflow's server, two trained versions with two months of real history behind
them, the platform's service (`jobs.serve`) as a process of its own, the ledger on SQLite and then on PostgreSQL
(`fsync=on`). A client in another process posts bars with a key, 20 predictions with their features each, to
`/v1/predictions`. It is an open loop: bar i is due at i / 50 s whatever became of the others, and its latency counts
from then, so that a server that stands still is not asked less (no coordinated omission). Beside it a third process
runs the monitor and the compare job, one after the other without a pause, on the same model and ledger.

`lost`: rows acknowledged that a new reader does not find, or finds with another value, after the service has ended;
plus rows offered that were refused, whatever the reason. The last line is JSON.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import structlog
from numpy.typing import NDArray

from benchmarks.cluster import postgresql
from benchmarks.ingest import syncs
from jobs import compare, monitor, train
from jobs.context import Context, opened
from jobs.paper_bot import PaperBot
from jobs.reports.evidently import When
from jobs.stack.servers import free_port, mlflow_server, own_secret, platform_service
from mlops.io import bar_feed
from mlops.io.ledger import Ledger
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef
from registry_hooks import apply, assignment

MODEL, STRATEGY = "volatility", STRATEGIES["volatility"]
TRAINED = datetime(2006, 1, 6, tzinfo=UTC), datetime(2006, 6, 30, tzinfo=UTC)
HISTORY = datetime(2006, 9, 1, tzinfo=UTC), datetime(2006, 11, 10, tzinfo=UTC)
UNITS = 20
CONNECTIONS = 16
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Offered:
    """What the client saw: seconds from each bar's due time to its answer, and which bars were acknowledged whole."""

    began: datetime
    latency: NDArray[np.float64]
    acknowledged: NDArray[np.bool_]
    refused: int  # rows
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Looks:
    """What the jobs beside it did."""

    monitor: int
    compare: int
    slowest_s: float
    failed: tuple[str, ...]


def body(bar: int, at: datetime, values: NDArray[np.float64]) -> bytes:
    """One bar of a bot: 20 units."""
    instant = at.isoformat()
    rows = [
        {
            "model": MODEL,
            "version": 1,
            "unit": f"U{unit:02d}",
            "event_time": instant,
            "known_at": instant,
            "matures_at": (at + timedelta(days=STRATEGY.horizon)).isoformat(),
            "role": "champion",
            "probability": probability(bar),
            "features": dict(
                zip(STRATEGY.feature_names, values[(bar * UNITS + unit) % len(values)].tolist(), strict=True)
            ),
        }
        for unit in range(UNITS)
    ]
    return orjson.dumps(rows)


def probability(bar: int) -> float:
    return (bar % 997 + 1) / 1000


def due(began: datetime, bar: int, rate: float) -> datetime:
    """When a bar is due, a whole number of microseconds."""
    return began + timedelta(microseconds=round(bar * 1e6 * UNITS / rate))


def offer(port: int, token: str, values: NDArray[np.float64], rate: float, seconds: float) -> Offered:
    """Post bars at their times over a few connections that are kept. Runs in a process of its own."""
    bars = int(rate * seconds / UNITS)
    latency, whole = np.full(bars, np.nan), np.zeros(bars, dtype=bool)
    refused, reasons, turn = [0], [], itertools.count()
    began, start = datetime.now(UTC) + timedelta(seconds=1), time.monotonic() + 1

    def work() -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        while (bar := next(turn)) < bars:
            at = due(began, bar, rate)
            said, when = body(bar, at, values), start + (at - began).total_seconds()
            time.sleep(max(0.0, when - time.monotonic()))
            try:
                line.request("POST", "/v1/predictions", said, headers)
                answer = line.getresponse()
                told = answer.read()
                stored = json.loads(told)["stored"] if answer.status == 200 else 0
                why = f"{answer.status} {told[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                stored, why = 0, f"{type(error).__name__}: {error}"
                line.close()
            latency[bar] = time.monotonic() - when
            whole[bar] = stored == UNITS
            if stored < UNITS:
                refused[0] += UNITS - stored
                reasons.append(why)

    crew = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    return Offered(began, latency, whole, refused[0], tuple(sorted(set(reasons)))[:5])


def quiet() -> None:
    """The jobs tell each finding; here they would hide the figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def look(given: dict[str, Any], seconds: float) -> Looks:
    """Monitor and compare without a pause. Runs in a process of its own."""
    quiet()
    done, slowest, failed = {"monitor": 0, "compare": 0}, 0.0, []
    with opened(Settings(**given)) as context:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name in done:
                begin, now = time.monotonic(), datetime.now(UTC)
                try:
                    if name == "monitor":
                        monitor.at(context, MODEL, now, page=When.NEVER)
                    else:
                        compare.at(context, MODEL, now)
                    done[name] += 1
                except Exception as error:  # noqa: BLE001 - counted and said: a look that fails is a result
                    failed.append(f"{name}: {type(error).__name__}: {error}"[:300])
                slowest = max(slowest, time.monotonic() - begin)
    return Looks(done["monitor"], done["compare"], slowest, tuple(failed))


def furnish(context: Context) -> None:
    """A champion, a challenger under comparison, and two months of both on real bars."""
    bars = bar_feed.load_bars("sp500", start=datetime(2002, 1, 1, tzinfo=UTC), end=HISTORY[1]).frame
    for at in TRAINED:
        train.train(context, STRATEGY, bars, as_of=at, start=None)
    act = context.act("benchmark", HISTORY[0])
    apply.promote(context.registry, ModelRef(MODEL, 1), "first", act, expected=None)
    apply.enlist(context.registry, ModelRef(MODEL, 2), act)
    assignment.set_weights(context.registry, MODEL, {2: 0.1}, "it trades", act)
    bot = PaperBot(context, STRATEGY, bars, HISTORY[0])
    for at, bar in bars[bars.event_time >= HISTORY[0]].groupby("event_time", sort=True):
        bot.on_bar(bar, pd.Timestamp(str(at)).to_pydatetime())


@contextmanager
def stage(folder: Path, ledger: str) -> Iterator[tuple[dict[str, Any], int, str, NDArray[np.float64]]]:
    """Everything up: settings for the jobs, the service's port, a key, and features like those it was trained on."""
    port = free_port()
    with mlflow_server(folder, free_port()) as uri:
        given = {"state": folder, "tracking_uri": uri, "ledger_url": ledger, "train": TrainSettings(trials=1, folds=2)}
        environment = {
            "MLOPS_STATE": str(folder),
            "MLOPS_LEDGER_URL": ledger,
            "MLOPS_TRACKING_URI": uri,
            "MLFLOW_TRACKING_URI": uri,
            "MLOPS_SERVICE__PORT": str(port),
            "MLOPS_SERVICE__WEBHOOK_SECRET": own_secret(folder, "webhook"),
        }
        os.environ["MLFLOW_TRACKING_URI"] = uri
        with opened(Settings(**given)) as context:
            furnish(context)
            rows = context.bundle(ModelRef(MODEL, 1)).reference()[list(STRATEGY.feature_names)]
            token = context.ledger.api_keys.add("load", ["predictions:write"], datetime.now(UTC))
        with platform_service(folder, port, environment):
            yield given, port, token, rows.to_numpy(dtype=np.float64)


def missing(url: str, offered: Offered, rate: float) -> int:
    """Rows of bars acknowledged whole that a new reader does not get as they were sent."""
    times = [due(offered.began, bar, rate) for bar in np.flatnonzero(offered.acknowledged).tolist()]
    if not times:
        return 0
    end = times[-1] + timedelta(seconds=1)
    with Ledger(url) as ledger:
        found = ledger.telemetry.predictions(MODEL, start=offered.began, end=end, as_of=end, version=1)[0]
    said = {
        pd.Timestamp(at): probability(bar) for bar, at in zip(np.flatnonzero(offered.acknowledged), times, strict=True)
    }
    right = found[np.isclose(found["event_time"].map(said).to_numpy(dtype=np.float64), found["probability"])]
    return UNITS * len(times) - len(right.drop_duplicates(["event_time", "unit"]))


def measure(name: str, ledger: str, rate: float, seconds: float) -> dict[str, float]:
    """One back end."""
    with tempfile.TemporaryDirectory() as root, ProcessPoolExecutor(2, get_context("spawn")) as others:
        with stage(Path(root), ledger or f"sqlite:///{root}/ledger.db") as (given, port, token, values):
            looking = others.submit(look, given, seconds + 2)
            offered = others.submit(offer, port, token, values, rate, seconds).result()
            looks = looking.result()
        lost = missing(str(given["ledger_url"]), offered, rate)
    p50, p99, p999, worst = np.quantile(offered.latency, [0.5, 0.99, 0.999, 1]) * 1e3
    rows = offered.latency.size * UNITS
    print(f"{name}: {rows:,} rows offered in {seconds:.0f} s, {offered.refused} refused, {lost} lost")
    print(f"  answers after {p50:.1f} / {p99:.1f} / {p999:.1f} / {worst:.1f} ms (p50, p99, p999, max)")
    print(f"  {looks.monitor} monitor and {looks.compare} compare looks beside, the slowest {looks.slowest_s:.2f} s")
    for why in (*offered.reasons, *looks.failed[:3]):
        print(f"  {why}")
    if looks.failed:
        raise SystemExit(f"looks must succeed under load, got {len(looks.failed)} that failed: {looks.failed[0]}")
    figures = {"lost": lost + offered.refused, "p50_ms": p50, "p99_ms": p99, "looks": looks.monitor + looks.compare}
    return {f"{key}_{name}": round(float(value), 1) for key, value in figures.items()}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--seconds", type=float, default=600.0)
    ask.add_argument("--rate", type=float, default=1000.0, help="predictions a second")
    ask.add_argument("--only", choices=("sqlite", "postgresql"))
    given = ask.parse_args()
    quiet()
    told: dict[str, float] = {"seconds": given.seconds, "rate": given.rate}
    with tempfile.TemporaryDirectory() as folder:
        told |= {"load": round(os.getloadavg()[0], 1), "syncs_per_s": round(syncs(Path(folder)))}
    if given.only != "postgresql":
        told |= measure("sqlite", "", given.rate, given.seconds)
    if given.only != "sqlite":
        with postgresql() as url:
            told |= measure("postgresql", url, given.rate, given.seconds)
    print(json.dumps({"lost": sum(value for key, value in told.items() if key.startswith("lost_"))} | told))


if __name__ == "__main__":
    main()
