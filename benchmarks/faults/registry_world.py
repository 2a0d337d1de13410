"""A registry to break: real stores, five tiny versions a model, what can be done to them, and what must hold after.

Each `ACTIONS[name]` prepares by hand what the action needs and returns (what to do, what must hold afterwards): the
first is what is killed, the second is asked after a fresh process has reconciled.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from sqlalchemy import select

from mlops.errors import RegistryError
from mlops.io.ledger import BundleRow, Ledger, Promotion
from mlops.io.storage.schema import events
from mlops.types import Decision, ModelRef, Role, Verdict
from registry_hooks import aliases, apply, bundle, stages, waiting_list
from registry_hooks.aliases import Registry
from registry_hooks.apply import UI_ACTOR, Act
from registry_hooks.reconcile import reconcile

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
VERSIONS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Place:
    """Where a world is: MLflow's address, the ledger's, and the folder of everything else."""

    tracking_uri: str
    ledger_url: str
    folder: Path

    def client(self) -> MlflowClient:
        mlflow.set_tracking_uri(self.tracking_uri)
        return MlflowClient(self.tracking_uri, registry_uri=self.tracking_uri)

    def open(self) -> Registry:
        return Registry(self.client(), Ledger(self.ledger_url), self.folder / "bundles")


def found(place: Place) -> None:
    """Log the one tiny model that every version is made of."""
    client = place.client()
    with tempfile.TemporaryDirectory() as folder:
        meta = Path(folder) / "meta.json"
        meta.write_text(json.dumps({"format": bundle.FORMAT, "features": ["x"]}))
        where = str(place.folder / "artifacts") if place.tracking_uri.startswith("sqlite") else None
        experiment = client.create_experiment(f"constant {uuid.uuid4().hex}", where)
        with mlflow.start_run(experiment_id=experiment) as run:
            model = Path(__file__).with_name("constant.py")
            kept = {"meta.json": str(meta)}
            info = mlflow.pyfunc.log_model(
                name="constant", python_model=model, artifacts=kept, pip_requirements=["mlflow"]
            )
    (place.folder / "source.json").write_text(json.dumps([info.model_uri, run.info.run_id, info.model_id]))


def add_model(registry: Registry, place: Place, model: str) -> None:
    """A registered model with five versions, all known to the ledger; no champion yet."""
    uri, run_id, model_id = json.loads((place.folder / "source.json").read_text())
    for version in VERSIONS:
        mlflow.register_model(uri, model)
        digest = bundle.digest(bundle.fetch(registry.client, ModelRef(model, version), registry.cache))
        registry.ledger.registry.add_bundle(BundleRow(model, version, digest, run_id, model_id, AT, AT, 5, AT))


@dataclass(frozen=True)
class Trial:
    """One action on one model, as the process sees it that is about to be killed."""

    registry: Registry
    model: str
    mark: str  # unique; the reason of the transition, where there is one
    rng: random.Random

    @property
    def log(self) -> list[Promotion]:
        return self.registry.ledger.registry.promotions(self.model)

    @property
    def champion(self) -> int | None:
        return self.registry.ledger.registry.champion(self.model)

    def alive(self) -> list[int]:
        rows = self.registry.client.search_model_versions(f"name = '{self.model}'")
        return sorted(int(row.version) for row in rows)

    def other(self) -> ModelRef:
        return ModelRef(self.model, self.rng.choice([v for v in self.alive() if v != self.champion]))

    def by_hand(self, alias: Role, version: int) -> None:
        self.registry.client.set_registered_model_alias(self.model, alias, str(version))

    @property
    def act(self) -> Act:
        return Act("campaign", AT, split=0.8)  # four challengers may trade at once


Prepared = tuple[Callable[[], object], dict[str, Any]]


def promote(trial: Trial) -> Prepared:
    target, before = trial.other(), trial.champion
    expect = {"kind": "promote", "either": [before, target.version], "adds": [0, 1]}
    return lambda: apply.promote(trial.registry, target, trial.mark, trial.act, expected=before), expect


def rollback(trial: Trial) -> Prepared:
    if len(aliases.standing(trial.log)) < 2:
        apply.promote(trial.registry, trial.other(), "prepared", trial.act, expected=trial.champion)
    stack, before = aliases.standing(trial.log), trial.champion
    back = aliases.way_back(trial.registry.client, trial.model, stack)
    if back is None:
        return promote(trial)
    expect = {"kind": "rollback", "either": [before, back], "adds": [0, 1]}
    return lambda: apply.rollback(trial.registry, trial.model, trial.mark, trial.act), expect


def nominate(trial: Trial) -> Prepared:
    target = trial.other()
    return lambda: apply.nominate(trial.registry, target, trial.act), {"either": [trial.champion], "adds": [0]}


def enlist(trial: Trial) -> Prepared:
    target = trial.other()
    return lambda: apply.enlist(trial.registry, target, trial.act), {"either": [trial.champion], "adds": [0]}


def nominate_next(trial: Trial) -> Prepared:
    for compared in trial.registry.ledger.registry.open_comparisons(trial.model, "compare"):
        apply.retire(trial.registry, ModelRef(trial.model, compared.challenger), "hold", AT)
    had = {t.challenger for t in trial.registry.ledger.registry.comparisons(trial.model) if t.kind == "compare"}
    fresh = [v for v in trial.alive() if v not in had and v != trial.champion]
    for version in fresh[:1]:
        trial.registry.client.set_model_version_tag(trial.model, str(version), waiting_list.WAITS_TAG, "true")
    expect = {"either": [trial.champion], "adds": [0], "in_line": fresh[:1]}
    return lambda: apply.nominate_next(trial.registry, trial.model, trial.act), expect


def retire(trial: Trial) -> Prepared:
    target = trial.other()
    apply.nominate(trial.registry, target, trial.act)
    return lambda: apply.retire(trial.registry, target, "hold", AT), {"either": [trial.champion], "adds": [0]}


def _in_line(trial: Trial) -> ModelRef | None:
    """One that waits behind a challenger; None where there are no two versions that were never nominated."""
    had = {t.challenger for t in trial.registry.ledger.registry.comparisons(trial.model) if t.kind == "compare"}
    fresh = [v for v in trial.alive() if v not in had and v != trial.champion]
    if not trial.registry.ledger.registry.open_comparisons(trial.model, "compare") and len(fresh) > 1:
        apply.enlist(trial.registry, ModelRef(trial.model, fresh.pop(0)), trial.act)
    if not fresh or not trial.registry.ledger.registry.open_comparisons(trial.model, "compare"):
        return None
    apply.enlist(trial.registry, ModelRef(trial.model, fresh[-1]), trial.act)
    return ModelRef(trial.model, fresh[-1])


def retire_shadow(trial: Trial) -> Prepared:
    target = _in_line(trial)
    if target is None:
        return retire(trial)
    return lambda: apply.retire(trial.registry, target, "hold", AT), {"either": [trial.champion], "adds": [0]}


def promote_shadow(trial: Trial) -> Prepared:
    target, before = _in_line(trial), trial.champion
    if target is None:
        return promote(trial)
    expect = {"kind": "promote", "either": [before, target.version], "adds": [0, 1]}
    return lambda: apply.promote(trial.registry, target, trial.mark, trial.act, expected=before), expect


def adopt(trial: Trial) -> Prepared:
    target = trial.other()
    trial.by_hand(Role.CHAMPION, target.version)
    expect = {"mode": "keep", "either": [target.version], "adds": [1], "actor": UI_ACTOR}
    return lambda: reconcile(trial.registry, trial.model, AT, on_manual_move="keep"), expect


def undo(trial: Trial) -> Prepared:
    trial.by_hand(Role.CHAMPION, trial.other().version)
    expect = {"mode": "undo", "either": [trial.champion], "adds": [0]}
    return lambda: reconcile(trial.registry, trial.model, AT, on_manual_move="undo"), expect


def bury(trial: Trial) -> Prepared:
    """The champion's version is deleted by hand."""
    stack = aliases.standing(trial.log)
    back = aliases.way_back(trial.registry.client, trial.model, stack)
    if back is None or len(trial.alive()) < 4:
        return rollback(trial)
    trial.registry.client.delete_model_version(trial.model, str(stack[-1]))
    expect = {"mode": "adopt", "either": [back], "adds": [1], "actor": "reconcile", "kind": "rollback"}
    return lambda: reconcile(trial.registry, trial.model, AT), expect


def nominate_by_hand(trial: Trial) -> Prepared:
    target = trial.other()
    trial.by_hand(Role.CHALLENGER, target.version)
    expect = {"mode": "adopt", "either": [trial.champion], "adds": [0], "challenger": target.version}
    return lambda: reconcile(trial.registry, trial.model, AT), expect


def advance(trial: Trial) -> Prepared:
    """A challenger leaves the shadow stage."""
    target = _nominated(trial)
    expect = {"either": [trial.champion], "adds": [0], "stages": {target.version: [0.0, 1 - trial.act.split]}}
    return lambda: apply.apply(_moves(trial, Verdict.ADVANCE, target), trial.registry, trial.act), expect


def withdraw(trial: Trial) -> Prepared:
    """A challenger goes back to the shadow stage."""
    target = _nominated(trial)
    apply.apply(_moves(trial, Verdict.ADVANCE, target), trial.registry, trial.act)
    expect = {
        "either": [trial.champion],
        "adds": [0],
        "stages": {target.version: [0.0, 1 - trial.act.split]},
        "tells": trial.mark,
    }
    return lambda: apply.apply(_moves(trial, Verdict.WITHDRAW, target), trial.registry, trial.act), expect


def next_that_trades(trial: Trial) -> Prepared:
    """One that trades while it waits is nominated."""
    target = _in_line(trial)
    if target is None:
        return nominate_next(trial)
    apply.apply(_moves(trial, Verdict.ADVANCE, target), trial.registry, trial.act)
    (first,) = trial.registry.ledger.registry.open_comparisons(trial.model, "compare")
    apply.retire(trial.registry, ModelRef(trial.model, first.challenger), "hold", AT)
    expect = {"either": [trial.champion], "adds": [0]}
    return lambda: apply.nominate_next(trial.registry, trial.model, trial.act), expect


def _nominated(trial: Trial) -> ModelRef:
    target = trial.other()
    for compared in trial.registry.ledger.registry.open_comparisons(trial.model, "compare"):
        apply.retire(trial.registry, ModelRef(trial.model, compared.challenger), "hold", AT)
    apply.nominate(trial.registry, target, trial.act)
    return target


def _moves(trial: Trial, verdict: Verdict, target: ModelRef) -> Decision:
    return Decision(verdict, target, against=ModelRef(trial.model, trial.champion or 0), reason=trial.mark)


ACTIONS = {
    action.__name__: action
    for action in (
        *(promote, rollback, nominate, enlist, nominate_next, retire, retire_shadow, promote_shadow),
        *(adopt, undo, bury, nominate_by_hand),
        *(advance, withdraw, next_that_trades),
    )
}


def wrong(trial: Trial, expect: dict[str, Any]) -> list[str]:
    """Reconcile as a fresh process would; what does not hold then."""
    mode = expect.get("mode", "adopt")
    first = reconcile(trial.registry, trial.model, AT, on_manual_move=mode)
    again = reconcile(trial.registry, trial.model, AT, on_manual_move=mode)
    rules = _agreement(trial) | _expected(trial, expect)
    rules["a second look finds nothing to do"] = again == "agreed"
    rules["a crash is never taken for a hand"] = "mode" in expect or first in ("agreed", "finished")
    return [rule for rule, holds in rules.items() if not holds]


def _agreement(trial: Trial) -> dict[str, bool]:
    """What holds after every action: log, aliases, comparisons, alerts and events tell one story."""
    ledger, client, log = trial.registry.ledger, trial.registry.client, trial.log
    now, stack = aliases.read(client, trial.model), aliases.standing(log)
    back = aliases.way_back(client, trial.model, stack)
    standing = [entry for entry in log if entry.state != "undone"]
    rounds = ledger.registry.open_comparisons(trial.model, "compare")
    beside = sorted((t.champion, t.challenger) for t in ledger.registry.open_comparisons(trial.model, "shadow"))
    tagged = {int(v.version): v.tags for v in client.search_model_versions(f"name = '{trial.model}'")}
    line_up = [v for v, tags in sorted(tagged.items()) if waiting_list.WAITS_TAG in tags]
    watches = [(t.champion, t.challenger) for t in ledger.registry.open_comparisons(trial.model, "watch")]
    last = standing[-1] if standing else None
    watched = [(last.to_version, last.from_version)] if last and last.kind == "promote" and last.from_version else []
    told = [a.key for a in ledger.alerts.newest(open_only=False) if a.model == trial.model]
    news = {f"by-hand:{trial.model}:{e.seq}" for e in standing if e.actor == UI_ACTOR} | {
        f"rollback:{trial.model}:{e.seq}" for e in standing if e.kind == "rollback" and e.actor != UI_ACTOR
    }
    staged = {v: stage.value for v, stage in stages.stages(ledger, trial.model).items() if v in tagged}
    return {
        "the tags say which stage the weights say": staged
        == {v: tags[stages.STAGE_TAG] for v, tags in tagged.items() if stages.STAGE_TAG in tags},
        "the alias champion is the log's": now.get(Role.CHAMPION) == ledger.registry.champion(trial.model),
        "previous_champion is where a rollback goes": now.get(Role.PREVIOUS) == back,
        "challenger is the one that is compared": now.get(Role.CHALLENGER)
        == (rounds[0].challenger if rounds else None),
        "one comparison at a time, with the champion": len(rounds) < 2
        and all(t.champion == ledger.registry.champion(trial.model) for t in rounds),
        "who waits is compared with the champion, nobody else": beside
        == [(ledger.registry.champion(trial.model), version) for version in line_up],
        "the champion and who was nominated wait for nothing": not {ledger.registry.champion(trial.model)}.union(
            t.challenger for t in ledger.registry.comparisons(trial.model) if t.kind == "compare"
        ).intersection(line_up),
        "every entry is settled once": all(e.state in ("applied", "undone") and e.settled_at for e in log),
        "each entry starts where the one before ended": [e.from_version for e in standing[1:]]
        == [e.to_version for e in standing[:-1]],
        "no entry goes nowhere": all(e.from_version != e.to_version for e in log),
        "one watch for the last promotion, none else": watches == watched
        or (watches == [] and watched[0][1] not in trial.alive()),
        "each transition is told once": {k for k in told if k.startswith(("by-hand:", "rollback:"))} == news,
        "each transition is announced once": _announced(trial) == [e.seq for e in log if e.state == "applied"],
    }


def _expected(trial: Trial, expect: dict[str, Any]) -> dict[str, bool]:
    """What holds after this action in particular."""
    added = trial.log[expect["length"] :]
    rules = {
        "the champion is the one before or the target": trial.champion in expect["either"],
        "the transition is in the log at most once": len(added) in expect["adds"],
        "the log says that it happened": not added or added[-1].to_version == expect["either"][-1],
    }
    for name in ("kind", "actor"):
        if name in expect and added:
            rules[f"the entry has the right {name}"] = getattr(added[-1], name) == expect[name]
    challenger = aliases.read(trial.registry.client, trial.model).get(Role.CHALLENGER)
    if "challenger" in expect:
        rules["the nominated one is the challenger"] = challenger == expect["challenger"]
    for version in expect.get("in_line", ()):
        tags = trial.registry.client.get_model_version(trial.model, str(version)).tags
        rules["who waited still waits or is compared"] = challenger == version or waiting_list.WAITS_TAG in tags
    for version, weights in expect.get("stages", {}).items():
        weight = _weight(trial, int(version))
        rules["the challenger has its whole share or none"] = weight in weights
        mine = f"challenger_withdrawn:{trial.model}:v{version}:"
        told = [
            a
            for a in trial.registry.ledger.alerts.newest(open_only=False)
            if a.key.startswith(mine) and expect.get("tells", "?") in a.title
        ]
        rules["who was withdrawn is told of, once"] = "tells" not in expect or len(told) in (
            (1,) if weight == 0 else (0, 1)
        )
    return rules


def _weight(trial: Trial, version: int) -> float:
    running = stages.running(trial.registry.ledger, trial.model)
    return 0.0 if running is None else trial.registry.ledger.assignments.epochs(running)[-1].weights.get(version, 0.0)


def _announced(trial: Trial) -> list[int]:
    query = select(events.c.body).where(events.c.kind == "transition", events.c.model == trial.model)
    with trial.registry.ledger.reading() as connection:
        return [json.loads(body)["seq"] for body in connection.scalars(query.order_by(events.c.seq))]


def race(place: Place, models: Sequence[str], version: int, barrier: Barrier, told: Queue[list[str]]) -> None:
    """One of two processes that promote at the same moment, again and again; tells how each went."""
    registry, done = place.open(), []
    for model in models:
        act = Act(f"racer {version}", AT)
        barrier.wait()
        try:
            apply.promote(registry, ModelRef(model, version), "race", act, expected=1)
            done.append("won")
        except RegistryError as error:
            done.append(type(error).__name__)
    told.put(done)


def hold_turn(url: str, name: str, holding: Event) -> None:
    """Take a turn and keep it until this process is killed."""
    with Ledger(url) as ledger, ledger.locks.turn(name):
        holding.set()
        while True:
            time.sleep(60)
