"""What people do in the registry, and what a transition leaves when MLflow or another process gets in its way."""

import threading
from dataclasses import replace
from datetime import timedelta

import mlflow
import pytest
from mlflow import MlflowClient

from benchmarks.faults import registry_world as world
from mlops.errors import AliasMoved, RegistryError
from mlops.io.storage.locks import TurnTaken
from mlops.types import ModelRef, Priority, Role
from registry_hooks import aliases, apply
from registry_hooks.apply import Act, RegistryAway, TransitionUnfinished
from registry_hooks.reconcile import reconcile, sweep

AT, MODEL = world.AT, "tiny"
PERSON, JOB = Act("a person", AT, split=0.5), Act("jobs.compare", AT, split=0.5)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    place = world.Place(f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'ledger.db'}", folder)
    world.found(place)
    return place


@pytest.fixture
def place(template, tmp_path):
    """Five versions under a ledger of its own."""
    return replace(template, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}")


@pytest.fixture
def registry(place, tmp_path):
    """v1, v2 and v3 were champions in this order; v3 is."""
    opened = replace(place.open(), cache=tmp_path / "bundles")
    for model in opened.client.search_registered_models():
        opened.client.delete_registered_model(model.name)
    world.add_model(opened, place, MODEL)
    for version, before in ((1, None), (2, 1), (3, 2)):
        apply.promote(opened, ModelRef(MODEL, version), "better", PERSON, expected=before)
    yield opened
    opened.ledger.close()


def _look(registry, mode="adopt", at=AT):
    """What was done; a second look at once, and one half a minute later, must find nothing and say nothing new."""
    done = reconcile(registry, MODEL, at, on_manual_move=mode)
    told = registry.ledger.alerts.newest()
    assert "agreed" == reconcile(registry, MODEL, at, on_manual_move=mode)
    assert "agreed" == reconcile(registry, MODEL, at + timedelta(seconds=30), on_manual_move=mode)
    assert told == registry.ledger.alerts.newest()
    return done


def _told(registry, start):
    return [alert for alert in registry.ledger.alerts.newest() if alert.key.startswith(start)]


def _set(registry, alias, version):
    registry.client.set_registered_model_alias(MODEL, alias, str(version))


def _open(registry, kind="compare"):
    return [(t.champion, t.challenger) for t in registry.ledger.registry.open_comparisons(MODEL, kind)]


def test_a_move_that_passes_the_guard_is_adopted_with_its_actor(registry):
    apply.nominate(registry, ModelRef(MODEL, 4), JOB)
    apply.retire(registry, ModelRef(MODEL, 4), "promote", AT)
    _set(registry, "champion", 4)

    assert "adopted" == _look(registry)

    entry = registry.ledger.registry.promotions(MODEL)[-1]
    assert ("promote", 3, 4, "mlflow-ui", "applied") == (
        entry.kind,
        entry.from_version,
        entry.to_version,
        entry.actor,
        entry.state,
    )
    assert [(4, 3)] == _open(registry, "watch")
    assert 1 == len(_told(registry, f"by-hand:{MODEL}:"))


def test_a_move_back_to_the_previous_champion_is_a_rollback(registry):
    _set(registry, "champion", 2)

    assert "adopted" == _look(registry)

    assert [1, 2] == aliases.standing(registry.ledger.registry.promotions(MODEL))
    assert {"champion": 2, "previous_champion": 1} == aliases.read(registry.client, MODEL)


@pytest.mark.parametrize(
    ("mode", "done", "champion", "key", "says"),
    [
        ("adopt", "undone", 3, "by-hand-undone:v5:", "v5 was never compared with champion v3"),
        ("undo", "undone", 3, "by-hand-undone:v5:", "settings say undo"),
        ("keep", "adopted", 5, f"by-hand:{MODEL}:", "v5 was never compared with champion v3"),
    ],
)
def test_a_move_without_evidence_follows_the_setting(registry, mode, done, champion, key, says):
    _set(registry, "champion", 5)

    assert done == _look(registry, mode)

    assert champion == registry.ledger.registry.champion(MODEL) == aliases.read(registry.client, MODEL)["champion"]
    assert [(Priority.HIGH, True)] == [(a.priority, says in a.title) for a in _told(registry, key)]


@pytest.mark.parametrize("how", ["unknown", "altered"])
def test_no_setting_keeps_a_version_that_no_bot_could_load(registry, how):
    if how == "unknown":
        uri = registry.client.get_model_version(MODEL, "5").source
        _set(registry, "champion", mlflow.register_model(uri, MODEL).version)
    else:
        (registry.cache / MODEL / "5" / "artifacts" / "meta.json").write_text("{}")
        _set(registry, "champion", 5)

    assert "undone" == _look(registry, "keep")

    assert 3 == registry.ledger.registry.champion(MODEL) == aliases.read(registry.client, MODEL)["champion"]


def test_a_first_champion_set_by_hand_is_adopted_and_a_strangers_model_is_left_alone(place, registry):
    world.add_model(registry, place, "second")
    registry.client.create_registered_model("stranger")
    registry.client.create_model_version("stranger", "s3://elsewhere")
    for model in ("second", "stranger"):
        registry.client.set_registered_model_alias(model, "champion", "1")

    done = sweep(registry, AT)

    assert {MODEL: "agreed", "second": "adopted"} == done
    assert 1 == registry.ledger.registry.champion("second")
    assert {"champion": 1} == aliases.read(registry.client, "stranger")


@pytest.mark.parametrize("mode", ["adopt", "undo", "keep"])
@pytest.mark.parametrize("alias", ["champion", "previous_champion"])
def test_an_alias_deleted_by_hand_is_set_again(registry, alias, mode):
    registry.client.delete_registered_model_alias(MODEL, alias)
    assert {3: Role.CHAMPION, 2: Role.PREVIOUS} == aliases.lineup(registry, MODEL).roles  # the bot goes on

    assert "undone" == _look(registry, mode)

    assert {"champion": 3, "previous_champion": 2} == aliases.read(registry.client, MODEL)
    assert ["deleted by hand" in alert.title for alert in _told(registry, "alias-")] == [True]


def test_the_way_back_is_not_for_hands(registry):
    _set(registry, "previous_champion", 5)

    assert "undone" == _look(registry, "keep")

    assert 2 == aliases.read(registry.client, MODEL)["previous_champion"]
    assert 1 == len(_told(registry, "alias-undone:previous_champion"))


def test_the_same_hand_an_hour_later_is_told_again(registry):
    for hours in (0, 0, 1):
        registry.client.delete_registered_model_alias(MODEL, "champion")
        reconcile(registry, MODEL, AT + timedelta(hours=hours))

    assert 2 == len(_told(registry, "alias-deleted:champion"))


def test_a_deleted_champion_gives_way_to_the_newest_one_that_loads(registry):
    shadowed = registry.cache / MODEL / "2"
    for file in shadowed.rglob("*.json"):
        file.write_text("{}")
    registry.client.delete_model_version(MODEL, "3")

    assert "repaired" == _look(registry)

    entry = registry.ledger.registry.promotions(MODEL)[-1]
    assert ("rollback", 3, 1, "reconcile") == (entry.kind, entry.from_version, entry.to_version, entry.actor)
    assert {"champion": 1} == aliases.read(registry.client, MODEL)
    assert [] == _open(registry, "watch")
    assert [Priority.CRITICAL] == [alert.priority for alert in _told(registry, "version-deleted:v3")]


def test_where_no_champion_is_left_a_person_is_called_and_nothing_breaks(registry):
    for version in (1, 2, 3):
        registry.client.delete_model_version(MODEL, str(version))

    assert "repaired" == _look(registry)  # the watch of v3 against v2 ended

    assert 3 == registry.ledger.registry.champion(MODEL)
    critical = [alert for alert in registry.ledger.alerts.newest() if alert.priority is Priority.CRITICAL]
    assert 1 == len(critical)
    assert "the bot trades on" in critical[0].title
    apply.promote(registry, ModelRef(MODEL, 4), "the way out", PERSON, expected=3)
    assert "agreed" == _look(registry)
    assert {"champion": 4} == aliases.read(registry.client, MODEL)


def test_a_deleted_previous_champion_leaves_the_one_before_it(registry):
    registry.client.delete_model_version(MODEL, "2")

    assert "repaired" == _look(registry)

    assert {"champion": 3, "previous_champion": 1} == aliases.read(registry.client, MODEL)
    assert [] == _open(registry, "watch")
    assert 1 == apply.rollback(registry, MODEL, "not good", PERSON).to_version


@pytest.mark.parametrize("how", ["alias", "version"])
def test_a_challenger_taken_away_ends_its_comparison_and_the_next_gets_the_place(registry, how):
    apply.enlist(registry, ModelRef(MODEL, 4), JOB)
    apply.enlist(registry, ModelRef(MODEL, 5), JOB)
    if how == "alias":
        registry.client.delete_registered_model_alias(MODEL, "challenger")
    else:
        registry.client.delete_model_version(MODEL, "4")

    assert "repaired" == _look(registry)

    ended = [t for t in registry.ledger.registry.comparisons(MODEL) if t.kind == "compare"][-1]
    assert ended.verdict == ("withdrawn by hand" if how == "alias" else "v4 was deleted")
    assert [4] == [ended.challenger]
    assert ModelRef(MODEL, 5) == apply.nominate_next(registry, MODEL, JOB)
    assert "agreed" == _look(registry)


def test_a_deleted_shadow_is_noticed(registry):
    apply.enlist(registry, ModelRef(MODEL, 4), JOB)
    apply.enlist(registry, ModelRef(MODEL, 5), JOB)
    registry.client.delete_model_version(MODEL, "5")

    _look(registry)

    assert [Priority.LOW] == [alert.priority for alert in _told(registry, "version-deleted:v5")]
    assert [(3, 4)] == _open(registry)


def test_a_challenger_set_by_hand_is_a_nomination(registry):
    apply.nominate(registry, ModelRef(MODEL, 4), JOB)
    _set(registry, "challenger", 5)

    assert "adopted" == _look(registry)

    assert [(3, 5)] == _open(registry)
    first = next(t for t in registry.ledger.registry.comparisons(MODEL) if t.challenger == 4)
    assert "superseded" == first.verdict
    assert Role.CHALLENGER is aliases.lineup(registry, MODEL).roles[5]


@pytest.mark.parametrize(("mode", "version"), [("undo", 5), ("keep", 3)])
def test_a_nomination_that_cannot_be_is_undone(registry, mode, version):
    apply.nominate(registry, ModelRef(MODEL, 4), JOB)
    _set(registry, "challenger", version)

    assert "undone" == _look(registry, mode)

    assert 4 == aliases.read(registry.client, MODEL)["challenger"]
    assert [(3, 4)] == _open(registry)


def test_both_aliases_moved_at_once_are_both_seen(registry):
    apply.nominate(registry, ModelRef(MODEL, 4), JOB)
    _set(registry, "champion", 5)
    _set(registry, "challenger", 1)

    assert "undone" == _look(registry)

    assert {"champion": 3, "previous_champion": 2, "challenger": 1} == aliases.read(registry.client, MODEL)
    assert [(3, 1)] == _open(registry)


def test_a_renamed_model_gets_its_name_back(registry):
    registry.client.rename_registered_model(MODEL, "tiny-old")

    assert {MODEL: "repaired"} == sweep(registry, AT)
    assert "agreed" == _look(registry)

    assert {"champion": 3, "previous_champion": 2} == aliases.read(registry.client, MODEL)
    assert ["tiny-old" in alert.title for alert in _told(registry, "model-")] == [True]


def test_a_deleted_model_calls_a_person_once_a_day(registry):
    registry.client.delete_registered_model(MODEL)

    done = [reconcile(registry, MODEL, AT + timedelta(hours=hours)) for hours in (0, 1, 24)]

    assert ["lost"] * 3 == done
    assert [Priority.CRITICAL] * 2 == [alert.priority for alert in _told(registry, "model-deleted")]
    assert 3 == registry.ledger.registry.champion(MODEL)


def test_a_model_that_cannot_be_read_stops_no_other(place, registry):
    world.add_model(registry, place, "second")
    client = _Failing(registry.client, lambda name, model: model == MODEL)

    assert {MODEL: "failed", "second": "agreed"} == sweep(replace(registry, client=client), AT)


def test_a_version_deleted_before_its_promotion_changes_nothing(registry):
    registry.client.delete_model_version(MODEL, "4")

    with pytest.raises(RegistryError, match="was deleted"):
        apply.promote(registry, ModelRef(MODEL, 4), "too late", PERSON, expected=3)

    assert 3 == len(registry.ledger.registry.promotions(MODEL))


def test_a_transition_whose_version_was_lost_on_the_way_is_undone(registry):
    terms = {"kind": "promote", "actor": "a", "reason": "r", "evidence_run": "", "correlation_id": ""}
    registry.ledger.registry.append_promotion(MODEL, expected=3, to=4, **terms, at=AT)
    registry.client.delete_model_version(MODEL, "4")

    assert "finished" == _look(registry)

    assert ["undone"] == [entry.state for entry in registry.ledger.registry.promotions(MODEL)[3:]]
    assert {"champion": 3, "previous_champion": 2} == aliases.read(registry.client, MODEL)
    assert 1 == len(_told(registry, f"transition-undone:{MODEL}:4"))


class _Failing(MlflowClient):
    """A client whose server stops answering as soon as `away(method, model)` says so."""

    def __init__(self, client, away):
        super().__init__(client.tracking_uri, registry_uri=client.tracking_uri)
        self._away = away

    def get_registered_model(self, name):
        return self._ask("read", name, super().get_registered_model, name)

    def get_model_version(self, name, version):
        return self._ask("version", name, super().get_model_version, name, version)

    def set_registered_model_alias(self, name, alias, version):
        return self._ask("set", name, super().set_registered_model_alias, name, alias, version)

    def _ask(self, what, model, method, *given):
        if self._away(what, model):
            raise mlflow.MlflowException(f"connection refused: {what} {model}")
        return method(*given)


def test_mlflow_away_before_the_log_is_written_changes_nothing_and_says_so(registry):
    away = replace(registry, client=_Failing(registry.client, lambda what, _: what == "version"))

    with pytest.raises(RegistryAway, match="Nothing was changed"):
        apply.promote(away, ModelRef(MODEL, 4), "later", PERSON, expected=3)

    assert "agreed" == _look(registry)
    assert 3 == registry.ledger.registry.champion(MODEL)


@pytest.mark.parametrize("move", ["promote", "rollback", "adopt"])
def test_mlflow_away_after_the_log_is_written_is_finished_later_and_says_so(registry, move):
    away = replace(registry, client=_Failing(registry.client, lambda what, _: what == "set"))
    if move == "promote":
        with pytest.raises(TransitionUnfinished, match="do not repeat it"):
            apply.promote(away, ModelRef(MODEL, 4), "now", PERSON, expected=3)
    elif move == "rollback":
        with pytest.raises(TransitionUnfinished, match="do not repeat it"):
            apply.rollback(away, MODEL, "now", PERSON)
    else:
        _set(registry, "champion", 4)
        assert "busy" == reconcile(away, MODEL, AT, on_manual_move="keep")
    champion = 2 if move == "rollback" else 4
    assert champion == aliases.lineup(registry, MODEL).champion  # the log decides what the bot runs

    assert "finished" == _look(registry, "keep")

    assert champion == aliases.read(registry.client, MODEL)["champion"]
    assert 4 == len(registry.ledger.registry.promotions(MODEL))


def test_what_was_left_unfinished_is_finished_before_anything_else_is_changed(registry):
    away = replace(registry, client=_Failing(registry.client, lambda what, _: what == "set"))
    with pytest.raises(TransitionUnfinished):
        apply.promote(away, ModelRef(MODEL, 4), "now", PERSON, expected=3)

    apply.promote(registry, ModelRef(MODEL, 5), "next", PERSON, expected=4)

    assert ["applied"] * 5 == [entry.state for entry in registry.ledger.registry.promotions(MODEL)]
    assert [(5, 4)] == _open(registry, "watch")


def test_a_transition_under_way_is_never_taken_for_a_hand(registry):
    """A reconciler that looks between the alias and the end of a transition waits for its turn."""
    moved, looked, done = threading.Event(), threading.Event(), []
    settle = registry.ledger.registry.settle_promotion

    class Slow(type(registry.ledger.registry)):
        def settle_promotion(self, *given):
            moved.set()
            looked.wait(1.0)  # the other one is waiting, or would have looked by now
            settle(*given)

    with type(registry.ledger)(str(registry.ledger.engine.url)) as ledger:
        ledger.registry = Slow(ledger)
        slow = replace(registry, ledger=ledger)
        promoter = threading.Thread(
            target=apply.promote, args=(slow, ModelRef(MODEL, 4), "slow", PERSON), kwargs={"expected": 3}
        )
        promoter.start()
        moved.wait(10)
        done.append(reconcile(registry, MODEL, AT))
        promoter.join()

    assert ["agreed"] == done
    assert ["a person"] == [entry.actor for entry in registry.ledger.registry.promotions(MODEL)[3:]]


def test_a_turn_that_does_not_come_is_an_error_for_a_job_and_later_for_the_poll(registry, monkeypatch):
    monkeypatch.setattr(aliases, "TURN_S", 0.1)
    with aliases.turn(registry, MODEL):
        assert "busy" == reconcile(registry, MODEL, AT)
        with pytest.raises(TurnTaken, match="Try again"):
            apply.promote(registry, ModelRef(MODEL, 4), "impatient", PERSON, expected=3)
    with pytest.raises(AliasMoved):
        apply.promote(registry, ModelRef(MODEL, 4), "late", PERSON, expected=2)


def test_of_two_that_set_an_alias_for_the_first_time_none_fails(place, registry):
    """MLflow lets one of them run into its key now and then."""
    start, failed = threading.Barrier(2), []

    def go(version):
        for _ in range(40):
            start.wait()
            try:
                aliases.point(registry.client, MODEL, Role.CHALLENGER, None, version)
            except mlflow.MlflowException as error:
                failed.append(str(error))
            start.wait()
            if version == 4:
                registry.client.delete_registered_model_alias(MODEL, "challenger")

    threads = [threading.Thread(target=go, args=(version,)) for version in (4, 5)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert [] == failed
