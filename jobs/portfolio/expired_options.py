"""Options past their expiry that nobody has settled yet: worth what they pay at their underlying's confirmed price.

Their own quotes have ended, and the last one says nothing of what is owed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pandas as pd

from mlops.risk.prices import Mark
from mlops.types import Kind

OPTIONS = (Kind.CALL.value, Kind.PUT.value)


@dataclass(frozen=True, slots=True)
class Expired:
    """Payoff of one of each unit, as old as its underlying's price; what is said of it; why it is unknown.

    `worst` has a row of the frame of positions each: value of what has no known payoff, as the holder would least like.
    """

    marks: dict[str, Mark] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    worst: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype=np.float64))


def expired(frame: pd.DataFrame, prices: Mapping[str, Mark], as_of: datetime) -> Expired:
    """The options of a frame of positions that are over at `as_of`."""
    options = frame[frame["kind"].isin(OPTIONS).to_numpy()]
    over = options[(pd.to_datetime(options["expiry"], utc=True) <= as_of).to_numpy()]
    if over.empty:
        return Expired()
    marks, notes, unknown = dict[str, Mark](), dict[str, str](), dict[str, str]()
    columns = (over[name].tolist() for name in ("unit", "kind", "strike", "underlying"))
    for unit, kind, strike, underlying in zip(*columns, strict=True):
        spot = prices.get(underlying)
        if spot is None or not math.isfinite(strike):
            lacks = f"{underlying or 'its underlying'} has no price" if spot is None else "it has no strike"
            unknown[unit] = f"{unit} has expired and is not settled yet, and {lacks}: what it pays is not known"
            notes[unit] = f"{unknown[unit]}; it counts at its worst."
            continue
        pays = max(0.0, spot.value - strike if kind == Kind.CALL.value else strike - spot.value)
        marks[unit] = Mark(pays, spot.at)
        notes[unit] = f"Expired, not settled yet: worth what it pays at {spot.value:g}."
    return Expired(marks, notes, unknown, _worst(over[over["unit"].isin(list(unknown))], prices))


def equivalents(frame: pd.DataFrame, prices: Mapping[str, Mark], settled: Collection[str]) -> dict[str, float]:
    """What one of each expired option in `settled` is as a holding of its underlying: all of it where it pays."""
    rows, values = frame[frame["unit"].isin(list(settled)).to_numpy()], dict[str, float]()
    columns = (rows[name].tolist() for name in ("unit", "kind", "strike", "underlying", "multiplier"))
    for unit, kind, strike, underlying, multiplier in zip(*columns, strict=True):
        if underlying in prices and math.isfinite(strike):
            spot, sign = prices[underlying].value, 1.0 if kind == Kind.CALL.value else -1.0
            values[unit] = sign * spot * multiplier if sign * (spot - strike) >= 0 else 0.0
    return values


def traded_at(
    instruments: pd.DataFrame, quoted: Mapping[str, Mark], paid: Mapping[str, Mark]
) -> Callable[[str, datetime], Mark | None]:
    """The mark that a trade in a unit at an instant is judged by: what an option pays only once it has expired."""
    ends = instruments[["unit", "expiry"]].dropna()
    expiries = dict(zip(ends["unit"], pd.to_datetime(ends["expiry"], utc=True), strict=True))

    def mark_of(unit: str, at: datetime) -> Mark | None:
        over = unit in expiries and at >= expiries[unit]
        return (paid if over else quoted).get(unit)

    return mark_of


def _worst(rows: pd.DataFrame, prices: Mapping[str, Mark]) -> pd.Series[float]:
    """Nothing for what was bought; what was sold pays up to its strike (a put), or has no bound: its last price."""
    last = np.array([prices[unit].value if unit in prices else 0.0 for unit in rows["unit"]], dtype=np.float64)
    put = (rows["kind"] == Kind.PUT.value).to_numpy() & np.isfinite(rows["strike"].to_numpy(dtype=np.float64))
    owed = np.where(put, rows["strike"].to_numpy(dtype=np.float64), last)
    return (rows["quantity"] * rows["multiplier"] * owed).clip(upper=0.0)
