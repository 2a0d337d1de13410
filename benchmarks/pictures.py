"""Pictures of the pages for the documents, at three widths.

    python -m benchmarks.pictures docs/images [--url http://127.0.0.1:8100 --key <key>]

Without `--url` they are of a state that `benchmarks/states.py` computes from the packaged bars; with it, of a running
service, seen with a key of scope risk:read.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.states import World
from mlops.io.ledger import Ledger
from mlops.settings import Settings
from mlops.web import app
from mlops.web.feed import Hub
from registry_hooks.aliases import Registry

PICTURES = (  # name, page, width, height of the window, scheme, the whole page
    ("risk-390", "risk", 390, 844, "light", False),
    ("risk-1280", "risk", 1280, 1100, "light", True),
    ("risk-2560", "risk", 2560, 1440, "dark", True),
    ("models", "models", 1280, 620, "light", False),
)


@contextmanager
def example() -> Iterator[tuple[str, str]]:
    """A service with the example's state, published each second: its address and a key."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, Ledger(f"sqlite:///{folder}/ledger.db") as ledger:
        key, world, hub = ledger.add_key("pictures", ["risk:read"], _now()), World(), Hub(_now)
        built = app.build(Registry(None, ledger, Path(folder)), Settings(), _now, hub=hub)  # type: ignore[arg-type]
        server = uvicorn.Server(uvicorn.Config(built, port=port, log_level="error"))
        stop = threading.Event()

        def publish() -> None:
            while not stop.wait(1):
                hub.publish(world.state(_now()))

        for work in (server.run, publish):
            threading.Thread(target=work, daemon=True).start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", key
        stop.set()
        server.should_exit = True
        time.sleep(1)


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
    parser.add_argument("--url")
    parser.add_argument("--key")
    given = parser.parse_args()
    if given.url:
        draw(given.url, given.key, given.folder)
    else:
        with example() as (where, token):
            draw(where, token, given.folder)
