"""Options in a stress look: priced anew in every scenario, and as holdings of their underlyings in simulations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from jobs.house import House
from jobs.positions import Held
from mlops.risk.deltagamma import full_pnl
from mlops.risk.exposure import OPTIONS
from mlops.risk.options import position_greeks
from mlops.risk.scenarios import Scenarios
from mlops.risk.sensitivity import shock_table

EARLY = "{} may pay to be exercised early: no scenario prices it here."


@dataclass(frozen=True, slots=True)
class Optioned:
    """Scenarios with a column for each option that is priced; `worth`: unit -> what one of it is as a holding of its
    underlying; `missing`: unit -> why it is in no number."""

    scenarios: Scenarios
    worth: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def optioned(house: House, held: Held, scenarios: Scenarios) -> Optioned:
    """Price every option under each scenario's move of its underlying, at today's volatility and time to expiry.

    Volatility is that which the option's own price implies. A crash raises it, so that sold options lose more than this
    says.
    """
    frame = held.frame[held.frame["quantity"] != 0].drop_duplicates("unit")
    rows = frame[frame["kind"].isin(OPTIONS)]
    known = rows["underlying"].isin(scenarios.units) & (rows["price"] > 0)
    missing = {
        unit: f"{unit} is an option on something without bars, or has no price." for unit in rows["unit"][~known]
    }
    spots = {unit: price.value for unit, price in held.prices.items()}
    book = position_greeks(rows[known], spots, as_of=held.as_of, rate=house.settings.risk.interest_rate)
    missing |= {one.unit: f"{one.unit} is in no scenario: {one.why}." for one in book.missing}
    missing |= {unit: EARLY.format(unit) for unit in book.held["unit"][book.american]}
    if not len(book.held):
        return Optioned(scenarios, {}, missing)
    worth = {unit: value for unit, value in book.equivalents.items() if unit not in missing}
    pnl = full_pnl(scenarios.returns, scenarios.units, book)[:, ~book.american]
    priced = book.held[~book.american]
    now = _value(priced, rows)
    under = [scenarios.units.index(name) for name in priced["underlying"]]
    wide = scenarios.with_units(tuple(priced["unit"]), pnl / now, scenarios.proxied[:, under])
    return Optioned(wide, worth, missing)


def shocked(house: House, held: Held) -> pd.DataFrame | None:
    """Profit of all books over equity by shock of all prices (rows) and of all volatilities (columns).

    None where nothing bends: without options it is the price shock times the net exposure. Options whose early exercise
    may pay, or of which something is not known, are left out.
    """
    option, equity = held.frame["kind"].isin(OPTIONS), held.equity
    rows = held.frame[option & (held.frame["quantity"] != 0)]
    spots = {unit: price.value for unit, price in held.prices.items()}
    book = position_greeks(rows, spots, as_of=held.as_of, rate=house.settings.risk.interest_rate)
    if not len(book.held) or book.american.all() or not equity > 0:
        return None
    outright, names = float(held.value[~option].sum()), sorted(set(book.held["underlying"]))

    def profit(shocks: Mapping[str, float]) -> float:
        moved = replace(book, volatility=book.volatility * (1 + shocks["volatility"]))
        options = full_pnl(np.full((1, len(names)), shocks["price"]), names, moved)[0, ~book.american]
        return (outright * shocks["price"] + float(options.sum())) / equity

    return shock_table(profit, "price", "volatility")


def _value(priced: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    price = rows.set_index("unit")["price"].reindex(priced["unit"]).to_numpy(dtype=np.float64)
    amount = priced["quantity"].to_numpy(dtype=np.float64) * priced["multiplier"].to_numpy(dtype=np.float64)
    return np.asarray(price * amount)
