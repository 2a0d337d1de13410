"""The bars of what is held, as one table of returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.risk.backfill import MIN_BARS, completed, returns_of
from mlops.risk.sessions import SAME_CLOSE, sessions, synchronised

SEED = 20260302  # of the residuals that stand in before a unit's first bar: the same table each time


@dataclass(frozen=True, slots=True)
class Market:
    """Returns (T, N) of `units` at `times`, oldest first, without a gap. `lacking`: unit -> why, in one sentence.

    Units that cannot be set beside the others (too few bars, other sessions, a stuck price) are not among `units`;
    those that began late are, and `lacking` says what stands in. `aligned`: unit -> what was done where it closes
    earlier than others.
    """

    times: pd.DatetimeIndex
    units: tuple[str, ...]
    returns: NDArray[np.float64]
    closes: Mapping[str, float]
    lacking: Mapping[str, str]
    aligned: Mapping[str, str]


def market(bars: pd.DataFrame, units: Sequence[str], as_of: datetime, most: int) -> Market:
    """The last `most` returns of `units` that were known at `as_of`, at the sessions' common closes."""
    common = sessions(known(bars, units, as_of), units)
    times, closes = common.times[-(most + 1) :], common.closes[-(most + 1) :]
    lacking = dict(common.left_out)
    good = [i for i, unit in enumerate(units) if unit not in lacking]
    full = completed(np.empty((0, len(good))), np.random.default_rng(SEED))
    if len(times) > 1 and good:
        returns = synchronised(returns_of(closes[:, good]), common.early[good])
        full = completed(returns, np.random.default_rng(SEED))
    chosen = [(i, column) for column, i in enumerate(good) if full.own[column] >= MIN_BARS]
    for column, i in enumerate(good):
        own, beta = int(full.own[column]), float(full.beta[column])
        if own < MIN_BARS:
            lacking[units[i]] = _short(units[i], own)
        elif np.isfinite(beta):
            lacking[units[i]] = (
                f"{units[i]} has {own} of {len(times) - 1} bars; before them it moves as {beta:.2f} x the others' "
                "mean, plus residuals drawn from its own."
            )
    last = pd.DataFrame(closes, columns=list(units)).ffill().iloc[-1:]
    return Market(
        times[1:] if chosen else times[:0],
        tuple(units[i] for i, _ in chosen),
        full.returns[:, [column for _, column in chosen]],
        {units[i]: float(last[units[i]].iloc[0]) for i, _ in chosen},
        lacking,
        {units[i]: _aligned(units[i], common.early[i]) for i, _ in chosen if common.early[i] > SAME_CLOSE},
    )


def known(bars: pd.DataFrame, units: Sequence[str], as_of: datetime) -> pd.DataFrame:
    """The bars of `units` that were known at `as_of`."""
    return bars[(bars["event_time"] <= as_of) & (bars["known_at"] <= as_of) & bars["symbol"].isin(list(units))]


def _short(unit: str, own: int) -> str:
    return f"{unit} has {own} bars of its own, {MIN_BARS} are needed: VaR, stress and correlation are without it."


def _aligned(unit: str, early: float) -> str:
    return (
        f"{unit} closes {early:.0%} of a session before the last to close; what it had still to move then is "
        "estimated from those that close later."
    )
