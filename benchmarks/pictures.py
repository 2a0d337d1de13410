"""Pictures of the pages for the documents, at three widths, of what a demo left: nothing in them is made up.

    make demo EXIT=1                                         # two years of real history, into .state/demo
    python -m benchmarks.pictures docs/images [--state .state/demo]

`--url http://127.0.0.1:8100 --key <key>` takes them of a running service instead, seen with a key of scope risk:read.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from jobs.context import Context, opened
from jobs.live import risk
from mlops.errors import SettingsError
from mlops.settings import RiskSettings, Settings
from mlops.web import app
from mlops.web.feed import Hub

PICTURES = (  # name, page, width, height of the window, scheme, the whole page
    ("risk-390", "risk", 390, 844, "light", False),
    ("risk-1280", "risk", 1280, 800, "light", False),
    ("risk-2560", "risk", 2560, 1440, "dark", True),
    ("models", "models", 1280, 720, "light", False),
)


@contextmanager
def replayed(state: Path) -> Iterator[tuple[str, str]]:
    """The pages as of the last bar of a demo's state folder: their address and a key. MLflow is not needed."""
    if not (state / "ledger.db").exists():
        raise SettingsError(
            f"state must be the folder of a demo, got {state}, which has no ledger. `make demo EXIT=1`."
        )
    settings = Settings(state=state, tracking_uri=f"sqlite:///{state / 'mlflow.db'}", risk=RiskSettings(clock="ledger"))
    with opened(settings) as context, _served(context) as url:
        key = context.ledger.api_keys.add("pictures", ["risk:read"], _now())
        try:
            yield url, key
        finally:
            context.ledger.api_keys.revoke(key.partition(".")[0], _now())


@contextmanager
def _served(context: Context) -> Iterator[str]:
    """A service that publishes the risk of a set-up's books each second."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hub, look, stop = Hub(_now, context.settings.feed), risk.Live(context), threading.Event()
    built = app.build(context.registry, context.settings, _now, hub=hub)
    server = uvicorn.Server(uvicorn.Config(built, port=port, log_level="error", loop="asyncio", http="h11"))

    def publish() -> None:
        as_of = risk.clock(context, _now())
        while not stop.is_set():
            hub.publish(look.look(as_of).state)
            stop.wait(1)

    threads = [threading.Thread(target=work, daemon=True) for work in (server.run, publish)]
    for thread in threads:
        thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        server.should_exit = True
        for thread in threads:
            thread.join(10)


def draw(url: str, key: str, folder: Path) -> None:
    """All pictures."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, page_name, width, height, scheme, whole in PICTURES:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(f"{url}/login")
            page.fill("#key", key)
            page.click("button[type=submit]")
            page.wait_for_url("**/risk")
            page.goto(f"{url}/{page_name}")
            page.wait_for_selector("[data-news=live], [data-news=replay]")
            page.wait_for_timeout(1500)
            page.screenshot(path=folder / f"{name}.png", full_page=whole)
            _small(folder / f"{name}.png")
            page.close()
        browser.close()


def _small(path: Path, colours: int = 256) -> None:
    """A page has few colours: with a palette its picture takes a third of the room."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--state", type=Path, default=Path(".state/demo"))
    parser.add_argument("--url")
    parser.add_argument("--key")
    given = parser.parse_args()
    if given.url:
        draw(given.url, given.key, given.folder)
    else:
        with replayed(given.state) as (where, token):
            draw(where, token, given.folder)
