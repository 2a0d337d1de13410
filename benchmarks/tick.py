"""How long until a new price is on the page: `python -m benchmarks.tick [--seconds 40]`.

The service's own loop on 10 models with 50 positions each, nightly VaR and scenarios in place. Quotes of all 50 units
come by HTTP at irregular moments, about three in two seconds. Time from sending them until a headless Chromium has
drawn the equity that they make, or a later one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import httpx
import numpy as np
import pandas as pd
import uvicorn
from playwright.sync_api import sync_playwright

from jobs import serve
from mlops.io.ledger import Ledger
from mlops.risk.var.fitted import fit
from mlops.settings import Settings
from mlops.web import app
from mlops.web.feed import Hub
from registry_hooks.aliases import Registry

MODELS, UNITS, BARS = 10, [f"U{i:02d}" for i in range(50)], 2_750
QUANTITY, PRICE, BALANCE = 20.0, 50.0, 1e6
DRAWN_S = 30.0  # for the last batch to be drawn
SCENARIOS = 16


def seed(ledger: Ledger, at: datetime) -> None:
    """Fills of every model in every unit, balances, and what the nightly and the weekly job leave."""
    rows = [
        {"fill_id": f"{m}{unit}", "model": f"model{m}", "version": 1, "book": "live", "unit": unit, "event_time": at,
         "quantity": QUANTITY, "price": PRICE, "fee": 0.0}
        for m in range(MODELS) for unit in UNITS
    ]  # fmt: skip
    ledger.telemetry.add_fills(pd.DataFrame(rows))
    worth = {"book": "live", "event_time": at, "known_at": at, "amount": BALANCE, "flow": 0.0}
    ledger.balances.add(pd.DataFrame([worth | {"model": f"model{m}"} for m in range(MODELS)]))
    night(ledger, at, UNITS)


def night(ledger: Ledger, at: datetime, units: Sequence[str]) -> None:
    """What the nightly and the weekly job leave."""
    rng = np.random.default_rng(0)
    returns = rng.standard_t(4, (BARS, 1)) * 0.008 + rng.normal(0, 0.01, (BARS, len(units)))
    fitted = fit(("fhs_gjr", "evt_gjr_skewt", "fhs_ewma"), returns.mean(axis=1))
    body = {
        "units": units, "lacking": {}, "weights": [0.01] * len(units), "fitted": fitted.as_dict(),
        "growth": {"var": 1.0, "es": 1.0}, "backtest": {"model": fitted.model, "level": "unknown"},
    }  # fmt: skip
    arrays = {"returns": returns.astype(np.float32), "times": np.arange(750) * 86_400_000_000}
    arrays |= {"var": np.full(750, 0.02), "loss": rng.normal(0, 0.01, 750)}
    ledger.risk.put_state("var", "all", at, body, arrays)
    names = [f"crisis {i}" for i in range(SCENARIOS)]
    told = {"scenarios": names, "units": units, "missing": [], "about": []}
    moves = {"returns": rng.normal(-0.2, 0.1, (SCENARIOS, len(units))), "proxied": np.zeros((SCENARIOS, len(units)))}
    ledger.risk.put_state("stress", "all", at, told, moves)


def run(port: int, folder: Path) -> None:
    """The service, but for MLflow."""
    with Ledger(f"sqlite:///{folder / 'ledger.db'}") as ledger:
        seed(ledger, datetime.now(UTC) - timedelta(hours=1))
        settings, hub = Settings(state=folder), Hub(lambda: datetime.now(UTC))
        context: Any = SimpleNamespace(ledger=ledger, settings=settings, run_id=None)
        (folder / "key").write_text(ledger.api_keys.add("bench", ["admin"], datetime.now(UTC)))
        threading.Thread(target=serve._risk, args=(context, hub, threading.Event()), daemon=True).start()
        registry = Registry(None, ledger, folder)  # type: ignore[arg-type]
        built = app.build(registry, settings, lambda: datetime.now(UTC), hub=hub)
        uvicorn.run(built, host="127.0.0.1", port=port, log_level="error", loop="asyncio", http="h11")


@contextmanager
def served() -> Iterator[tuple[str, str]]:
    """Address and key of a service in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.tick", "--serve", str(port), folder])
        address = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                try:
                    httpx.get(f"{address}/healthz", timeout=1).raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            yield address, (Path(folder) / "key").read_text()
        finally:
            process.terminate()
            process.wait(20)


def late(seconds: float) -> list[float]:
    """Milliseconds from a batch of quotes to the frame that shows it or a later one."""
    path = shutil.which("chromium")
    assert path, "chromium must be on the PATH"
    with served() as (address, key), sync_playwright() as play, httpx.Client(base_url=address) as http:
        http.headers["Authorization"] = f"Bearer {key}"
        chromium = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{address}/login")
        page.fill("#key", key)
        page.click("button[type=submit]")
        page.wait_for_url("**/risk")
        page.evaluate(
            "window.drawn = []; document.addEventListener('shown', () => { const text = document.body.innerText;"
            " requestAnimationFrame(() => setTimeout(() => drawn.push([text.match(/Equity\\s+\\$([\\d,]+)/)?.[1],"
            " performance.timeOrigin + performance.now()]))) })"
        )
        page.wait_for_timeout(6_000)  # until the first drawings are over
        sent = _quoted(http, page, seconds)
        drawn, until = list[tuple[int, float]](), time.monotonic() + DRAWN_S
        while not drawn or drawn[-1][0] < sent[-1][0]:
            if time.monotonic() > until:
                raise SystemExit(f"equity of {sent[-1][0]} must be drawn within {DRAWN_S:.0f} s, got {drawn[-1:]}.")
            page.wait_for_timeout(100)
            found = page.evaluate("window.drawn")
            drawn = [(int(text.replace(",", "")), at) for text, at in found if text]
        chromium.close()
    return _waits(sent, drawn)


def _quoted(http: httpx.Client, page: Any, seconds: float) -> list[tuple[int, float]]:
    """Send quotes; the equity that each batch makes, and when it was sent (ms since 1970)."""
    rng, sent, until = np.random.default_rng(1), list[tuple[int, float]](), time.monotonic() + seconds
    while time.monotonic() < until:
        page.wait_for_timeout(float(rng.uniform(300, 1_000)))
        price, began = PRICE + 0.01 * (len(sent) + 1), time.time()
        at = datetime.fromtimestamp(began, UTC).isoformat()
        rows = [{"unit": u, "event_time": at, "known_at": at, "bid": price, "ask": price} for u in UNITS]
        http.post("/v1/quotes", json=rows).raise_for_status()
        equity = BALANCE * MODELS + MODELS * len(UNITS) * QUANTITY * (price - PRICE)
        sent.append((round(equity), 1e3 * began))
    return sent


def _waits(sent: Sequence[tuple[int, float]], drawn: Sequence[tuple[int, float]]) -> list[float]:
    """Equity only rises with each batch: what shows at least a batch's shows that batch."""
    return [next(at for equity, at in drawn if equity >= made) - began for made, began in sent]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        run(int(given.serve[0]), Path(given.serve[1]))
        return
    waits = np.array(late(given.seconds))
    p50, p99 = np.quantile(waits, [0.5, 0.99])
    print(f"{len(waits)} batches: median {p50:.0f} ms, 99 % {p99:.0f} ms, longest {waits.max():.0f} ms")
    print(json.dumps({"quote_to_browser_p50_ms": round(p50), "quote_to_browser_p99_ms": round(p99), "n": len(waits)}))


if __name__ == "__main__":
    main()
