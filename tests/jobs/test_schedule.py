"""What falls due: caught up once, planned once, whatever the clock does."""

from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from jobs.schedule import SCHEDULE, Entry, due, plan

NEW_YORK = "America/New_York"
HOURLY = (Entry("hourly", CronTrigger(minute=0, timezone=UTC), "jobs.tidy:at", per_model=False),)
NOON = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)


def slots(ledger, job="hourly"):
    return [run.scheduled_for for run in ledger.job_runs.all(job, states=("due", "done"))]


def fires(trigger, start, end):
    return [at for at, _ in due(start, end, (Entry("job", trigger, ""),))]


def test_a_new_job_starts_now_and_not_with_its_whole_past(sqlite_ledger):
    assert 0 == plan(sqlite_ledger, (), NOON, HOURLY)
    assert 0 == plan(sqlite_ledger, (), NOON + timedelta(minutes=59), HOURLY)
    assert 1 == plan(sqlite_ledger, (), NOON + timedelta(minutes=60), HOURLY)
    assert [datetime(2026, 3, 2, 13, tzinfo=UTC)] == slots(sqlite_ledger)


def test_after_a_year_without_a_scheduler_a_job_is_caught_up_once(sqlite_ledger):
    plan(sqlite_ledger, (), NOON, HOURLY)

    assert 1 == plan(sqlite_ledger, (), NOON + timedelta(days=365), HOURLY)
    assert 0 == plan(sqlite_ledger, (), NOON + timedelta(days=365), HOURLY)

    assert [datetime(2027, 3, 2, 12, tzinfo=UTC)] == slots(sqlite_ledger)


@pytest.mark.parametrize("step_s", [-3600, -60, -1, 1, 60, 3600])
def test_a_step_of_the_clock_makes_at_most_one_catch_up_and_loses_no_slot(sqlite_ledger, step_s):
    plan(sqlite_ledger, (), NOON, HOURLY)
    true, shift, seen = NOON, timedelta(0), []
    for tick in range(4 * 60 * 6):  # four hours, a look every 10 s; the clock is set after an hour and a half
        true += timedelta(seconds=10)
        shift = timedelta(seconds=step_s) if tick >= 540 else shift
        seen.append(plan(sqlite_ledger, (), true + shift, HOURLY))

    planned = slots(sqlite_ledger)
    assert len(planned) == len(set(planned)) == sum(seen)
    assert max(seen) == 1
    last = (true + shift).replace(minute=0, second=0)
    assert [last - timedelta(hours=h) for h in reversed(range(len(planned)))] == planned
    assert datetime(2026, 3, 2, 13, tzinfo=UTC) == planned[0]


def test_daylight_saving_runs_a_job_of_fixed_hours_once_a_day_and_an_hourly_one_each_hour():
    spring, autumn = datetime(2026, 3, 7, tzinfo=UTC), datetime(2026, 10, 31, tzinfo=UTC)
    gone = CronTrigger(hour=2, minute=30, timezone=NEW_YORK)  # 02:30 does not exist on 8 March
    twice = CronTrigger(hour=1, minute=30, timezone=NEW_YORK)  # 01:30 comes twice on 1 November
    hourly = CronTrigger(minute=30, timezone=NEW_YORK)

    assert [7, 8, 9] == [at.day for at in fires(gone, spring, spring + timedelta(days=3))]
    assert [31, 1, 2] == [at.day for at in fires(twice, autumn, autumn + timedelta(days=3))]
    for start in (spring, autumn):
        each = fires(hourly, start, start + timedelta(days=2))
        assert {timedelta(hours=1)} == {b - a for a, b in zip(each, each[1:], strict=False)}


def test_the_29th_of_february_and_the_year_2038_are_days_like_others():
    leap = CronTrigger(month=2, day=29, timezone=UTC)
    daily = CronTrigger(hour=3, timezone=UTC)

    assert [2028, 2032] == [
        at.year for at in fires(leap, datetime(2026, 1, 1, tzinfo=UTC), datetime(2033, 1, 1, tzinfo=UTC))
    ]
    around = datetime(2038, 1, 18, 12, tzinfo=UTC)
    assert [19, 20] == [at.day for at in fires(daily, around, around + timedelta(days=2))]


def test_the_newest_of_very_many_missed_slots_is_found_at_once(sqlite_ledger):
    every_second = IntervalTrigger(seconds=1, start_date=datetime(2020, 1, 1, tzinfo=UTC), timezone=UTC)
    entries = (Entry("tick", every_second, "", per_model=False),)
    plan(sqlite_ledger, (), NOON, entries)

    assert 1 == plan(sqlite_ledger, (), NOON + timedelta(days=3650), entries)
    assert [NOON + timedelta(days=3650)] == slots(sqlite_ledger, "tick")


def test_every_line_of_the_schedule_names_code_that_is_there():
    for entry in SCHEDULE:
        module, _, name = entry.does.partition(":")
        assert callable(getattr(__import__(module, fromlist=[name]), name))


def test_jobs_are_planned_for_each_model_where_they_look_at_one(sqlite_ledger):
    friday = datetime(2026, 3, 6, 21, tzinfo=UTC)
    plan(sqlite_ledger, ("a", "b"), friday)
    plan(sqlite_ledger, ("a", "b"), friday + timedelta(hours=8))

    planned = [run.job for run in sqlite_ledger.job_runs.all(states=("due",))]
    looks = ["monitor:a", "monitor:b", "compare:a", "compare:b"]
    assert ["books:a", "books:b", "limits:a", "limits:b", "risk", *looks, "stress", "tidy"] == planned
