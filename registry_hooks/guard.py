"""What a version must pass before a hand in the MLflow UI may make it champion: the same that a job has to pass.

`check` is all of it. `unsound` alone is what no setting lets through: a version that is unknown, altered or cannot be
loaded would stop the bot.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mlops.errors import RegistryError
from mlops.types import ModelRef
from registry_hooks import aliases, apply, version_status
from registry_hooks.aliases import Registry

LATEST = datetime.max.replace(tzinfo=UTC)
GATE = "jobs."  # actors whose transitions rest on evidence: the jobs (`jobs.compare`); all others are people


def check(registry: Registry, ref: ModelRef) -> tuple[str, ...]:
    """Reasons against `ref` as champion; empty: it passes.

    Its bundle must be known to the ledger, have the digest of the day it was made, and load. Its gates must have
    passed: a comparison with the present champion that ended in `promote`, or it was champion before and no watch
    took it back. The first champion of a model has nothing to be compared with.
    """
    return unsound(registry, ref) + ungated(registry, ref)


def needed(registry: Registry, ref: ModelRef) -> str:
    """What would make `ref` the champion, in words and as a command."""
    champion, sound = registry.ledger.registry.champion(ref.name), not unsound(registry, ref)
    past = f'`trader-mlops promote {ref.name} {ref.version} --reason "..."` moves it past the gates'
    if not sound:
        return "Needed: a bundle that the ledger knows, unaltered, that loads. Train a version, or choose another one."
    look = version_status.statuses(registry.ledger, ref.name, LATEST).get(ref.version)
    stands = f" (now: {look.live['headline']})" if look is not None and look.live.get("headline") else ""
    gate = f"Needed: its comparison with champion v{champion} ends in `promote`{stands}"
    comparisons = registry.ledger.registry.open_comparisons(ref.name)
    if not any(c.challenger == ref.version and c.kind in aliases.COMPARED for c in comparisons):
        gate += ", and it is in none: set the alias `challenger` on it"
    return f"{gate}. {past}."


def unsound(registry: Registry, ref: ModelRef) -> tuple[str, ...]:
    """Reasons why no bot could trade with `ref`."""
    try:
        apply.prove_loadable(registry, ref)
    except RegistryError as error:
        return (str(error),)
    return ()


def ungated(registry: Registry, ref: ModelRef) -> tuple[str, ...]:
    """Reasons why the evidence does not make `ref` the champion."""
    entries = [entry for entry in registry.ledger.registry.promotions(ref.name) if entry.state == "applied"]
    if not entries:
        return ()
    champion = entries[-1].to_version
    left = [entry for entry in entries if entry.from_version == ref.version]
    if left:  # it was champion before
        watched = left[-1].kind == "rollback" and left[-1].actor.startswith(GATE)
        return (f"v{ref.version} was taken back by its watch: {left[-1].reason}",) if watched else ()
    comparisons = registry.ledger.registry.comparisons(ref.name)
    pair = (champion, ref.version)
    compared = [t for t in comparisons if t.kind in aliases.COMPARED and (t.champion, t.challenger) == pair]
    if any(c.verdict == "promote" for c in compared):
        return ()
    if not compared:
        return (f"v{ref.version} was never compared with champion v{champion}",)
    verdict = compared[-1].verdict or "not finished"
    return (f"the comparison of v{ref.version} with champion v{champion} says: {verdict}",)
