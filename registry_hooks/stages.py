"""Stages of the challengers: in shadow they score beside the champion, in A/B they trade a share of the units, too.

A version is in A/B exactly while the newest weights of the running comparison give it more than 0. Weights are appended
in the ledger; the tag `stage` on the version follows them, as aliases follow the log. So a crash anywhere is mended by
`project`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise

import structlog

from mlops.alerts import ALERTS
from mlops.errors import AliasMoved, RegistryError
from mlops.io.ledger import ComparisonRow, Epoch, Ledger
from mlops.types import Decision, ModelRef, Stage
from registry_hooks.aliases import Registry, compared, turn

log = structlog.get_logger()
STAGE_TAG = "stage"
JOBS = ("jobs.", "registry")  # how actors begin that are no people
LEAST_LEFT = 0.5  # of the units, to the champion: no job gives so many challengers a share that less is left


def running(ledger: Ledger, model: str) -> ComparisonRow | None:
    """The comparison that keys are assigned by; None where nobody is nominated."""
    champion = ledger.registry.champion(model)
    comparisons = [row for row in ledger.registry.open_comparisons(model, "compare") if row.champion == champion]
    return comparisons[-1] if comparisons else None


def comparison(ledger: Ledger, model: str) -> ComparisonRow:
    """The running comparison; raises RegistryError where nobody is nominated."""
    row = running(ledger, model)
    if row is None:
        rule = f"model {model} must have a nominated challenger to assign keys to, got none"
        raise RegistryError(f"{rule}. Nominate a version.")
    return row


def stages(ledger: Ledger, model: str) -> dict[int, Stage]:
    """The stage of each version that is compared with the champion."""
    row = running(ledger, model)
    weights = {} if row is None else ledger.assignments.epochs(row)[-1].weights
    return {v: Stage.AB if weights.get(v, 0.0) > 0 else Stage.SHADOW for v in compared(ledger, model)}


def trading_since(ledger: Ledger, model: str, pair: tuple[int, int], as_of: datetime) -> datetime | None:
    """Since when a challenger of (champion, challenger) has traded a share without a break; None: it does not.

    A comparison that followed at once on the one before is no break.
    """
    champion, challenger = pair
    since, until = None, None
    for row in ledger.registry.comparisons(model):
        if row.kind != "compare" or row.champion != champion:
            continue
        ended = row.ended_at if row.ended_at is not None and row.ended_at < as_of else None
        for start, end in _spans(ledger.assignments.epochs(row), challenger, as_of):
            since = since if until is not None and start <= until else start
            until = end if end is not None else ended
            if until is None:
                return since
    return None


def held(ledger: Ledger, model: str, version: int, split: float) -> str:
    """Why no job may give a version the share `1 - split` of the units now; empty where one may.

    A person took it out of trading, or too little would be left to the champion.
    """
    row = running(ledger, model)
    if row is None:
        return "nobody is nominated, so no units are assigned"
    epochs = ledger.assignments.epochs(row)
    changed = [e for before, e in pairwise(epochs) if _of(e, version) != _of(before, version)]
    if changed and _of(changed[-1], version) == 0 and not changed[-1].actor.startswith(JOBS):
        who, at = changed[-1].actor, changed[-1].at
        return f"{who} took it out of trading on {at:%Y-%m-%d %H:%M}; `trader-mlops weights` gives it its share again"
    others = math.fsum(w for v, w in epochs[-1].weights.items() if v not in (row.champion, version))
    left = 1 - others - (1 - split)
    if others and left < LEAST_LEFT:
        return f"other challengers trade {others:.0%} of the units, and at least {LEAST_LEFT:.0%} are the champion's"
    return ""


def begin(ledger: Ledger, challenger: ModelRef, champion: int, at: datetime) -> ComparisonRow:
    """Open the comparison of a nominated challenger: in shadow, where nobody but the champion trades.

    One that waited goes on: its comparison is of one plan, from its first bar.
    """
    pair = (champion, challenger.version)
    waits = ledger.registry.open_comparisons(challenger.name, "shadow")
    began = min((t.started_at for t in waits if (t.champion, t.challenger) == pair), default=at)
    return ledger.registry.open_comparison(
        challenger.name,
        champion=champion,
        challenger=challenger.version,
        kind="compare",
        salt=uuid.uuid4().hex,
        split=1.0,
        at=began,
    )


def move(registry: Registry, decision: Decision, weight: float, *, run: str, actor: str, at: datetime) -> None:
    """Give the challenger of a decision its share of the units, or, with a weight of 0, take it back to shadow.

    One that has a share keeps that; safe to repeat. A person is told first of who is taken back: after a crash in
    between there is nothing that would tell.

    Raises
    ------
    AliasMoved
        The champion is no longer the one that the evidence was measured against. Nothing was changed.
    """
    ref, ledger = decision.model, registry.ledger
    with turn(registry, ref.name):
        _must_stand(registry, decision)
        trades = stages(ledger, ref.name).get(ref.version) is Stage.AB
        if trades == (weight > 0):
            return
        if trades:
            row = comparison(ledger, ref.name)
            words = {"model": ref.name, "version": ref.version, "comparison": row.id, "reason": decision.reason}
            epoch = ledger.assignments.epochs(row)[-1].number
            ledger.alerts.add(ALERTS["challenger_withdrawn"].alert(at, words | {"weights": epoch}))
        reason = decision.reason + (f" Evidence: run {run}." if run else "")
        share(registry, ref.name, {ref.version: weight}, actor=actor, reason=reason, at=at)


def share(
    registry: Registry, model: str, given: Mapping[int, float], *, actor: str, reason: str, at: datetime
) -> Epoch:
    """Append weights to the running comparison; the tags follow. Whoever calls it holds the model's turn.

    Raises what `registry_hooks.assignment.set_weights` does.
    """
    from mlflow import MlflowException

    row, open_now = comparison(registry.ledger, model), compared(registry.ledger, model)
    for version in given.keys() - open_now - {row.champion}:
        names = ", ".join(f"v{v}" for v in sorted(open_now))
        rule = f"weights of {model} must be of versions that are compared ({names}), got v{version}"
        raise RegistryError(f"{rule}. Enlist it first.")
    epoch = registry.ledger.assignments.add_weights(row, given, actor=actor, reason=reason, at=at)
    log.info("weights", model=model, epoch=epoch.number, weights=dict(epoch.weights), reason=reason)
    try:
        project(registry, model)
    except MlflowException as error:  # who trades is the ledger's to say
        log.warning("stages not tagged; reconcile will", model=model, error=str(error))
    return epoch


def carry(registry: Registry, row: ComparisonRow, *, actor: str, at: datetime) -> None:
    """Let those go on trading in a new comparison who traded in the one before and are compared on.

    A crash before it costs them their share until they pass the gate of the shadow stage again, and never gives one.
    """
    ledger, model = registry.ledger, row.model
    before = [t for t in ledger.registry.comparisons(model) if t.kind == "compare" and t.id < row.id]
    if not before or before[-1].champion != row.champion or len(ledger.assignments.epochs(row)) > 1:
        return
    weights, stay = ledger.assignments.epochs(before[-1])[-1].weights, compared(ledger, model) - {before[-1].challenger}
    given = {version: weight for version, weight in weights.items() if version in stay and weight > 0}
    if given:
        reason = f"they trade on as in comparison {before[-1].id}"
        share(registry, model, given, actor=actor, reason=reason, at=at)


def project(registry: Registry, model: str) -> bool:
    """Make the tags say what the weights say; whether there was anything to do. Safe to repeat."""
    wanted, client, changed = stages(registry.ledger, model), registry.client, False
    for version in client.search_model_versions(f"name = '{model}'"):
        have, want = version.tags.get(STAGE_TAG), wanted.get(int(version.version))
        if want is not None and have != want:
            client.set_model_version_tag(model, version.version, STAGE_TAG, want.value)
        elif want is None and have is not None:
            client.delete_model_version_tag(model, version.version, STAGE_TAG)
        changed |= have != want
    return changed


def _must_stand(registry: Registry, decision: Decision) -> None:
    name, champion = decision.model.name, registry.ledger.registry.champion(decision.model.name)
    against = decision.against.version if decision.against else None
    if champion != against:
        raise AliasMoved(f"champion of {name} must be v{against}, got v{champion}. Read it again and decide anew.")


def _of(epoch: Epoch, version: int) -> float:
    return epoch.weights.get(version, 0.0)


def _spans(epochs: Sequence[Epoch], version: int, as_of: datetime) -> list[tuple[datetime, datetime | None]]:
    """From when to when (None: still) the weight of a version was more than 0, by what was known at `as_of`."""
    spans: list[tuple[datetime, datetime | None]] = []
    start = None
    for epoch in epochs:
        if epoch.at > as_of:
            break
        if start is None and _of(epoch, version) > 0:
            start = epoch.at
        elif start is not None and _of(epoch, version) == 0:
            spans.append((start, epoch.at))
            start = None
    return spans if start is None else [*spans, (start, None)]
