"""What a person reads on a version in MLflow: what it is, why, and how it does live; kept right after a crash."""

from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks.faults import registry_world as world
from mlops.types import ModelRef
from registry_hooks import apply, version_status
from registry_hooks.apply import Act
from registry_hooks.reconcile import reconcile, sweep

AT, MODEL = world.AT, "tiny"
PERSON, JOB = Act("a person", AT, split=0.5), Act("jobs.compare", AT, evidence_run="r1", split=0.5)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    place = world.Place(f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'ledger.db'}", folder)
    world.found(place)
    return place


@pytest.fixture
def registry(template, tmp_path):
    """Five versions; v1, v2 and v3 were champions in this order, and v3 is."""
    place = replace(template, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}")
    opened = replace(place.open(), cache=tmp_path / "bundles")
    for model in opened.client.search_registered_models():
        opened.client.delete_registered_model(model.name)
    world.add_model(opened, place, MODEL)
    for version, before in ((1, None), (2, 1), (3, 2)):
        apply.promote(opened, ModelRef(MODEL, version), "better", JOB, expected=before)
    yield opened
    opened.ledger.close()


def _version(registry, version):
    return registry.client.get_model_version(MODEL, str(version))


def _statuses(registry):
    return {int(v.version): v.tags.get("status") for v in registry.client.search_model_versions(f"name = '{MODEL}'")}


def _live(**more):
    return {"accuracy": 0.6, "gain": 0.01, "bars": 40, "since": AT.isoformat(), "at": AT.isoformat(), **more}


def test_every_version_says_what_it_is_after_each_move(registry):
    apply.nominate(registry, ModelRef(MODEL, 4), JOB)
    apply.enlist(registry, ModelRef(MODEL, 5), JOB)
    assert {1: "retired", 2: "previous champion", 3: "champion", 4: "challenger", 5: "shadow"} == _statuses(registry)

    apply.rollback(registry, MODEL, "fills look wrong", JOB)
    assert {1: "previous champion", 2: "champion", 3: "rolled back"} == {
        v: s for v, s in _statuses(registry).items() if v <= 3
    }
    tags = _version(registry, 3).tags
    assert "fills look wrong" in tags["why"]
    assert tags["evidence"].endswith("/runs/r1")

    apply.retire(registry, ModelRef(MODEL, 4), "hold", AT)
    assert "retired" == _version(registry, 4).tags["status"]


def test_a_version_that_was_compared_with_nothing_is_new_and_one_that_the_ledger_does_not_know_is_unknown(registry):
    source = _version(registry, 5).source
    registry.client.create_model_version(MODEL, source, tags={"status": "champion"})
    reconcile(registry, MODEL, AT)
    assert {5: "new", 6: "unknown"} == {v: s for v, s in _statuses(registry).items() if v >= 5}
    assert "the ledger does not know it" in _version(registry, 6).tags["why"]


def test_the_trainings_and_the_table_of_models_say_the_status_too(live):
    reconcile(live, "volatility", AT)
    rows = live.ledger.registry.bundles("volatility")
    runs = [live.client.get_run(row.run_id).info for row in rows]
    assert ["train v1: champion", "train v2: new", "train v3: new"] == [run.run_name for run in runs]
    (model,) = live.client.search_logged_models([runs[0].experiment_id], "tags.status = 'champion'")
    assert rows[0].model_id == model.model_id
    assert f"{rows[0].train_end:%Y-%m-%d}" == live.client.get_model_version("volatility", "1").tags["trained_until"]


def test_live_evidence_is_in_tags_and_sorts_the_models_page(registry):
    apply.nominate(registry, ModelRef(MODEL, 4), JOB)
    apply.enlist(registry, ModelRef(MODEL, 5), JOB)
    live = {4: _live(headline="hold, 40 of 150 bars", run="r2"), 5: _live(accuracy=0.55, gain=0.02)}
    version_status.keep(registry.ledger, "live_compare", MODEL, live, AT)
    version_status.keep(registry.ledger, "live_monitor", MODEL, {3: {"at": AT.isoformat()}}, AT)
    reconcile(registry, MODEL, AT)

    tags = _version(registry, 4).tags
    assert ("0.6000", "+0.01000", "40", f"{AT:%Y-%m-%d}") == tuple(
        tags[f"live_{name}"] for name in ("accuracy", "gain", "bars", "since")
    )
    assert "hold, 40 of 150 bars" == tags["look"]
    assert tags["evidence"].endswith("/runs/r2")
    assert "live_accuracy" not in _version(registry, 3).tags  # unknown is not nought
    page = registry.client.get_registered_model(MODEL).description
    order = [line.split("]")[0] for line in page.splitlines() if line.startswith("| [v")]
    assert ["| [v3", "| [v4", "| [v5", "| [v2", "| [v1"] == order
    assert "60.0%" in page


def test_a_crash_in_between_is_repaired_and_a_second_look_changes_nothing(registry):
    for version in (2, 3):
        registry.client.set_model_version_tag(MODEL, str(version), "status", "challenger")
    registry.client.delete_model_version_tag(MODEL, "1", "why")
    assert version_status.project(registry, MODEL, AT)
    assert {1: "retired", 2: "previous champion", 3: "champion"} == {
        v: s for v, s in _statuses(registry).items() if v <= 3
    }
    assert "why" in _version(registry, 1).tags
    assert not version_status.project(registry, MODEL, AT + timedelta(seconds=10))


def test_what_a_person_wrote_into_a_description_stays_below_ours(registry):
    text = _version(registry, 4).description
    registry.client.update_model_version(MODEL, "4", text + "\n\nAnn: do not touch before Easter")
    registry.client.update_model_version(MODEL, "5", "mine alone")
    apply.nominate(registry, ModelRef(MODEL, 4), JOB)
    reconcile(registry, MODEL, AT)

    found = _version(registry, 4).description
    assert found.startswith("Challenger: compared with champion v3")
    assert found.endswith("Ann: do not touch before Easter")
    assert _version(registry, 5).description.endswith("mine alone")
    assert not version_status.project(registry, MODEL, AT)


def test_a_promotion_by_hand_that_is_undone_is_explained_on_the_version_with_what_is_needed(registry):
    apply.nominate(registry, ModelRef(MODEL, 4), JOB)
    look = {4: _live(headline="hold, 40 of 150 bars")}
    version_status.keep(registry.ledger, "live_compare", MODEL, look, AT)
    for version in (4, 5):
        registry.client.set_registered_model_alias(MODEL, "champion", str(version))
        assert "undone" == reconcile(registry, MODEL, AT)

    told = _version(registry, 4).tags["undone"]
    assert "champion v4 set by hand in the MLflow UI was undone, v3 stays" in told
    assert "its comparison with champion v3 ends in `promote` (now: hold, 40 of 150 bars)" in told
    assert 'trader-mlops promote tiny 4 --reason "..."' in told
    assert _version(registry, 4).description.startswith("Undone: ")
    assert "set the alias `challenger` on it" in _version(registry, 5).tags["undone"]

    apply.promote(registry, ModelRef(MODEL, 4), "agreed", PERSON, expected=3)
    assert "undone" not in _version(registry, 4).tags


@pytest.mark.parametrize("name", ["production", "other"])
def test_a_copy_by_promote_model_breaks_nothing_is_told_once_and_says_what_it_is(registry, template, name):
    if name == "other":
        world.add_model(registry, template, "other")
    before = _statuses(registry)
    copy = registry.client.copy_model_version(f"models:/{MODEL}/3", name)

    for _ in range(2):
        done = sweep(registry, AT)
    assert "agreed" == done[MODEL]

    (alert,) = [a for a in registry.ledger.alerts.newest() if a.key.startswith("version-copied:")]
    assert f"tiny v3 was copied to {name} v{copy.version} by hand" in alert.title
    tags = registry.client.get_model_version(name, copy.version).tags
    assert "copy" == tags["status"]
    assert "evidence" not in tags
    assert before == _statuses(registry)
    assert 3 == registry.ledger.registry.champion(MODEL)
