"""Positions as weights over the table of returns that the nightly job left; what has no place there is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.portfolio.options import InVar, in_var
from jobs.portfolio.valuation import Held
from mlops.io.ledger import RiskState as Stored
from mlops.risk.measures import Floats, Loss
from mlops.risk.options.positions import OptionGreeks
from mlops.risk.var.fitted import Fitted
from mlops.risk.var.stand_in import BARS_A_YEAR, StandIn, bars_a_year, below_zero, sizes
from mlops.types import Kind

NAMED = 3  # positions that are named where some are left out
OPTIONS = (Kind.CALL.value, Kind.PUT.value)


@dataclass(frozen=True, slots=True)
class Night:
    """What the nightly risk job left: returns (T, N) of `units` and the model.

    `bars` are the ends of the bars of `returns`. `var` is what this model would have said of the bars before, of what
    was held on that night. `times`, `stored_var` and `loss` are the forecasts that were stored before their bars, and
    what the books then lost.
    """

    as_of: datetime
    units: Mapping[str, int]
    returns: NDArray[np.float32]
    fitted: Fitted
    growth: Loss
    body: Mapping[str, Any]
    times: Sequence[str]
    var: Floats
    stored_var: Floats
    loss: Floats
    bars: pd.DatetimeIndex
    bars_a_year: float = BARS_A_YEAR

    @classmethod
    def of(cls, state: Stored) -> Self:
        body, arrays = state.body, state.arrays
        none = np.empty(0)  # a state of before forecasts were in it
        ends, stored_var, loss = (arrays.get(f"stored_{name}", none) for name in ("times", "var", "loss"))
        times = [at.isoformat() for at in pd.to_datetime(ends, unit="us", utc=True)]
        bars = pd.DatetimeIndex(state.bars).tz_localize("UTC")
        units = {unit: i for i, unit in enumerate(body["units"])}
        fitted, growth = Fitted.from_dict(body["fitted"]), Loss(**body["growth"])
        about = state.as_of, units, arrays["returns"], fitted, growth, body
        every = bars_a_year(bars.tz_localize(None).to_numpy())
        return cls(*about, times, arrays["var"], stored_var, loss, bars, every)


@dataclass(frozen=True)
class BookWeights:
    """Positions of one scope. `value` (P,) in the books' currency, NaN where it is not known; `equity` is the scope's.

    `column` (P,) is the place in the night's table of what moves each position, -1 where it has none; for a whole
    return of that it moves by `moves` (P,), NaN where it moves otherwise. `foreign` (P,): whether it is in another
    currency. `optioned`: the options that are in the VaR.
    """

    frame: pd.DataFrame
    value: Floats
    equity: float
    column: NDArray[np.intp]
    width: int
    foreign: NDArray[np.bool_]
    moves: Floats
    optioned: InVar | None = None

    @classmethod
    def of(cls, held: Held, night: Night | None, greeks: OptionGreeks) -> Self:
        """Positions with their values, over last night's table."""
        units = night.units if night is not None else {}
        column = np.array([units.get(unit, -1) for unit in held.moves["unit"]], dtype=np.intp)
        value, foreign = np.asarray(held.value, dtype=np.float64), np.asarray(held.foreign, dtype=np.bool_)
        moves = np.asarray(held.moves["value"], dtype=np.float64)
        about = held.frame, value, held.equity, column, len(units), foreign, moves
        return cls(*about, in_var(greeks, units, held.equity))

    @cached_property
    def linear(self) -> NDArray[np.bool_]:
        """The positions that are in the VaR by their weights."""
        return np.asarray((self.column >= 0) & np.isfinite(self.moves), dtype=np.bool_)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """The positions that are in the VaR: also an expired option that pays nothing."""
        nothing = self.frame["kind"].isin(OPTIONS).to_numpy() & (self.moves == 0)
        inside = np.asarray(self.linear | nothing, dtype=np.bool_)
        if self.optioned is not None:
            inside[self.optioned.rows] = True
        return inside

    @cached_property
    def outside(self) -> list[str]:
        """The units of the positions that no VaR knows of."""
        return sorted(set(self.frame["unit"][~self.inside]))

    @cached_property
    def unbounded(self) -> bool:
        """Whether a position outside is in another currency: what it may lose in ours has no bound that is known."""
        return bool((self.foreign & ~self.inside).any())

    def stand_ins(self, by: StandIn) -> tuple[Floats, Floats]:
        """What each position outside may lose by a stand-in, VaR and ES as shares of equity.

        NaN for those inside, and for those in another currency.
        """
        inside = self.inside | self.foreign
        option = self.frame["kind"].isin(OPTIONS).to_numpy()
        worth = np.where(np.isfinite(self.moves) & ~option, self.moves, self.value)
        var, es = (np.where(inside, math.nan, money) for money in sizes(self.frame, worth, by.loss))
        return (var / self.equity, es / self.equity) if self.equity > 0 else (var * math.nan, es * math.nan)

    @cached_property
    def shares(self) -> Floats:
        """Value of each position over equity; NaN where either is not known or equity is not positive."""
        return self.value / self.equity if self.equity > 0 else np.full(len(self.value), math.nan)

    @cached_property
    def weights(self) -> Floats:
        """Weight of each unit of the table, of what is held outright."""
        rows = self.linear
        return np.bincount(self.column[rows], self._over[rows], minlength=self.width).astype(np.float64)

    @property
    def _over(self) -> Floats:
        """What moves, over equity."""
        return self.moves / self.equity if self.equity > 0 else np.full(len(self.moves), math.nan)

    def spread(self, parts: Floats) -> Floats:
        """What each unit, and then each option, has in a loss, onto positions; NaN for what is not in it.

        Positions in the same unit have of it by their weights.
        """
        whole, rows = self.weights, self.linear
        losses = np.where(self.inside, 0.0, math.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(whole != 0, parts[: self.width] / whole, 0.0)
        losses[rows] = each[self.column[rows]] * self._over[rows]
        if self.optioned is not None:
            losses[self.optioned.rows] = parts[self.width :]
        return losses


def left_out(units: Sequence[str]) -> str:
    """Which positions are in no VaR, in a few words.

    >>> left_out(["A", "B", "C", "D", "E"])
    '5 positions are in no model: A, B, C and 2 more'
    """
    more = f" and {len(units) - NAMED} more" if len(units) > NAMED else ""
    verb = "position is" if len(units) == 1 else "positions are"
    return f"{len(units)} {verb} in no model: {', '.join(units[:NAMED])}{more}"


def lacking(frame: pd.DataFrame, night: Night | None, outside: Sequence[str]) -> dict[str, str]:
    """Name what is not in the VaR, and why."""
    if night is None:
        return {"var": "No VaR yet: the nightly risk job has not run on these books. `trader-mlops job run risk`."}
    known, units = night.body["lacking"], set(frame["unit"])
    notes = {f"history:{unit}": why for unit, why in known.items() if unit in units}
    negative = frame[below_zero(frame)].set_index("unit")["price"].to_dict()
    for unit in outside:
        if unit in negative:
            notes[f"history:{unit}"] = (
                f"{unit} is at {negative[unit]:g}, where returns say nothing: VaR and scenarios are without it."
            )
        elif unit not in known:
            notes[f"history:{unit}"] = (
                f"{unit} was not known on the night of {night.as_of:%Y-%m-%d}: VaR is without it."
            )
    return notes


def nearly_nothing(held: Held) -> dict[str, str]:
    """Futures whose exposure says little of what they may lose."""
    sentence = (
        "{0} is at {1:g}, near zero: its exposure is next to nothing, and what it may lose is not. VaR and scenarios "
        "take its moves as shares of {2:g}."
    )
    units = held.near_zero.keys() & set(held.frame["unit"])
    return {f"near_zero:{unit}": sentence.format(unit, held.prices[unit].value, held.near_zero[unit]) for unit in units}
