"""Versions that wait to be nominated. Each is compared with the champion meanwhile, on every bar that both scored.

The tag `waits` on a version is its place on the waiting list; the open comparisons of kind `shadow` in the ledger
follow the tags, the champion and the nominations, as aliases follow the log. So `project` mends a crash anywhere.
"""

from __future__ import annotations

from datetime import datetime

from mlflow import MlflowClient

from mlops.io.ledger import ComparisonRow
from mlops.types import ModelRef, Role
from registry_hooks import stages
from registry_hooks.aliases import ROLE_TAG, Registry, compared

WAITS_TAG = "waits"


def join(client: MlflowClient, challenger: ModelRef) -> None:
    """Let a version wait. First what makes it wait: a crash in between costs a shadow its scores, never its place."""
    for tag, value in ((WAITS_TAG, "true"), (ROLE_TAG, Role.SHADOW.value)):
        client.set_model_version_tag(challenger.name, str(challenger.version), tag, value)


def leave(client: MlflowClient, model: str, version: int) -> None:
    """Take a version off the waiting list, and its role of a shadow from it. Safe to repeat."""
    have = client.get_model_version(model, str(version)).tags
    for tag in (ROLE_TAG, WAITS_TAG):
        if tag in have:
            client.delete_model_version_tag(model, str(version), tag)


def waiting(registry: Registry, model: str) -> list[int]:
    """Versions that wait, oldest first: tagged, never nominated before, and not the champion."""
    return _sorted(registry, model)[0]


def project(registry: Registry, model: str, at: datetime) -> bool:
    """Make the comparisons of kind `shadow` agree with the list; whether there was anything to do.

    Safe to repeat; whoever calls it holds the model's turn.
    """
    champion = registry.ledger.registry.champion(model)
    if champion is None:
        return False
    listed, stale = _sorted(registry, model)
    running = registry.ledger.registry.open_comparisons(model, "shadow")
    over = [t for t in running if t.champion != champion or t.challenger not in listed]
    have = {t.challenger for t in running if t.champion == champion}
    for comparison in over:
        registry.ledger.registry.close_comparison(comparison.id, _why(registry, comparison, champion), at)
    for version in listed:
        if version not in have:
            pair = {"champion": champion, "challenger": version}
            registry.ledger.registry.open_comparison(model, **pair, kind="shadow", salt="", split=1.0, at=at)
    for version in stale:
        leave(registry.client, model, version)
    gone = _take_weights(registry, model, at)
    tagged = stages.project(registry, model)
    return bool(over or stale or gone or tagged or have.symmetric_difference(listed))


def _take_weights(registry: Registry, model: str, at: datetime) -> dict[int, float]:
    """Stop assigning new keys to versions that are not compared any more; these versions."""
    gone: dict[int, float] = {}
    stay = compared(registry.ledger, model) | {registry.ledger.registry.champion(model)}
    for comparison in registry.ledger.registry.open_comparisons(model, "compare"):
        weights = registry.ledger.assignments.epochs(comparison)[-1].weights
        gone = {version: 0.0 for version, weight in weights.items() if weight > 0 and version not in stay}
        if gone:
            registry.ledger.assignments.add_weights(
                comparison, gone, actor="registry", reason="not compared any more", at=at
            )
    return gone


def _why(registry: Registry, comparison: ComparisonRow, champion: int) -> str:
    if comparison.champion != champion:
        return "champion changed"
    compared = registry.ledger.registry.open_comparisons(comparison.model, "compare")
    return "nominated" if any(t.challenger == comparison.challenger for t in compared) else "left the line"


def _sorted(registry: Registry, model: str) -> tuple[list[int], list[int]]:
    """Tagged versions: those that wait, and those whose tags a crash left or a person set.

    Anybody who reaches MLflow may tag a version of his own: only those count that the ledger knows.
    """
    tagged_there = registry.client.search_model_versions(f"name = '{model}' and tag.{WAITS_TAG} = 'true'")
    had = {c.challenger for c in registry.ledger.registry.comparisons(model) if c.kind == "compare"}
    had.add(registry.ledger.registry.champion(model) or 0)
    known = {row.version for row in registry.ledger.registry.bundles(model)}
    tagged = sorted(known & {int(version.version) for version in tagged_there})
    return [v for v in tagged if v not in had], [v for v in tagged if v in had]
