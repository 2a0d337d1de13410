"""How long a bot waits while the service that serves is killed or stopped: `python -m benchmarks.takeover`.

    python -m benchmarks.takeover [--kills 20] [--stops 3] [--apart 20] [--seed 0]

The two services as `make up` runs them, by its supervisor, on SQLite; MLflow is away, for no fill needs it. A bot
sends a fill ten times a second, each until it is taken. The service that serves is killed, at random 0 to `apart`
seconds after the last kill, so that some fall on a service without another one beside it; then one is stopped
(SIGSTOP: it hangs) when both are ready. `longest_…_s` is the longest that a fill waited, `refused` how often nobody
listened, `lost` how many fills were acknowledged and are not in the ledger.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import httpx

from jobs.stack.processes import SERVICES, bound, live, parts
from jobs.stack.servers import free_port
from jobs.stack.status_board import Board
from jobs.stack.supervisor import supervise
from mlops.io.ledger import Ledger
from mlops.settings import ServiceSettings, Settings

AT = datetime(2026, 3, 2, 21, tzinfo=UTC)
FILL = {"model": "m", "version": 1, "book": "b", "unit": "A", "event_time": AT.isoformat(), "quantity": 1.0}
FILL |= {"price": 10.0, "fee": 0.0}
EVERY_S, AGAIN_S, ANSWER_S = 0.1, 0.01, 60.0  # between two fills, before one is sent again, for an answer
READY_S = 300.0


class Pair:
    """Both services under the supervisor of `make up`, and where they are."""

    def __init__(self, state: Path) -> None:
        service = ServiceSettings(port=free_port())
        away = f"http://127.0.0.1:{free_port()}"
        self.settings = live(Settings(state=state, tracking_uri=away, service=service))
        self.url = f"http://127.0.0.1:{service.port}"
        own = {"MLOPS_SERVICE__PORT": str(service.port)}
        made = (replace(part, environment={**part.environment, **own}) for part in parts(self.settings))
        self._parts = tuple(part for part in bound(tuple(made), service) if part.sockets)
        self.board = Board(state / "up.json", SERVICES)
        with Ledger(self.settings.ledger) as ledger:
            self.key = ledger.api_keys.add("bot", ["fills:write"], AT)

    @contextmanager
    def run(self) -> Iterator[None]:
        """Kept running until the block ends."""
        stop, logs = threading.Event(), self.settings.state / "logs"
        keeper = threading.Thread(target=supervise, args=(self._parts, self.board, logs, stop))
        keeper.start()
        try:
            yield
        finally:
            stop.set()
            keeper.join()

    def ready(self) -> bool:
        """Whether one serves and the other stands by."""
        return all(self.board[name].state == "up" for name in SERVICES)


class Bot:
    """Sends fills until stopped, each until it is taken; when each began, and how long it waited.

    `refused`: how often nobody listened.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key, self._stop = url, key, threading.Event()
        self.waits: list[tuple[float, float]] = []
        self.refused = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, since: float) -> float:
        """Until a fill was taken that began after an instant; the longest wait of those under way since; seconds."""
        until(lambda: bool(self.waits) and self.waits[-1][0] > since)
        return max(wait for began, wait in list(self.waits) if began + wait >= since)

    def _run(self) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=ANSWER_S, trust_env=False) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                while not self._taken(client):
                    time.sleep(AGAIN_S)
                self.waits.append((began, time.monotonic() - began))
                self._stop.wait(EVERY_S)

    def _taken(self, client: httpx.Client) -> bool:
        body = [FILL | {"fill_id": f"f{len(self.waits)}"}]
        try:
            return client.post("/v1/fills", json=body).status_code == 200
        except httpx.ConnectError:
            self.refused += 1
        except httpx.HTTPError:  # a reset or no answer: sent again
            pass
        return False


def signalled(state: Path, sign: signal.Signals) -> tuple[float, int]:
    """Send a signal to the service that holds the lock of a set-up, as soon as one does; the instant, and its process.

    Linux only: who holds a lock is read from `/proc/locks`.
    """
    until(lambda: _serving(state) > 0)
    pid, at = _serving(state), time.monotonic()
    os.kill(pid, sign)
    until(lambda: sign != signal.SIGKILL or _serving(state) != pid)
    return at, pid


def _serving(state: Path) -> int:
    inode = str((state / "run" / "service.lock").stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            return int(fields[4])
    return 0


def until(holds: Callable[[], bool]) -> float:
    """Wait until it holds; seconds."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() > began + READY_S:
            raise SystemExit(f"services must be ready within {READY_S:.0f} s, got one that is not.")
        time.sleep(0.01)
    return time.monotonic() - began


def measure(kills: int, stops: int, apart_s: float, seed: int) -> dict[str, float]:
    """Waits around the kills and the stops."""
    rng, waits = random.Random(seed), defaultdict[str, list[float]](list)
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder))
        with pair.run():
            until(pair.ready)
            with Bot(pair.url, pair.key) as bot:
                for _ in range(kills):
                    time.sleep(rng.uniform(0.0, apart_s))
                    beside = "both_ready" if pair.ready() else "one_ready"
                    waits[beside].append(bot.wait(signalled(Path(folder), signal.SIGKILL)[0]))
                    print(f"{beside:10} {waits[beside][-1]:8.3f} s", flush=True)
                for _ in range(stops):
                    until(pair.ready)
                    waits["hangs"].append(bot.wait(signalled(Path(folder), signal.SIGSTOP)[0]))
                    print(f"{'hangs':10} {waits['hangs'][-1]:8.3f} s", flush=True)
        with Ledger(pair.settings.ledger) as ledger:
            stored = ledger.risk.fills_since("m", AT)
    found = {"kills": kills, "kills_without_another": len(waits["one_ready"])}
    longest = {f"longest_{name}_s": max(waits[name], default=math.nan) for name in ("both_ready", "one_ready", "hangs")}
    median = {"median_both_ready_s": statistics.median(waits["both_ready"] or [math.nan])}
    return found | longest | median | {"fills": len(bot.waits), "lost": len(bot.waits) - stored, "refused": bot.refused}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--kills", type=int, default=20)
    ask.add_argument("--stops", type=int, default=3)
    ask.add_argument("--apart", type=float, default=20.0, help="seconds between two kills, at most")
    ask.add_argument("--seed", type=int, default=1)
    given = ask.parse_args()
    before = os.getloadavg()[0]
    found = measure(given.kills, given.stops, given.apart, given.seed) | {"load": max(before, os.getloadavg()[0])}
    for name, value in found.items():
        print(f"{name:30} {value:>10,.3f}")
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
