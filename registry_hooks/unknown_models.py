"""Trades and balances of a model that nobody trained here: a name with a typo, most likely, and told once.

They are booked under the name that they came with. A true fill that was set aside would be a position that nobody sees;
a book too many is seen, and its rows are taken back with a command.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import structlog

from mlops.alerts import ALERTS
from mlops.io.ledger import Ledger

log = structlog.get_logger()
MOST = 200  # names that one process tells of: a sender of ever new ones fills no ledger
Named = tuple[str, int]  # model and version; 0 where a row names none


class UnknownModels:
    """Tells of models, and versions of known ones, that rows name and the ledger does not know."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._known = ledger, set[Named]()
        self._told = set[Named]()

    def tell(self, columns: Mapping[str, list[Any]], source: str, at: datetime) -> None:
        """Open an alert of each unknown name in stored rows; where no model is known at all there is no typo to see."""
        versions = columns.get("version") or [0] * len(columns["model"])
        new = set(zip(columns["model"], versions, strict=True)) - self._known - self._told
        if not new or len(self._told) >= MOST:
            return
        models = self._ledger.registry.models()
        for model, version in sorted(new) if models else ():
            title = _title(model, version, models, self._versions(model) if model in models else {0, version})
            if not title:
                self._known.add((model, version))
                continue
            name = f"{model}:v{version}" if model in models else model
            kind, details = ALERTS["model_unknown"], {"source": source}
            self._ledger.alerts.add(kind.alert(at, {"model": name, "text": title}, details=details, about=""))
            log.warning("rows of an unknown model", model=model, version=version, source=source)
            self._told.add((model, version))

    def _versions(self, model: str) -> set[int]:
        """Versions that were trained or traded; 0 is none's."""
        moved = (entry.to_version for entry in self._ledger.registry.promotions(model))
        return {0, *(row.version for row in self._ledger.registry.bundles(model)), *moved}


def _title(model: str, version: int, models: list[str], versions: set[int]) -> str:
    """What a person must know of a name; empty where it is known."""
    if model in models and version in versions:
        return ""
    if model in models:
        have = ", ".join(f"v{n}" for n in sorted(versions) if n) or "none"
        return f"model_unknown: fills name {model} v{version}, and nobody trained that version here (there is: {have})"
    meant = " or ".join(get_close_matches(model, models)) or ", ".join(models[:3])
    return (
        f"model_unknown: fills or balances name {model[:60]!r}, and nobody trained a model of that name here. They are "
        f"in a book of their own, and its balance counts in equity. Was {meant} meant?"
    )
