"""Bots for bots without Python: the service scores for them, one model each, made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from mlops.settings import BotSettings
from registry_hooks.aliases import Registry
from registry_hooks.bot import Bot


class Scorers:
    """Model -> what scores it. Each request is a bar, so a model is swapped between two requests, never within one."""

    def __init__(
        self, registry: Registry, clock: Callable[[], datetime], poll_s: float, settings: BotSettings | None = None
    ) -> None:
        self._registry, self._clock, self._poll_s, self._settings = registry, clock, poll_s, settings
        self._turn, self._bots = threading.Lock(), dict[str, Bot]()

    def __call__(self, model: str) -> Bot | None:
        """The bot of a model; None where it never had a champion.

        Raises
        ------
        RegistryError
            Its champion cannot be proven here.
        """
        bot = self._bots.get(model)
        if bot is None:
            if self._registry.ledger.champion(model) is None:
                return None
            with self._turn:
                bot = self._bots.get(model) or Bot(model, self._registry, poll_s=self._poll_s, settings=self._settings)
                self._bots[model] = bot
        bot.boundary(self._clock())
        return bot

    def close(self) -> None:
        """Bring what was scored to the ledger, and end."""
        with self._turn:
            for bot in self._bots.values():
                bot.close()
