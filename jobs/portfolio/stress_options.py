"""Options in a stress look: priced anew in every scenario, and as holdings of their underlyings in simulations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from jobs.portfolio.options import with_options
from jobs.portfolio.valuation import Held
from mlops.risk.exposure import OPTIONS
from mlops.risk.options.positions import OptionGreeks
from mlops.risk.options.scenario_pnl import full_pnl
from mlops.risk.stress.scenarios import Scenarios
from mlops.risk.stress.sensitivity import shock_table


@dataclass(frozen=True, slots=True)
class Optioned:
    """Scenarios with a column for each option that is priced; `worth`: unit -> what one of it is as a holding of its
    underlying; `missing`: unit -> why it is in no number."""

    scenarios: Scenarios
    worth: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def optioned(held: Held, greeks: OptionGreeks, scenarios: Scenarios) -> Optioned:
    """Price every option under each scenario's move of its underlying, at today's volatility and time to expiry.

    A crash raises volatility, so that sold options lose more than this says.
    """
    wide = with_options(scenarios, greeks, np.asarray(held.value, dtype=np.float64))
    rows = held.frame[held.frame["kind"].isin(OPTIONS) & (held.frame["quantity"] != 0)]
    why = {lack.unit: f"{lack.unit} is in no scenario: {lack.why}." for lack in greeks.missing}
    missing = {
        unit: why.get(unit, f"{unit} is an option on something without bars, or is worth nothing now.")
        for unit, mover in zip(rows["unit"], held.moves.loc[rows.index, "unit"], strict=True)
        if mover not in wide.units
    }
    worth = {unit: value for unit, value in greeks.equivalents.items() if unit not in missing}
    return Optioned(wide, worth, missing)


def shocked(held: Held, greeks: OptionGreeks) -> pd.DataFrame | None:
    """Profit of all books over equity by shock of all prices (rows) and of all volatilities (columns).

    None where nothing bends: without options it is the price shock times the net exposure. Options of which something
    is not known are left out; the page lists them.
    """
    option, equity = held.frame["kind"].isin(OPTIONS), held.equity
    if not len(greeks.held) or not equity > 0:
        return None
    outright = float(held.value[~option].sum() + held.moves["value"][option].sum())
    names = sorted(set(greeks.held["underlying"]))

    def profit(shocks: Mapping[str, float]) -> float:
        moved = replace(greeks, volatility=greeks.volatility * (1 + shocks["volatility"]))
        options = full_pnl(np.full((1, len(names)), shocks["price"]), names, moved)[0]
        return (outright * shocks["price"] + float(options.sum())) / equity

    return shock_table(profit, "price", "volatility")
