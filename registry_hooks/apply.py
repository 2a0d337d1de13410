"""The door out for power: carry a decision out, or refuse with a reason. Nothing else changes the registry.

A transition is: prove the target loadable -> append to the promotion log with a compare-and-set on the champion that
the decision was made against -> move the aliases -> mark the entry applied. A crash in between leaves a pending entry,
which `reconcile` finishes.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

import structlog

from mlops.errors import RegistryError
from mlops.io import logs
from mlops.io.ledger import Promotion
from mlops.types import Alert, Decision, ModelRef, Priority, Role, Verdict
from registry_hooks import aliases, bundle
from registry_hooks.aliases import Registry
from registry_hooks.bundle import Bundle

log = structlog.get_logger()
RETRAIN_TAG = "retrain_requested"
WAITS_TAG = "waits"  # on a shadow that will be compared when its turn comes
FINISHED = {"promote": "champion changed", "rollback": "rolled back"}  # what a transition says of open comparisons


@dataclass(frozen=True, slots=True)
class Act:
    """Who acts, on what evidence, when (the job's clock), and the share of units that a champion keeps in a test."""

    actor: str
    at: datetime
    evidence_run: str = ""
    split: float = 0.9


def apply(decision: Decision, registry: Registry, act: Act) -> Promotion | None:
    """Do what the decision says; the promotion-log entry where it moved the champion.

    Raises
    ------
    AliasMoved
        The champion is no longer the one that the evidence was measured against. Nothing was changed.
    BundleError
        The target cannot be loaded or was altered. Nothing was changed.
    """
    return HOOKS[decision.verdict](decision, registry, act)


def nominate(registry: Registry, challenger: ModelRef, act: Act) -> None:
    """Make `challenger` the one that is compared with the champion from now on; the one before it is set aside."""
    model = challenger.name
    champion = registry.ledger.champion(model)
    if champion is None:
        raise RegistryError(f"model {model} must have a champion before a challenger, got none. Promote one first.")
    _close(registry, model, "superseded", act.at)
    registry.client.set_registered_model_alias(model, Role.CHALLENGER, str(challenger.version))
    registry.ledger.open_experiment(
        model,
        champion=champion,
        challenger=challenger.version,
        kind="compare",
        salt=uuid.uuid4().hex,
        split=act.split,
        at=act.at,
    )
    log.info("nominated", model=str(challenger), champion=champion)


def enlist(registry: Registry, newcomer: ModelRef, act: Act) -> None:
    """Nominate `newcomer`, or, while another one is compared, let it wait its turn as a shadow that scores beside.

    Either way a request for a retrain is answered by it.
    """
    if RETRAIN_TAG in registry.client.get_registered_model(newcomer.name).tags:
        registry.client.delete_registered_model_tag(newcomer.name, RETRAIN_TAG)
    if not registry.ledger.open_experiments(newcomer.name, "compare"):
        nominate(registry, newcomer, act)
        return
    for tag, value in ((aliases.ROLE_TAG, Role.SHADOW.value), (WAITS_TAG, "true")):
        registry.client.set_model_version_tag(newcomer.name, str(newcomer.version), tag, value)
    log.info("waits as a shadow", model=str(newcomer))


def next_in_line(registry: Registry, model: str, act: Act) -> ModelRef | None:
    """Nominate the oldest version that waits, if the place is free."""
    waiting = registry.client.search_model_versions(f"name = '{model}' and tag.{WAITS_TAG} = 'true'")
    if not waiting or registry.ledger.open_experiments(model, "compare"):
        return None
    first = ModelRef(model, min(int(version.version) for version in waiting))
    nominate(registry, first, act)  # first: a crash after it leaves a tag too many, never a version forgotten
    for tag in (aliases.ROLE_TAG, WAITS_TAG):
        registry.client.delete_model_version_tag(model, str(first.version), tag)
    return first


def retire(registry: Registry, challenger: ModelRef, verdict: str, at: datetime) -> None:
    """End the comparison: the challenger loses its alias, and stays in the registry with its evidence."""
    _close(registry, challenger.name, verdict, at)
    if aliases.read(registry.client, challenger.name).get(Role.CHALLENGER) == challenger.version:
        registry.client.delete_registered_model_alias(challenger.name, Role.CHALLENGER)
    registry.client.set_model_version_tag(challenger.name, str(challenger.version), "compared", verdict)


def transition(
    registry: Registry, model: str, *, expected: int | None, to: int, kind: str, reason: str, act: Act
) -> Promotion:
    """Move the champion of `model` from `expected` to `to`."""
    prove_loadable(registry, ModelRef(model, to))
    entry = registry.ledger.append_promotion(
        model,
        expected=expected,
        to=to,
        kind=kind,
        actor=act.actor,
        reason=reason,
        evidence_run=act.evidence_run,
        correlation_id=logs.correlation_id(),
        at=act.at,
    )
    finish(registry, entry, act)
    return entry


def finish(registry: Registry, entry: Promotion, act: Act) -> None:
    """Everything that follows from a log entry. Safe to repeat: `reconcile` calls it again after a crash.

    Aliases move; comparisons with the champion that went end; a promoted one is watched against the one it replaced;
    a rollback tells a person.
    """
    model, ledger = entry.model, registry.ledger
    aliases.project(registry, model)
    for trial in ledger.open_experiments(model):
        if trial.champion != entry.to_version or trial.challenger == entry.to_version:
            ledger.close_experiment(trial.id, FINISHED[entry.kind], act.at)
    if entry.kind == "promote" and entry.from_version is not None:
        pair = {"champion": entry.to_version, "challenger": entry.from_version}
        ledger.open_experiment(model, **pair, kind="watch", salt="", split=1.0, at=act.at)
    if entry.kind == "rollback":
        title = f"{model} rolled back from v{entry.from_version} to v{entry.to_version}: {entry.reason}"
        ledger.add_alert(Alert(f"rollback:{model}:{entry.seq}", Priority.HIGH, model, title, act.at))
    ledger.settle_promotion(entry.id, "applied", act.at)
    log.info("transition", model=model, kind=entry.kind, to_version=entry.to_version, reason=entry.reason)


def prove_loadable(registry: Registry, ref: ModelRef) -> Bundle:
    """Fetch the bundle, check its digest against the ledger, load it. Raises BundleError where any step fails."""
    row = registry.ledger.bundle(ref.name, ref.version)
    if row is None:
        raise RegistryError(f"bundle of {ref} must be known to the ledger, got none. Train it with `jobs.train`.")
    return bundle.load(bundle.fetch(registry.client, ref, registry.cache), row.digest)


def promote(registry: Registry, target: ModelRef, reason: str, act: Act, *, expected: int | None) -> Promotion:
    """Make `target` the champion, provided that `expected` still is; then it is watched against the one before."""
    return transition(
        registry, target.name, expected=expected, to=target.version, kind="promote", reason=reason, act=act
    )


def rollback(registry: Registry, model: str, reason: str, act: Act, *, expected: int | None = None) -> Promotion:
    """Bring the previous champion back. Trains nothing; verified loadable before any pointer moves.

    `expected` is the champion to leave; None means whichever stands now.
    """
    stack = aliases.standing(registry.ledger.promotions(model))
    if len(stack) < 2:
        raise RegistryError(f"model {model} must have a previous champion to go back to, got {stack}. Promote one.")
    leave = stack[-1] if expected is None else expected
    return transition(registry, model, expected=leave, to=stack[-2], kind="rollback", reason=reason, act=act)


def _close(registry: Registry, model: str, verdict: str, at: datetime) -> None:
    for trial in registry.ledger.open_experiments(model, "compare"):
        registry.ledger.close_experiment(trial.id, verdict, at)


def _hold(decision: Decision, registry: Registry, act: Act) -> None:
    """Nothing to do: the evidence run says why."""


def _retrain(decision: Decision, registry: Registry, act: Act) -> None:
    asked = f"{act.at.isoformat()} {decision.reason}"
    registry.client.set_registered_model_tag(decision.model.name, RETRAIN_TAG, asked)


def _promote(decision: Decision, registry: Registry, act: Act) -> Promotion:
    expected = decision.against.version if decision.against else None
    return promote(registry, decision.model, decision.reason, act, expected=expected)


def _rollback(decision: Decision, registry: Registry, act: Act) -> Promotion:
    return rollback(registry, decision.model.name, decision.reason, act, expected=decision.model.version)


HOOKS = {Verdict.HOLD: _hold, Verdict.RETRAIN: _retrain, Verdict.PROMOTE: _promote, Verdict.ROLLBACK: _rollback}
