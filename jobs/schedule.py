"""When each job is due, what it needs, and the one way to run it. What was planned and what ran are rows in the ledger.

To add a job: one function in a file of its own, and one line in SCHEDULE. Its arguments, in this order: the context;
the model, or its strategy; the bars; `as_of`: those of them that its line says it needs. It returns its decisions.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import structlog
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

from jobs.context import Context, moment
from jobs.context import run as in_context
from mlops.errors import DataError
from mlops.io.ledger import Ledger
from mlops.kinds import KINDS, STRATEGY
from mlops.types import Decision, Verdict

if TYPE_CHECKING:
    import pandas as pd

log = structlog.get_logger()
LOOK_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=40), timedelta(days=400))
STEP = timedelta(microseconds=1)  # past a fire time that a trigger names again
FIRST_SEEN = "first seen here; what lies before is not caught up"
RETRAINS = "train"  # the line that answers a decision to retrain


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the schedule: a job's name in `job_runs`, when it is due, and what it needs."""

    job: str
    trigger: BaseTrigger
    does: str  # module:function, imported when it runs
    per_model: bool = True  # run for each registered model of its kinds, whose name it is given
    needs_strategy: bool = False  # it is given the model's strategy instead; models without one here are left out
    needs_bars: bool = False  # it is given all bars of `jobs.source`
    kinds: tuple[str, ...] = (STRATEGY,)  # names in `mlops.kinds.KINDS`
    replayed: Literal["never", "due", "weekly"] = "never"  # weekly: on Fridays only, as how often changes no result

    def names(self, models: Iterable[str]) -> list[str]:
        """What the job is called in `job_runs`: one name for each model that it looks at."""
        return [f"{self.job}:{model}" for model in models] if self.per_model else [self.job]

    def model_in(self, name: str) -> str | None:
        """The model of a name in `job_runs`, empty where the job is about none; None where it is another job's name."""
        if not self.per_model:
            return "" if name == self.job else None
        job, colon, model = name.partition(":")
        return model if job == self.job and colon else None


def _at(hour: int, minute: int, **days: str) -> CronTrigger:
    return CronTrigger(**days, hour=hour, minute=minute, timezone=UTC)


WEEKDAYS, FRIDAY = {"day_of_week": "mon-fri"}, {"day_of_week": "fri"}  # after New York's close
JULY = {"month": "7", "day": "1st sat"}
SCHEDULE = (
    # Before the looks that read them: all books up to the bar that closed.
    Entry("books", _at(21, 30, **WEEKDAYS), "jobs.books:at", needs_strategy=True, needs_bars=True, replayed="weekly"),
    # The service looks every few seconds; this is for when the service is down.
    Entry("limits", _at(21, 45, **WEEKDAYS), "jobs.limits:at", replayed="weekly"),
    # What all books may lose, from the bars that they were just brought up to.
    Entry("risk", _at(21, 50, **WEEKDAYS), "jobs.risk:at", per_model=False, needs_bars=True),
    # One look a week at every model.
    Entry("monitor", _at(22, 0, **FRIDAY), "jobs.monitor:at", replayed="due"),
    Entry("compare", _at(22, 30, **FRIDAY), "jobs.compare:at", replayed="due"),
    # All books in crises that were and may come; one run, whatever the number of models.
    Entry("stress", _at(23, 0, **FRIDAY), "jobs.stress:at", per_model=False, needs_bars=True),
    # Challengers by the calendar: one from all that is known, one from the most recent years only. Which is better is
    # not for a calendar to say: the gate compares one after the other with the champion.
    Entry("train", _at(6, 0, **JULY), "jobs.train:fresh", needs_strategy=True, needs_bars=True, replayed="due"),
    Entry("train-recent", _at(7, 0, **JULY), "jobs.train:recent", needs_strategy=True, needs_bars=True, replayed="due"),
    # Every night: closed hours to the archive, rows past their retention out of the ledger.
    Entry("tidy", _at(3, 30), "jobs.tidy:at", per_model=False),
)
ENTRIES = {entry.job: entry for entry in SCHEDULE}


def run(
    entry: Entry,
    context: Context,
    model: str,
    as_of: datetime,
    *,
    bars: pd.DataFrame | None = None,
    read_at: datetime | None = None,
    **options: Any,
) -> list[Decision]:
    """What a job decides at `as_of`: its model checked, its bars loaded, its function called.

    A model that the job is not for, or whose strategy is not here, is left out: no decision, no error, and whoever
    asked reads so at the end.

    Parameters
    ----------
    model : str
        Empty for a job that is about none.
    bars : DataFrame, optional
        What a replay has in memory; else they are read from `jobs.source`.
    read_at : datetime, optional
        The clock as the bars are read, where that is not `as_of`: a run that was due long ago reads today's file.
    **options
        Further arguments of the job's function.

    Raises
    ------
    DataError
        Nobody trained a model of that name here.
    ImportError
        The job's code is not there.
    """
    from jobs.bars import bars_of  # what only plans does without pandas
    from mlops.learn import strategy_of

    module, _, name = entry.does.partition(":")
    function, arguments = getattr(importlib.import_module(module), name), list[Any]()
    if entry.per_model:
        context.known(model)
        try:
            _for(entry, context.kind(model))
            arguments.append(strategy_of(model) if entry.needs_strategy else model)
        except DataError as error:
            log.warning("model left out", job=entry.job, model=model, why=str(error))
            context.outcomes.append((entry.job, f"{model} is left out: {error}\n"))
            return []
    if entry.needs_bars:
        arguments.append(bars_of(context, context.settings.jobs.source, read_at or as_of) if bars is None else bars)
    return list(function(context, *arguments, as_of, **options))


def _for(entry: Entry, kind: str) -> None:
    if kind not in entry.kinds:
        rule = f"model of {entry.job} must be a {' or a '.join(entry.kinds)}"
        raise DataError(f"{rule}, got a {kind}. Ask for another model.")


def main(job: str, model: str, as_of: str, **options: Any) -> None:
    """A job's command line: `run` at `as_of` (`now`, or an ISO instant), in a context of its own."""
    in_context(job, lambda context: run(ENTRIES[job], context, model, moment(as_of), **options), model or None)


def follow_ups(decisions: Iterable[Decision]) -> list[str]:
    """Names in `job_runs` of what decisions ask for."""
    return sorted(
        {f"{RETRAINS}:{decision.model.name}" for decision in decisions if decision.verdict is Verdict.RETRAIN}
    )


def line_of(name: str, schedule: Sequence[Entry] = SCHEDULE) -> tuple[Entry, str] | None:
    """The line behind a name in `job_runs`, and the model in it; None where the schedule has no such line."""
    lines = ((entry, entry.model_in(name)) for entry in schedule)
    return next(((entry, model) for entry, model in lines if model is not None), None)


def due(after: datetime, until: datetime, schedule: Sequence[Entry] = SCHEDULE) -> Iterator[tuple[datetime, Entry]]:
    """(time, line) with after < time <= until, in order of time.

    >>> from datetime import datetime, UTC
    >>> night = due(datetime(2008, 1, 4, 21, 50, tzinfo=UTC), datetime(2008, 1, 4, 22, 30, tzinfo=UTC))
    >>> [(f"{at:%a %H:%M}", entry.job) for at, entry in night]
    [('Fri 22:00', 'monitor'), ('Fri 22:30', 'compare')]
    """
    fires = [(at, entry) for entry in schedule for at in _fires(entry.trigger, after, until)]
    yield from sorted(fires, key=lambda fire: fire[0])


def plan(ledger: Ledger, models: Sequence[str], now: datetime, schedule: Sequence[Entry] = SCHEDULE) -> int:
    """Write down what fell due since the last planned slot of each job; how many runs were planned.

    After a time without a scheduler each job is caught up once, by its newest slot. A job that is seen for the first
    time starts now. A slot is planned once whatever the clock does: its time is its identity.
    """
    last, planned, kinds = ledger.job_runs.last_planned(), 0, ledger.registry.kinds()
    for entry in schedule:
        for job in entry.names(model for model in models if kinds.get(model, STRATEGY) in entry.kinds):
            if job not in last:
                ledger.job_runs.plan(job, now, state="skipped", note=FIRST_SEEN)
            elif (slot := _newest(entry.trigger, last[job], now)) is not None:
                planned += ledger.job_runs.plan(job, slot)
    return planned


def left_out(kinds: Mapping[str, str], schedule: Sequence[Entry] = SCHEDULE) -> dict[str, str]:
    """Why jobs leave registered models out, by model. `kinds`: what each is for."""
    from mlops.learn import STRATEGIES

    reasons = {}
    needing = ", ".join(entry.job for entry in schedule if entry.needs_strategy)
    for model, kind in kinds.items():
        if kind not in KINDS:
            reasons[model] = f"no job looks at {model}: no kind of model {kind!r} is here ({', '.join(KINDS)})"
        elif kind == STRATEGY and model not in STRATEGIES:
            reasons[model] = f"{needing} leave {model} out: no strategy of that name is here ({', '.join(STRATEGIES)})"
    return reasons


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
