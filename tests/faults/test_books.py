"""kill -9 of the books job: whoever comes after it ends with the same books, to the last 1e-8."""

import random
import secrets
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from jobs import books
from mlops.io.ledger import Ledger
from mlops.learn import STRATEGIES
from mlops.settings import Settings

ROOT, KILLS, DAYS = Path(__file__).parents[2], 2, 24
T0, DAY, UNITS = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(days=1), [f"U{i}" for i in range(8)]
JOB = """
import sys
from tests.faults.test_books import work
print("ready", flush=True)
sys.stdin.readline()
work(sys.argv[1])
"""


def market():
    walk = 50 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.02, (DAYS, len(UNITS))), axis=0))
    at = pd.DatetimeIndex(np.repeat([T0 + i * DAY for i in range(DAYS)], len(UNITS)))
    return pd.DataFrame({"event_time": at, "known_at": at, "symbol": UNITS * DAYS, "close": walk.ravel()})


def work(url):
    """The job of each day, one after the other; what was done is done again."""
    bars = market()
    with Ledger(url) as ledger:
        context = SimpleNamespace(ledger=ledger, settings=Settings())
        for day in range(DAYS):
            books.advance(context, STRATEGIES["direction"], bars, T0 + day * DAY)


def fill(url):
    """Scores of two versions and a bot's trades."""
    rng, n = np.random.default_rng(1), len(UNITS)
    with Ledger(url) as ledger:
        for day in range(DAYS):
            at = pd.Timestamp(T0 + day * DAY)
            rows = {"model": "direction", "version": [1] * n + [2] * n, "unit": UNITS * 2, "event_time": at}
            frame = pd.DataFrame(rows | {"known_at": at, "matures_at": at + pd.Timedelta(days=1)})
            frame = frame.assign(role=["champion"] * n + ["shadow"] * n, probability=rng.random(2 * n))
            ledger.telemetry.add_predictions(frame, np.zeros((2 * n, 1), np.float32), ("f",))
            fills = {"fill_id": [f"{u}{day}" for u in UNITS], "model": "direction", "version": 1, "book": "paper"}
            trades = {"unit": UNITS, "event_time": at, "quantity": rng.normal(0, 100, n), "price": 50.0, "fee": 1.0}
            ledger.telemetry.add_fills(pd.DataFrame(fills | trades))


def shelf(url):
    with Ledger(url) as ledger:
        assert [] == ledger.audit.verify()
        keys = ledger.books.ends("direction")
        return {key: (ledger.books.events(key), ledger.books.states(key, start=None)) for key in keys}


def killed(url, after_s):
    """Start the job and kill it; whether it was still at work."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", JOB, url], cwd=ROOT, **pipes) as child:
        assert "ready\n" == child.stdout.readline()
        child.stdin.write("go\n")
        child.stdin.flush()
        time.sleep(after_s)
        child.send_signal(signal.SIGKILL)
        return child.wait() == -signal.SIGKILL


def test_books_that_were_killed_at_any_point_are_those_that_never_were(tmp_path):
    whole, hurt = (f"sqlite:///{tmp_path}/{name}.db" for name in ("whole", "hurt"))
    seed = secrets.randbelow(2**31)
    rng = random.Random(seed)
    for url in (whole, hurt):
        fill(url)
    begun = time.monotonic()
    work(whole)
    took = time.monotonic() - begun

    hit = [killed(hurt, rng.uniform(0.05, took / KILLS)) for _ in range(KILLS)]
    between = {key: len(states) for key, (_, states) in shelf(hurt).items()}
    work(hurt)

    assert any(hit), f"seed {seed}"
    assert shelf(whole) == shelf(hurt), f"seed {seed}, after the kills {between}"
    assert {DAYS} == {len(states) for _, states in shelf(hurt).values()}
