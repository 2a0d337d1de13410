"""The lineup that a bot heard of last, in a file beside its bundles: what it starts with while the registry is away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
import structlog

from mlops.errors import RegistryError
from mlops.io import private_files
from mlops.types import Role
from registry_hooks.aliases import Lineup

log = structlog.get_logger()


def write(cache: Path, model: str, lineup: Lineup) -> None:
    """Remember it; whole or not at all."""
    place = _place(cache, model)
    private_files.folder(place.parent)
    roles = [[version, role.value] for version, role in lineup.roles.items()]
    weights = [[version, weight] for version, weight in lineup.weights.items()]
    body = {"champion": lineup.champion, "roles": roles, "salt": lineup.salt, "weights": weights, "epoch": lineup.epoch}
    part = place.with_suffix(".part")
    try:
        private_files.file(part).write_bytes(orjson.dumps(body))
        part.replace(place)
    except OSError as error:  # a full disk keeps nobody from a new champion
        log.warning("lineup not remembered", model=model, error=str(error))


def read(cache: Path, model: str) -> Lineup:
    """What was heard last; raises RegistryError where nothing ever was."""
    try:
        stored = orjson.loads(_place(cache, model).read_bytes())
    except FileNotFoundError as error:
        raise RegistryError(
            f"registry must answer at the first start of {model}, got nothing. Start MLflow and the ledger."
        ) from error
    roles = {int(version): Role(role) for version, role in stored["roles"]}
    weights = dict(stored["weights"]) if "weights" in stored else _of_split(roles, stored["split"])
    return Lineup(stored["champion"], roles, stored["salt"], weights, stored.get("epoch", 0))


def _of_split(roles: Mapping[int, Role], split: float) -> dict[int, float]:
    """Read what an older release wrote: one challenger has what the champion leaves."""
    return {version: 1 - split for version, role in roles.items() if role is Role.CHALLENGER and split < 1}


def _place(cache: Path, model: str) -> Path:
    return cache / model / "lineup.json"
