"""Whether outcomes still come: a model whose labels stopped looks as good as on its last labelled bar, for ever."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlops.types import Finding, Level

RECENT = 5  # bars, the newest whose labels should have come: what of them came says whether labels come at all
MOST_MISSING = 0.5  # of the rows of those bars: from there on nothing is known of the whole
NAMED = 3  # units that a note names


def pending(rows: pd.DataFrame, *, horizon: int, late_bars: int) -> Finding:
    """How many predictions wait for their outcome, and whether outcomes are overdue.

    Time is counted in bars that were predicted, so a holiday makes nothing overdue. A label is due at its bar plus
    `horizon`, or at `matures_at` where that is later; it is overdue once more than `late_bars` bars were predicted
    since. A unit that is not predicted any more owes nothing new.

    Parameters
    ----------
    rows : DataFrame
        Predictions of one version; columns `event_time`, `unit`, `matures_at`, `labelled` (whether its outcome is
        known), in any order.
    horizon : int
        Bars that a label spans.

    Returns
    -------
    Finding
        `value` predictions wait. OK: none is overdue. ALERT: of the newest five bars that are overdue or labelled by
        then, at least half of the rows have no outcome. WARN: fewer, or older bars. `params`: `overdue` rows,
        `missing` (their share of those five bars), `units` (that get no outcome any more, comma-separated), `last` (the
        newest bar that has one).
    """
    waiting = int((~rows["labelled"]).sum())
    bar, times = pd.factorize(rows["event_time"], sort=True)
    due = np.maximum(bar + horizon, pd.Index(times).searchsorted(rows["matures_at"]))
    ripe = due + late_bars < len(times) - 1
    newest = bar[ripe].max(initial=-1)
    recent = rows.assign(bar=bar)[ripe & (bar > newest - RECENT)]
    overdue, missing = int((ripe & ~rows["labelled"]).sum()), 1 - recent["labelled"].mean() if len(recent) else 0.0
    units = _stopped(rows, recent, bar >= len(times) - 1 - late_bars)
    level = Level.ALERT if missing >= MOST_MISSING else Level.WARN if overdue else Level.OK
    last = rows.loc[rows["labelled"], "event_time"].max()
    note = f"{waiting:,} predictions wait for their label"
    if overdue:
        note += f", {overdue:,} of them longer than {late_bars} bars after it was due"
        note = _since(rows, last, times[newest], units, level) + note
    about = {"overdue": overdue, "missing": float(missing), "units": ",".join(units)}
    about["last"] = "" if pd.isna(last) else last.isoformat()
    return Finding("pending", float(waiting), 0.0, level, waiting, about, note=note)


def _stopped(rows: pd.DataFrame, recent: pd.DataFrame, now: np.ndarray) -> list[str]:
    """Units that are still predicted and have no outcome of any recent bar."""
    came = recent.groupby("unit")["labelled"].any()
    return sorted(set(came.index[~came]) & set(rows.loc[now, "unit"]))


def _since(rows: pd.DataFrame, last: pd.Timestamp, newest: pd.Timestamp, units: Sequence[str], level: Level) -> str:
    """Since when no outcome came, of any unit or of `units`; `newest` is the newest bar whose labels should be here."""
    if pd.isna(last) or last < newest:
        return f"no outcome came {_after(last)}; "
    if units:
        before = rows.loc[rows["labelled"] & rows["unit"].isin(units), "event_time"].max()
        more = f" and {len(units) - NAMED} more" if len(units) > NAMED else ""
        named = f"{', '.join(units[:NAMED])}{more}"
        return f"of {len(units)} of {rows['unit'].nunique()} units ({named}) no outcome came {_after(before)}; "
    return "most outcomes of the newest bars that are due do not come; " if level is Level.ALERT else ""


def _after(last: pd.Timestamp) -> str:
    return "ever" if pd.isna(last) else f"of a bar after {last:%Y-%m-%d %H:%M}"
