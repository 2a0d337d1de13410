"""Mend what a crash or a person left between the promotion log and the aliases.

- A pending entry (the process died in a transition) is finished: the log was written, so the transition happened.
- A champion alias that the log does not know was moved by hand, in the MLflow UI say. It is adopted into the log when
  the guard passes (bundle known, digest right, loadable), or undone, by the setting `on_manual_move`; a person is told.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from mlops.errors import AliasMoved, RegistryError
from mlops.types import Alert, ModelRef, Priority, Role
from registry_hooks import aliases, apply
from registry_hooks.aliases import Registry
from registry_hooks.apply import Act

log = structlog.get_logger()
BY_HAND = "by hand in the MLflow UI"


def reconcile(registry: Registry, model: str, at: datetime, *, on_manual_move: str = "adopt") -> str:
    """Make log and aliases agree; says what was done: `agreed`, `finished`, `adopted` or `undone`.

    The alias is read between two equal readings of the log, so a transition under way is never taken for a hand.
    """
    while True:
        before = registry.ledger.promotions(model)
        alias = aliases.read(registry.client, model).get(Role.CHAMPION)
        if before == registry.ledger.promotions(model):
            break
    stack = aliases.standing(before)
    pending = [entry for entry in before if entry.state == "pending"]
    if pending:
        for entry in pending:
            apply.finish(registry, entry, Act("reconcile", at))
        log.warning("transition finished after a crash", model=model, to_version=stack[-1])
        return "finished"
    if not stack or alias == stack[-1]:
        return "agreed"
    return _moved_by_hand(registry, model, alias, stack[-1], at, adopt=on_manual_move == "adopt")


def _moved_by_hand(
    registry: Registry, model: str, alias: int | None, champion: int, at: datetime, *, adopt: bool
) -> str:
    refused = "settings say undo" if not adopt else "the alias was deleted" if alias is None else ""
    if alias is not None and not refused:
        refused = _adopt(registry, ModelRef(model, alias), champion, at)
        if not refused:
            return "adopted"
    aliases.project(registry, model)
    _tell(registry, model, f"champion v{alias} set {BY_HAND} was undone, v{champion} stays: {refused}", at)
    return "undone"


def _adopt(registry: Registry, target: ModelRef, champion: int, at: datetime) -> str:
    """Empty when adopted, else why not."""
    stack = aliases.standing(registry.ledger.promotions(target.name))
    back = len(stack) > 1 and stack[-2] == target.version
    try:
        if back:
            apply.rollback(registry, target.name, BY_HAND, Act("mlflow-ui", at), expected=champion)
        else:
            apply.promote(registry, target, BY_HAND, Act("mlflow-ui", at), expected=champion)
    except AliasMoved:
        return "another transition came first"
    except RegistryError as error:
        return str(error)
    _tell(registry, target.name, f"champion v{target.version} set {BY_HAND} was adopted (was v{champion})", at)
    return ""


def _tell(registry: Registry, model: str, title: str, at: datetime) -> None:
    log.warning("moved by hand", model=model, title=title)
    registry.ledger.add_alert(Alert(f"by-hand:{model}:{at.isoformat()}", Priority.HIGH, model, title, at))
