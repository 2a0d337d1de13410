"""The platform's service: bot API, hooks in and out, hard limits, live risk with its page, and the poll that
repairs what got lost."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import mlflow
import pandas as pd
import structlog
import typer
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from jobs import freshness, limits, live, risk_limits, unbooked
from jobs.house import House, run
from mlops.errors import MlopsError
from mlops.types import Finding
from mlops.web import app
from mlops.web.feed import Hub
from registry_hooks import freqtrade, webhook
from registry_hooks.courier import Courier
from registry_hooks.outgoing import Sender
from registry_hooks.reconcile import sweep
from registry_hooks.scorers import Scorers

log = structlog.get_logger()
SOONEST = 0.2  # of risk.every_s: looks are so far apart at the least, however many quotes come
FEEDS_S = 60.0  # between two looks at the feeds
CARRY_S = 10.0  # for the last scores to reach the ledger, at the end


def serve(house: House) -> None:
    """Subscribe to MLflow's webhooks, then serve until stopped."""
    service, stop = house.settings.service, threading.Event()
    hub = Hub(_now, house.settings.feed)
    _subscribe(house)
    sender = Sender(house.ledger, house.settings.outgoing, _now)
    courier = Courier(house.settings.state / "spool", house.ledger.url)  # for what a killed bot left
    loops = {
        "poll": lambda: _poll(house, courier, stop),
        "hooks": lambda: sender.run(stop),
        "limits": lambda: _limits(house, stop),
        "freshness": lambda: _freshness(house, stop),
        "risk": lambda: _risk(house, hub, stop),
    }
    for name, work in loops.items():
        threading.Thread(target=work, name=name, daemon=True).start()
    scorers = Scorers(house.registry, _now, service.poll_s, house.settings.bot)
    server = app.build(house.registry, house.settings, _now, scorers, hub)
    # Named, for uvicorn takes the loop and the parser that it finds: limits and refusals are tested with these.
    uvicorn.run(
        server,
        host=service.host,
        port=service.port,
        loop="asyncio",
        http="h11",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,  # of the feed: it would be packed anew for each client
        ws_max_size=4096,  # a client says its key and nothing else
        ws_ping_interval=10,
        ws_ping_timeout=10,
    )
    stop.set()
    scorers.close()
    courier.close(CARRY_S)


@retry(
    retry=retry_if_exception_type(mlflow.MlflowException),
    stop=stop_after_delay(120),
    wait=wait_exponential(max=5),
    reraise=True,
)
def _subscribe(house: House) -> None:
    service = house.settings.service
    url = f"http://{service.host}:{service.port}/hooks/mlflow"
    webhook.subscribe(house.client, url, service.webhook_secret.get_secret_value())


def _poll(house: House, courier: Courier, stop: threading.Event) -> None:
    """What a crash or a lost webhook left, at the start and every `poll_s` seconds. One that fails stops no other."""
    s = house.settings
    mode, split = s.on_manual_move, s.experiment.split
    steps: tuple[Callable[[], object], ...] = (
        lambda: webhook.catch_up(house.registry, _now(), on_manual_move=mode, split=split),
        lambda: freqtrade.catch_up(house.ledger, _now()),
        lambda: sweep(house.registry, _now(), on_manual_move=mode, split=split),
        courier.look,
    )
    while True:
        for step in steps:
            try:
                step()
            except (mlflow.MlflowException, MlopsError, SQLAlchemyError, OSError) as error:
                log.warning("poll failed", error=str(error))
        if stop.wait(s.service.poll_s):
            return


def _limits(house: House, stop: threading.Event) -> None:
    """Hold every champion against its hard limits, every few seconds. A look that fails stops no other."""
    while not stop.wait(house.settings.limits.every_s):
        try:
            for model in house.ledger.models():
                limits.at(house, model, pd.DataFrame(), _now())
        except (mlflow.MlflowException, MlopsError, SQLAlchemyError, OSError) as error:
            log.warning("hard limits not looked at", error=str(error))


def _freshness(house: House, stop: threading.Event) -> None:
    """Tell of bots and feeds that are silent; feeds every minute, for they take longer. A replay has no silence."""
    look, feeds, looked = freshness.Freshness(house), dict[str, Finding](), -math.inf
    while not stop.wait(house.settings.limits.every_s):
        try:
            now = _now()
            if house.settings.risk.clock != "now":
                continue
            if time.monotonic() - looked >= FEEDS_S:
                feeds, looked = look.feeds(now), time.monotonic()
            freshness.act(house, look.models(now), feeds, now)
        except (MlopsError, SQLAlchemyError, OSError) as error:
            log.warning("silence not looked at", error=str(error))


def _risk(house: House, hub: Hub, stop: threading.Event) -> None:
    """Tell the risk of all books every second, sooner when prices or trades come in, and hold it against its lines.

    A look that fails stops no other.
    """
    looking, every, took = live.Live(house), house.settings.risk.every_s, 0.0
    while not stop.wait(max(every * SOONEST - took, 0.0)):
        hub.news.wait(max(every - max(took, every * SOONEST), 0.0))
        hub.news.clear()
        began = time.perf_counter()
        try:
            as_of = live.clock(house, _now())
            look = looking.look(as_of)
            hub.publish(look.state)
            if house.settings.risk.clock == "now":
                risk_limits.act(house, look.findings, as_of, unknown=look.unknown)
                unbooked.settle(house, look.lost, as_of)
        except Exception:  # whatever it was: the page says that it is stale, and the next second may be good
            log.exception("risk not looked at")
        took = time.perf_counter() - began


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    typer.run(lambda: run("serve", serve))
