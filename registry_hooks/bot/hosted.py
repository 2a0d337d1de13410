"""Bots for bots without Python: the service scores for them, one model each, loaded when it is first asked for.

A model is loaded beside the requests, for that asks MLflow, which may not answer: who asks first waits a moment, others
are told to come again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime

import structlog

from mlops.errors import RegistryError
from mlops.settings import BotSettings
from registry_hooks.aliases import Registry
from registry_hooks.bot.client import Bot

log = structlog.get_logger()
FIRST_S = 5.0  # how long the request that has a model loaded waits for it
AGAIN_S = 5.0  # before a model that could not be loaded is tried again


class Scorers:
    """Model -> what scores it. Each request is a bar, so a model is swapped between two requests, never within one."""

    def __init__(
        self, registry: Registry, clock: Callable[[], datetime], poll_s: float, settings: BotSettings | None = None
    ) -> None:
        self._registry, self._clock, self._poll_s, self._settings = registry, clock, poll_s, settings
        self._turn, self._loading = threading.Lock(), dict[str, tuple[Future[Bot], float]]()
        self._closed = False

    def __call__(self, model: str) -> Bot | None:
        """The bot of a model; None where it never had a champion.

        Raises
        ------
        RegistryError
            Its champion cannot be proven here, or is being loaded.
        """
        if model not in self._loading and self._registry.ledger.registry.champion(model) is None:
            return None
        loading, first = self._begun(model)
        try:
            bot = loading.result(FIRST_S if first else 0)
        except TimeoutError as error:
            rule = f"model {model} must be loaded before it scores"
            raise RegistryError(f"{rule}, got one that is being loaded. Ask again.") from error
        bot.boundary(self._clock())
        return bot

    def close(self) -> None:
        """Bring what was scored to the ledger, and end."""
        with self._turn:
            self._closed = True
            done = [future for future, _ in self._loading.values() if future.done() and not future.exception()]
        for future in done:
            future.result().close()

    def _begun(self, model: str) -> tuple[Future[Bot], bool]:
        """The loading of a model, and whether it begins now. One that failed is begun again after a while."""
        with self._turn:
            if model in self._loading:
                future, at = self._loading[model]
                failed = future.done() and future.exception() is not None
                if not failed or time.monotonic() < at + AGAIN_S:
                    return future, False
            future = Future[Bot]()
            self._loading[model] = future, time.monotonic()
            threading.Thread(target=self._load, args=(model, future), name=f"load-{model}", daemon=True).start()
            return future, True

    def _load(self, model: str, future: Future[Bot]) -> None:
        try:
            bot = Bot(model, self._registry, poll_s=self._poll_s, settings=self._settings)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: whoever asks for the model is told
            log.warning("model not loaded", model=model, error=f"{type(error).__name__}: {error}")
            with self._turn:
                self._loading[model] = future, time.monotonic()
            future.set_exception(error)
            return
        with self._turn:
            future.set_result(bot)
            late = self._closed
        if late:
            bot.close()
