"""One simulated year of each kind, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from benchmarks.simulated.platform import START, Platform, bar_at, provable
from benchmarks.simulated.world import Law, World
from jobs.context import Context
from mlops.alerts import ALERTS
from mlops.types import Verdict
from registry_hooks import apply

YEAR, HALF = 252, 126  # daily bars
ACCURACY = ALERTS["alarm_accuracy"].prefix
CONTROL = 10
SETTLED = 50  # bars until the monitor's window is full
SATURDAY = timedelta(days=4, hours=9)  # from Monday's close


@dataclass(frozen=True, slots=True)
class Year:
    """What happened in a year.

    `promoted`, `rolled_back`, `told` (that the accuracy fell), `retrained`: bars until it did, from the beginning or
    from the fall; None where it did not. `alerts`: all that a person was sent. `weeks`: looks of the monitor with a
    full window; `words` of them had a verdict of WARN or ALERT, `any_loud` any such finding, and `loud` counts each.
    """

    promoted: int | None = None
    rolled_back: int | None = None
    told: int | None = None
    retrained: int | None = None
    alerts: int = 0
    weeks: int = 0
    words: int = 0
    any_loud: int = 0
    loud: Mapping[str, int] = field(default_factory=dict)


def compared(context: Context, law: Law, seed: int) -> Year:
    """A year in which one challenger is compared with the champion, from its first bar on.

    Where the paired test proves nothing in all of its plan the year ends without a promotion, for that is a gate: of
    such years the jobs run one in `CONTROL` all the same, and must promote nobody.
    """
    world = World(law, YEAR + 2 * law.horizon + 10, seed)
    proven = provable(context, world)
    if not proven and seed % CONTROL:
        return Year()
    one = Platform(context, world, f"m{seed}", known=False)
    one.begin()
    one.challenge(START - timedelta(hours=12))
    one.run(YEAR + law.horizon + 5, ("compare",), enough=_moved)
    year = Year(promoted=_after(one, Verdict.PROMOTE, 0))
    if year.promoted is not None and not proven:
        raise AssertionError(f"year {seed} of {law} promoted a challenger that its paired test never proved better")
    return year


def watched(context: Context, law: Law, seed: int) -> Year:
    """Half a year after version 2 took over from version 1: the watch on a new champion."""
    one = Platform(context, World(law, HALF + 2 * law.horizon + 10, seed), f"m{seed}", line=False)
    one.begin()
    at = START - timedelta(hours=12)
    apply.promote(context.registry, one.train(at), "simulated", context.act("benchmarks", at), expected=1)
    one.run(HALF + law.horizon + 5, ("compare",), enough=lambda p: p.champion == 1)
    return Year(rolled_back=_after(one, Verdict.ROLLBACK, 0))


def monitored(context: Context, law: Law, seed: int, *, weekly: bool = False) -> Year:
    """The whole path, with the calendar's trainings: half a year after a fall, or a year in which nothing falls."""
    falls = bool(law.fall)
    bars = law.fall_at + HALF if falls else YEAR
    one = Platform(context, World(law, bars + 2 * law.horizon, seed), f"m{seed}")
    one.begin()
    saturdays = [START + SATURDAY + timedelta(weeks=i) for i in range(bars // 5)] if weekly else []
    fall = law.fall_at if falls else 0
    since = bar_at(fall)

    def answered(one: Platform) -> bool:
        """Whether what such a year is read for has happened: somebody was told, and a training follows."""
        return falls and (
            bool(_alerts(one, since, ACCURACY)) if weekly else _after(one, Verdict.RETRAIN, fall) is not None
        )

    one.run(bars, also=saturdays, enough=answered)
    alerts, told = _alerts(one, since), _alerts(one, since, ACCURACY)
    weeks = [said for said in one.said if said.at >= bar_at(SETTLED)]
    loud = dict(Counter(name for said in weeks for name in set(said.loud)))
    return Year(
        promoted=_after(one, Verdict.PROMOTE, fall),
        rolled_back=_after(one, Verdict.ROLLBACK, fall),
        told=min((_bars(fall, at) for at in told), default=None),
        retrained=_after(one, Verdict.RETRAIN, fall),
        alerts=len(alerts),
        weeks=len(weeks),
        words=sum(said.level in ("warn", "alert") for said in weeks),
        any_loud=sum(bool(said.loud) for said in weeks),
        loud=loud,
    )


def weekly(context: Context, law: Law, seed: int) -> Year:
    """As `monitored`, trained every Saturday."""
    return monitored(context, law, seed, weekly=True)


KINDS: Mapping[str, Callable[[Context, Law, int], Year]] = {
    "compared": compared,
    "watched": watched,
    "monitored": monitored,
    "weekly": weekly,
}


def _moved(one: Platform) -> bool:
    return one.champion != 1


def _alerts(one: Platform, since: datetime, kind: str = "") -> list[datetime]:
    """When a person was told of something, of a kind or of any."""
    alerts = [
        a for a in one.context.ledger.alerts.newest(open_only=False) if a.model == one.model and a.key.startswith(kind)
    ]
    return [alert.as_of for alert in alerts if alert.as_of >= since]


def _after(one: Platform, verdict: Verdict, bar: int) -> int | None:
    """Bars from `bar` until the first such decision after it."""
    since = bar_at(bar)
    found = [event.at for event in one.events if event.decision.verdict is verdict and event.at >= since]
    return _bars(bar, found[0]) if found else None


def _bars(start: int, at: datetime) -> int:
    """Bars that closed after bar `start`, until `at`."""
    number = start
    while bar_at(number + 1) <= at:
        number += 1
    return number - start
