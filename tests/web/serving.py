"""The service as it runs, on a port of its own, with a hub to publish on."""

import json
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

from websockets.sync.client import connect

from mlops.settings import FeedSettings, RiskSettings, ServiceSettings, Settings
from mlops.web import app
from mlops.web.feed import Hub
from mlops.web.messages import Kpi, RiskState
from mlops.web.server import Config, Server
from registry_hooks.aliases import Registry

AT = datetime(2026, 3, 2, 21, tzinfo=UTC)


def now():
    return datetime.now(UTC)


def state(equity=1e6, **parts):
    return RiskState(AT, "live", "USD", kpi=Kpi(equity=equity), **parts)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A running service; `stop` and `start` again on the same port."""

    def __init__(
        self, ledger, folder, *, clock=now, stale_s=3.0, registry=None, scorers=None, max_connections=2000, **feed
    ):
        self.ledger, self.port, self.clock = ledger, free_port(), clock
        self._registry, self._scorers = registry or Registry(None, ledger, folder), scorers
        self._settings = Settings(
            service=ServiceSettings(webhook_secret="s" * 32, max_connections=max_connections),
            feed=FeedSettings(**feed),
            risk=RiskSettings(stale_s=stale_s),
        )
        self.key = ledger.api_keys.add("desk", ["risk:read"], AT)
        self.start()

    def start(self):
        self.hub = Hub(now, self._settings.feed)
        built = app.build(self._registry, self._settings, self.clock, self._scorers, hub=self.hub)
        config = Config(built, self._settings.service.model_copy(update={"port": self.port}))
        config.timeout_graceful_shutdown = 2
        self._server = Server(config, lambda: None, lambda: None)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)

    def kill(self):
        """Stop without waiting for what is still being answered."""
        self._server.should_exit = self._server.force_exit = True

    def stop(self):
        self._server.should_exit = True
        self._thread.join(10)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def listen(self, query="", **headers):
        """An open feed, without a key unless a header shows one."""
        return connect(f"ws://127.0.0.1:{self.port}/feed{query}", additional_headers=headers, max_size=None)

    @contextmanager
    def feed(self, query=""):
        """An open feed with a key; calling it gives the next message."""
        with self.listen(query, Authorization=f"Bearer {self.key}") as socket:
            yield lambda timeout=5.0: json.loads(socket.recv(timeout))


@contextmanager
def serving(*args, **kwargs):
    service = Service(*args, **kwargs)
    try:
        yield service
    finally:
        service.stop()


def until(true, seconds=10.0):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
