"""When each job is due. APScheduler's triggers do the calendar; what ran is a row in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from apscheduler.triggers.cron import CronTrigger


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the schedule: the job, and when."""

    job: str
    trigger: CronTrigger


SCHEDULE = (
    # Friday night, New York's close is in: one look a week at every model.
    Entry("monitor", CronTrigger(day_of_week="fri", hour=22, minute=0, timezone=UTC)),
    Entry("compare", CronTrigger(day_of_week="fri", hour=22, minute=30, timezone=UTC)),
    # Challengers by the calendar: one from all that is known, one from the most recent years only. Which is better is
    # not for a calendar to say: the gate compares one after the other with the champion.
    Entry("train", CronTrigger(month="7", day="1st sat", hour=6, timezone=UTC)),
    Entry("train-recent", CronTrigger(month="7", day="1st sat", hour=7, timezone=UTC)),
)


def due(after: datetime, until: datetime, schedule: tuple[Entry, ...] = SCHEDULE) -> Iterator[tuple[datetime, str]]:
    """(time, job) with after < time <= until, in order of time.

    >>> from datetime import datetime, UTC
    >>> [(str(at.date()), job) for at, job in due(datetime(2008, 1, 4, tzinfo=UTC), datetime(2008, 1, 6, tzinfo=UTC))]
    [('2008-01-04', 'monitor'), ('2008-01-04', 'compare')]
    """
    fires = []
    for entry in schedule:
        at = entry.trigger.get_next_fire_time(after, after)
        while at is not None and at <= until:
            fires.append((at, entry.job))
            at = entry.trigger.get_next_fire_time(at, at)
    order = [entry.job for entry in schedule]
    yield from sorted(set(fires), key=lambda fire: (fire[0], order.index(fire[1])))
