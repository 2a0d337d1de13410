"""What a Python bot embeds: `Bot`, and what it says of a bar, `Scored`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry_hooks.bot.client import Bot, Scored

__all__ = ["Bot", "Scored"]


def __getattr__(name: str) -> Any:
    """Load the client when it is first asked for: the courier's process must start without it."""
    if name in __all__:
        return getattr(importlib.import_module("registry_hooks.bot.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
