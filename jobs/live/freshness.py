"""What came last: predictions and outcomes of each model, bars of its books, quotes; and who is silent.

Load: the ledger alone, so that it works while MLflow is down. Compute: silence against each one's own clock. Act:
`bot_silent:` and `feed_stale:` alerts, each once a silence, closed when rows come again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pandas as pd
import structlog

from jobs.context import Context, Store
from mlops import monitor
from mlops.alerts import ALERTS
from mlops.monitor.silence import Instants
from mlops.types import Alert, Finding, Level

log = structlog.get_logger()
CLOCK = timedelta(days=400)  # of the past that a clock is read from: a bot of monthly bars has one, too
NIGHT = timedelta(days=1)  # books take their bars in the nightly job
QUOTES, BARS, VAR_BARS = "quotes", "bars", "var_bars"
SOURCES = {VAR_BARS: "bars that the VaR is estimated from"}
EVERY = timedelta(minutes=1)  # quotes closer together are one beat of their clock


@dataclass(frozen=True, slots=True)
class Fresh:
    """What came last of a model. `prediction` is the last by a version that is or was its champion, in that place, and
    `champion` is that version: rows of others keep nobody alive.

    `silence` is UNKNOWN while it never predicted and may still begin, ALERT where it is silent. `failure` is the class
    of the error where it could not be looked at.
    """

    prediction: datetime | None
    outcome: datetime | None
    bar: datetime | None
    champion: int | None
    since: datetime | None
    silence: Finding
    failure: str = ""


class Freshness:
    """Looks at what came last, from instant to instant: clocks are read once and then added to."""

    def __init__(self, context: Context | Store) -> None:
        self._context = context
        self._clocks: dict[tuple[str, str], Instants] = {}
        self._night: tuple[datetime, Finding] | None = None

    def models(self, as_of: datetime) -> dict[str, Fresh]:
        """Every model that has a champion, or that a bot predicted with. One that cannot be read stops no other."""
        return {model: self._apart(model, as_of) for model in self._context.ledger.registry.models()}

    def _apart(self, model: str, as_of: datetime) -> Fresh:
        try:
            return self.model(model, as_of)
        except Exception as error:  # whatever is wrong with its rows: it is told, and the others are looked at
            log.exception("silence of a bot not looked at", model=model)
            note = f"it could not be looked at: {type(error).__name__}"
            unknown = Finding("silence", math.nan, math.nan, Level.UNKNOWN, 0, note=note)
            return Fresh(None, None, None, None, None, unknown, type(error).__name__)

    def model(self, model: str, as_of: datetime) -> Fresh:
        """One model."""
        ledger = self._context.ledger
        log = [
            entry
            for entry in ledger.registry.promotions(model)
            if entry.state != "undone" and entry.created_at <= as_of
        ]
        since = log[-1].created_at if log else None
        champions = {entry.to_version for entry in log if entry.to_version is not None}
        last = ledger.latest.last_prediction(model, champions, as_of=as_of)
        times = self._clock(
            ("predictions", model),
            None if last is None else last.event_time,
            lambda start: ledger.latest.predicted_bars(model, champions, start=start, as_of=as_of),
        )
        lag = timedelta(0) if last is None else max(last.known_at - last.event_time, timedelta(0))
        finding = monitor.silence("silence", times, since, as_of, self._patience(), lag=lag)
        return Fresh(
            None if last is None else last.event_time,
            ledger.latest.last_outcome(model, as_of=as_of),
            max((end for end in ledger.books.ends(model).values() if end <= as_of), default=None),
            None if last is None else last.champion,
            since,
            finding,
        )

    def feeds(self, as_of: datetime, *, quotes: bool = True) -> dict[str, Finding]:
        """Each source of prices that anything ever came from: quotes, the bars of the books, those of the VaR."""
        findings = {}
        if quotes and (came := self._quotes(as_of)):
            findings[QUOTES] = came
        if bars := self._bars(as_of):
            findings[BARS] = bars
        if (estimated := self._estimated(as_of)) is not None:
            findings[VAR_BARS] = estimated
        return findings

    def _estimated(self, as_of: datetime) -> Finding | None:
        """Whether the bars of the VaR came until the night that estimated it; that no night came is told by the job."""
        night = self._context.ledger.risk.state_at("var", "all", as_of=as_of)
        if night is None:
            return None
        if self._night is None or self._night[0] != night:
            state = self._context.ledger.risk.state("var", "all", as_of=night)
            bars = monitor.instants([]) if state is None else state.bars
            self._night = night, monitor.silence("feed", bars, None, night, self._patience(NIGHT), lag=timedelta(0))
        return self._night[1]

    def _quotes(self, as_of: datetime) -> Finding | None:
        """Silence by the clock of the unit that was quoted last: one quiet unit among many is no quiet feed."""
        ledger = self._context.ledger
        last = ledger.latest.quoted_last(as_of=as_of)
        if not last:
            return None
        unit = max(last, key=lambda name: last[name])
        times = self._clock(
            (QUOTES, unit),
            last[unit],
            lambda start: ledger.latest.quoted_times(unit, start=start, as_of=as_of, every=EVERY),
        )
        return monitor.silence("feed", times, None, as_of, self._patience(), lag=timedelta(0))

    def bars(self, as_of: datetime) -> dict[str, Finding]:
        """How the bars of each model come: by those of all its books, because the book of a refitted version is new."""
        ledger, findings = self._context.ledger, dict[str, Finding]()
        for model in ledger.registry.models():
            last = max((end for end in ledger.books.ends(model).values() if end <= as_of), default=None)
            if last is None:
                continue
            times = self._clock((BARS, model), last, partial(ledger.latest.booked_bars, model, as_of=as_of))
            findings[model] = monitor.silence("feed", times, None, as_of, self._patience(NIGHT), lag=timedelta(0))
        return findings

    def _bars(self, as_of: datetime) -> Finding | None:
        """The worst of the models with a champion, named where others have bars still; without one, of all."""
        every = self.bars(as_of)
        due = {
            model: f for model, f in every.items() if self._context.ledger.registry.champion(model) is not None
        } or every
        stopped = {model: f for model, f in due.items() if f.level is Level.ALERT}
        if not due:
            return None
        worst = min((stopped or due).values(), key=lambda f: f.params["last"])
        if not stopped or len(stopped) == len(due):
            return worst
        return replace(worst, note=f"{worst.note} ({', '.join(sorted(stopped))}; others have bars)")

    def _patience(self, more: timedelta = timedelta(0)) -> monitor.Patience:
        bot = self._context.settings.bot
        late, unknown = timedelta(seconds=bot.silent_late_s), timedelta(seconds=bot.silent_s)
        return monitor.Patience(bot.silent_bars, late + more, unknown)

    def _clock(
        self, key: tuple[str, str], last: datetime | None, read: Callable[[datetime], Sequence[datetime]]
    ) -> Instants:
        """The times of a clock, brought up to its `last` one."""
        times = self._clocks.get(key, monitor.instants([]))
        if last is not None and (not len(times) or times[-1] < monitor.instants([last])[0]):
            start = last - CLOCK if not len(times) else _after(times[-1])
            new = monitor.instants(read(start))
            times = self._clocks[key] = np.concatenate([times[times > monitor.instants([last - CLOCK])[0]], new])
        return times


def act(
    context: Context, models: Mapping[str, Fresh], feeds: Mapping[str, Finding] | None, as_of: datetime
) -> list[Alert]:
    """Tell of bots and feeds that are silent, close what speaks again; the alerts that are due.

    What was not looked at (a model with a `failure`, feeds that are None) keeps the alert that it has.
    """
    wanted = [_silent(name, fresh, as_of) for name, fresh in models.items() if _due(fresh)]
    wanted += [
        _stale(source, finding, as_of) for source, finding in (feeds or {}).items() if finding.level is Level.ALERT
    ]
    failed = {name for name, fresh in models.items() if fresh.failure}
    kinds = ("bot_silent",) if feeds is None else ("bot_silent", "feed_stale")
    change = context.ledger.alerts.settle(kinds, wanted, as_of, looked_at=lambda alert: alert.model not in failed)
    for alert in change.closed:
        log.info("heard of again", key=alert.key)
    for alert in change.opened:
        log.warning("silence", key=alert.key, title=alert.title)
    return wanted


def _due(fresh: Fresh) -> bool:
    """Whether anybody waits for it: a model without a champion owes nothing."""
    return fresh.since is not None and fresh.silence.level is Level.ALERT


def _silent(model: str, fresh: Fresh, as_of: datetime) -> Alert:
    return ALERTS["bot_silent"].alert(
        as_of, {"model": model, "since": _stamp(fresh.silence), "note": fresh.silence.note}
    )


def _stale(source: str, finding: Finding, as_of: datetime) -> Alert:
    prices = SOURCES.get(source, source)
    return ALERTS["feed_stale"].alert(
        as_of, {"source": source, "since": _stamp(finding), "prices": prices, "note": finding.note}
    )


def _stamp(finding: Finding) -> str:
    """When the silence began, as a part of a key."""
    return f"{datetime.fromisoformat(finding.params['since']):%Y%m%dT%H%M%S}"


def _after(at: np.datetime64) -> datetime:
    return pd.Timestamp(at + np.timedelta64(1, "us"), tz=UTC).to_pydatetime()
