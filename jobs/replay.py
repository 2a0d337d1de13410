"""Real history through the paper bot, with every job at the time its schedule says, on simulated time.

The same jobs run live: only the clock differs. What a job sees at `as_of` is what was known then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any

import pandas as pd
import structlog
import typer

from jobs import schedule
from jobs.bars import bars_of
from jobs.cli.terminal import start_job
from jobs.context import Context, moment, run
from jobs.paper_bot import PaperBot
from jobs.reports.evidently import When
from jobs.schedule import Entry
from mlops.io import logs
from mlops.learn import strategy_of
from mlops.types import Decision

log = structlog.get_logger()
FRIDAY = 4  # books are brought up to date before the looks that read them: how often does not change them
HOOK_WAIT_S = 10.0  # MLflow gives up on a delivery after about 6 s; then the poll has to repair it
# Years pass in minutes: no page. Ask for that of a week that matters.
OPTIONS: Mapping[str, Mapping[str, Any]] = {"monitor": {"page": When.NEVER}}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person would want to hear of."""

    at: datetime
    model: str
    kind: str
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
        self.bots = {m: PaperBot(self.context, strategy_of(m), until, start) for m in self.models}
        waiting, before = sorted(self.interventions, key=lambda pair: pair[0]), start
        for at, bar in self._bars(start, end):
            for fires, entry in schedule.due(before, at):
                if entry.replayed == "due" or (entry.replayed == "weekly" and fires.weekday() == FRIDAY):
                    self._job(entry, fires, before)
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

    def _job(self, entry: Entry, at: datetime, last_bar: datetime) -> None:
        """One scheduled job for each model; it carries on the correlation id of the last bar that it could see."""
        known = self.context.ledger.registry.models()
        for name in entry.names(model for model in self.models if model in known):
            model = entry.model_in(name) or ""
            claim = self.context.ledger.job_runs.start(name, at, at)
            if claim is None:
                continue
            with logs.bind(correlation_id=_id(model, last_bar)):
                decisions = self._act(partial(self._run, entry, model, at), at) or ()
                self.context.ledger.job_runs.complete(claim, at)
                for wanted, about in filter(None, map(schedule.line_of, schedule.follow_ups(decisions))):
                    self.tell(Event(at, model, "retrain", decisions[0].reason))
                    self._run(wanted, about, at)

    def _run(self, entry: Entry, model: str, at: datetime) -> list[Decision]:
        return schedule.run(entry, self.context, model, at, bars=self.bars, **OPTIONS.get(entry.job, {}))

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
