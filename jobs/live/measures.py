"""What lines may be drawn on, of what was measured at an instant; what is missing from it, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from jobs.live.state import Now, Slow
from jobs.portfolio.valuation import Held
from jobs.portfolio.weights import BookWeights, left_out
from mlops.risk.limits import ALL, Measured
from mlops.risk.var.snapshot import Snapshot

NAMED, KNOWN = 3, "of what is known"
LOSSES = ("var", "es", "stress")  # that may come


def measured(now: Now, slow: Slow) -> Iterator[Measured]:
    """Every measure of what is held there."""
    yield from (_without(_beyond(measure, now.held), now.held) for measure in _measured(now, slow))


def _measured(now: Now, slow: Slow) -> Iterator[Measured]:
    yield from now.exposed.measures()
    yield from (_settled(measure, now.held) for measure in (now.curve.measured(), now.daily))
    yield _worst(now.stressed, slow.about)
    yield from _losses(now.shot, now.book, slow, now.missing.get("var", "there is none yet"))


def foreign(held: Held) -> dict[str, str]:
    """Units in another currency than the books whose worth nobody knows, a sentence each."""
    lost, here = held.lost, set(held.frame["unit"])
    none = f"no rate to {held.currency} is known"
    notes = {
        f"currency:{unit}": f"{unit} is in {currency}, and {none}: it has no value here."
        if unit in here
        else f"{unit} was traded in {currency}, and {none}: equity is without what that made until a balance is told."
        for unit, currency in lost.items()
    }
    without = f"Equity is without {', '.join(sorted(lost))}." if notes else ""
    worst = f"{', '.join(sorted(held.unsettled))} count at their worst." if held.unsettled else ""
    return notes | ({"equity": " ".join(filter(None, (without, worst)))} if without or worst else {})


def historyless(held: Held) -> set[str]:
    """Keys of `missing` that a position in another currency makes void: its history is not what is missing."""
    return {f"history:{unit}" for unit in held.frame["unit"][held.foreign]}


def abroad(held: Held) -> str:
    """What of equity nobody knows, for it is in another currency; empty where nothing is."""
    names = [f"{unit} ({currency})" for unit, currency in sorted(held.lost.items())]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    listed = ", ".join(names[:NAMED]) + more
    return f"equity is without what is in another currency than {held.currency}: {listed}" if names else ""


def _beyond(measure: Measured, held: Held) -> Measured:
    """A loss that may come, beyond every line where something is held and no equity is left to lose."""
    value, equity = held.value, held.equity
    if measure.measure not in LOSSES or not -math.inf < equity <= 0 or not (value.isna() | (value != 0)).any():
        return measure
    return replace(measure, value=math.nan, why="", beyond=f"equity is {equity:,.0f}, and something is held")


def _without(measure: Measured, held: Held) -> Measured:
    """A measure, of what is known where something is in another currency: no bound is told, for that may be all."""
    why = abroad(held)
    if not why:
        return measure
    known = measure.at_least or not measure.why
    return replace(measure, why="; ".join(filter(None, (measure.why, why))), at_least=known, words=KNOWN, bounded=False)


def _settled(measure: Measured, held: Held) -> Measured:
    """A measure of equity, known but for what has expired and pays nobody knows what."""
    why = "; ".join(held.unsettled[unit] for unit in sorted(held.unsettled))
    return measure if not why or measure.why else replace(measure, why=why, at_least=True, words=KNOWN)


def _losses(shot: Snapshot | None, book: BookWeights, slow: Slow, why: str) -> Iterator[Measured]:
    """VaR and ES; `why` there are none. Where a position is in neither they are unknown, and have a stand-in for it."""
    n, out = 0 if slow.night is None else slow.night.returns.shape[0], book.outside
    if shot is None:
        yield from (Measured(name, math.nan, why=why) for name in ("var", "es"))
        return
    why, words = left_out(out) if out else "", f"with stand-ins for {', '.join(out[:3])}"
    parts = zip(("var", "es"), (shot.loss.var, shot.loss.es), book.stand_ins(slow.stand_in), strict=True)
    for name, known, missing in parts:
        yield Measured(name, known + float(np.nansum(missing)), ALL, n, why, bool(out), words)


def _worst(stressed: pd.DataFrame | None, about: Mapping[str, Mapping[str, Any]]) -> Measured:
    """The largest loss in a named scenario; a position that is in none leaves it unknown, and known parts count."""
    if stressed is None or stressed.empty:
        return Measured("stress", math.nan, why="no scenario was run")
    named = stressed[[bool(about.get(str(name), {}).get("named", True)) for name in stressed["scenario"]]]
    if named.empty:
        return Measured("stress", math.nan, why="no named scenario was run")
    named = named[named["missing"] < 1] if (named["missing"] < 1).any() else named  # the others are of other markets
    out = float(named["missing"].max())
    why = f"{out:.0%} of what is held is in no scenario" if out > 0 else ""
    return Measured("stress", float(named["loss"].max()), ALL, len(named), why, bool(out), "of what is known")
