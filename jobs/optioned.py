"""The options that are held: their Greeks, what they are as holdings of their underlyings, their part in the VaR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.positions import Held
from mlops.risk.deltagamma import full_pnl, taylor_pnl
from mlops.risk.options import OptionGreeks, position_greeks
from mlops.risk.scenarios import Scenarios
from mlops.risk.snapshot import Options, Table
from mlops.web.messages import GreeksOf

FRESH = timedelta(seconds=10)  # how long an implied volatility holds: 15,000 of them a second is all there is
POINT = 100.0  # a per cent of the spot in gamma_value_per_percent


@dataclass
class Volatilities:
    """Implied volatilities, kept for a while: spots move every second, volatilities do not."""

    of: Mapping[str, float]
    read_at: datetime | None = None

    def greeks(self, held: Held, rate: float) -> OptionGreeks:
        """Greeks of what is held; volatilities are implied anew every FRESH."""
        spots = {unit: price.value for unit, price in held.prices.items()}
        old = self.read_at is None or not timedelta(0) <= held.as_of - self.read_at < FRESH
        given = {} if old else self.of
        found = position_greeks(held.frame, spots, as_of=held.as_of, volatilities=given, rate=rate)
        if old or found.implied.any():
            self.of = dict(zip(found.held["unit"], found.volatility.tolist(), strict=True))
            self.read_at = held.as_of
        return found


@dataclass(frozen=True, slots=True)
class InVar:
    """The options that are in the VaR: their `rows` in the frame of positions, and how they move."""

    rows: NDArray[np.intp]
    options: Options


def in_var(found: OptionGreeks, units: Mapping[str, int], equity: float) -> InVar | None:
    """Those whose underlying has a past; None where there are none. Volatility stands still: its past is not known."""
    mine = np.flatnonzero(found.held["underlying"].isin(list(units)))
    if not len(mine) or not equity > 0:
        return None
    book, names = chosen(found, mine), list(units)
    column = np.array([units[name] for name in book.held["underlying"]], dtype=np.intp)
    deltas = np.bincount(column, book.money[1] / equity, minlength=len(units)).astype(np.float64)

    def profits(returns: Table) -> NDArray[np.float64]:
        return taylor_pnl(np.maximum(returns.astype(np.float64), -1 + 1e-9), names, book) / equity

    return InVar(book.held.index.to_numpy(dtype=np.intp), Options(deltas, profits))


def with_options(scenarios: Scenarios, found: OptionGreeks, value: NDArray[np.float64]) -> Scenarios:
    """The scenarios with a column for each option, priced anew in each; by its Greeks where early exercise may pay.

    `value`: of each position, in the order of the frame. Those whose underlying is in no scenario have no column.
    """
    keep = [i for i, unit in enumerate(scenarios.units) if unit not in set(found.held["unit"])]  # the job's are older
    if len(keep) < len(scenarios.units):
        units, table = tuple(scenarios.units[i] for i in keep), scenarios.returns[:, keep]
        scenarios = replace(scenarios, units=units, returns=table, proxied=scenarios.proxied[:, keep])
    known = found.held["underlying"].isin(scenarios.units).to_numpy()
    worth = value[found.held.index.to_numpy(dtype=np.intp)]
    mine = np.flatnonzero(known & np.isfinite(worth) & (worth != 0) & ~found.held["unit"].duplicated().to_numpy())
    if not len(mine):
        return scenarios
    book = chosen(found, mine)
    arguments = (np.maximum(scenarios.returns, -1 + 1e-9), scenarios.units, book)
    profit = full_pnl(*arguments)
    profit = np.where(np.isfinite(profit), profit, taylor_pnl(*arguments))
    column = {unit: i for i, unit in enumerate(scenarios.units)}
    proxied = scenarios.proxied[:, [column[name] for name in book.held["underlying"]]]
    return scenarios.with_units(book.held["unit"].tolist(), profit / worth[mine], proxied)


def shown(found: OptionGreeks) -> dict[str, GreeksOf]:
    """Added up by underlying and expiry; deltas in units of the underlying."""
    frame = found.frame()
    names = ["underlying", "expiry"]
    units = frame.assign(
        delta=frame["delta_value"] / frame["spot"],
        gamma=frame["gamma_value_per_percent"] * POINT / frame["spot"] ** 2,
        vanna=frame["vanna_value_per_point"] / frame["spot"],
        charm=frame["charm_value_per_day"] / frame["spot"],
    )
    columns = [
        "delta",
        "gamma",
        "vega_per_point",
        "theta_per_day",
        "rho_per_point",
        "vanna",
        "volga_per_point",
        "charm",
    ]
    sums = units.groupby(names, sort=True)[columns].sum()
    told = {}
    for (underlying, expiry), row in zip(sums.index, sums.to_numpy().tolist(), strict=True):
        at = pd.Timestamp(expiry).to_pydatetime()
        told[f"{underlying}|{at:%Y-%m-%d}"] = GreeksOf(underlying, at, *row)
    return told


def chosen(found: OptionGreeks, rows: NDArray[np.intp]) -> OptionGreeks:
    """Of these options only."""
    one = {name: getattr(found, name)[rows] for name in ("spot", "years", "volatility", "rate", "dividend")}
    flags = {name: getattr(found, name)[rows] for name in ("american", "implied")}
    each, money = found.each[:, rows], found.money[:, rows]
    return replace(found, held=found.held.iloc[rows], each=each, money=money, **one, **flags)
