"""A key is assigned once, whatever happens to the weights; what was assigned by which weights can be told."""

import threading

import pytest

from mlops.errors import DataError
from mlops.io.ledger.assignments import Assignment

BY_HAND = {"actor": "risk", "reason": "slowly"}


@pytest.fixture
def comparison(ledger, make):
    terms = {"champion": 1, "challenger": 2, "kind": "compare", "salt": "s", "split": 0.9}
    return ledger.registry.open_comparison("volatility", **terms, at=make.at(0))


def deals(make, keys, version, epoch=0, day=0):
    return [Assignment(key, version, epoch, make.at(day)) for key in keys]


def test_the_first_weights_are_those_of_the_split_and_others_are_appended(ledger, make, comparison):
    ledger.assignments.add_weights(comparison, {3: 0.05}, **BY_HAND, at=make.at(1))
    ledger.assignments.add_weights(comparison, {2: 0.25}, **BY_HAND, at=make.at(2))

    first, second, third = ledger.assignments.epochs(comparison)
    assert {1: pytest.approx(0.9), 2: pytest.approx(0.1)} == first.weights
    assert {1: pytest.approx(0.85), 2: pytest.approx(0.1), 3: 0.05} == second.weights
    assert {1: pytest.approx(0.7), 2: 0.25, 3: 0.05} == third.weights
    assert [(0, make.at(0)), (1, make.at(1)), (2, make.at(2))] == [(e.number, e.at) for e in (first, second, third)]
    assert ("risk", "slowly") == (third.actor, third.reason)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({3: 0.95}, "must sum to less than 1, got 2=0.1 3=0.95. Leave a share to the champion"),
        ({2: 1.0}, "must sum to less than 1"),
        ({2: -0.1}, "must be zero or more"),
        ({2: float("nan")}, "must be zero or more"),
        ({1: 0.5}, "must be of challengers, got one of the champion v1"),
    ],
)
def test_weights_that_cannot_be_are_refused(ledger, make, comparison, given, rule):
    with pytest.raises(DataError, match=rule):
        ledger.assignments.add_weights(comparison, given, **BY_HAND, at=make.at(1))
    assert 1 == len(ledger.assignments.epochs(comparison))


def test_a_key_that_was_assigned_stays_where_it_is(ledger, make, comparison):
    assert {"A": 1, "B": 2} == ledger.assignments.add("volatility", "s", [*deals(make, "A", 1), *deals(make, "B", 2)])

    assert {"B": 2, "C": 3} == ledger.assignments.add("volatility", "s", deals(make, "BC", 3, epoch=1))

    assert {"A": 1, "B": 2, "C": 3} == ledger.assignments.of("volatility", "s")
    assert {} == ledger.assignments.of("volatility", "other")
    assert {} == ledger.assignments.add("volatility", "s", [])


def test_of_many_that_deal_the_same_keys_at_once_one_stands(ledger, make, comparison):
    keys, heard = [f"key {i}" for i in range(1200)], {}

    def go(version):
        heard[version] = ledger.assignments.add("volatility", "s", deals(make, keys, version))

    threads = [threading.Thread(target=go, args=(version,)) for version in (1, 2, 3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert heard[1] == heard[2] == heard[3] == ledger.assignments.of("volatility", "s")
    assert set(keys) == set(heard[1])


def test_what_was_dealt_is_told_by_the_weights_that_it_was_assigned_by(ledger, make, comparison):
    ledger.assignments.add("volatility", "s", [*deals(make, "ABC", 1), *deals(make, "D", 2)])
    ledger.assignments.add_weights(comparison, {3: 0.05}, **BY_HAND, at=make.at(5))
    late = [*deals(make, "E", 1, 0, 6), *deals(make, "F", 3, 1, 6), *deals(make, "G", 1, 1, 8)]
    ledger.assignments.add("volatility", "s", late)

    assert [{1: 4, 2: 1}, {1: 1, 2: 0, 3: 1}] == [epoch.counts for epoch in ledger.assignments.by_epoch(comparison)]
    assert [{1: 4, 2: 1}, {1: 0, 2: 0, 3: 1}] == [
        epoch.counts for epoch in ledger.assignments.by_epoch(comparison, as_of=make.at(7))
    ]
    assert [{1: 3, 2: 1}] == [epoch.counts for epoch in ledger.assignments.by_epoch(comparison, as_of=make.at(4))]
    assert [0.05] == [epoch.weights[3] for epoch in ledger.assignments.by_epoch(comparison) if 3 in epoch.weights]
