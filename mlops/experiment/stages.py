"""Gates of the stages of a challenger: how it scored in shadow, and how long it has traded its share.

They look at what was measured, not at a sample of it: none is a test, and none spends any of a plan's error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan

import numpy as np
import pandas as pd

from mlops.types import Finding, Level

SLOW = 0.99  # a bot waits for the slow answers, not for the mean


@dataclass(frozen=True, slots=True)
class ScoringRecord:
    """How a version scored beside the champion, as far as that is known.

    Parameters
    ----------
    asked : sequence of datetime
        Bars that the champion predicted since the comparison began, ascending.
    scored : sequence of datetime
        Bars that the version predicted, ascending.
    scorings : DataFrame
        Columns `event_time`, `seconds`, `failed` (0 or 1): each time that it was asked, where that was reported.
    """

    asked: Sequence[datetime]
    scored: Sequence[datetime]
    scorings: pd.DataFrame

    def failures(self) -> list[tuple[datetime, bool]]:
        """Bars since it first scored, ascending, and whether it failed there: it said so, or there is no prediction.

        Before it first scored it was still being loaded, and nobody counted on it.
        """
        if not self.scored:
            return []
        have, rows = set(self.scored), self.scorings
        failed = set(pd.DatetimeIndex(rows.loc[rows["failed"] != 0, "event_time"]).to_pydatetime())
        bars = sorted({*self.asked, *self.scored})
        return [(at, at not in have or at in failed) for at in bars if at >= self.scored[0]]

    def seconds(self, bars: int) -> pd.Series:
        """The longest successful scoring of each of the last `bars` bars that it scored and that were reported."""
        done = self.scorings[self.scorings["failed"] == 0]
        slowest = done.groupby("event_time")["seconds"].max()
        last = self.scored[-bars] if len(self.scored) >= bars else None
        return slowest if last is None else slowest[slowest.index >= last]


def shadow_bars(record: ScoringRecord, needed: int) -> Finding:
    """Bars scored beside the champion since the comparison began; OK from `needed` on."""
    n = len(record.scored)
    level = Level.OK if n >= needed else Level.UNKNOWN
    return Finding("shadow_bars", float(n), float(needed), level, n, note=f"{n} bars scored in shadow, {needed} needed")


def shadow_failures(record: ScoringRecord, window: int, streak: int) -> Finding:
    """Bars of the last `window` that it failed to score; a bar that the champion predicted and it did not is one.

    OK: none; WARN: some; ALERT: the last `streak` in a row; UNKNOWN: it never scored.
    """
    failed = [bad for _, bad in record.failures()][-window:]
    n, total = len(failed), sum(failed)
    row = next((i for i, bad in enumerate(reversed(failed)) if not bad), n)
    level = Level.ALERT if row >= streak else Level.WARN if total else Level.OK
    note = f"it failed to score {total} of the last {n} bars" + (f", the last {row} in a row" if row > 1 else "")
    if not n:
        level, note = Level.UNKNOWN, "it scored no bar yet"
    return Finding("shadow_failures", float(total), 0.0, level, n, {"in_a_row": row}, note=note)


def shadow_latency(record: ScoringRecord, line: float, *, needed: int, window: int, accepted: bool) -> Finding:
    """99th percentile of the seconds that a bar took, over the last `window` bars; of few bars the second slowest.

    OK: within `line`; ALERT: over it. UNKNOWN: fewer than `needed` bars were reported, for what nobody reports is not
    known to be quick, unless a person accepted that (`experiment.shadow_unreported`).
    """
    took = record.seconds(window)
    n, reported = len(took), {"reported": len(took)}
    slow = float(np.quantile(took.to_numpy(dtype=np.float64), SLOW, method="lower")) if n else nan
    if n >= needed or (n > 1 and slow > line):
        level = Level.ALERT if slow > line else Level.OK
        note = f"it took {slow:.3f} s to score (99th percentile of {n} bars), {line:g} allowed"
        return Finding("shadow_latency", slow, line, level, n, reported, note=note)
    note = f"how long it takes is known of {n} bars, {needed} needed"
    if n >= len(record.scored):  # all that there are
        return Finding("shadow_latency", slow, line, Level.UNKNOWN, n, reported, note=note)
    note = f"not looked at: of {len(record.scored)} bars scored, {note}"
    if accepted:
        note += "; a person accepts that (experiment.shadow_unreported)"
        return Finding("shadow_latency", slow, line, Level.OK, n, reported, note=note)
    note += (
        ". Score with `Bot` or over HTTP at /score, send it to /v1/scorings, or accept it unseen with "
        "experiment.shadow_unreported"
    )
    return Finding("shadow_latency", slow, line, Level.UNKNOWN, n, reported, note=note)


def trading(record: ScoringRecord, since: datetime | None, needed: int, *, units: int, least: int = 0) -> Finding:
    """Bars that it scored since it was given a share of the units (`since`; None: it has none), without a break.

    OK from `needed` bars on, if at least `least` units were assigned to it. `units` were; the note says where none was.
    """
    if since is None:
        return Finding(
            "trading", 0.0, float(needed), Level.UNKNOWN, 0, note="it is in shadow and has traded nothing yet"
        )
    n = sum(at > since for at in record.scored)
    level = Level.OK if n >= needed and units >= least else Level.UNKNOWN
    assigned = (
        f"{units} units were assigned to it" if units else "no unit is assigned to it yet: its fills are not known"
    )
    assigned += f", {least} needed (experiment.ab_units)" if units < least else ""
    note = f"it has a share of the units since {since:%Y-%m-%d %H:%M}: {n} bars, {needed} needed; {assigned}"
    return Finding("trading", float(n), float(needed), level, n, {"units": units}, note=note)
