"""What the registry says now: which version is champion, challenger, previous champion or shadow.

Aliases are the projection of the promotion log in the ledger. MLflow has no compare-and-set and no history for them,
so nothing here decides: `apply` writes through the log, `reconcile` mends what differs from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tenacity
from numpy.typing import NDArray

from mlops.assignment import assign
from mlops.errors import RegistryError
from mlops.io.ledger import BundleRow, Ledger, Promotion
from mlops.types import ModelRef, Role

if TYPE_CHECKING:
    from mlflow import MlflowClient  # its import takes two seconds, and who asks the ledger alone needs none

ROLE_TAG = "role"
COMPARED = ("compare", "shadow")  # with the champion; the third kind, `watch`, is of the champion itself
ROLES = {"compare": Role.CHALLENGER, "watch": Role.PREVIOUS, "shadow": Role.SHADOW}
TURN_S = 30.0  # a transition takes well under a second; one whose MLflow is away holds its turn for minutes
GONE = "RESOURCE_DOES_NOT_EXIST"
# Two set an alias for the first time: one of them fails on the key, with such an error code of MLflow; it asks again.
RACED = ("BAD_REQUEST", "TEMPORARILY_UNAVAILABLE")


@dataclass(frozen=True, slots=True)
class Registry:
    """The three places that make a registry: MLflow (pointers), the ledger (truth), a cache of bundles (bytes).

    `common_units`: least share of their units that a challenger and the champion have in common (`comparable`).
    """

    client: MlflowClient
    ledger: Ledger
    cache: Path
    common_units: float = 0.8


@dataclass(frozen=True, slots=True)
class Lineup:
    """The versions that score and those that trade.

    `weights` are the shares of keys of those that trade beside the champion, by the `epoch` of the comparison `salt`;
    empty while nobody does.
    """

    champion: int
    roles: dict[int, Role]
    salt: str = ""
    weights: Mapping[int, float] = field(default_factory=dict)
    epoch: int = 0

    @property
    def split(self) -> float:
        """The champion's share of keys."""
        return 1 - math.fsum(self.weights.values())

    def assign(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """The version that a key falls to that was not assigned before (`assignment`); shape (len(keys),)."""
        return assign(keys, salt=self.salt, weights=self.weights, champion=self.champion)


def known(registry: Registry, ref: ModelRef) -> BundleRow:
    """What the ledger knows of a version; MLflow alone may have any, of anybody."""
    row = registry.ledger.registry.bundle(ref.name, ref.version)
    if row is None:
        raise RegistryError(f"bundle of {ref} must be known to the ledger, got none. Train it with `jobs.train`.")
    return row


def fetched(registry: Registry, ref: ModelRef) -> tuple[Path, str]:
    """Where the files of a known version are on this machine, not verified yet, and the digest that they must have."""
    from registry_hooks import bundle

    row = known(registry, ref)
    upload = registry.ledger.uploads.get(ref.name, row.model_id)
    size = None if upload is None else upload.size
    return bundle.fetch(registry.client, ref, registry.cache, model_id=row.model_id, size=size), row.digest


def turn(registry: Registry, model: str) -> AbstractContextManager[None]:
    """Whoever changes the registry of `model` waits for this; see `mlops.io.storage.locks`."""
    return registry.ledger.locks.turn(f"registry:{model}", TURN_S)


def read(client: MlflowClient, model: str) -> dict[str, int]:
    """Alias -> version. `search_model_versions` would return empty aliases, so the model itself is read."""
    return {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}


def lineup(registry: Registry, model: str, at_hand: Mapping[int, Role] | None = None) -> Lineup:
    """The arms that the bot runs.

    `at_hand`: ask the ledger alone, for MLflow may not answer; of what scores already, shadows stay.

    The champion is the log's: an alias that a person moved counts once it is adopted, and one that a person deleted
    stops nobody. The previous champion scores on, as a shadow: whether a rollback would help must be known when it is
    needed. Tags make shadows of versions that the ledger knows.

    Raises
    ------
    RegistryError
        The model has no champion.
    """
    champion = registry.ledger.registry.champion(model)
    if champion is None:
        raise RegistryError(f"model {model} must have a champion, got none in the log. Promote a version.")
    asked = at_hand is None
    shadows = _tagged_shadows(registry, model) if at_hand is None else [v for v in at_hand if at_hand[v] is Role.SHADOW]
    arms = _compared(registry.ledger, model, champion, shadows)
    stack = standing(registry.ledger.registry.promotions(model))
    if champion in stack[-1:] and len(stack) > 1:
        back = way_back(registry.client, model, stack) if asked else stack[-2]
        if back is not None and (asked or back in (at_hand or {})):
            arms.roles.setdefault(back, Role.PREVIOUS)
    return arms


def traded(ledger: Ledger, model: str) -> Lineup:
    """Lineup by the ledger alone: without shadows that only MLflow knows of, and without the way back.

    Raises
    ------
    RegistryError
        The promotion log has no champion of the model.
    """
    champion = ledger.registry.champion(model)
    if champion is None:
        raise RegistryError(f"model {model} must have a champion, got none in the log. Promote a version.")
    return _compared(ledger, model, champion, ())


def _compared(ledger: Ledger, model: str, champion: int, shadows: Sequence[int]) -> Lineup:
    """The champion, those that are compared with it, and the weights of those that trade."""
    roles = dict.fromkeys(shadows, Role.SHADOW)
    comparisons = [c for c in ledger.registry.open_comparisons(model) if c.champion == champion]
    for comparison in comparisons:  # those of another champion are closed by whoever moved it
        if comparison.kind != "shadow" or comparison.challenger not in roles:
            roles[comparison.challenger] = ROLES[comparison.kind]
    roles[champion] = Role.CHAMPION
    assignment = next((c for c in reversed(comparisons) if c.kind == "compare"), None)
    if assignment is None:
        return Lineup(champion, roles)
    last = ledger.assignments.epochs(assignment)[-1]
    weights = {v: w for v, w in last.weights.items() if w > 0 and v != champion and v in roles}
    return Lineup(champion, roles, assignment.salt, weights, last.number)


def compared(ledger: Ledger, model: str) -> set[int]:
    """Versions that are compared with the champion: the challenger, and those that wait."""
    champion = ledger.registry.champion(model)
    comparisons = [c for c in ledger.registry.open_comparisons(model) if c.champion == champion]
    return {c.challenger for c in comparisons if c.kind in COMPARED}


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


def must_move(model: str, champion: int | None, to: int) -> None:
    """Refuse a move to where the champion stands: a watch of it against itself and a fresh start say what is not so.

    Raises
    ------
    RegistryError
        `to` is the champion already.
    """
    if to == champion:
        rule = f"next champion of {model} must be another than the present one, got v{to}, which trades already"
        raise RegistryError(f"{rule}. Nothing was changed; choose another version, or roll back.")


def exists(client: MlflowClient, model: str, version: int) -> bool:
    """Whether MLflow (still) has the version."""
    from mlflow import MlflowException

    try:
        client.get_model_version(model, str(version))
    except MlflowException as error:
        if error.error_code == GONE:
            return False
        raise
    return True


def ways_back(client: MlflowClient, model: str, stack: Sequence[int]) -> Iterator[int]:
    """Where a rollback may go, best first: earlier standing champions that MLflow still has, asked for one by one."""
    return (v for v in dict.fromkeys(reversed(stack[:-1])) if v != stack[-1] and exists(client, model, v))


def way_back(client: MlflowClient, model: str, stack: Sequence[int]) -> int | None:
    """Where a rollback goes; None: nowhere."""
    return next(ways_back(client, model, stack), None)


def project(registry: Registry, model: str, at: datetime) -> None:
    """Make the aliases say what the log says. Safe to repeat; whoever calls it holds the model's turn."""
    stack = standing(registry.ledger.registry.promotions(model))
    now, back = read(registry.client, model), way_back(registry.client, model, stack)
    # Champion last: whoever sees it move finds the way back already in place.
    point(registry.client, model, Role.PREVIOUS, now.get(Role.PREVIOUS), back)
    point(registry.client, model, Role.CHAMPION, now.get(Role.CHAMPION), stack[-1] if stack else None)
    project_challenger(registry, model, at)


def project_challenger(registry: Registry, model: str, at: datetime) -> None:
    """Make `challenger` say what the newest comparison says, and end any older one that a crash left open."""
    comparisons = [c for c in registry.ledger.registry.comparisons(model) if c.kind == "compare"]
    if not comparisons:
        return
    *older, last = comparisons
    for comparison in older:
        if comparison.ended_at is None:
            registry.ledger.registry.close_comparison(comparison.id, "superseded", at)
    wanted = last.challenger if last.ended_at is None else None
    point(registry.client, model, Role.CHALLENGER, read(registry.client, model).get(Role.CHALLENGER), wanted)
    registry.ledger.registry.settle_alias(last.id, at)


def champion(registry: Registry, model: str) -> ModelRef | None:
    """The champion by the log."""
    version = registry.ledger.registry.champion(model)
    return None if version is None else ModelRef(model, version, Role.CHAMPION)


def _raced(error: BaseException) -> bool:
    from mlflow import MlflowException

    return isinstance(error, MlflowException) and error.error_code in RACED


@tenacity.retry(
    retry=tenacity.retry_if_exception(_raced),
    wait=tenacity.wait_random(0.01, 0.05),
    stop=tenacity.stop_after_attempt(3),
    reraise=True,
)
def point(client: MlflowClient, model: str, alias: Role, now: int | None, wanted: int | None) -> None:
    """Move one alias from where it is to where it belongs; None: nowhere."""
    if wanted is None and now is not None:
        client.delete_registered_model_alias(model, alias)
    elif wanted is not None and now != wanted:
        client.set_registered_model_alias(model, alias, str(wanted))


def _tagged_shadows(registry: Registry, model: str) -> list[int]:
    tagged = registry.client.search_model_versions(f"name = '{model}' and tag.{ROLE_TAG} = '{Role.SHADOW}'")
    known = {row.version for row in registry.ledger.registry.bundles(model)}
    return [v for version in tagged if (v := int(version.version)) in known]
