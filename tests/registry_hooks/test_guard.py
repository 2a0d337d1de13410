"""What a version must pass before a hand may make it champion."""

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks.faults import registry_world as world
from mlops.types import ModelRef
from registry_hooks import apply, bundle, guard
from registry_hooks.apply import Act

AT, MODEL = world.AT, "tiny"
PERSON, JOB = Act("a person", AT), Act("jobs.compare", AT)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Five tiny versions, no champion."""
    folder = tmp_path_factory.mktemp("world")
    place = world.Place(f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'ledger.db'}", folder)
    world.found(place)
    return place


@pytest.fixture
def registry(template, tmp_path):
    """The same registered model for each test, under a ledger and a cache of its own."""
    place = replace(template, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}")
    opened = replace(place.open(), cache=tmp_path / "bundles")
    for model in opened.client.search_registered_models():
        opened.client.delete_registered_model(model.name)
    world.add_model(opened, place, MODEL)
    yield opened
    opened.ledger.close()


def _ref(version):
    return ModelRef(MODEL, version)


def test_the_first_champion_has_nothing_to_be_compared_with(registry):
    assert () == guard.check(registry, _ref(3))


def test_a_version_that_was_never_compared_is_refused(registry):
    apply.promote(registry, _ref(1), "first", PERSON, expected=None)

    assert ("v2 was never compared with champion v1",) == guard.check(registry, _ref(2))


@pytest.mark.parametrize(("verdict", "passes"), [("promote", True), ("hold", False), (None, False)])
def test_only_a_comparison_that_ended_in_promote_is_evidence(registry, verdict, passes):
    apply.promote(registry, _ref(1), "first", PERSON, expected=None)
    apply.nominate(registry, _ref(2), JOB)
    if verdict:
        apply.retire(registry, _ref(2), verdict, AT)

    assert passes == (guard.check(registry, _ref(2)) == ())


def test_evidence_against_an_earlier_champion_does_not_count(registry):
    apply.promote(registry, _ref(1), "first", PERSON, expected=None)
    apply.nominate(registry, _ref(2), JOB)
    apply.retire(registry, _ref(2), "promote", AT)
    apply.promote(registry, _ref(3), "quicker", PERSON, expected=1)

    assert ("v2 was never compared with champion v3",) == guard.check(registry, _ref(2))


def test_an_earlier_champion_passes_unless_its_watch_took_it_back(registry):
    apply.promote(registry, _ref(1), "first", PERSON, expected=None)
    apply.promote(registry, _ref(2), "better", PERSON, expected=1)
    assert () == guard.check(registry, _ref(1))

    apply.rollback(registry, MODEL, "a person changed his mind", PERSON)
    assert () == guard.check(registry, _ref(2))

    apply.promote(registry, _ref(2), "again", PERSON, expected=1)
    apply.rollback(registry, MODEL, "it loses", replace(JOB, at=AT + timedelta(days=1)))
    assert ("v2 was taken back by its watch: it loses",) == guard.check(registry, _ref(2))


def test_what_no_bot_could_trade_with_is_refused_with_the_reason(registry):
    """Unknown, altered and unloadable: each is one reason, beside that of the gates."""
    apply.promote(registry, _ref(1), "first", PERSON, expected=None)
    (registry.cache / MODEL / "2" / "artifacts" / "meta.json").write_text("{}")
    broken = shutil.copytree(registry.cache / MODEL / "3", registry.cache / MODEL / "6")
    (broken / "constant.py").write_text("raise ImportError('gone')")
    row = replace(registry.ledger.registry.bundle(MODEL, 3), version=6, digest=bundle.digest(broken))
    registry.ledger.registry.add_bundle(row)

    reasons = {version: guard.check(registry, _ref(version)) for version in (99, 2, 6)}

    assert {99: 2, 2: 2, 6: 2} == {version: len(found) for version, found in reasons.items()}
    assert "known to the ledger" in reasons[99][0]
    assert "digest" in reasons[2][0]
    assert "must load, got" in reasons[6][0]


def test_a_local_copy_that_was_altered_is_put_aside_and_fetched_anew(registry):
    apply.promote(registry, _ref(1), "first", PERSON, expected=None)
    meta = registry.cache / MODEL / "2" / "artifacts" / "meta.json"
    for _ in range(2):  # the same alteration twice
        meta.write_text("{}")
        assert len(guard.unsound(registry, _ref(2)))
        assert () == guard.unsound(registry, _ref(2))
