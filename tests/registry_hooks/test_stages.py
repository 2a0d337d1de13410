"""A challenger in the registry: in shadow from its nomination, in A/B while it has a weight, and what a crash leaves."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from mlflow import MlflowException

from mlops.errors import AliasMoved
from mlops.learn import STRATEGIES
from mlops.types import Decision, ModelRef, Stage, Verdict
from registry_hooks import aliases, apply, assignment, stages
from registry_hooks.apply import Act
from registry_hooks.bot.client import Bot
from registry_hooks.reconcile import reconcile

NOW = datetime(2008, 1, 4, 22, tzinfo=UTC)
MODEL, NAMES = "volatility", STRATEGIES["volatility"].feature_names
JOB, PERSON = Act("jobs.compare", NOW, "run7", split=0.75), Act("ada", NOW, split=0.75)
KEYS = [f"key {i}" for i in range(100)]
VALUES = np.random.default_rng(3).uniform(0.5, 1.5, (len(KEYS), len(NAMES))).astype(np.float32)


@pytest.fixture
def registry(live):
    """v1 champion, v2 nominated, v3 waiting since a day later."""
    apply.enlist(live, ModelRef(MODEL, 2), JOB)
    apply.enlist(live, ModelRef(MODEL, 3), later(1))
    return live


def later(days, actor="jobs.compare"):
    return Act(actor, NOW + timedelta(days=days), "run7", split=0.75)


def move(registry, verdict, version=2, champion=1, act=JOB):
    decision = Decision(verdict, ModelRef(MODEL, version), against=ModelRef(MODEL, champion), reason=f"{verdict} it")
    return apply.apply(decision, registry, act)


def weights(registry):
    return aliases.lineup(registry, MODEL).weights


def tags(registry):
    found = registry.client.search_model_versions(f"name = '{MODEL}'")
    return {int(v.version): v.tags[stages.STAGE_TAG] for v in found if stages.STAGE_TAG in v.tags}


def since(registry, version, days=99):
    return stages.trading_since(registry.ledger, MODEL, (1, version), NOW + timedelta(days=days))


def test_a_nominated_challenger_trades_no_unit_until_it_is_advanced(registry):
    bot = Bot(MODEL, registry, names=NAMES, poll_s=0.0, background=False)

    def trade(day):
        bot.boundary(NOW)
        at = NOW + timedelta(days=day)
        return bot.score(KEYS, VALUES, event_time=at, known_at=at, matures_at=at + timedelta(days=5))

    first = trade(0)
    assert ({1}, {1, 2, 3}) == (set(first.version.tolist()), set(first.by_version))
    comparison = stages.comparison(registry.ledger, MODEL)
    assert {} == registry.ledger.assignments.of(MODEL, comparison.salt)
    assert {2: "shadow", 3: "shadow"} == tags(registry)

    move(registry, Verdict.ADVANCE)

    assert {1, 2} == set(trade(1).version.tolist())
    assert ({2: 0.25}, {2: "ab", 3: "shadow"}) == (weights(registry), tags(registry))
    last = registry.ledger.assignments.epochs(comparison)[-1]
    assert ("jobs.compare", "advance it Evidence: run run7.") == (last.actor, last.reason)


def test_a_move_that_is_repeated_changes_nothing_more(registry):
    for verdict, epochs in ((Verdict.ADVANCE, 2), (Verdict.WITHDRAW, 3)):
        for _ in range(2):
            move(registry, verdict)
            assert epochs == len(registry.ledger.assignments.epochs(stages.comparison(registry.ledger, MODEL)))


@pytest.mark.parametrize("verdict", [Verdict.ADVANCE, Verdict.WITHDRAW])
def test_what_was_measured_against_another_champion_moves_nobody(registry, verdict):
    with pytest.raises(AliasMoved, match="champion of volatility must be v3, got v1"):
        move(registry, verdict, champion=3)
    assert {} == weights(registry)


def test_who_is_withdrawn_trades_nothing_and_a_person_is_told(registry):
    move(registry, Verdict.ADVANCE)
    move(registry, Verdict.WITHDRAW, act=later(3))

    assert ({}, {2: "shadow", 3: "shadow"}) == (weights(registry), tags(registry))
    (told,) = [alert for alert in registry.ledger.alerts.newest() if alert.key.startswith("challenger_withdrawn:")]
    assert "volatility: withdraw it" == told.title
    move(registry, Verdict.ADVANCE, act=later(9))
    assert {2: 0.25} == weights(registry)
    move(registry, Verdict.WITHDRAW, act=later(10))
    assert 2 == sum(alert.key.startswith("challenger_withdrawn:") for alert in registry.ledger.alerts.newest())


def test_a_share_counts_from_when_it_was_given_without_a_break(registry):
    assert since(registry, 2) is None
    move(registry, Verdict.ADVANCE, act=later(1))
    assert NOW + timedelta(days=1) == since(registry, 2)
    assert since(registry, 2, days=0) is None
    assignment.set_weights(registry, MODEL, {2: 0.1, 3: 0.1}, "less", later(2, "ada"))
    assert NOW + timedelta(days=1) == since(registry, 2)
    assert NOW + timedelta(days=2) == since(registry, 3)
    move(registry, Verdict.WITHDRAW, act=later(3))
    assert (None, NOW + timedelta(days=1)) == (since(registry, 2), since(registry, 2, days=2))
    move(registry, Verdict.ADVANCE, act=later(4))
    assert NOW + timedelta(days=4) == since(registry, 2)


def test_one_that_waited_goes_on_when_it_is_nominated_with_its_plan_and_its_share(registry):
    move(registry, Verdict.ADVANCE, version=3, act=later(5))
    apply.retire(registry, ModelRef(MODEL, 2), "hold", later(9).at)
    apply.nominate_next(registry, MODEL, later(9))

    comparison = stages.comparison(registry.ledger, MODEL)
    assert (3, NOW + timedelta(days=1), None) == (comparison.challenger, comparison.started_at, comparison.ended_at)
    assert ({3: 0.25}, {3: "ab"}) == (weights(registry), tags(registry))
    assert NOW + timedelta(days=5) == since(registry, 3)
    assert "they trade on as in comparison 1" == registry.ledger.assignments.epochs(comparison)[-1].reason


def test_a_break_between_two_comparisons_is_one(registry):
    move(registry, Verdict.ADVANCE, version=3, act=later(5))
    apply.retire(registry, ModelRef(MODEL, 2), "hold", later(9).at)
    apply.nominate_next(registry, MODEL, later(16))

    assert NOW + timedelta(days=16) == since(registry, 3)


def test_with_another_champion_everybody_begins_in_shadow(registry):
    move(registry, Verdict.ADVANCE)
    apply.promote(registry, ModelRef(MODEL, 2), "better", later(3), expected=1)
    apply.nominate_next(registry, MODEL, later(3))

    comparison = stages.comparison(registry.ledger, MODEL)
    assert (2, 3, later(3).at) == (comparison.champion, comparison.challenger, comparison.started_at)
    assert ({}, {3: "shadow"}) == (weights(registry), tags(registry))


def test_whom_a_person_took_out_of_trading_no_job_brings_back(registry):
    assert "" == stages.held(registry.ledger, MODEL, 2, 0.75)
    assignment.set_weights(registry, MODEL, {2: 0.2}, "let us see", PERSON)
    assignment.set_weights(registry, MODEL, {2: 0.0}, "seen enough", PERSON)

    assert stages.held(registry.ledger, MODEL, 2, 0.75).startswith("ada took it out of trading on 2008-01-04 22:00")
    assignment.set_weights(registry, MODEL, {2: 0.2}, "again", PERSON)
    move(registry, Verdict.WITHDRAW)
    assert "" == stages.held(registry.ledger, MODEL, 2, 0.75)


def test_the_champion_keeps_half_of_the_units_whoever_is_given_a_share(registry):
    assignment.set_weights(registry, MODEL, {3: 0.3}, "a lot", PERSON)
    assert stages.held(registry.ledger, MODEL, 2, 0.75).startswith("other challengers trade 30% of the units")
    assert "" == stages.held(registry.ledger, MODEL, 2, 0.9)


def test_a_comparison_of_an_older_release_trades_on_as_it_did(live):
    """Its split was the share of its champion from the first bar on."""
    pair = {"champion": 1, "challenger": 2, "kind": "compare"}
    live.ledger.registry.open_comparison(MODEL, **pair, salt="old", split=0.9, at=NOW)
    reconcile(live, MODEL, NOW)

    assert ({2: pytest.approx(0.1)}, {2: "ab"}) == (weights(live), tags(live))
    assert (NOW, {2: Stage.AB}) == (since(live, 2), stages.stages(live.ledger, MODEL))
    move(live, Verdict.ADVANCE)
    assert {2: pytest.approx(0.1)} == weights(live)


@pytest.mark.parametrize("verdict", [Verdict.ADVANCE, Verdict.WITHDRAW])
def test_mlflow_that_is_away_keeps_nobody_from_moving_and_the_tag_follows(registry, monkeypatch, verdict):
    if verdict is Verdict.WITHDRAW:
        move(registry, Verdict.ADVANCE)
    with monkeypatch.context() as away:

        def gone(*_):
            raise MlflowException("away")

        away.setattr(type(registry.client), "search_model_versions", gone)
        move(registry, verdict, act=later(1))
    stage = Stage.AB if verdict is Verdict.ADVANCE else Stage.SHADOW
    assert stage is stages.stages(registry.ledger, MODEL)[2]
    assert stage.value != tags(registry)[2]

    assert "finished" == reconcile(registry, MODEL, NOW)
    assert (stage.value, "agreed") == (tags(registry)[2], reconcile(registry, MODEL, NOW))


def test_a_stage_that_was_written_by_hand_is_put_right(registry):
    registry.client.set_model_version_tag(MODEL, "2", stages.STAGE_TAG, "ab")
    registry.client.set_model_version_tag(MODEL, "1", stages.STAGE_TAG, "ab")

    assert "finished" == reconcile(registry, MODEL, NOW)
    assert ({2: "shadow", 3: "shadow"}, {}) == (tags(registry), weights(registry))
