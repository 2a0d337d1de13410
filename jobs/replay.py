"""Real history through the paper bot, with every job at the time its schedule says, on simulated time.

The same jobs run live: only the clock differs. What a job sees at `as_of` is what was known then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

import pandas as pd
import structlog
import typer

from jobs import books, compare, limits, monitor, train
from jobs.bars import bars_of
from jobs.cli.terminal import start_job
from jobs.context import Context, moment, run
from jobs.paper_bot import PaperBot
from jobs.reports.evidently import When
from jobs.schedule import due
from mlops.io import logs
from mlops.learn import STRATEGIES
from mlops.types import Decision, Verdict

log = structlog.get_logger()
WEEKLY = ("books", "limits")  # daily jobs that a replay does once a week, before the looks that read them
FRIDAY = 4  # books are brought up to date before the looks that read them: how often does not change them
HOOK_WAIT_S = 10.0  # MLflow gives up on a delivery after about 6 s; then the poll has to repair it
JOBS: dict[str, Callable[[Context, str, pd.DataFrame, datetime], Sequence[Decision]]] = {
    "books": books.at,
    "limits": limits.at,
    "monitor": partial(monitor.at, page=When.NEVER),  # years pass in minutes; ask for the page of a week that matters
    "compare": compare.at,
    "train": train.fresh,
    "train-recent": train.recent,
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person would want to hear of."""

    at: datetime
    model: str
    what: str
    text: str


@dataclass
class Replay:
    """History on simulated time.

    Parameters
    ----------
    bars : frame with BAR_COLUMNS
        All history; what lies before `start` warms the features up.
    interventions : sequence of (time, callable)
        What a person does by hand at that time.
    tell : callable
        Hears each event as it happens.
    """

    context: Context
    models: Sequence[str]
    bars: pd.DataFrame
    interventions: Sequence[tuple[datetime, Callable[[Context, datetime], None]]] = ()
    tell: Callable[[Event], None] = lambda event: None
    bots: dict[str, PaperBot] = field(default_factory=dict)
    hooks_heard: int = 0
    hooks_lost: int = 0

    def run(self, start: datetime, end: datetime) -> None:
        """Every bar with start <= event_time < end, and every job that is due in between."""
        until = self.bars[self.bars.event_time < end]
        self.bots = {m: PaperBot(self.context, STRATEGIES[m], until, start) for m in self.models}
        waiting, before = sorted(self.interventions, key=lambda pair: pair[0]), start
        for at, bar in self._bars(start, end):
            for fires, job in due(before, at):
                if job in JOBS and (job not in WEEKLY or fires.weekday() == FRIDAY):
                    self._job(job, fires, before)
            while waiting and waiting[0][0] <= at:
                when, act = waiting.pop(0)
                with logs.bind(correlation_id=f"hand:{when.isoformat()}"):
                    self._act(partial(act, self.context, when), when)
            for bot in self.bots.values():
                with logs.bind(correlation_id=_id(bot.model, at)):
                    self._bar(bot, bar, at)
            before = at

    def _bars(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, pd.DataFrame]]:
        span = self.bars[(self.bars.event_time >= start) & (self.bars.event_time < end)]
        for at, bar in span.groupby("event_time", sort=True):
            yield pd.Timestamp(str(at)).to_pydatetime(), bar

    def _bar(self, bot: PaperBot, bar: pd.DataFrame, at: datetime) -> None:
        self._swapped(bot.model, bot.on_bar(bar, at), at)

    def _swapped(self, model: str, version: int | None, at: datetime) -> None:
        if version is not None:
            self.tell(Event(at, model, "swapped", f"the bot trades v{version} from this bar on"))

    def _job(self, job: str, at: datetime, last_bar: datetime) -> None:
        """One scheduled job for each model; it carries on the correlation id of the last bar that it could see."""
        for model in self.models:
            name = f"{job}:{model}"
            claim = self.context.ledger.job_runs.start(name, at, at)
            if claim is None:
                continue
            with logs.bind(correlation_id=_id(model, last_bar)):
                decisions = self._act(partial(JOBS[job], self.context, model, self.bars, at), at)
                self.context.ledger.job_runs.complete(claim, at)
                if any(d.verdict is Verdict.RETRAIN for d in decisions or ()):
                    self.tell(Event(at, model, "retrain", next(d.reason for d in decisions or ())))
                    train.fresh(self.context, model, self.bars, at)

    def _act(self, act: Callable[[], Sequence[Decision] | None], at: datetime) -> Sequence[Decision] | None:
        """Do it; where it moved a champion, wait (on the wall clock) until the bot was told or the hook is lost."""
        before = {m: self.context.ledger.registry.champion(m) for m in self.models}
        hooks = {m: self._last_hook(m) for m in self.models}
        done = act()
        for model in self.models:
            now = self.context.ledger.registry.champion(model)
            if now == before[model]:
                continue
            entry = self.context.ledger.registry.promotions(model)[-1]
            text = f"v{entry.from_version} -> v{now} by {entry.actor}: {entry.reason}"
            self.tell(Event(at, model, entry.kind, text))
            self._await_hook(model, hooks[model], now, at)
        return done

    def _last_hook(self, model: str) -> int:
        return max((d.id for d in self.context.ledger.deliveries.settled(model, after=0)), default=0)

    def _await_hook(self, model: str, after: int, version: int | None, at: datetime) -> None:
        deadline = time.monotonic() + HOOK_WAIT_S
        while time.monotonic() < deadline:
            if any(d.version == version for d in self.context.ledger.deliveries.settled(model, after=after)):
                self.hooks_heard += 1
                return
            time.sleep(0.02)
        self.hooks_lost += 1
        log.warning("webhook lost; the bot looks for itself", model=model)
        if model in self.bots:
            self._swapped(model, self.bots[model].bot.refresh(at), at)


def _id(model: str, at: datetime) -> str:
    return f"bar:{model}:{at.isoformat()}"


def main(
    start: Annotated[str, typer.Option(help="First bar, an ISO instant.")],
    end: Annotated[str, typer.Option(help="Last bar, an ISO instant.")],
    models: Annotated[str, typer.Option(help="Comma-separated.")] = "volatility,direction",
    source: str = "sp500",
) -> None:
    def body(context: Context) -> None:
        until = moment(end) + timedelta(microseconds=1)
        bars = bars_of(context, source, until)
        # Each job of a replay has a run of its own, also when a run launched the replay.
        Replay(replace(context, run_id=None), models.split(","), bars).run(moment(start), until)

    run("replay", body)


if __name__ == "__main__":
    start_job(main)
