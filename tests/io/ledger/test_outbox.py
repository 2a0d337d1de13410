"""What is announced commits with its change or not at all; what is sent is claimed by one and settled once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import insert

from mlops.errors import DataError
from mlops.io.ledger import Ledger
from mlops.io.ledger.dispatches import Dispatch, Lease
from mlops.io.ledger.outbox import announce
from mlops.io.storage.schema import alerts
from mlops.types import Alert, Priority, TradingState

SECOND = timedelta(seconds=1)
LEASE = Lease(15 * SECOND, 3600 * SECOND)
KINDS = ("transition", "trading_state", "alert")


def _promote(ledger, make, expected=None, to=1, kind="promote"):
    said = {"kind": kind, "actor": "ada", "reason": "better", "evidence_run": "run", "correlation_id": "c1"}
    return ledger.registry.append_promotion("volatility", expected=expected, to=to, at=make.at(0), **said)


def _alert(make, key="drift"):
    return Alert(f"rollback:{key}", Priority.HIGH, "volatility", f"{key} happened", make.at(0), {"p": 0.01})


def _announce(ledger, make, n=1):
    for i in range(n):
        ledger.trading.set("halted" if i % 2 == 0 else "active", "ada", "storm", make.at(0))


def _claim(ledger, now, owner="me", kinds=KINDS):
    return ledger.dispatches.claim("bot", kinds, owner, now, LEASE)


def _settle(ledger, claim, state, now, *, wait=SECOND, probe=SECOND, disabled=""):
    done = None if state == "pending" else now
    outcome = Dispatch(claim.endpoint, claim.event.seq, state, claim.attempts + 1, now + wait, 500, "no", done)
    return ledger.dispatches.settle(claim, outcome, probe_at=now + probe, disabled=disabled)


def test_an_applied_transition_is_announced_with_all_that_a_bot_needs(ledger, make):
    entry = _promote(ledger, make)
    assert [] == ledger.outbox.events(0)

    ledger.registry.settle_promotion(entry.id, "applied", make.at(1))
    ledger.registry.settle_promotion(entry.id, "applied", make.at(2))  # said again: nothing new

    (event,) = ledger.outbox.events(0)
    assert (1, "transition", "volatility", "c1") == (event.seq, event.kind, event.model, event.correlation_id)
    assert {
        "model": "volatility",
        "seq": 1,
        "from_version": None,
        "to_version": 1,
        "kind": "promote",
        "actor": "ada",
        "reason": "better",
        "evidence_run": "run",
        "at": make.at(1).isoformat(),
    } == event.body


def test_an_undone_transition_is_never_announced(ledger, make):
    ledger.registry.settle_promotion(_promote(ledger, make).id, "undone", make.at(1))

    assert [] == ledger.outbox.events(0)


def test_an_alert_is_announced_once(ledger, make):
    assert [True, False] == [ledger.alerts.add(_alert(make)) for _ in range(2)]

    (event,) = ledger.outbox.events(0)
    assert ("alert", "rollback:drift", {"p": 0.01}) == (event.kind, event.body["key"], event.body["details"])


def _half_a_change(ledger, at):
    row = {"key": "k", "priority": "high", "model": "m", "title": "t", "as_of": at, "details": "{}"}
    with ledger.writing() as connection:
        connection.execute(insert(alerts).values(row))
        announce(connection, "alert", "m", {}, at)
        raise RuntimeError


def test_a_change_that_fails_after_its_announcement_leaves_neither(ledger, make):
    with pytest.raises(RuntimeError):
        _half_a_change(ledger, make.at(0))

    assert ([], []) == (ledger.alerts.newest(), ledger.outbox.events(0))


def test_numbers_have_no_gaps_however_many_announce_at_once(url, make):
    with Ledger(url) as one, Ledger(url) as other, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: (one if i % 2 else other).alerts.add(_alert(make, f"a{i}")), range(60)))

        assert [*range(1, 61)] == [e.seq for e in one.outbox.events(0, limit=1000)]
        assert [*range(41, 51)] == [e.seq for e in other.outbox.events(40, limit=10)]


def test_an_event_of_an_unknown_kind_or_that_json_cannot_carry_is_refused(ledger, make):
    with ledger.writing() as connection:
        with pytest.raises(DataError, match="kind of an event must be one of"):
            announce(connection, "gossip", "m", {}, make.at(0))
        with pytest.raises(DataError, match="body of a alert event must be JSON"):
            announce(connection, "alert", "m", {"x": object()}, make.at(0))


def test_the_trading_state_is_active_until_someone_says_otherwise_and_says_why(ledger, make):
    assert TradingState.ACTIVE == ledger.trading.state()

    changed = [
        ledger.trading.set(state, "ada", "storm", make.at(day))
        for day, state in enumerate(["active", "reducing", "reducing", TradingState.HALTED, "active"])
    ]

    assert [False, True, False, True, True] == changed
    assert TradingState.ACTIVE == ledger.trading.state()
    assert [(1, "reducing"), (2, "halted"), (3, "active")] == [(c.seq, c.state) for c in ledger.trading.log()]
    told = [(e.kind, e.body["from"], e.body["state"]) for e in ledger.outbox.events(0)]
    assert [("active", "reducing"), ("reducing", "halted"), ("halted", "active")] == [pair[1:] for pair in told]


def test_a_trading_state_that_was_decided_on_an_older_one_is_not_set(ledger, make):
    assert ledger.trading.set("reducing", "job", "var", make.at(0), after=0)
    assert not ledger.trading.set("halted", "job", "var", make.at(1), after=0)
    assert TradingState.REDUCING == ledger.trading.state()
    assert ledger.trading.set("halted", "job", "var", make.at(1), after=1)
    assert not ledger.trading.set("active", "job", "var", make.at(2), after=1)
    assert TradingState.HALTED == ledger.trading.state()


@pytest.mark.parametrize(
    ("state", "actor", "reason", "rule"),
    [
        ("paused", "ada", "storm", "trading state must be one of"),
        ("halted", " ", "storm", "must have actor and reason"),
        ("halted", "ada", "", "must have actor and reason"),
    ],
)
def test_a_trading_state_without_name_or_reason_is_refused(sqlite_ledger, make, state, actor, reason, rule):
    with pytest.raises(DataError, match=rule):
        sqlite_ledger.trading.set(state, actor, reason, make.at(0))


def test_an_endpoint_hears_of_what_came_after_it_in_order_one_at_a_time(ledger, make):
    _announce(ledger, make)
    ledger.dispatches.add_endpoint("bot", "f", make.at(0))
    assert _claim(ledger, make.at(0)) is None
    _announce(ledger, make, 3)

    first = _claim(ledger, make.at(0), "a")
    assert (2, 0) == (first.event.seq, first.attempts)
    assert _claim(ledger, make.at(0), "b") is None, "another sender has it"
    assert _settle(ledger, first, "pending", make.at(0))
    assert _claim(ledger, make.at(0), "b") is None, "its turn has not come, and no later event may overtake it"
    second = _claim(ledger, make.at(0) + SECOND, "b")
    assert (2, 1) == (second.event.seq, second.attempts)
    _settle(ledger, second, "delivered", make.at(0) + SECOND)
    assert 3 == _claim(ledger, make.at(0) + SECOND, "c").event.seq


def test_of_many_senders_at_once_one_has_the_claim(url, make):
    with Ledger(url) as one, Ledger(url) as other, ThreadPoolExecutor(8) as pool:
        one.dispatches.add_endpoint("bot", "f", make.at(0))
        _announce(one, make)
        taken = list(pool.map(lambda i: _claim((one, other)[i % 2], make.at(0), f"o{i}"), range(16)))

    assert 1 == sum(claim is not None for claim in taken)


def test_the_lease_of_a_dead_sender_runs_out_and_its_late_word_of_failure_is_not_taken(ledger, make):
    ledger.dispatches.add_endpoint("bot", "f", make.at(0))
    _announce(ledger, make)
    dead = _claim(ledger, make.at(0), "dead")
    assert _claim(ledger, make.at(0) + 15 * SECOND - timedelta(microseconds=1), "heir") is None

    heir = _claim(ledger, make.at(0) + 15 * SECOND, "heir")

    assert dead.event == heir.event
    assert not _settle(ledger, dead, "dead", make.at(0) + 16 * SECOND)
    assert ["pending"] == [d.state for d in ledger.dispatches.all("bot")]
    assert _settle(ledger, heir, "delivered", make.at(0) + 17 * SECOND)
    assert ["delivered"] == [d.state for d in ledger.dispatches.all("bot")]


def test_a_clock_set_back_does_not_silence_an_endpoint(ledger, make):
    ledger.dispatches.add_endpoint("bot", "f", make.at(30))
    _announce(ledger, make)
    _settle(ledger, _claim(ledger, make.at(30), "a"), "pending", make.at(30), wait=3000 * SECOND)
    _claim(ledger, make.at(30) + 3000 * SECOND, "dies")

    assert _claim(ledger, make.at(0), "b") is not None  # a month earlier


def test_five_failures_open_the_circuit_and_probes_do_not_wait_for_the_back_off(ledger, make):
    now, hour = make.at(0), timedelta(hours=1)
    ledger.dispatches.add_endpoint("bot", "f", now)
    _announce(ledger, make)
    for n in range(5):
        assert "closed" == ledger.dispatches.endpoints()[0].circuit(now)
        _settle(ledger, _claim(ledger, now, f"o{n}"), "pending", now, wait=timedelta(0) if n < 4 else hour)

    assert "open" == ledger.dispatches.endpoints()[0].circuit(now)
    assert _claim(ledger, now, "early") is None
    now += SECOND
    assert "half-open" == ledger.dispatches.endpoints()[0].circuit(now)
    probe = _claim(ledger, now, "probe")
    assert (False, 5) == (probe.counts, probe.attempts)
    _settle(ledger, probe, "delivered", now)
    assert ("closed", 0) == (ledger.dispatches.endpoints()[0].circuit(now), ledger.dispatches.endpoints()[0].failures)


def test_a_disabled_endpoint_is_left_alone_until_it_is_configured_anew(ledger, make):
    ledger.dispatches.add_endpoint("bot", "f", make.at(0))
    _announce(ledger, make)
    _settle(ledger, _claim(ledger, make.at(0), "a"), "pending", make.at(0), disabled="410 Gone")

    ledger.dispatches.add_endpoint("bot", "f", make.at(1))
    assert _claim(ledger, make.at(1), "b") is None
    ledger.dispatches.add_endpoint("bot", "another address", make.at(1))
    assert 1 == _claim(ledger, make.at(1), "c").event.seq


def test_kinds_nobody_asked_for_are_passed_over(ledger, make):
    ledger.dispatches.add_endpoint("bot", "f", make.at(0))
    _announce(ledger, make, 3)
    ledger.alerts.add(_alert(make))

    assert 4 == _claim(ledger, make.at(0), kinds=("alert",)).event.seq


def test_a_dead_letter_is_sent_again_before_anything_newer(ledger, make):
    ledger.dispatches.add_endpoint("bot", "f", make.at(0))
    _announce(ledger, make, 2)
    _settle(ledger, _claim(ledger, make.at(0), "a"), "dead", make.at(0))
    assert [1] == [d.seq for d in ledger.dispatches.all("bot", "dead")]

    ledger.dispatches.redeliver("bot", 1, make.at(1))

    again = _claim(ledger, make.at(1), "b")
    assert (1, 0) == (again.event.seq, again.attempts)
    for endpoint, seq in (("bot", 1), ("bot", 2), ("nobody", 1)):  # on its way, never sent, unknown
        with pytest.raises(DataError, match="delivered or is a dead letter"):
            ledger.dispatches.redeliver(endpoint, seq, make.at(1))
