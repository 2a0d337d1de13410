"""The door out for power: carry a decision out, or refuse with a reason. Nothing else changes the registry.

A transition is: prove the target loadable -> append to the promotion log with a compare-and-set on the champion that
the decision was made against -> comparisons, alert -> aliases -> mark the entry applied. A crash in between leaves a
pending entry, which `reconcile` finishes: each step may be repeated. A nomination works the same way, with the
comparison as its log. All of it in the model's turn: MLflow has no compare-and-set of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from mlflow import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from mlops.alerts import ALERTS
from mlops.errors import RegistryError
from mlops.io import logs
from mlops.io.ledger import Promotion
from mlops.types import Alert, Decision, ModelRef, Verdict
from registry_hooks import aliases, bundle, comparable, stages, version_status, waiting_list
from registry_hooks.aliases import Registry, turn
from registry_hooks.bundle import Bundle

log = structlog.get_logger()
RETRAIN_TAG = "retrain_requested"
FINISHED = {"promote": "champion changed", "rollback": "rolled back"}  # what a transition says of open comparisons
UI_ACTOR = "mlflow-ui"  # the event names no user, with basic-auth neither
BY_HAND = "by hand in the MLflow UI"


class RegistryAway(RegistryError):
    """MLflow or the ledger did not answer. Nothing was changed; try again."""


class TransitionUnfinished(RegistryError):
    """The transition is in the log but not yet in the aliases. `reconcile` finishes it; do not ask for it again."""


@dataclass(frozen=True, slots=True)
class Act:
    """Actor, evidence and time (the job's clock) of a change, and the share of units a champion keeps in an A/B."""

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
    with turn(registry, challenger.name):
        install(registry, challenger, act)


def install(registry: Registry, challenger: ModelRef, act: Act) -> None:
    """Nominate within the turn. The comparison is the log, the alias follows it: a crash in between is finished.

    It begins in shadow: nobody but the champion trades. One that waited goes on: its comparison is of one plan
    from its first bar, and the share of the units that it trades stays its own.
    """
    model, champion = challenger.name, registry.ledger.registry.champion(challenger.name)
    if champion is None:
        raise RegistryError(f"model {model} must have a champion before a challenger, got none. Promote one first.")
    if champion == challenger.version:
        raise RegistryError(f"challenger of {model} must be another than the champion, got v{champion}. Train one.")
    aliases.known(registry, challenger)
    comparable.check(registry, challenger)
    comparison = stages.begin(registry.ledger, challenger, champion, act.at)
    aliases.project_challenger(registry, model, act.at)
    stages.carry(registry, comparison, actor=act.actor, at=act.at)
    # After the log: a crash in between never forgets a version.
    waiting_list.leave(registry.client, model, challenger.version)
    waiting_list.project(registry, model, act.at)
    version_status.project(registry, model, act.at)
    log.info("nominated", model=str(challenger), champion=champion)


def enlist(registry: Registry, challenger: ModelRef, act: Act) -> None:
    """Nominate `challenger`, or, while another one is or waits, let it wait its turn as a shadow that scores beside.

    A shadow that waits is compared with the champion, too, but trades nothing (`waiting_list`). Either way it answers
    a request for a retrain.
    """
    model = challenger.name
    with turn(registry, model):
        compared = registry.ledger.registry.open_comparisons(model, "compare")
        if any(c.challenger == challenger.version for c in compared):
            log.info("is compared already", model=str(challenger))  # said again by a job that was killed after it
        elif comparable.refused(registry, challenger, act.at):
            pass  # a person was told
        elif compared or set(waiting_list.waiting(registry, model)) - {challenger.version}:
            waiting_list.join(registry.client, challenger)
            waiting_list.project(registry, model, act.at)
            version_status.project(registry, model, act.at)
            log.info("waits as a shadow", model=str(challenger))
        else:
            install(registry, challenger, act)
        if RETRAIN_TAG in registry.client.get_registered_model(model).tags:
            registry.client.delete_registered_model_tag(model, RETRAIN_TAG)


def nominate_next(registry: Registry, model: str, act: Act) -> ModelRef | None:
    """Nominate the oldest version that waits, if the place is free."""
    with turn(registry, model):
        refs = (ModelRef(model, version) for version in waiting_list.waiting(registry, model))
        waits = [ref for ref in refs if not comparable.refused(registry, ref, act.at)]
        if not waits or registry.ledger.registry.open_comparisons(model, "compare"):
            waiting_list.project(registry, model, act.at)  # tags of one that is compared already, or is champion by now
            return None
        install(registry, waits[0], act)
        return waits[0]


def retire(registry: Registry, challenger: ModelRef, verdict: str, at: datetime) -> None:
    """End the comparison of a challenger, or of a shadow that waits: it loses its alias, or its place on the list.

    It stays in the registry with its evidence.
    """
    model, version = challenger.name, challenger.version
    with turn(registry, model):
        registry.client.set_model_version_tag(model, str(version), "compared", verdict)
        waiting_list.leave(registry.client, model, version)
        for comparison in registry.ledger.registry.open_comparisons(model):
            if comparison.challenger == version and comparison.kind in aliases.COMPARED:
                registry.ledger.registry.close_comparison(comparison.id, verdict, at)
        aliases.project_challenger(registry, model, at)
        waiting_list.project(registry, model, at)
        version_status.project(registry, model, at)


def transition(
    registry: Registry, model: str, *, expected: int | None, to: int, kind: str, reason: str, act: Act
) -> Promotion:
    """Move the champion of `model` from `expected` to `to`.

    Raises
    ------
    RegistryError
        `to` is the champion already, or MLflow has no such version. Nothing was changed.
    AliasMoved
        The champion is another one by now. Nothing was changed.
    RegistryAway
        MLflow or the ledger did not answer. Nothing was changed.
    TransitionUnfinished
        They did not answer any more, after the log was written: `reconcile` finishes it.
    """
    prove_loadable(registry, ModelRef(model, to))
    with turn(registry, model):
        return advance(registry, model, expected=expected, to=to, kind=kind, reason=reason, act=act)


def advance(
    registry: Registry, model: str, *, expected: int | None, to: int, kind: str, reason: str, act: Act
) -> Promotion:
    """Move the champion within the turn, to a version that was proven loadable."""
    aliases.must_move(model, expected, to)
    with _answering(f"{kind} of {model} to v{to}"):
        finish_pending(registry, model, act.at)
        if not aliases.exists(registry.client, model, to):
            raise RegistryError(f"{model} v{to} must be in MLflow, got none: it was deleted. Choose another version.")
        entry = registry.ledger.registry.append_promotion(
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
    done = finish(registry, entry, act.at)
    if done.state == "undone":
        raise RegistryError(f"{model} v{to} must be in MLflow, got none: deleted meanwhile. Nothing was changed.")
    return done


def finish_pending(registry: Registry, model: str, at: datetime) -> bool:
    """Finish, within the turn, what a crash left of a transition or a nomination; whether there was anything."""
    entries = [entry for entry in registry.ledger.registry.promotions(model) if entry.state != "undone"]
    pending = [entry for entry in entries if entry.state == "pending"]
    for entry in pending:
        if entry is entries[-1]:
            finish(registry, entry, at)
        else:  # release 0.1 let later entries overtake it; what follows from them stands
            registry.ledger.registry.settle_promotion(entry.id, "applied", at)
    rows = [c for c in registry.ledger.registry.comparisons(model) if c.kind == "compare"]
    nomination = bool(rows) and (rows[-1].alias_at is None or any(t.ended_at is None for t in rows[:-1]))
    if nomination:
        aliases.project_challenger(registry, model, at)
    return bool(pending) or nomination


def finish(registry: Registry, entry: Promotion, at: datetime) -> Promotion:
    """Everything that follows from a log entry. Safe to repeat: `reconcile` calls it again after a crash.

    Comparisons with the champion that went end; a promoted one is watched against the one it replaced; a rollback, or a
    hand in the registry, tells a person; who waits is compared with the new champion. Then the aliases move, and the
    entry is applied. Where MLflow lost the target meanwhile, the entry is undone instead: then nothing of it stays.
    """
    try:
        if not aliases.exists(registry.client, entry.model, entry.to_version):
            return _undo(registry, entry, at)
        _follow(registry, entry, at)
        aliases.project(registry, entry.model, at)
        waiting_list.leave(registry.client, entry.model, entry.to_version)
        waiting_list.project(registry, entry.model, at)
        registry.ledger.registry.settle_promotion(entry.id, "applied", at)
    except (MlflowException, SQLAlchemyError) as error:
        thing = f"{entry.kind} of {entry.model} to v{entry.to_version}"
        raise TransitionUnfinished(
            f"{thing} must reach MLflow and the ledger, got {type(error).__name__}: {error}. It is in the log "
            f"(entry {entry.seq}) and will be finished when they answer: do not repeat it."
        ) from error
    version_status.project(registry, entry.model, at)
    log.info("transition", model=entry.model, kind=entry.kind, to_version=entry.to_version, reason=entry.reason)
    return replace(entry, state="applied", settled_at=at)


def _follow(registry: Registry, entry: Promotion, at: datetime) -> None:
    """What the ledger itself must say of an entry. Before the aliases: whoever sees them move finds all of it."""
    model, ledger = entry.model, registry.ledger
    for comparison in ledger.registry.open_comparisons(model):
        if comparison.champion != entry.to_version or comparison.challenger == entry.to_version:
            ledger.registry.close_comparison(comparison.id, FINISHED[entry.kind], at)
    before = entry.from_version
    if entry.kind == "promote" and before is not None and aliases.exists(registry.client, model, before):
        pair = {"champion": entry.to_version, "challenger": before}
        ledger.registry.open_comparison(model, **pair, kind="watch", salt="", split=1.0, at=at)
    if (news := _news(entry, at)) is not None:
        ledger.alerts.add(news)


def _news(entry: Promotion, at: datetime) -> Alert | None:
    """What a person must hear of an entry; its key is the entry's number, so that it is told once."""
    kind = "by-hand" if entry.actor == UI_ACTOR else "rollback"
    if kind != "by-hand" and entry.kind != "rollback":
        return None
    left = "none" if entry.from_version is None else f"v{entry.from_version}"
    words = {"model": entry.model, "seq": entry.seq, "to": entry.to_version, "reason": entry.reason}
    return ALERTS[kind].alert(at, words | {"left": left})


def _undo(registry: Registry, entry: Promotion, at: datetime) -> Promotion:
    """Take back an entry whose target MLflow lost before the alias could move."""
    words = {"model": entry.model, "seq": entry.seq, "to": entry.to_version}
    registry.ledger.alerts.add(ALERTS["transition-undone"].alert(at, words | {"move": entry.kind}))
    registry.ledger.registry.settle_promotion(entry.id, "undone", at)
    log.error("transition undone", model=entry.model, to_version=entry.to_version)
    return replace(entry, state="undone", settled_at=at)


@contextmanager
def _answering(thing: str) -> Iterator[None]:
    """Before the log is written: whatever does not answer, nothing was changed."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, TransitionUnfinished) as error:
        raise RegistryAway(
            f"{thing} must be written to the log, got {type(error).__name__}: {error}. Nothing was changed; should "
            "the answer alone have been lost, the log has it and it will be finished: read it before you ask again."
        ) from error


def prove_loadable(registry: Registry, ref: ModelRef) -> Bundle:
    """Fetch the bundle, check its digest against the ledger, load it. Raises BundleError where any step fails."""
    return bundle.load(*aliases.fetched(registry, ref))


def promote(registry: Registry, target: ModelRef, reason: str, act: Act, *, expected: int | None) -> Promotion:
    """Make `target` the champion, provided that `expected` still is; then it is watched against the one before."""
    return transition(
        registry, target.name, expected=expected, to=target.version, kind="promote", reason=reason, act=act
    )


def rollback(
    registry: Registry, model: str, reason: str, act: Act, *, expected: int | None = None, away: bool = False
) -> Promotion:
    """Bring the previous champion back. Trains nothing; verified loadable before any pointer moves.

    While MLflow does not answer (`away`: that is known already), the log alone is written, to the newest earlier
    champion whose bundle is on this machine: bots go by it. The entry stays pending; `reconcile` moves the aliases.

    `expected` is the champion to leave; None means whichever stands now.
    """
    with _answering(f"rollback of {model}"):
        stack = aliases.standing(registry.ledger.registry.promotions(model))
    leave = expected if expected is not None or not stack else stack[-1]
    if not away:
        try:
            back = aliases.way_back(registry.client, model, stack)
            _must_go_back(model, back, stack)
            return transition(registry, model, expected=leave, to=back or 0, kind="rollback", reason=reason, act=act)
        except RegistryAway as error:
            if not isinstance(error.__cause__, MlflowException):
                raise
        except MlflowException as error:
            log.warning("MLflow does not answer", model=model, error=str(error))
    return _rollback_by_log(registry, model, stack, leave, reason, act)


def _rollback_by_log(
    registry: Registry, model: str, stack: Sequence[int], leave: int | None, reason: str, act: Act
) -> Promotion:
    back = next((v for v in dict.fromkeys(reversed(stack[:-1])) if v != leave and _at_hand(registry, model, v)), None)
    _must_go_back(model, back, stack)
    with turn(registry, model), _answering(f"rollback of {model} by the log"):
        entry = registry.ledger.registry.append_promotion(
            model,
            expected=leave,
            to=back or 0,
            kind="rollback",
            actor=act.actor,
            reason=reason,
            evidence_run=act.evidence_run,
            correlation_id=logs.correlation_id(),
            at=act.at,
        )
        registry.ledger.registry.announce_promotion(entry, act.at)
        _follow(registry, entry, act.at)
    log.warning("rolled back by the log; the aliases follow", model=model, to_version=entry.to_version)
    return entry


def _at_hand(registry: Registry, model: str, version: int) -> bool:
    """Whether the bundle is on this machine and loads."""
    if not (registry.cache / model / str(version)).exists():
        return False
    try:
        prove_loadable(registry, ModelRef(model, version))
    except RegistryError:
        return False
    return True


def _must_go_back(model: str, back: int | None, stack: Sequence[int]) -> None:
    if back is None:
        raise RegistryError(f"model {model} must have a previous champion to go back to, got {stack}. Promote one.")


def _hold(decision: Decision, registry: Registry, act: Act) -> None:
    """Nothing to do: the evidence run says why."""


def _retrain(decision: Decision, registry: Registry, act: Act) -> None:
    asked = f"{act.at.isoformat()} {decision.reason}"
    registry.client.set_registered_model_tag(decision.model.name, RETRAIN_TAG, asked)


def _promote(decision: Decision, registry: Registry, act: Act) -> Promotion:
    expected = decision.against.version if decision.against else None
    return promote(registry, decision.model, decision.reason, act, expected=expected)


def _advance(decision: Decision, registry: Registry, act: Act) -> None:
    stages.move(registry, decision, 1 - act.split, run=act.evidence_run, actor=act.actor, at=act.at)


def _withdraw(decision: Decision, registry: Registry, act: Act) -> None:
    stages.move(registry, decision, 0.0, run=act.evidence_run, actor=act.actor, at=act.at)


def _rollback(decision: Decision, registry: Registry, act: Act) -> Promotion:
    return rollback(registry, decision.model.name, decision.reason, act, expected=decision.model.version)


HOOKS = {
    Verdict.HOLD: _hold,
    Verdict.INCONCLUSIVE: _hold,
    Verdict.RETRAIN: _retrain,
    Verdict.ADVANCE: _advance,
    Verdict.WITHDRAW: _withdraw,
    Verdict.PROMOTE: _promote,
    Verdict.ROLLBACK: _rollback,
}
