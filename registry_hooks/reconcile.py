"""Mend what a crash or a person left between the log and MLflow; a person is told of everything that a person did.

- A pending entry (the process died in a transition or a nomination) is finished: the log was written, so it happened.
- `champion` moved by hand, in the MLflow UI say: by the setting `on_manual_move` it is adopted into the log where the
  guard passes and undone else (`adopt`), always undone (`undo`), or adopted although the gates did not pass (`keep`).
- A version on the waiting list without a comparison gets one; one that left the list loses its own.
- An alias deleted by hand is set again. `challenger` moved by hand is a nomination, deleted by hand its end.
- A version or a whole model deleted or renamed by hand: what can be repaired is, and the bot trades on meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from mlflow import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from mlops.alerts import ALERTS
from mlops.errors import AliasMoved, MlopsError, RegistryError
from mlops.io import logs
from mlops.io.ledger import ComparisonRow
from mlops.io.storage.locks import TurnTaken
from mlops.types import ModelRef, Priority, Role
from registry_hooks import aliases, apply, comparable, guard, version_status, waiting_list
from registry_hooks.aliases import Registry
from registry_hooks.apply import BY_HAND, UI_ACTOR, Act

log = structlog.get_logger()
AGREED = "agreed"
COPY = re.compile(r"models:/([^/]+)/(\d+)")  # source of a version that was copied from another one


@dataclass(frozen=True, slots=True)
class Round:
    """One look at one model, in its turn. `mode` is the setting `on_manual_move`, `split` that of a nomination."""

    registry: Registry
    model: str
    at: datetime
    mode: str
    split: float

    def stack(self) -> list[int]:
        return aliases.standing(self.registry.ledger.registry.promotions(self.model))

    def alias(self, role: Role) -> int | None:
        return aliases.read(self.registry.client, self.model).get(role)

    def point(self, role: Role, now: int | None, wanted: int | None) -> None:
        aliases.point(self.registry.client, self.model, role, now, wanted)

    def exists(self, version: int) -> bool:
        return aliases.exists(self.registry.client, self.model, version)

    def act(self, actor: str) -> Act:
        return Act(actor, self.at, split=self.split)

    def tell(
        self, kind: str, text: str, priority: Priority | None = None, *, needed: str = "", **words: object
    ) -> None:
        """Tell a person; the same thing again only in the next hour or day of its key, however often it is so."""
        words |= {"model": self.model, "text": f"{self.model}: {text}", "day": f"{self.at:%Y-%m-%d}"}
        words["hour"] = f"{self.at:%Y-%m-%dT%H}"
        alert = ALERTS[kind].alert(self.at, words, priority=priority, details={"needed": needed} if needed else {})
        if self.registry.ledger.alerts.add(alert):
            log.warning("registry changed by hand", model=self.model, kind=kind, title=text)


def reconcile(
    registry: Registry, model: str, at: datetime, *, on_manual_move: str = "adopt", split: float = 0.9
) -> str:
    """Make log and MLflow agree; says what was done first: `agreed`, `finished`, `adopted`, `undone`, `repaired`.

    `lost`: MLflow has no such model any more. `busy`: a transition is under way, or MLflow or the ledger stopped
    answering in the middle of one; look again.
    """
    around = Round(registry, model, at, on_manual_move, split)
    try:
        with aliases.turn(registry, model):
            present = _present(around)
            if present == "lost":
                return present
            done = [present, *(step(around) for step in STEPS)]
    except (TurnTaken, AliasMoved, apply.RegistryAway, apply.TransitionUnfinished) as error:
        log.warning("to be reconciled again", model=model, error=str(error))
        return "busy"
    return next((outcome for outcome in done if outcome != AGREED), AGREED)


def sweep(registry: Registry, at: datetime, *, on_manual_move: str = "adopt", split: float = 0.9) -> dict[str, str]:
    """Reconcile every model that the ledger knows; what was done, by model. One that fails stops no other."""
    done: dict[str, str] = {}
    for model in registry.ledger.registry.models():
        with logs.bind(correlation_id=f"poll:{model}"):
            try:
                done[model] = reconcile(registry, model, at, on_manual_move=on_manual_move, split=split)
            except (MlflowException, MlopsError, SQLAlchemyError) as error:
                log.warning("not reconciled", model=model, error=str(error))
                done[model] = "failed"
    try:
        tell_copies(registry, at)
    except (MlflowException, MlopsError, SQLAlchemyError) as error:
        log.warning("copies not looked for", error=str(error))
    return done


def tell_copies(registry: Registry, at: datetime) -> None:
    """Tell of versions that a person copied (*Promote model* in the MLflow UI): nothing trades them.

    The copy has the tags of its original; its status says what it is.
    """
    client, ledger = registry.client, registry.ledger
    known = {(row.model, row.version) for model in ledger.registry.models() for row in ledger.registry.bundles(model)}
    for version in client.search_model_versions():
        source, model = COPY.fullmatch(version.source or ""), version.name
        if source is None or (source[1], int(source[2])) not in known or (model, int(version.version)) in known:
            continue
        origin, copy = f"{source[1]} v{source[2]}", f"{model} v{version.version}"
        words = {"model": model, "version": version.version, "text": f"{origin} was copied to {copy} {BY_HAND}"}
        ledger.alerts.add(ALERTS["version-copied"].alert(at, words, about=source[1]))
        version_status.mark_copy(client, version, origin)


def _present(around: Round) -> str:
    """Whether MLflow has the model. A renamed one gets its name back; a deleted one is beyond repair."""
    client, model = around.registry.client, around.model
    try:
        client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code != aliases.GONE:
            raise
    else:
        return AGREED
    now = _renamed_to(around)
    if now is None and model not in around.registry.ledger.registry.models():
        return "lost"  # never ours, or the name that another one had for a moment
    if now is None:
        title = "the registered model was deleted by hand; the bot trades on with what it has loaded. Restore a backup"
        around.tell("model-deleted", title)
        return "lost"
    client.rename_registered_model(now, model)
    around.tell("model-renamed", f"was renamed to {now} {BY_HAND}; it has its name again, for bots ask for it")
    return "repaired"


def _renamed_to(around: Round) -> str | None:
    """The name under which MLflow has our versions now: those that came from the same training runs."""
    for row in reversed(around.registry.ledger.registry.bundles(around.model)):
        for version in around.registry.client.search_model_versions(f"run_id = '{row.run_id}'"):
            if int(version.version) == row.version:
                return str(version.name)
    return None


def _crash(around: Round) -> str:
    if not apply.finish_pending(around.registry, around.model, around.at):
        return AGREED
    log.warning("transition finished after a crash", model=around.model)
    return "finished"


def _champion(around: Round) -> str:
    """`champion` against the log."""
    stack, alias = around.stack(), around.alias(Role.CHAMPION)
    known = bool(stack) or bool(
        around.registry.ledger.registry.bundles(around.model)
    )  # else it is somebody else's model
    if not known or alias == (stack[-1] if stack else None):
        return AGREED
    if alias is None:
        if not around.exists(stack[-1]):
            return AGREED  # its version is gone, and the alias with it: the next step
        around.tell("alias-deleted:champion", f"alias champion was deleted {BY_HAND}; undone, v{stack[-1]} stays")
        around.point(Role.CHAMPION, alias, stack[-1])
        return "undone"
    refused = _adopt(around, ModelRef(around.model, alias), stack)
    if not refused:
        return "adopted"
    stays = f"v{stack[-1]} stays" if stack else "there is no champion"
    needed = guard.needed(around.registry, ModelRef(around.model, alias))
    text = f"champion v{alias} set {BY_HAND} was undone, {stays}: {refused}"
    around.tell("by-hand-undone", text, version=alias, needed=needed)
    if not stack or around.exists(stack[-1]):
        around.point(Role.CHAMPION, alias, stack[-1] if stack else None)
    return "undone"


def _adopt(around: Round, target: ModelRef, stack: Sequence[int]) -> str:
    """Empty when adopted, else why not."""
    if around.mode == "undo":
        return "settings say undo"
    reasons = guard.unsound(around.registry, target)
    failed = guard.ungated(around.registry, target)
    if reasons or (failed and around.mode != "keep"):
        return "; ".join((*reasons, *failed))
    reason = BY_HAND + (f", although its gates did not pass: {'; '.join(failed)}" if failed else "")
    kind = "rollback" if target.version in stack[-2:-1] else "promote"
    try:
        apply.advance(
            around.registry,
            target.name,
            expected=stack[-1] if stack else None,
            to=target.version,
            kind=kind,
            reason=reason,
            act=around.act(UI_ACTOR),
        )
    except (AliasMoved, apply.RegistryAway, apply.TransitionUnfinished):
        raise  # to be looked at again, not to be undone
    except RegistryError as error:
        return str(error)
    return ""


def _versions(around: Round) -> str:
    """Versions that the ledger knows and MLflow lost."""
    versions = around.registry.client.search_model_versions(f"name = '{around.model}'")
    have = {int(version.version) for version in versions}
    missing = [row.version for row in around.registry.ledger.registry.bundles(around.model) if row.version not in have]
    lost = [version for version in missing if not around.exists(version)]  # the answer may have been cut short
    return next((outcome for outcome in [_lost(around, version) for version in lost] if outcome != AGREED), AGREED)


def _lost(around: Round, version: int) -> str:
    """One deleted version: its comparisons end, and where it was champion the one before comes back."""
    stack, ledger = around.stack(), around.registry.ledger
    comparisons = [t for t in ledger.registry.open_comparisons(around.model) if version in (t.champion, t.challenger)]
    done = f"v{version} was deleted {BY_HAND}"
    if stack and version == stack[-1]:
        return _replace_deleted_champion(around, version, done)
    for comparison in comparisons:
        ledger.registry.close_comparison(comparison.id, f"v{version} was deleted", around.at)
    if comparisons:
        aliases.project_challenger(around.registry, around.model, around.at)
    traded = any(c.kind != "shadow" for c in comparisons)
    if version in stack[-2:-1]:
        text = f"{done}: a rollback now goes to the champion before it"
        around.tell("version-deleted", text, Priority.HIGH, version=version)
    else:
        around.tell("version-deleted", done, Priority.HIGH if traded else Priority.LOW, version=version)
    return "repaired" if comparisons else AGREED


def _replace_deleted_champion(around: Round, version: int, done: str) -> str:
    """The champion's version is gone: back to the newest earlier one that MLflow has and that loads."""
    model, registry = around.model, around.registry
    for back in aliases.ways_back(registry.client, model, around.stack()):
        if guard.unsound(registry, ModelRef(model, back)):
            continue
        text = f"champion {done}; rolled back to v{back}"
        around.tell("version-deleted", text, Priority.CRITICAL, version=version)
        act = around.act("reconcile")
        apply.advance(registry, model, expected=version, to=back, kind="rollback", reason=f"champion {done}", act=act)
        return "repaired"
    title = f"champion {done} and none before it can be loaded; the bot trades on with what it has. Promote a version"
    around.tell("version-deleted:none-left", title, version=version)
    return AGREED


def _previous(around: Round) -> str:
    """`previous_champion` is the log's alone: it is where a rollback goes."""
    stack = around.stack()
    now, wanted = around.alias(Role.PREVIOUS), aliases.way_back(around.registry.client, around.model, stack)
    if not stack or now == wanted:
        return AGREED
    around.point(Role.PREVIOUS, now, wanted)
    if now is None and wanted != stack[-2]:
        return "repaired"  # its version was deleted, which is told elsewhere
    did = "was deleted" if now is None else f"was set to v{now}"
    title = f"alias previous_champion {did} {BY_HAND}; undone, the log says where a rollback goes"
    around.tell("alias-undone:previous_champion", title)
    return "undone"


def _challenger(around: Round) -> str:
    """`challenger` against the newest comparison: a person may nominate, and may end it."""
    comparisons = [t for t in around.registry.ledger.registry.comparisons(around.model) if t.kind == "compare"]
    open_one = comparisons[-1] if comparisons and comparisons[-1].ended_at is None else None
    alias, wanted = around.alias(Role.CHALLENGER), open_one.challenger if open_one else None
    if alias == wanted or not around.stack():
        return AGREED
    if around.mode == "undo":
        return _back(around, alias, wanted, "settings say undo")
    if alias is None and open_one is not None:
        return _withdraw(around, open_one)
    target = ModelRef(around.model, alias or 0)
    refused = guard.unsound(around.registry, target)
    if target.version == around.stack()[-1]:
        refused = ("it is the champion",)
    refused = refused or comparable.unlike(around.registry, target)
    if refused:
        return _back(around, alias, wanted, "; ".join(refused))
    text = f"challenger v{alias} was nominated {BY_HAND}; it begins in shadow"
    around.tell("nominated-by-hand", text, version=alias)
    apply.install(around.registry, target, around.act(UI_ACTOR))
    return "adopted"


def _waiting(around: Round) -> str:
    """Hold the waiting list against its comparisons."""
    return "finished" if waiting_list.project(around.registry, around.model, around.at) else AGREED


def _withdraw(around: Round, comparison: ComparisonRow) -> str:
    title = f"alias challenger was deleted {BY_HAND}: the comparison of v{comparison.challenger} ends"
    around.tell("withdrawn-by-hand", title, version=comparison.challenger)
    around.registry.ledger.registry.close_comparison(comparison.id, "withdrawn by hand", around.at)
    aliases.project_challenger(around.registry, around.model, around.at)
    return "repaired"


def _back(around: Round, alias: int | None, wanted: int | None, why: str) -> str:
    did = "was deleted" if alias is None else f"was set to v{alias}"
    around.tell("alias-undone:challenger", f"alias challenger {did} {BY_HAND}; undone: {why}")
    around.point(Role.CHALLENGER, alias, wanted)
    return "undone"


def _status(around: Round) -> str:
    """Tags and descriptions of the versions: what was undone is explained where it was tried."""
    if around.registry.ledger.registry.bundles(around.model):
        version_status.project(around.registry, around.model, around.at)
    return AGREED


STEPS: tuple[Callable[[Round], str], ...] = (_crash, _versions, _champion, _previous, _challenger, _waiting, _status)
