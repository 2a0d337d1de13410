"""Bundles, the promotion log, experiments: history that nobody can rewrite."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from mlops.errors import AliasMoved, DataError, RegistryError
from mlops.io.ledger import BundleRow, Ledger


@pytest.fixture
def promote(make):
    def append(ledger, expected, to, model="volatility", kind="promote", day=0):
        why = {"actor": "jobs.compare", "reason": "proven", "evidence_run": "run", "correlation_id": "abc"}
        return ledger.registry.append_promotion(model, expected=expected, to=to, kind=kind, at=make.at(day), **why)

    return append


@pytest.fixture
def bundle(make):
    ids = {"model": "volatility", "version": 1, "digest": "d", "run_id": "r", "model_id": "m", "horizon_bars": 5}
    return BundleRow(**ids, train_start=make.at(-9), train_end=make.at(-1), registered_at=make.at(0))


def test_a_bundle_comes_back_and_never_changes(ledger, bundle):
    ledger.registry.add_bundle(bundle)
    ledger.registry.add_bundle(bundle)

    assert bundle == ledger.registry.bundle("volatility", 1)
    assert ledger.registry.bundle("volatility", 2) is None
    assert [bundle] == ledger.registry.bundles("volatility")
    with pytest.raises(DataError, match="volatility v1 must stay"):
        ledger.registry.add_bundle(replace(bundle, digest="another"))


def test_the_log_tells_who_moved_the_champion_from_where_to_where(ledger, promote, make):
    assert ledger.registry.champion("volatility") is None
    first, second = promote(ledger, None, 1), promote(ledger, 1, 2, day=1)

    assert [first, second] == ledger.registry.promotions("volatility")
    assert (1, 1, 2, "pending", make.at(1), None) == (
        second.seq - first.seq,
        second.from_version,
        second.to_version,
        second.state,
        second.created_at,
        second.settled_at,
    )
    assert ("jobs.compare", "proven", "run", "abc") == (
        first.actor,
        first.reason,
        first.evidence_run,
        first.correlation_id,
    )
    assert 2 == ledger.registry.champion("volatility")
    assert [] == ledger.registry.promotions("direction")


@pytest.mark.parametrize("expected", [None, 1, 3])
def test_a_decision_against_another_champion_is_refused(ledger, promote, expected):
    promote(ledger, None, 1)
    promote(ledger, 1, 2)

    with pytest.raises(AliasMoved, match=r"champion of volatility must be (none|v\d), got v2"):
        promote(ledger, expected, 4)
    assert 2 == ledger.registry.champion("volatility")


def test_of_many_who_promote_at_once_exactly_one_wins_every_round(url, promote):
    n, rounds = 6, 5
    start = Barrier(n)

    def contend(me):
        won = 0
        with Ledger(url) as own:  # a connection pool each, as processes have
            for step in range(rounds):
                start.wait()
                try:
                    promote(own, own_champion[step], 100 * (step + 1) + me)
                    won += 1
                except AliasMoved:
                    pass
                if start.wait() == 0:
                    own_champion.append(own.registry.champion("volatility"))
                start.wait()
        return won

    own_champion = [None]
    with ThreadPoolExecutor(n) as pool:
        wins = list(pool.map(contend, range(n)))

    assert rounds == sum(wins)
    with Ledger(url) as ledger:
        log = ledger.registry.promotions("volatility")
    assert list(range(1, rounds + 1)) == [entry.seq for entry in log]
    assert [entry.to_version for entry in log[:-1]] == [entry.from_version for entry in log[1:]]


def test_one_ledger_serves_many_threads(ledger, promote):
    def move(model):
        for version in range(5):
            promote(ledger, version or None, version + 1, model=model)
        return ledger.registry.champion(model)

    with ThreadPoolExecutor(8) as pool:
        assert [5] * 8 == list(pool.map(move, [f"model{i}" for i in range(8)]))


def test_an_entry_is_settled_once_and_saying_so_again_changes_nothing(ledger, promote, make):
    entry = promote(ledger, None, 1)
    ledger.registry.settle_promotion(entry.id, "applied", make.at(1))
    ledger.registry.settle_promotion(entry.id, "applied", make.at(2))

    assert [replace(entry, state="applied", settled_at=make.at(1))] == ledger.registry.promotions("volatility")
    with pytest.raises(RegistryError, match="must be pending to be undone, got applied"):
        ledger.registry.settle_promotion(entry.id, "undone", make.at(3))


def test_an_undone_entry_gives_the_champion_back_and_keeps_its_number(ledger, promote, make):
    promote(ledger, None, 1)
    taken_back = promote(ledger, 1, 2)
    ledger.registry.settle_promotion(taken_back.id, "undone", make.at(1))

    assert 1 == ledger.registry.champion("volatility")
    assert 3 == promote(ledger, 1, 3).seq


def test_bots_go_by_what_was_applied_and_by_a_rollback_that_waits(ledger, promote, make):
    assert 0 == ledger.registry.last_move("volatility")
    first = promote(ledger, None, 1)
    assert 0 == ledger.registry.last_move("volatility")
    ledger.registry.settle_promotion(first.id, "applied", make.at(1))
    undone = promote(ledger, 1, 2)
    ledger.registry.settle_promotion(undone.id, "undone", make.at(2))
    assert 1 == ledger.registry.last_move("volatility")

    promote(ledger, 1, 3, kind="rollback")

    assert 3 == ledger.registry.last_move("volatility")
    assert 0 == ledger.registry.last_move("direction")


def test_an_entry_that_others_build_on_cannot_be_undone(ledger, promote, make):
    first = promote(ledger, None, 1)
    promote(ledger, 1, 2)

    with pytest.raises(RegistryError, match="must be the last one to be undone"):
        ledger.registry.settle_promotion(first.id, "undone", make.at(1))


def test_what_is_no_entry_or_no_state_is_refused(ledger, promote, make):
    with pytest.raises(DataError, match="must be in the log, got id 99"):
        ledger.registry.settle_promotion(99, "applied", make.at(0))
    with pytest.raises(DataError, match="state of a promotion"):
        ledger.registry.settle_promotion(promote(ledger, None, 1).id, "perhaps", make.at(0))


def test_a_comparison_is_opened_once_and_closed_once(ledger, make):
    terms = {"champion": 1, "challenger": 2, "kind": "compare", "salt": "s", "split": 0.9}
    comparison = ledger.registry.open_comparison("volatility", **terms, at=make.at(0))

    assert comparison == ledger.registry.open_comparison("volatility", **{**terms, "salt": "other"}, at=make.at(1))
    ledger.registry.close_comparison(comparison.id, "hold", make.at(2))
    ledger.registry.close_comparison(comparison.id, "promote", make.at(3))
    assert [replace(comparison, verdict="hold", ended_at=make.at(2))] == ledger.registry.comparisons("volatility")
    assert [] == ledger.registry.open_comparisons("volatility")
    assert comparison.id != ledger.registry.open_comparison("volatility", **terms, at=make.at(4)).id


def test_the_first_plan_of_a_comparison_stays(ledger, make):
    comparison = ledger.registry.open_comparison(
        "volatility", champion=1, challenger=2, kind="compare", salt="s", split=0.9, at=make.at(0)
    )

    assert [None, "{}", "{}"] == [
        comparison.plan,
        ledger.registry.keep_plan(comparison.id, "{}"),
        ledger.registry.keep_plan(comparison.id, "[]"),
    ]
    assert [replace(comparison, plan="{}")] == ledger.registry.comparisons("volatility")
    with pytest.raises(DataError, match="comparison must be in the ledger, got id 99"):
        ledger.registry.keep_plan(99, "{}")


def test_a_watch_and_a_comparison_of_the_same_pair_stand_side_by_side(ledger, make):
    pair = {"champion": 2, "challenger": 1, "at": make.at(0)}
    watch = ledger.registry.open_comparison("volatility", **pair, kind="watch", salt="", split=1.0)
    comparison = ledger.registry.open_comparison("volatility", **pair, kind="compare", salt="s", split=0.9)

    assert [watch, comparison] == ledger.registry.open_comparisons("volatility")
    assert [watch] == ledger.registry.open_comparisons("volatility", "watch")
    assert [] == ledger.registry.open_comparisons("direction")
    with pytest.raises(DataError, match="kind of an experiment"):
        ledger.registry.open_comparison("volatility", **pair, kind="duel", salt="", split=1.0)


def test_a_comparison_opened_by_many_at_once_is_one(ledger, make):
    terms = {"champion": 1, "challenger": 2, "kind": "compare", "split": 0.9, "at": make.at(0)}
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: ledger.registry.open_comparison("volatility", **terms, salt=str(i)), range(6)))

    assert 1 == len(set(found))
