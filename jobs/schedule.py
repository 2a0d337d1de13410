"""When each job is due. APScheduler's triggers do the calendar; what was planned and what ran are rows in the ledger.

To add a job: one function `(context, model, bars, as_of) -> decisions` in a file of its own, and one line in SCHEDULE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

from mlops.io.ledger import Ledger

LOOK_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=40), timedelta(days=400))
STEP = timedelta(microseconds=1)  # past a fire time that a trigger names again
FIRST_SEEN = "first seen here; what lies before is not caught up"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the schedule: the job, when, and the function that does it (imported when it runs).

    `bars`: the function is given all bars of the source that the settings name, else none.
    """

    job: str
    trigger: BaseTrigger
    does: str
    each_model: bool = True
    bars: bool = False

    def names(self, models: Sequence[str]) -> list[str]:
        """What the job is called in `job_runs`: one name for each model that it looks at."""
        return [f"{self.job}:{model}" for model in models] if self.each_model else [self.job]


SCHEDULE = (
    # Every trading day after New York's close, before the looks that read them: all books up to the bar that closed.
    Entry("books", CronTrigger(day_of_week="mon-fri", hour=21, minute=30, timezone=UTC), "jobs.books:at", bars=True),
    # The service looks every few seconds; this is for when the service is down.
    Entry("limits", CronTrigger(day_of_week="mon-fri", hour=21, minute=45, timezone=UTC), "jobs.limits:at"),
    # What all books may lose, from the bars that they were just brought up to.
    Entry(
        "risk",
        CronTrigger(day_of_week="mon-fri", hour=21, minute=50, timezone=UTC),
        "jobs.risk:at",
        each_model=False,
        bars=True,
    ),
    # Friday night, New York's close is in: one look a week at every model.
    Entry("monitor", CronTrigger(day_of_week="fri", hour=22, minute=0, timezone=UTC), "jobs.monitor:at"),
    Entry("compare", CronTrigger(day_of_week="fri", hour=22, minute=30, timezone=UTC), "jobs.compare:at"),
    # All books in crises that were and may come; one run, whatever the number of models.
    Entry(
        "stress",
        CronTrigger(day_of_week="fri", hour=23, minute=0, timezone=UTC),
        "jobs.stress:at",
        each_model=False,
        bars=True,
    ),
    # Challengers by the calendar: one from all that is known, one from the most recent years only. Which is better is
    # not for a calendar to say: the gate compares one after the other with the champion.
    Entry("train", CronTrigger(month="7", day="1st sat", hour=6, timezone=UTC), "jobs.train:fresh", bars=True),
    Entry("train-recent", CronTrigger(month="7", day="1st sat", hour=7, timezone=UTC), "jobs.train:recent", bars=True),
    # Every night: closed hours to the archive, rows past their retention out of the ledger.
    Entry("tidy", CronTrigger(hour=3, minute=30, timezone=UTC), "jobs.tidy:at", each_model=False),
)


def due(after: datetime, until: datetime, schedule: Sequence[Entry] = SCHEDULE) -> Iterator[tuple[datetime, str]]:
    """(time, job) with after < time <= until, in order of time.

    >>> from datetime import datetime, UTC
    >>> night = due(datetime(2008, 1, 4, 21, 50, tzinfo=UTC), datetime(2008, 1, 4, 22, 30, tzinfo=UTC))
    >>> [(f"{at:%a %H:%M}", job) for at, job in night]
    [('Fri 22:00', 'monitor'), ('Fri 22:30', 'compare')]
    """
    order = [entry.job for entry in schedule]
    fires = {(at, entry.job) for entry in schedule for at in _fires(entry.trigger, after, until)}
    yield from sorted(fires, key=lambda fire: (fire[0], order.index(fire[1])))


def plan(ledger: Ledger, models: Sequence[str], now: datetime, schedule: Sequence[Entry] = SCHEDULE) -> int:
    """Write down what fell due since the last planned slot of each job; how many runs were planned.

    After a time without a scheduler each job is caught up once, by its newest slot. A job that is seen for the first
    time starts now. A slot is planned once whatever the clock does: its time is its identity.
    """
    last, planned = ledger.job_runs.last_planned(), 0
    for entry in schedule:
        for job in entry.names(models):
            if job not in last:
                ledger.job_runs.plan(job, now, state="skipped", note=FIRST_SEEN)
            elif (slot := _newest(entry.trigger, last[job], now)) is not None:
                planned += ledger.job_runs.plan(job, slot)
    return planned


def entry_of(job: str, schedule: Sequence[Entry] = SCHEDULE) -> Entry | None:
    """The line behind a name in `job_runs`."""
    return next((entry for entry in schedule if entry.job == job.partition(":")[0]), None)


def _newest(trigger: BaseTrigger, after: datetime, until: datetime) -> datetime | None:
    """The last fire time in (after, until], without counting through a year of seconds."""
    for start in (*(until - back for back in LOOK_BACK), after):
        slots = list(_fires(trigger, max(start, after), until))
        if slots:
            return slots[-1]
        if start <= after:
            return None
    return None


def _fires(trigger: BaseTrigger, after: datetime, until: datetime) -> Iterator[datetime]:
    """Fire times with after < time <= until."""
    at = trigger.get_next_fire_time(None, after)
    while at is not None and at <= until:
        if at > after and not _repeats(trigger, at):
            yield at.astimezone(UTC)
        at = trigger.get_next_fire_time(at, at.astimezone(UTC) + STEP)  # UTC: a sum on the wall clock loses the fold


def _repeats(trigger: BaseTrigger, at: datetime) -> bool:
    """Whether this is the second time that autumn's clock shows an hour, to a job of fixed hours."""
    hours = [str(field) for field in getattr(trigger, "fields", ()) if field.name == "hour"]
    return at.fold == 1 and hours not in ([], ["*"])
