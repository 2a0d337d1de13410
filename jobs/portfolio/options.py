"""Options held: their Greeks, their part in the VaR, their prices in scenarios and under shocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.portfolio.valuation import Held
from mlops.risk.exposure import OPTIONS
from mlops.risk.options.positions import OptionGreeks, position_greeks
from mlops.risk.options.scenario_pnl import full_pnl, taylor_pnl
from mlops.risk.stress.scenarios import Scenarios
from mlops.risk.stress.sensitivity import shock_table
from mlops.risk.var.snapshot import Options, Table
from mlops.settings import RiskSettings
from mlops.web.messages import GreeksOf

FRESH = timedelta(seconds=10)  # how long an implied volatility holds: 15,000 of them a second is all there is
MOVED = 0.002  # an underlying that moved by so much asks for new prices of its American options
POINT = 100.0  # a per cent of the spot in gamma_value_per_percent


@dataclass
class Volatilities:
    """Implied volatilities, kept for a while: spots move every second, volatilities do not."""

    of: Mapping[str, float]
    read_at: datetime | None = None
    doubts: Mapping[str, str] = field(default_factory=dict)

    def greeks(self, held: Held, risk: RiskSettings) -> OptionGreeks:
        """Greeks of what is held; volatilities are implied anew every FRESH."""
        old = self.read_at is None or not timedelta(0) <= held.as_of - self.read_at < FRESH
        given = {} if old else self.of
        greeks = greeks_of(held, risk, given)
        if old or greeks.implied.any():
            self.of = dict(zip(greeks.held["unit"], greeks.volatility.tolist(), strict=True))
            self.read_at = held.as_of
            self.doubts = greeks.doubts if old else {**self.doubts, **greeks.doubts}
        held_units = set(greeks.held["unit"])
        return replace(greeks, doubts={unit: why for unit, why in self.doubts.items() if unit in held_units})


def greeks_of(held: Held, risk: RiskSettings, volatilities: Mapping[str, float] | None = None) -> OptionGreeks:
    """Greeks of what is held: one rule for the live page, the night and the week."""
    spots = {unit: price.value for unit, price in held.prices.items()}
    return position_greeks(
        held.frame,
        spots,
        as_of=held.as_of,
        volatilities=volatilities,
        rate=risk.interest_rate,
        step=risk.option_step,
    )


@dataclass
class RevaluedOptions:
    """Profits in scenarios of options that may pay to be exercised early, kept for a while: a price costs 0.6 ms.

    `columns`: unit -> its underlying's price then, and its value's relative change in each scenario.
    """

    returns: NDArray[np.float64] | None = None
    columns: dict[str, tuple[float, NDArray[np.float64]]] = field(default_factory=dict)

    def profits(self, scenarios: Scenarios, book: OptionGreeks, worth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Relative change of each option's value in each scenario, shape (K, n)."""
        if self.returns is not scenarios.returns:  # they are read anew every few seconds
            self.returns, self.columns = scenarios.returns, {}
        units, returns = book.held["unit"].tolist(), np.maximum(scenarios.returns, -1 + 1e-9)
        stale = np.array([self._stale(unit, spot) for unit, spot in zip(units, book.spot.tolist(), strict=True)])
        anew = np.flatnonzero(~book.american | stale)
        changes = np.empty((len(returns), len(units)))
        under = np.array([scenarios.units.index(name) for name in book.held["underlying"]], dtype=np.intp)
        changes[:, anew] = full_pnl(np.nan_to_num(returns), scenarios.units, chosen(book, anew)) / worth[anew]
        changes[np.isnan(returns[:, under])] = np.nan  # a move that nobody knows moves the option by nobody knows what
        for i, unit in enumerate(units):
            if book.american[i] and stale[i]:
                self.columns[unit] = float(book.spot[i]), changes[:, i]
            elif book.american[i]:
                changes[:, i] = self.columns[unit][1]
        return changes

    def _stale(self, unit: str, spot: float) -> bool:
        then = self.columns.get(unit)
        return then is None or not abs(spot / then[0] - 1) < MOVED


@dataclass(frozen=True, slots=True)
class InVar:
    """The options that are in the VaR: their `rows` in the frame of positions, and how they move."""

    rows: NDArray[np.intp]
    options: Options


def in_var(greeks: OptionGreeks, units: Mapping[str, int], equity: float) -> InVar | None:
    """Options whose underlying has a past; None where there are none. Volatility stands still: its past is unknown."""
    rows = np.flatnonzero(greeks.held["underlying"].isin(list(units)))
    if not len(rows) or not equity > 0:
        return None
    book, names = chosen(greeks, rows), list(units)
    column = np.array([units[name] for name in book.held["underlying"]], dtype=np.intp)
    deltas = np.bincount(column, book.money[1] / equity, minlength=len(units)).astype(np.float64)

    def profits(returns: Table) -> NDArray[np.float64]:
        return taylor_pnl(np.maximum(returns.astype(np.float64), -1 + 1e-9), names, book) / equity

    return InVar(book.held.index.to_numpy(dtype=np.intp), Options(deltas, profits))


def with_options(
    scenarios: Scenarios, greeks: OptionGreeks, value: NDArray[np.float64], repriced: RevaluedOptions | None = None
) -> Scenarios:
    """The scenarios with a column for each option, priced anew in each.

    `value`: of each position, in the order of the frame. Those whose underlying is in no scenario, or that are worth
    nothing now, have no column.
    """
    unit, held = scenarios.units, set(greeks.held["unit"])
    keep = [i for i, name in enumerate(unit) if name not in held]  # the job's columns are older
    plain = scenarios
    if len(keep) < len(unit):
        columns, table = tuple(unit[i] for i in keep), scenarios.returns[:, keep]
        plain = replace(scenarios, units=columns, returns=table, proxied=scenarios.proxied[:, keep])
    known = greeks.held["underlying"].isin(plain.units).to_numpy()
    worth = value[greeks.held.index.to_numpy(dtype=np.intp)]
    rows = np.flatnonzero(known & np.isfinite(worth) & (worth != 0) & ~greeks.held["unit"].duplicated().to_numpy())
    if not len(rows):
        return plain
    book = chosen(greeks, rows)
    changes = (repriced or RevaluedOptions()).profits(scenarios, book, worth[rows])
    place = {name: i for i, name in enumerate(plain.units)}
    proxied = plain.proxied[:, [place[name] for name in book.held["underlying"]]]
    return plain.with_units(book.held["unit"].tolist(), changes, proxied)


@dataclass(frozen=True, slots=True)
class OptionScenarios:
    """Scenarios with a column for each option that is priced; `worth`: unit -> what one of it is as a holding of its
    underlying; `missing`: unit -> why it is in no number."""

    scenarios: Scenarios
    worth: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def option_scenarios(held: Held, greeks: OptionGreeks, scenarios: Scenarios) -> OptionScenarios:
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
    return OptionScenarios(wide, worth, missing)


def shock_grid(held: Held, greeks: OptionGreeks) -> pd.DataFrame | None:
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


def by_expiry(greeks: OptionGreeks) -> dict[str, GreeksOf]:
    """Added up by underlying and expiry; deltas in units of the underlying."""
    if greeks.held.empty:
        return {}
    frame = greeks.frame()
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
    rows = {}
    for (underlying, expiry), row in zip(sums.index, sums.to_numpy().tolist(), strict=True):
        at = pd.Timestamp(expiry).to_pydatetime()
        rows[f"{underlying}|{at:%Y-%m-%d}"] = GreeksOf(underlying, at, *row)
    return rows


def chosen(greeks: OptionGreeks, rows: NDArray[np.intp]) -> OptionGreeks:
    """Greeks of these options only."""
    inputs = {name: getattr(greeks, name)[rows] for name in ("spot", "years", "volatility", "rate", "dividend")}
    flags = {name: getattr(greeks, name)[rows] for name in ("american", "implied")}
    each, money = greeks.each[:, rows], greeks.money[:, rows]
    return replace(greeks, held=greeks.held.iloc[rows], each=each, money=money, **inputs, **flags)
