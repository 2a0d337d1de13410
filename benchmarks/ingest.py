"""How many rows a second get into the ledger to stay: in process through the writer, and over HTTP.

    python -m benchmarks.ingest [--rows 100000] [--repeat 5] [--connections 4]

Fills are on the disk when they are acknowledged (SQLite `synchronous=FULL`, PostgreSQL with its own defaults);
predictions, with 20 features each, are committed. In process, frames go through `mlops.io.ledger.group_commit.Writer`.
Over HTTP a client in a process of its own posts batches of 500, predictions as JSON and fills as NDJSON, over a few
connections that it keeps, to a real server process; an answer comes after the commit. Rows count when they are read
back from the ledger, checksums and all, after the writer or the server has ended.

Each figure is the median of the runs of the slower kind of row. The last line is JSON; `rows_per_s_inprocess` and
`rows_per_s_http` are the slower back end. `cpu_s_50k_...` are CPU seconds of 50,000 rows, database included, through
the writer; `bare_...` the same by `COPY` or `executemany` of rows that were checked before.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import uvicorn
from mlflow import MlflowClient
from numpy.typing import NDArray

from benchmarks import bare
from benchmarks.cluster import postgresql
from mlops.io.ledger import Ledger
from mlops.io.ledger.group_commit import Writer
from mlops.io.storage.insert import Rows, fill_rows, prediction_rows
from mlops.settings import Settings
from mlops.web import app
from registry_hooks.aliases import Registry

UNITS, FEATURES, BATCH, FRAME = 20, 20, 500, 5_000
NAMES = [f"f{i:02d}" for i in range(FEATURES)]
START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2100, 1, 1, tzinfo=UTC)
KINDS = ("fills", "predictions")
Found = dict[str, float]


def frame(kind: str, first: int, n: int) -> pd.DataFrame:
    """Rows `first` to `first + n` of an endless series: UNITS units, a bar a minute."""
    place = np.arange(first, first + n)
    times = pd.Timestamp(START) + pd.to_timedelta(place // UNITS, unit="min")
    unit = np.array([f"U{i:02d}" for i in range(UNITS)], dtype=object)[place % UNITS]
    rows = {"model": "m", "version": 1, "unit": unit, "event_time": times}
    if kind == "fills":
        ids = np.array([f"fill-{i:012d}" for i in place], dtype=object)
        return pd.DataFrame(rows | {"fill_id": ids, "book": "paper", "quantity": 1.0, "price": 100.25, "fee": 0.35})
    rows |= {"known_at": times, "matures_at": times + timedelta(minutes=5), "role": "champion"}
    return pd.DataFrame(rows | {"probability": (place % 1000) / 1000})


def features(first: int, n: int) -> NDArray[np.float32]:
    """Features of those rows."""
    return np.random.default_rng(first).normal(size=(n, FEATURES)).astype(np.float32)


def held(url: str, kind: str) -> int:
    """Rows of a kind that a new reader gets; each is checked against its checksum."""
    with Ledger(url) as ledger:
        if kind == "fills":
            return round(ledger.telemetry.positions("m", "paper")["quantity"].sum())
        return len(ledger.telemetry.predictions("m", start=START, end=END, as_of=END)[0])


def in_process(url: str, kind: str, first: int, n: int) -> tuple[float, float]:
    """Seconds, and CPU seconds, to bring n rows in through the writer, in frames."""
    lots = [(frame(kind, i, FRAME), features(i, FRAME)) for i in range(first, first + n, FRAME)]
    with Ledger(url) as ledger, Writer(ledger) as writer:
        cpu = bare.CpuClock(ledger)
        begin, before = time.perf_counter(), cpu.read()
        waiting = [
            writer.submit_fills(rows) if kind == "fills" else writer.submit_predictions(rows, values, NAMES)
            for rows, values in lots
        ]
        stored = sum(future.result() for future in waiting)
        took, spent = time.perf_counter() - begin, cpu.read() - before
    assert stored == n
    return took, spent


def without_us(url: str, kind: str, first: int, n: int) -> float:
    """CPU seconds to bring the same rows in, checked before, by the database's own quickest way."""
    with Ledger(url) as ledger:
        lots: list[Rows] = []
        for i in range(first, first + n, FRAME):
            rows = frame(kind, i, FRAME)
            lots.append(fill_rows(rows) if kind == "fills" else prediction_rows(rows, features(i, FRAME), NAMES))
        lots = [ledger._identified(rows) for rows in lots]
        cpu = bare.CpuClock(ledger)
        before = cpu.read()
        bare.insert(ledger, lots)
        return cpu.read() - before


def bodies(kind: str, first: int, n: int) -> Iterator[bytes]:
    """What a bot posts."""
    for i in range(first, first + n, BATCH):
        rows = frame(kind, i, BATCH)
        for name in rows.columns.intersection(["event_time", "known_at", "matures_at"]):
            rows[name] = rows[name].map(lambda at: at.isoformat())
        records = rows.to_dict("records")
        if kind == "fills":
            yield b"\n".join(map(orjson.dumps, records))
        else:
            values = features(i, BATCH).astype(float).round(6).tolist()
            told = [r | {"features": dict(zip(NAMES, v, strict=True))} for r, v in zip(records, values, strict=True)]
            yield orjson.dumps(told)


def send(port: int, token: str, kind: str, first: int, n: int, connections: int) -> tuple[float, int]:
    """Seconds to post n rows, and how many were acknowledged as new. Runs in a process of its own."""
    made = list(bodies(kind, first, n))
    form = "application/x-ndjson" if kind == "fills" else "application/json"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": form}

    def post(mine: list[bytes]) -> int:
        line, stored = http.client.HTTPConnection("127.0.0.1", port), 0
        for body in mine:
            line.request("POST", f"/v1/{kind}", body, headers)
            answer = line.getresponse()
            said = answer.read()
            assert answer.status == 200, said
            stored += json.loads(said)["stored"]
        line.close()
        return stored

    with ThreadPoolExecutor(connections) as pool:
        begin = time.perf_counter()
        stored = sum(pool.map(post, (made[i::connections] for i in range(connections))))
        return time.perf_counter() - begin, stored


def serve(url: str, port: int) -> None:
    """The service, as `jobs.serve` runs it; MLflow is not asked for rows."""
    with Ledger(url) as ledger, tempfile.TemporaryDirectory() as folder:
        registry = Registry(MlflowClient("http://127.0.0.1:9"), ledger, Path(folder))
        built = app.build(registry, Settings(), lambda: datetime.now(UTC))
        uvicorn.run(built, port=port, loop="asyncio", http="h11", log_level="warning", access_log=False)


@contextmanager
def served(url: str) -> Iterator[int]:
    """A server process on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.ingest", "--serve", url, "--port", str(port)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if server.poll() is not None:
                    raise SystemExit("server must start, got an end.") from None
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def proven(url: str, kind: str, before: int, n: int) -> None:
    """All of it is there, or nothing counts."""
    now = held(url, kind)
    if now - before != n:
        raise SystemExit(f"ledger must have {n} more {kind}, got {now - before}.")


def measure(url: str, n: int, repeat: int, connections: int) -> Found:
    """Medians of one back end, rows a second."""
    found: Found = {}
    at = dict.fromkeys(KINDS, 0)
    for kind in KINDS:
        rates, spent = [], []
        for _ in range(repeat):
            took, cpu = in_process(url, kind, at[kind], n)
            proven(url, kind, at[kind], n)
            at[kind] += n
            rates.append(n / took)
            spent.append(cpu * 50_000 / n)
        found[f"inprocess_{kind}"] = statistics.median(rates)
        found[f"cpu_s_50k_{kind}"] = statistics.median(spent)
    n = max(BATCH * connections, n // 4 // BATCH * BATCH)
    with Ledger(url) as ledger:
        token = ledger.api_keys.add("benchmark", [f"{kind}:write" for kind in KINDS], datetime.now(UTC))
    with ProcessPoolExecutor(1, get_context("spawn")) as client:
        for kind in KINDS:
            rates = []
            with served(url) as port:
                for i in range(repeat):
                    took, stored = client.submit(send, port, token, kind, at[kind] + i * n, n, connections).result()
                    assert stored == n
                    rates.append(n / took)
            proven(url, kind, at[kind], repeat * n)
            found[f"http_{kind}"] = statistics.median(rates)
    return found


def syncs(folder: Path, seconds: float = 2.0) -> float:
    """How often a second the disk takes 8 KiB for good: no durable commit can be quicker."""
    path, page, n = folder / "sync", bytes(8192), 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        os.write(file, page)
        os.fdatasync(file)
        n += 1
    os.close(file)
    path.unlink()
    return n / seconds


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rows", type=int, default=100_000, help="a run in process; a quarter of it over HTTP")
    ask.add_argument("--repeat", type=int, default=5)
    ask.add_argument("--connections", type=int, default=4)
    ask.add_argument("--serve", default="", help=argparse.SUPPRESS)
    ask.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.serve:
        serve(given.serve, given.port)
        return
    told: Found = {}
    with tempfile.TemporaryDirectory() as folder, postgresql() as server:
        beside = {"syncs_per_s": syncs(Path(folder)), "load": os.getloadavg()[0]}
        for name, url in (("sqlite", f"sqlite:///{folder}/ledger.db"), ("postgresql", server)):
            for key, rate in measure(url, given.rows, given.repeat, given.connections).items():
                told[f"{key}_{name}"] = rate
        for name, url in (("sqlite", f"sqlite:///{folder}/bare.db"), ("postgresql", server)):
            for kind in KINDS:
                cpu = [without_us(url, kind, (1_000 + i) * given.rows, given.rows) for i in range(given.repeat)]
                told[f"bare_cpu_s_50k_{kind}_{name}"] = statistics.median(cpu) * 50_000 / given.rows
    figures = worse(told)
    for name, value in (told | figures | beside).items():
        print(f"{name:40} {value:>12,.{2 if 'cpu' in name else 0}f}")
    print(json.dumps({name: round(value, 3) for name, value in (figures | told | beside).items()}))


def worse(told: Found) -> Found:
    """Of each way and back end the slower kind, and of each way the slower back end."""
    found: Found = {}
    for way in ("inprocess", "http"):
        by = {
            f"rows_per_s_{way}_{name}": min(told[f"{way}_{kind}_{name}"] for kind in KINDS)
            for name in ("sqlite", "postgresql")
        }
        found |= {f"rows_per_s_{way}": min(by.values())} | by
    return found


if __name__ == "__main__":
    main()
