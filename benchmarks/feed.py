"""How late the live feed is: at its clients, and in a browser.

    python -m benchmarks.feed [--clients 200] [--seconds 10] [--repeat 3]

A server process publishes a state every second, as `jobs/serve.py` does; a process of its own holds all clients and
takes the time from publication (the message's `at`, before anything is encoded) until it has read the message. Sizes
are those of the deltas: 2 kB and 20 kB. The peer is the usual broadcast: a dictionary that is encoded for each client
and sent to all by `asyncio.gather`, in FastAPI under the same server, without keys, numbers or resumption.

In the browser, a headless Chromium shows the risk page of 500 positions of 10 models, all of whose prices move each
second, until the frame is drawn; and the service's own loop, from a quote that comes in to the frame that shows it
(`benchmarks.tick`). Figures are medians of the repeats; the last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvicorn
from fastapi import FastAPI, WebSocket
from playwright.sync_api import sync_playwright
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import connect

from benchmarks import tick
from benchmarks.states import crowd
from mlops.io.ledger import Ledger
from mlops.settings import Settings
from mlops.web import app
from mlops.web.envelopes import tree
from mlops.web.feed import Hub
from mlops.web.messages import RiskState
from registry_hooks.aliases import Registry

MOVED = {"2k": 35, "20k": 372, "page": 500}  # positions that move: their delta has about that size
SIZES, POSITIONS = ("2k", "20k"), 500
AT = re.compile(r'"at":"([^"]+)"')
PING_S = 10.0
KEY = "BENCHMARK_KEY"  # in the environment: a random key may begin with a dash, and arguments are seen by all


def states(moved: int) -> Iterator[RiskState]:
    """One book whose first positions move each second, a little."""
    first, rng = crowd(POSITIONS), np.random.default_rng(1)
    keys = list(first.positions)[:moved]
    while True:
        rows = dict(first.positions)
        for key in keys:
            row, move = rows[key], 1 + 0.001 * round(float(rng.normal()), 3)
            rows[key] = replace(row, price=round((row.price or 0) * move, 2), value=round((row.value or 0) * move, 2))
        yield replace(first, positions=rows, as_of=datetime.now(UTC))


def serve(kind: str, size: str, port: int, folder: Path) -> None:
    """The server process: ours, or the peer."""
    run = {
        "host": "127.0.0.1",
        "port": port,
        "log_level": "error",
        "ws_per_message_deflate": False,
        "loop": "asyncio",
        "http": "h11",
    }
    if kind == "peer":
        uvicorn.run(_peer(MOVED[size]), **run)
        return
    with Ledger(f"sqlite:///{folder / 'ledger.db'}") as ledger:
        (folder / "key").write_text(ledger.api_keys.add("bench", ["risk:read"], datetime.now(UTC)))
        hub = Hub(lambda: datetime.now(UTC))
        threading.Thread(target=_publish, args=(hub, MOVED[size]), daemon=True).start()
        built = app.build(Registry(None, ledger, folder), Settings(), lambda: datetime.now(UTC), hub=hub)  # type: ignore[arg-type]
        uvicorn.run(built, ws_ping_interval=PING_S, **run)


def _publish(hub: Hub, moved: int) -> None:
    for state in states(moved):
        time.sleep(1 - time.time() % 1)
        hub.publish(replace(state, as_of=datetime.now(UTC)))


def _peer(moved: int) -> FastAPI:
    """What most write: encode and send to each."""
    clients: set[WebSocket] = set()
    built = FastAPI()

    @built.websocket("/feed")
    async def feed(client: WebSocket) -> None:
        await client.accept()
        clients.add(client)
        with suppress(WebSocketDisconnect):
            while True:
                await client.receive_text()
        clients.discard(client)

    async def push() -> None:
        for state in states(moved):
            await asyncio.sleep(1 - time.time() % 1)
            rows = [*state.positions.items()][:moved]
            patch = {key: {"price": row.price, "value": row.value} for key, row in rows}
            said = {"at": datetime.now(UTC).isoformat(), "patch": {"positions": patch}}
            texts = (c.send_text(json.dumps(said, separators=(",", ":"))) for c in clients)
            await asyncio.gather(*texts, return_exceptions=True)

    @built.get("/healthz")
    async def healthz() -> dict[str, str]:
        if not hasattr(built.state, "push"):
            built.state.push = asyncio.create_task(push())
        return {}

    return built


async def listen(port: int, n: int, seconds: float, key: str) -> dict[str, Any]:
    """Latencies (s) and sizes (bytes) of what `n` clients read of what was published in a time."""
    late: list[float] = []
    sizes: list[int] = []
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url, begun = f"ws://127.0.0.1:{port}/feed", float("inf")

    async def one() -> None:
        async with connect(url, additional_headers=headers, max_size=None, compression=None) as ws:
            while True:
                text = str(await ws.recv())
                got, at = time.time(), AT.search(text[:200])
                said = datetime.fromisoformat(at[1]).timestamp() if at else 0.0
                if said > begun:
                    late.append(got - said)
                    sizes.append(len(text))

    tasks = []
    for _ in range(n):
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(0.005)
    await asyncio.sleep(2.5)  # until the last one has its first state
    begun = time.time()
    await asyncio.sleep(seconds + 0.5)  # what was published last has half a second to arrive
    for task in tasks:
        task.cancel()
    return {"late": late, "bytes": statistics.median(sizes), "messages": len(late)}


@contextmanager
def served(kind: str, size: str) -> Iterator[tuple[int, str, psutil.Process]]:
    """A server in a process of its own: its port, a key, the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.feed", "--serve", kind, size, str(port), folder]
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
        try:
            while subprocess.run(["curl", "-fs", f"http://127.0.0.1:{port}/healthz"], capture_output=True).returncode:
                time.sleep(0.2)
            key = (Path(folder) / "key").read_text() if kind == "ours" else ""
            yield port, key, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(10)


def clients(kind: str, size: str, n: int, seconds: float) -> dict[str, float]:
    """One run, its clients in a process of their own."""
    with served(kind, size) as (port, key, process):
        before = sum(process.cpu_times()[:2])
        command = [sys.executable, "-m", "benchmarks.feed", "--listen", str(port), str(n), str(seconds)]
        heard = subprocess.run(command, env=os.environ | {KEY: key}, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(heard.stdout)
        cpu = sum(process.cpu_times()[:2]) - before
    late = np.array(found["late"]) * 1e3
    p50, p99 = np.quantile(late, [0.5, 0.99])
    return {
        "p50_ms": p50, "p99_ms": p99, "max_ms": late.max(), "bytes": found["bytes"],
        "heard": found["messages"] / (n * seconds), "server_cpu_s": cpu,
    }  # fmt: skip


def browser(seconds: float) -> dict[str, float]:
    """From publication to the frame that shows it, in Chromium."""
    path = shutil.which("chromium")
    assert path, "chromium must be on the PATH"
    with served("ours", "page") as (port, key, process), sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"http://127.0.0.1:{port}/login")
        page.fill("#key", key)
        page.click("button[type=submit]")
        page.wait_for_url("**/risk")
        page.evaluate(
            "window.late = []; document.addEventListener('shown', ({ detail: d }) => requestAnimationFrame(() =>"
            " setTimeout(() => late.push(performance.timeOrigin + performance.now() - Date.parse(d.at)))))"
        )
        page.wait_for_timeout(5000)  # until the first drawings are over
        page.evaluate("window.late = []")
        page.wait_for_timeout(1000 * seconds)
        late = np.array(page.evaluate("window.late"))
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        asked = page.evaluate("performance.getEntriesByType('resource').length + 1")
        memory = process.memory_info().rss / 2**20
        chromium.close()
    return {
        "p50_ms": float(np.median(late)), "p99_ms": float(np.quantile(late, 0.99)), "n": len(late),
        "first_paint_ms": paint, "requests": asked, "server_rss_mib": memory,
    }  # fmt: skip


def publishing(repeat: int = 20) -> float:
    """Milliseconds that a publication of 500 moved positions takes the loop's thread."""
    hub, source = Hub(lambda: datetime.now(UTC)), states(POSITIONS)
    took = []
    for _ in range(repeat):
        state = next(source)
        began = time.perf_counter()
        hub.publish(state)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--listen", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        kind, size, port, folder = given.serve
        serve(kind, size, int(port), Path(folder))
        return
    if given.listen:
        port, n, seconds = given.listen
        print(json.dumps(asyncio.run(listen(int(port), int(n), float(seconds), os.environ.get(KEY, "")))))
        return
    found: dict[str, Any] = {}
    for size in SIZES:
        for kind in ("ours", "peer"):
            runs = [clients(kind, size, given.clients, given.seconds) for _ in range(given.repeat)]
            middle = {name: round(float(statistics.median(r[name] for r in runs)), 2) for name in runs[0]}
            found[f"{kind}_{given.clients}x{size}"] = middle
            print(kind, size, middle, f"p99 of each run: {[round(float(r['p99_ms']), 1) for r in runs]}")
    seen = browser(3 * given.seconds)
    print("browser", seen)
    waits = np.array(tick.late(4 * given.seconds))
    first = crowd(POSITIONS)
    result = {
        f"p99_ms_{given.clients}x2k": found[f"ours_{given.clients}x2k"]["p99_ms"],
        f"p99_ms_{given.clients}x20k": found[f"ours_{given.clients}x20k"]["p99_ms"],
        "tick_to_browser_p99_ms": round(float(np.quantile(waits, 0.99)), 1),
        "tick_to_browser_p50_ms": round(float(np.median(waits)), 1),
        "published_to_browser_p99_ms": round(seen["p99_ms"], 1),
        "published_to_browser_p50_ms": round(seen["p50_ms"], 1),
        "first_paint_ms": seen["first_paint_ms"],
        "publish_ms": round(publishing(), 2),
        "state_bytes": len(json.dumps(tree(first), separators=(",", ":"))),
        "runs": found,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
