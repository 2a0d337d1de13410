"""A transition, its crash, a hand in the registry, and the bot that follows: on real bundles and a real registry."""

import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import pandas as pd
import pytest
import structlog
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from structlog.testing import capture_logs

from mlops.errors import AliasMoved, BundleError, RegistryError
from mlops.learn import STRATEGIES, features
from mlops.settings import ServiceSettings, Settings
from mlops.types import Decision, ModelRef, Role, Verdict
from mlops.web import app
from registry_hooks import aliases, apply, assignment, stages
from registry_hooks import waiting_list as line
from registry_hooks.apply import Act
from registry_hooks.bot.client import Bot
from registry_hooks.reconcile import reconcile
from registry_hooks.webhooks import mlflow_events

NOW = datetime(2008, 1, 4, 22, tzinfo=UTC)
MODEL, STRATEGY = "volatility", STRATEGIES["volatility"]
ACT = Act("test", NOW, split=0.5)


@pytest.fixture
def registry(live):
    return live


def _decide(verdict, version, against):
    return Decision(verdict, ModelRef(MODEL, version), (), ModelRef(MODEL, against), "because")


def _bot(registry, names=STRATEGY.feature_names, poll_s=3600.0, featurise=None):
    return Bot(
        MODEL,
        registry,
        features=featurise or (lambda bars: features.last_row(STRATEGY, bars)),
        names=names,
        poll_s=poll_s,
        background=False,
    )


def _score(bot, units=("AAPL", "GE", "XOM"), at=NOW, keys=None):
    values = np.ones((len(units), len(STRATEGY.feature_names)), dtype=np.float32)
    return bot.score(units, values, event_time=at, known_at=at, matures_at=at + timedelta(days=5), keys=keys)


def test_a_promotion_moves_the_aliases_and_starts_the_watch(registry):
    apply.nominate(registry, ModelRef(MODEL, 2), ACT)

    entry = apply.apply(_decide(Verdict.PROMOTE, 2, 1), registry, ACT)

    assert {"champion": 2, "previous_champion": 1} == aliases.read(registry.client, MODEL)
    assert "applied" == registry.ledger.registry.promotions(MODEL)[-1].state
    assert (1, 2) == (entry.from_version, entry.to_version)
    assert [("watch", 2, 1)] == [
        (t.kind, t.champion, t.challenger) for t in registry.ledger.registry.open_comparisons(MODEL)
    ]


def test_a_rollback_goes_to_the_champion_before_and_tells_a_person(registry):
    apply.promote(registry, ModelRef(MODEL, 2), "better", ACT, expected=1)
    apply.promote(registry, ModelRef(MODEL, 3), "better still", ACT, expected=2)

    apply.apply(_decide(Verdict.ROLLBACK, 3, 3), registry, ACT)
    assert {"champion": 2, "previous_champion": 1} == aliases.read(registry.client, MODEL)

    apply.rollback(registry, MODEL, "again", ACT)
    assert {"champion": 1} == aliases.read(registry.client, MODEL)
    assert 2 == len([alert for alert in registry.ledger.alerts.newest() if alert.key.startswith("rollback:")])
    with pytest.raises(RegistryError, match="previous champion to go back to"):
        apply.rollback(registry, MODEL, "once more", ACT)


def test_a_decision_made_against_another_champion_changes_nothing(registry):
    apply.promote(registry, ModelRef(MODEL, 2), "first come", ACT, expected=1)

    with pytest.raises(AliasMoved):
        apply.apply(_decide(Verdict.PROMOTE, 3, 1), registry, ACT)

    assert 2 == aliases.read(registry.client, MODEL)["champion"] == registry.ledger.registry.champion(MODEL)


def test_a_champion_that_is_promoted_again_is_refused_and_nothing_is_written(registry):
    before = registry.ledger.registry.promotions(MODEL)

    for again in (
        lambda: apply.promote(registry, ModelRef(MODEL, 1), "again", ACT, expected=1),
        lambda: apply.apply(_decide(Verdict.PROMOTE, 1, 1), registry, ACT),
    ):
        with pytest.raises(RegistryError, match="got v1, which trades already"):
            again()
    registry.client.set_registered_model_alias(MODEL, "champion", "1")  # a hand that sets what is set

    assert "agreed" == reconcile(registry, MODEL, NOW)
    assert before == registry.ledger.registry.promotions(MODEL)
    assert [] == registry.ledger.registry.open_comparisons(MODEL)


def test_of_two_promoters_at_once_one_wins(registry):
    outcomes, start = [], threading.Barrier(2)

    def go(version):
        start.wait()
        try:
            apply.promote(registry, ModelRef(MODEL, version), "race", ACT, expected=1)
            outcomes.append(version)
        except AliasMoved:
            outcomes.append(None)

    threads = [threading.Thread(target=go, args=(version,)) for version in (2, 3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    winner = next(version for version in outcomes if version)
    assert 1 == outcomes.count(None)
    assert winner == registry.ledger.registry.champion(MODEL)


def test_an_altered_or_unknown_bundle_is_never_promoted(registry):
    booster = registry.cache / MODEL / "2" / "artifacts" / "booster.txt"
    booster.write_text(booster.read_text().replace("tree", "tref", 1))

    with pytest.raises(BundleError, match="digest"):
        apply.promote(registry, ModelRef(MODEL, 2), "altered", ACT, expected=1)
    with pytest.raises(RegistryError, match="known to the ledger"):
        apply.promote(registry, ModelRef(MODEL, 99), "unknown", ACT, expected=1)

    assert 1 == aliases.read(registry.client, MODEL)["champion"] == registry.ledger.registry.champion(MODEL)


def test_hold_does_nothing_and_retrain_leaves_a_request(registry):
    assert apply.apply(_decide(Verdict.HOLD, 1, 1), registry, ACT) is None
    apply.apply(_decide(Verdict.RETRAIN, 1, 1), registry, ACT)

    assert "because" in registry.client.get_registered_model(MODEL).tags[apply.RETRAIN_TAG]
    apply.enlist(registry, ModelRef(MODEL, 2), ACT)
    assert apply.RETRAIN_TAG not in registry.client.get_registered_model(MODEL).tags


def test_challengers_queue_and_the_next_gets_the_free_place(registry):
    apply.enlist(registry, ModelRef(MODEL, 2), ACT)
    apply.enlist(registry, ModelRef(MODEL, 3), ACT)

    assert {1: Role.CHAMPION, 2: Role.CHALLENGER, 3: Role.SHADOW} == aliases.lineup(registry, MODEL).roles
    assert apply.nominate_next(registry, MODEL, ACT) is None

    apply.retire(registry, ModelRef(MODEL, 2), "hold", NOW)
    assert ModelRef(MODEL, 3) == apply.nominate_next(registry, MODEL, ACT)
    assert {1: Role.CHAMPION, 3: Role.CHALLENGER} == aliases.lineup(registry, MODEL).roles


def _beside(registry):
    return [(t.champion, t.challenger) for t in registry.ledger.registry.open_comparisons(MODEL, "shadow")]


def _tags(registry, version):
    tags = registry.client.get_model_version(MODEL, str(version)).tags
    return {name: tags[name] for name in (aliases.ROLE_TAG, line.WAITS_TAG, "compared") if name in tags}


def _ended(registry, version):
    return [
        t.verdict for t in registry.ledger.registry.comparisons(MODEL) if t.kind == "shadow" and t.challenger == version
    ]


def test_who_waits_is_compared_too_until_nominated(registry):
    apply.enlist(registry, ModelRef(MODEL, 2), ACT)
    apply.enlist(registry, ModelRef(MODEL, 3), ACT)
    apply.enlist(registry, ModelRef(MODEL, 3), ACT)
    assert [(1, 3)] == _beside(registry)
    assert "agreed" == reconcile(registry, MODEL, NOW)

    apply.retire(registry, ModelRef(MODEL, 2), "hold", NOW)
    assert [(1, 3)] == _beside(registry)
    apply.nominate_next(registry, MODEL, ACT)

    assert [] == _beside(registry)
    assert ["nominated"] == _ended(registry, 3)
    assert {} == _tags(registry, 3)
    assert "agreed" == reconcile(registry, MODEL, NOW)


def test_who_waits_goes_on_against_the_new_champion(registry):
    apply.enlist(registry, ModelRef(MODEL, 2), ACT)
    apply.enlist(registry, ModelRef(MODEL, 3), ACT)

    apply.promote(registry, ModelRef(MODEL, 2), "better", ACT, expected=1)

    assert [(2, 3)] == _beside(registry)
    assert ["champion changed", None] == _ended(registry, 3)
    assert {2: Role.CHAMPION, 1: Role.PREVIOUS, 3: Role.SHADOW} == aliases.lineup(registry, MODEL).roles


def test_a_shadow_is_promoted_directly_and_waits_for_nothing_then(registry):
    apply.enlist(registry, ModelRef(MODEL, 2), ACT)
    apply.enlist(registry, ModelRef(MODEL, 3), ACT)

    apply.apply(_decide(Verdict.PROMOTE, 3, 1), registry, ACT)

    assert [] == _beside(registry)
    assert ["champion changed"] == _ended(registry, 3)
    assert {} == _tags(registry, 3)
    apply.rollback(registry, MODEL, "not so good", ACT)
    assert {1: Role.CHAMPION} == aliases.lineup(registry, MODEL).roles
    assert apply.nominate_next(registry, MODEL, ACT) is None


def test_a_shadow_is_retired_and_the_challenger_is_not(registry):
    apply.enlist(registry, ModelRef(MODEL, 2), ACT)
    apply.enlist(registry, ModelRef(MODEL, 3), ACT)

    apply.retire(registry, ModelRef(MODEL, 3), "hold", NOW)

    assert ["hold"] == _ended(registry, 3)
    assert {1: Role.CHAMPION, 2: Role.CHALLENGER} == aliases.lineup(registry, MODEL).roles
    assert {"compared": "hold"} == _tags(registry, 3)
    assert "agreed" == reconcile(registry, MODEL, NOW)


def test_a_hand_at_the_tag_of_the_line_begins_and_ends_a_comparison(registry):
    registry.client.set_model_version_tag(MODEL, "3", line.WAITS_TAG, "true")
    assert "finished" == reconcile(registry, MODEL, NOW)
    assert [(1, 3)] == _beside(registry)
    assert Role.SHADOW is aliases.lineup(registry, MODEL).roles[3]

    registry.client.delete_model_version_tag(MODEL, "3", line.WAITS_TAG)
    assert "finished" == reconcile(registry, MODEL, NOW)
    assert ["left the line"] == _ended(registry, 3)
    registry.client.set_model_version_tag(MODEL, "1", line.WAITS_TAG, "true")
    assert "finished" == reconcile(registry, MODEL, NOW)
    assert {} == _tags(registry, 1)


@pytest.mark.parametrize("again", [False, True])
def test_a_crash_after_the_log_entry_is_finished(registry, again):
    entry = registry.ledger.registry.append_promotion(
        MODEL, expected=1, to=2, kind="promote", actor="a", reason="r", evidence_run="", correlation_id="", at=NOW
    )
    if again:  # it died a second time, after the aliases
        aliases.project(registry, MODEL, NOW)

    assert "finished" == reconcile(registry, MODEL, NOW)

    assert 2 == aliases.read(registry.client, MODEL)["champion"]
    assert "applied" == registry.ledger.registry.promotions(MODEL)[-1].state
    assert ["watch"] == [c.kind for c in registry.ledger.registry.open_comparisons(MODEL)]
    assert "agreed" == reconcile(registry, MODEL, NOW)
    assert entry.seq == registry.ledger.registry.promotions(MODEL)[-1].seq


def test_what_began_with_the_new_champion_goes_on_when_its_transition_is_finished_again(registry):
    apply.nominate(registry, ModelRef(MODEL, 3), ACT)
    entry = registry.ledger.registry.append_promotion(
        MODEL, expected=1, to=2, kind="promote", actor="a", reason="r", evidence_run="", correlation_id="", at=NOW
    )
    apply._follow(registry, entry, NOW)
    [watch] = registry.ledger.registry.open_comparisons(MODEL)  # that of v3 with v1 has ended
    later = stages.begin(registry.ledger, ModelRef(MODEL, 3, Role.SHADOW), 2, NOW)

    assert "finished" == reconcile(registry, MODEL, NOW + timedelta(hours=1))

    assert [(watch.id, "watch"), (later.id, later.kind)] == [
        (trial.id, trial.kind) for trial in registry.ledger.registry.open_comparisons(MODEL)
    ]


def test_a_rollback_ends_what_compares_the_champion_it_goes_back_to(registry):
    apply.promote(registry, ModelRef(MODEL, 2), "better", ACT, expected=1)
    apply.nominate(registry, ModelRef(MODEL, 3), ACT)
    assert [("watch", 2, 1), ("compare", 2, 3)] == [
        (trial.kind, trial.champion, trial.challenger) for trial in registry.ledger.registry.open_comparisons(MODEL)
    ]

    apply.rollback(registry, MODEL, "it fell", ACT)

    assert [] == registry.ledger.registry.open_comparisons(MODEL)


def test_a_champion_moved_by_hand_is_adopted_when_the_guard_passes(registry):
    registry.client.set_registered_model_alias(MODEL, "champion", "2")

    assert "adopted" == reconcile(registry, MODEL, NOW, on_manual_move="keep")

    assert [1, 2] == aliases.standing(registry.ledger.registry.promotions(MODEL))
    assert "mlflow-ui" == registry.ledger.registry.promotions(MODEL)[-1].actor
    assert any("adopted" in alert.title for alert in registry.ledger.alerts.newest())


@pytest.mark.parametrize("how", ["setting", "deleted", "altered"])
def test_a_hand_that_the_guard_refuses_is_undone(registry, how):
    if how == "deleted":
        registry.client.delete_registered_model_alias(MODEL, "champion")
    else:
        registry.client.set_registered_model_alias(MODEL, "champion", "2")
    if how == "altered":
        (registry.cache / MODEL / "2" / "gbm.py").write_text("raise SystemExit")

    assert "undone" == reconcile(registry, MODEL, NOW, on_manual_move="undo" if how == "setting" else "adopt")

    assert 1 == aliases.read(registry.client, MODEL)["champion"] == registry.ledger.registry.champion(MODEL)
    assert any("undone" in alert.title for alert in registry.ledger.alerts.newest())


def test_the_bot_scores_with_every_arm_and_each_key_keeps_its_arm(registry):
    apply.enlist(registry, ModelRef(MODEL, 2), ACT)
    apply.enlist(registry, ModelRef(MODEL, 3), ACT)
    assignment.set_weights(registry, MODEL, {2: 0.5}, "as agreed", ACT)
    bot = _bot(registry)
    keys = [f"unit {i}" for i in range(200)]

    first = _score(bot, units=keys)
    second = _score(bot, units=keys, at=NOW + timedelta(days=1))

    assert {1, 2, 3} == set(first.by_version)
    assert {1, 2} == set(first.version.tolist())  # a shadow trades nothing
    assert 0.35 < (first.version == 2).mean() < 0.65  # one half was agreed
    assert (first.version == second.version).all()
    assert np.array_equal(first.probability, np.where(first.version == 2, first.by_version[2], first.by_version[1]))
    frame, _, _ = registry.ledger.telemetry.predictions(
        MODEL, start=NOW, end=NOW + timedelta(days=9), as_of=NOW, version=3
    )
    assert {"shadow"} == set(frame.role)


def test_the_bot_swaps_at_the_boundary_after_a_hint_and_says_why(registry):
    bot = _bot(registry)
    registry.ledger.deliveries.add("d1", "mlflow", b"{}", NOW)
    apply.promote(registry, ModelRef(MODEL, 2), "better", ACT, expected=1)

    assert bot.boundary(NOW) is None  # no hint yet, and the poll is not due
    assert {1} == set(_score(bot).version.tolist())
    mlflow_events.handle(registry, mlflow_events.Hint("d1", MODEL, "champion"), NOW, on_manual_move="adopt")
    structlog.reset_defaults()
    with capture_logs() as lines:
        swapped = bot.boundary(NOW)

    assert 2 == swapped == bot.champion
    assert {2} == set(_score(bot).version.tolist())
    assert {2, 1} == set(_score(bot).by_version)  # the one before scores on while the new one is watched
    assert any(line["event"] == "swapped" for line in lines)


def test_a_lost_hint_is_repaired_by_the_poll(registry):
    bot = _bot(registry, poll_s=0.0)
    apply.promote(registry, ModelRef(MODEL, 2), "better", ACT, expected=1)

    assert 2 == bot.boundary(NOW)


def test_an_altered_copy_is_refused_put_aside_and_fetched_anew(registry):
    bot, copy = _bot(registry, poll_s=0.0), registry.cache / MODEL / "2"
    apply.promote(registry, ModelRef(MODEL, 2), "better", ACT, expected=1)
    (copy / "artifacts" / "meta.json").write_text("{}")

    assert bot.boundary(NOW) is None
    assert {1} == set(_score(bot).version.tolist())
    assert 1 == len(list(copy.parent.glob("2.refused-*")))
    assert 2 == bot.boundary(NOW)


@pytest.mark.parametrize("fault", ["feature code", "registry away"])
def test_the_old_model_trades_on_when_the_new_one_cannot_be_taken(registry, fault):
    broken = threading.Event()

    def featurise(bars):
        units, values = features.last_row(STRATEGY, bars)
        return units, values * np.float32(1.5 if broken.is_set() else 1)

    bot = _bot(registry, featurise=featurise, poll_s=0.0)
    apply.promote(registry, ModelRef(MODEL, 2), "better", ACT, expected=1)
    if fault == "feature code":
        broken.set()
    else:
        shutil.rmtree(registry.cache / MODEL / "2")
        bot._prover._registry = replace(registry, client=_Away())

    assert bot.boundary(NOW) is None
    assert bot.boundary(NOW) is None

    assert {1} == set(_score(bot).version.tolist())
    rejected = [alert for alert in registry.ledger.alerts.newest() if alert.key.startswith("swap_rejected")]
    assert 1 == len(rejected), "the log says that it trades, and it does not"


class _Away(MlflowClient):
    """MLflow does not answer."""

    def get_logged_model(self, model_id, **rest):
        raise mlflow.MlflowException(f"connection refused asking for {model_id}")

    def search_model_versions(self, filter_string=None, **rest):
        raise mlflow.MlflowException(f"connection refused asking for {filter_string}")


def test_without_a_champion_there_is_nothing_to_trade(registry):
    registry.client.create_registered_model("empty")

    with pytest.raises(RegistryError, match="must have a champion"):
        Bot("empty", registry, features=lambda bars: ((), np.empty((0, 1))), names=("x",))


@pytest.fixture
def service(registry):
    settings = Settings(service=ServiceSettings(webhook_secret="shared"))
    return TestClient(app.build(registry, settings, lambda: NOW))


def _delivery(
    secret="shared",
    at=NOW,
    body=b'{"entity": "model_version_alias", "data": {"name": "volatility", "alias": "champion"}}',
):
    stamp = int(at.timestamp())
    headers = {
        "X-MLflow-Delivery-Id": "one",
        "X-MLflow-Timestamp": str(stamp),
        "X-MLflow-Signature": mlflow_events.sign(secret, "one", stamp, body),
    }
    return {"content": body, "headers": headers}


def test_a_signed_delivery_is_kept_acted_upon_and_counted_once(service, registry):
    replies = [service.post("/hooks/mlflow", **_delivery()) for _ in range(3)]

    assert [202, 202, 202] == [reply.status_code for reply in replies]
    assert [True, False, False] == [reply.json()["accepted"] for reply in replies]
    assert [1] == [delivery.version for delivery in registry.ledger.deliveries.settled(MODEL, after=0)]


def test_anything_unsigned_stale_or_huge_is_refused_and_leaves_nothing(service, registry):
    refused = [
        service.post("/hooks/mlflow", content=b"{}"),
        service.post("/hooks/mlflow", **_delivery(secret="other")),
        service.post("/hooks/mlflow", **_delivery(at=NOW - timedelta(hours=1))),
        service.post("/hooks/mlflow", content=b"x" * 10_000_000),
    ]

    assert [401, 401, 401, 413] == [reply.status_code for reply in refused]
    assert [] == registry.ledger.deliveries.settled(MODEL, after=0)
    assert [200, 200] == [service.get(path).status_code for path in ("/healthz", "/readyz")]


def test_predictions_survive_a_second_telling(registry):
    bot = _bot(registry)

    _score(bot)
    _score(bot)

    frame, values, _ = registry.ledger.telemetry.predictions(MODEL, start=NOW, end=NOW + timedelta(1), as_of=NOW)
    assert 3 == len(frame)
    assert pd.Series(values.ravel()).eq(1).all()
