"""The bars of what is held, as one table of returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.risk.history import MIN_BARS, completed, returns_of

SEED = 20260302  # of the residuals that stand in before a unit's first bar: the same table each time


@dataclass(frozen=True, slots=True)
class Market:
    """Returns (T, N) of `units` at `times`, oldest first, without a gap. `lacking`: unit -> why, in one sentence.

    Units without enough bars are not among `units`; those that began late are, and `lacking` says what stands in.
    """

    times: pd.DatetimeIndex
    units: tuple[str, ...]
    returns: NDArray[np.float64]
    closes: Mapping[str, float]
    lacking: Mapping[str, str]


def market(bars: pd.DataFrame, units: Sequence[str], as_of: datetime, most: int) -> Market:
    """The last `most` returns of `units` that were known at `as_of`."""
    seen = bars[(bars["event_time"] <= as_of) & (bars["known_at"] <= as_of)]
    times = pd.DatetimeIndex(seen["event_time"].unique()).sort_values()[-(most + 1) :]
    mine = seen[seen["symbol"].isin(units)]
    if len(times):
        mine = mine[mine["event_time"] >= times[0]]
    wide = mine.pivot(index="event_time", columns="symbol", values="close").reindex(index=times, columns=list(units))
    if len(times) < 2 or not units:
        short = {unit: _short(unit, int(wide[unit].notna().sum())) for unit in units}
        return Market(times[:0], (), np.empty((0, 0)), {}, short)
    full = completed(returns_of(wide.to_numpy(dtype=np.float64)), np.random.default_rng(SEED))
    keep = full.own >= MIN_BARS
    lacking = {unit: _short(unit, int(own)) for unit, own in zip(units, full.own, strict=True) if own < MIN_BARS}
    for unit, own, beta in zip(units, full.own, full.beta, strict=True):
        if np.isfinite(beta):
            lacking[unit] = (
                f"{unit} has {own} of {len(times) - 1} bars; before them it moves as {beta:.2f} x the others' mean, "
                "plus residuals drawn from its own."
            )
    last = wide.ffill().iloc[-1]
    names = tuple(unit for unit, good in zip(units, keep, strict=True) if good)
    return Market(times[1:], names, full.returns[:, keep], {unit: float(last[unit]) for unit in names}, lacking)


def _short(unit: str, own: int) -> str:
    return f"{unit} has {own} bars of its own, {MIN_BARS} are needed: VaR, stress and correlation are without it."
