"""Jobs as rows: taken by one, renewed, fenced, tried again, dead at last; on both back ends."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from mlops.errors import DataError
from mlops.io.storage.schema import trading_states

T0 = datetime(2026, 3, 2, 22, tzinfo=UTC)
LEASE = {"lease_s": 30.0, "max_attempts": 3}
RETRY = {"max_attempts": 3, "back_off_s": 60.0}


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def write(connection):
    row = {"seq": 1, "state": "halted", "actor": "job", "reason": "test", "correlation_id": "", "created_at": T0}
    connection.execute(trading_states.insert().values(row))


def written(ledger):
    with ledger.reading() as connection:
        return len(connection.execute(select(trading_states)).all())


def test_a_run_is_planned_once_and_claimed_by_one_of_many(ledger):
    assert [True, False] == [ledger.job_runs.plan("monitor", T0) for _ in range(2)]

    with ThreadPoolExecutor(6) as pool:
        claims = list(pool.map(lambda i: ledger.job_runs.claim(f"w{i}", T0, **LEASE), range(6)))

    assert 1 == sum(claim is not None for claim in claims)


def test_the_oldest_run_comes_first_and_a_job_does_not_overlap_itself(ledger):
    for job, when in (("monitor", 10), ("monitor", 0), ("compare", 20)):
        ledger.job_runs.plan(job, at(when))

    first, second = (ledger.job_runs.claim("w", at(30), **LEASE) for _ in range(2))

    assert ("monitor", at(0)) == (first.job, first.scheduled_for)
    assert "compare" == second.job
    assert ledger.job_runs.claim("w", at(30), **LEASE) is None
    assert ledger.job_runs.complete(first, at(31))
    assert at(10) == ledger.job_runs.claim("w", at(32), **LEASE).scheduled_for


def test_effect_follow_ups_and_done_commit_together(ledger):
    ledger.job_runs.plan("monitor", T0)
    claim = ledger.job_runs.claim("w", T0, **LEASE)

    def broken(connection):
        write(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.job_runs.complete(claim, T0, effect=broken, follow_ups=[("train", T0)])
    assert 0 == written(ledger)
    assert ["running"] == [run.state for run in ledger.job_runs.all()]

    assert ledger.job_runs.complete(claim, T0, effect=write, follow_ups=[("train", T0), ("train", T0)], run_id="abc")
    assert 1 == written(ledger)
    assert [("monitor", "done", "abc"), ("train", "due", "")] == [
        (r.job, r.state, r.run_id) for r in ledger.job_runs.all()
    ]


def test_whoever_was_taken_for_dead_can_write_nothing_any_more(ledger):
    ledger.job_runs.plan("monitor", T0)
    slow = ledger.job_runs.claim("slow", T0, **LEASE)
    assert ledger.job_runs.claim("quick", at(29), **LEASE) is None

    quick = ledger.job_runs.claim("quick", at(31), **LEASE)

    assert 2 == quick.attempts == quick.fence
    assert not ledger.job_runs.renew(slow, at(32), lease_s=30)
    assert not ledger.job_runs.complete(slow, at(32), effect=write)
    assert "void" == ledger.job_runs.fail(slow, "late", at(32), **RETRY)
    assert 0 == written(ledger)
    assert ledger.job_runs.complete(quick, at(33), effect=write)
    assert 1 == written(ledger)


def test_a_heartbeat_keeps_the_claim(ledger):
    ledger.job_runs.plan("monitor", T0)
    claim = ledger.job_runs.claim("w", T0, **LEASE)

    assert ledger.job_runs.renew(claim, at(25), lease_s=30)
    assert ledger.job_runs.claim("other", at(40), **LEASE) is None
    assert ledger.job_runs.claim("other", at(56), **LEASE) is not None


def test_failures_wait_longer_each_time_and_end_as_a_dead_letter_that_a_person_retries(ledger):
    ledger.job_runs.plan("monitor", T0)
    now, states = 0, []
    for wait in (60, 120, 240):
        claim = ledger.job_runs.claim("w", at(now), **LEASE)
        states.append(ledger.job_runs.fail(claim, "boom", at(now), **RETRY))
        assert ledger.job_runs.claim("w", at(now + wait - 1), **LEASE) is None
        now += wait

    assert ["failed", "failed", "dead"] == states
    assert ledger.job_runs.claim("w", at(now + 99_999), **LEASE) is None

    ledger.job_runs.retry("monitor", T0)
    assert 1 == ledger.job_runs.claim("w", at(now), **LEASE).attempts


def test_a_run_that_kills_its_runner_each_time_ends_as_a_dead_letter(ledger):
    ledger.job_runs.plan("monitor", T0)
    taken = [ledger.job_runs.claim("w", at(40 * i), **LEASE) for i in range(4)]

    assert [1, 2, 3] == [claim.attempts for claim in taken[:3]]
    assert taken[3] is None
    assert ["dead"] == [run.state for run in ledger.job_runs.all()]


def test_parked_and_handed_back_runs_use_up_no_attempt(ledger):
    ledger.job_runs.plan("monitor", T0)
    for now in (0, 100, 200, 300):
        ledger.job_runs.park(ledger.job_runs.claim("w", at(now), **LEASE), "no module", at(now), look_again_s=60)
        assert ledger.job_runs.claim("w", at(now + 30), **LEASE) is None

    claim = ledger.job_runs.claim("w", at(400), **LEASE)
    assert ledger.job_runs.hand_back(claim, at(401))
    assert ledger.job_runs.claim("w", at(401), **LEASE).attempts <= 1


@pytest.mark.parametrize("step", [-3600, -60, -1, 1, 60, 3600])
def test_a_step_of_the_clock_loses_no_run_and_runs_none_twice(ledger, step):
    ledger.job_runs.plan("monitor", T0)
    claim = ledger.job_runs.claim("w", at(0), **LEASE)
    assert ledger.job_runs.renew(claim, at(step), lease_s=30)

    assert ledger.job_runs.claim("other", at(step + 1), **LEASE) is None
    assert ledger.job_runs.complete(claim, at(step + 2), effect=write)
    assert ledger.job_runs.claim("other", at(step + 99), **LEASE) is None
    assert 1 == written(ledger)


def test_a_lease_or_a_back_off_from_before_the_clock_was_set_back_does_not_last(ledger):
    far = at(400 * 86_400)
    ledger.job_runs.plan("monitor", T0)
    ledger.job_runs.plan("compare", T0)
    ledger.job_runs.claim("dead", far, **LEASE)
    ledger.job_runs.fail(ledger.job_runs.claim("w", far, **LEASE), "boom", far, **RETRY)

    assert {"monitor", "compare"} == {ledger.job_runs.claim("w", at(1), **LEASE).job for _ in range(2)}


def test_a_person_skips_what_is_not_needed_and_only_that(ledger):
    ledger.job_runs.plan("monitor", T0)
    ledger.job_runs.skip("monitor", T0, at(1), "holiday")

    assert [("skipped", "holiday")] == [(run.state, run.error) for run in ledger.job_runs.all()]
    with pytest.raises(DataError, match="must be one of due, failed, parked, dead, got skipped"):
        ledger.job_runs.skip("monitor", T0, at(1), "again")
    with pytest.raises(DataError, match="got no such run"):
        ledger.job_runs.retry("compare", T0)
