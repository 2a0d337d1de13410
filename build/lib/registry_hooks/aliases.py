"""What the registry says now: which version is champion, challenger, previous champion or shadow.

Aliases are the projection of the promotion log in the ledger. MLflow has no compare-and-set and no history for them,
so nothing here decides: `apply` writes through the log, `reconcile` mends what differs from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from mlops.errors import RegistryError
from mlops.io.ledger import Ledger, Promotion
from mlops.types import ModelRef, Role

ROLE_TAG = "role"


@dataclass(frozen=True, slots=True)
class Registry:
    """The three places that make a registry: MLflow (pointers), the ledger (truth), a cache of bundles (bytes)."""

    client: MlflowClient
    ledger: Ledger
    cache: Path


@dataclass(frozen=True, slots=True)
class Lineup:
    """Who scores and who trades. `split` is the champion's share of units; 1.0 while nothing is compared."""

    champion: int
    roles: dict[int, Role]
    salt: str
    split: float


def read(client: MlflowClient, model: str) -> dict[str, int]:
    """Alias -> version. `search_model_versions` would return empty aliases, so the model itself is read."""
    return {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}


def lineup(registry: Registry, model: str) -> Lineup:
    """The arms that the bot runs.

    The previous champion scores on (as a shadow) only while the new one is watched.

    Raises
    ------
    RegistryError
        The model has no champion.
    """
    aliases = read(registry.client, model)
    if Role.CHAMPION not in aliases:
        raise RegistryError(f"model {model} must have a champion, got aliases {aliases or 'none'}. Promote a version.")
    champion = aliases[Role.CHAMPION]
    roles = dict.fromkeys(_tagged_shadows(registry.client, model), Role.SHADOW)
    salt, split = "", 1.0
    for trial in registry.ledger.open_experiments(model):
        if trial.champion != champion:
            continue  # the champion moved meanwhile; the next comparison closes it
        roles[trial.challenger] = Role.PREVIOUS if trial.kind == "watch" else Role.CHALLENGER
        if trial.kind == "compare":
            salt, split = trial.salt, trial.split
    roles[champion] = Role.CHAMPION
    return Lineup(champion, roles, salt, split)


def standing(promotions: Sequence[Promotion]) -> list[int]:
    """The champions that still stand, oldest first: a rollback takes away the one that it left.

    The last is the champion, the one before it is where a rollback goes.
    """
    stack: list[int] = []
    for step in promotions:
        if step.state == "undone":
            continue
        if step.kind == "rollback":
            while stack and stack[-1] != step.to_version:
                stack.pop()
        if not stack or stack[-1] != step.to_version:
            stack.append(step.to_version)
    return stack


def project(registry: Registry, model: str) -> None:
    """Make the aliases say what the promotion log says. Safe to repeat."""
    stack = standing(registry.ledger.promotions(model))
    wanted = {Role.CHAMPION: stack[-1:], Role.PREVIOUS: stack[-2:-1]}
    now = read(registry.client, model)
    # Champion last: whoever sees it move finds the way back already in place.
    for alias in (Role.PREVIOUS, Role.CHAMPION):
        _point(registry.client, model, alias, now.get(alias), wanted[alias][0] if wanted[alias] else None)
    if stack and now.get(Role.CHALLENGER) == stack[-1]:
        registry.client.delete_registered_model_alias(model, Role.CHALLENGER)


def champion(registry: Registry, model: str) -> ModelRef | None:
    """The champion by the log."""
    version = registry.ledger.champion(model)
    return None if version is None else ModelRef(model, version, Role.CHAMPION)


def _point(client: MlflowClient, model: str, alias: Role, now: int | None, wanted: int | None) -> None:
    if wanted is None and now is not None:
        client.delete_registered_model_alias(model, alias)
    elif wanted is not None and now != wanted:
        client.set_registered_model_alias(model, alias, str(wanted))


def _tagged_shadows(client: MlflowClient, model: str) -> list[int]:
    found = client.search_model_versions(f"name = '{model}' and tag.{ROLE_TAG} = '{Role.SHADOW}'")
    return [int(version.version) for version in found]
