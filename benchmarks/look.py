"""What a second of the risk loop costs: `python -m benchmarks.look [--looks 60]`.

One look of `jobs.live.risk.Live` a second at a ledger on disk, with the night's VaR and 16 scenarios in place, and what
is read every 10 seconds spread over the looks. CPU time of the process, not wall time: (a) 3 models of one book each,
20 units in each, which are all quoted each second; (b) 200 bots' books of 5 units each with 250 bars, of which one
trades each second, and all units are quoted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from benchmarks import tick
from jobs import books
from jobs.live.risk import Live
from mlops.io.ledger import Ledger
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings

START, DAY, SECOND = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(days=1), timedelta(seconds=1)
MODELS, UNITS, BARS = ("direction", "trend", "volatility"), 20, 250
BOOKS, OF_BOOK = 200, 5
LINES = tuple(RiskLimit(measure=one, warning=0.5, soft=0.8, hard=5.0) for one in ("var", "drawdown", "gross"))


def seed(ledger: Ledger, traded: Sequence[tuple[str, str, Sequence[str]]]) -> None:
    """Books (model, book, units) with BARS daily bars, and what the nightly and the weekly job leave."""
    units = sorted({unit for _, _, held in traded for unit in held})
    days = [START - DAY * (BARS - i) for i in range(BARS)]
    ledger.telemetry.add_fills(
        pd.DataFrame([_fill(model, book, unit, days[0]) for model, book, held in traded for unit in held])
    )
    rng = np.random.default_rng(0)
    prices = tick.PRICE * np.exp(np.cumsum(rng.normal(0, 0.01, (BARS, len(units))), axis=0))
    prices *= tick.PRICE / prices[-1]
    index = pd.DatetimeIndex(np.repeat(pd.DatetimeIndex(days), len(units)))
    bars = pd.DataFrame({"event_time": index, "known_at": index, "symbol": units * BARS, "close": prices.ravel()})
    context: Any = SimpleNamespace(ledger=ledger, settings=Settings(), run_id=None)
    for model in sorted({model for model, _, _ in traded}):
        books.advance(context, replace(STRATEGIES["direction"], name=model), bars, days[-1])
    tick.night(ledger, START - timedelta(hours=12), units)


def _fill(model: str, book: str, unit: str, at: datetime) -> dict[str, Any]:
    about = {"fill_id": f"{model}{book}{unit}{at.isoformat()}", "model": model, "version": 1, "book": book}
    return about | {"unit": unit, "event_time": at, "quantity": 20.0, "price": tick.PRICE, "fee": 0.0}


@contextmanager
def loop(traded: Sequence[tuple[str, str, Sequence[str]]]) -> Iterator[Any]:
    """A service's view of these books."""
    settings = Settings(
        risk=RiskSettings(limits=LINES), books=BookSettings(balances=(BookBalance(amount=1e6),))
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}") as ledger:
        seed(ledger, traded)
        context: Any = SimpleNamespace(ledger=ledger, settings=settings, run_id=None)
        yield context


def cost(traded: Sequence[tuple[str, str, Sequence[str]]], looks: int, *, trades: bool) -> list[float]:
    """CPU milliseconds of each look, a second apart; the first ones do not count."""
    rng, took = np.random.default_rng(1), list[float]()
    units = sorted({unit for _, _, held in traded for unit in held})
    with loop(traded) as context:
        now = [0.0]
        live = Live(context, clock=lambda: now[0])
        for i in range(looks + 2):
            at = START + i * SECOND
            price = tick.PRICE * (1 + rng.normal(0, 1e-4, len(units)))
            rows = pd.DataFrame({"unit": units, "event_time": at, "known_at": at, "bid": price, "ask": price})
            context.ledger.quotes.add(rows.assign(bid_size=0.0, ask_size=0.0))
            if trades:
                model, book, held = traded[i % len(traded)]
                context.ledger.telemetry.add_fills(pd.DataFrame([_fill(model, book, held[0], at)]))
            now[0], began = float(i), time.process_time()
            live.look(at)
            took.append(1e3 * (time.process_time() - began))
    return took[2:]


def small() -> list[tuple[str, str, Sequence[str]]]:
    """(a)"""
    return [(model, "live", [f"U{i:02d}" for i in range(UNITS)]) for model in MODELS]


def large() -> list[tuple[str, str, Sequence[str]]]:
    """(b)"""
    found = list[tuple[str, str, Sequence[str]]]()
    for i in range(BOOKS):
        units = [f"U{(i * 3 + k) % 50:02d}" for k in range(OF_BOOK)]
        found.append((MODELS[i % len(MODELS)], f"bot{i:03d}", units))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--looks", type=int, default=60)
    given = parser.parse_args(arguments)
    quiet = np.array(cost(small(), given.looks, trades=False))
    busy = np.array(cost(large(), given.looks, trades=True))
    for name, took in (("3 models, 20 units", quiet), ("200 books, one trades", busy)):
        print(f"{name}: {took.mean():.1f} ms of CPU a look, median {np.median(took):.1f}, most {took.max():.1f}")
    told = {"look_cpu_ms": round(quiet.mean(), 1), "look_200_books_cpu_ms": round(busy.mean(), 1), "n": given.looks}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
