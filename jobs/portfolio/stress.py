"""Everything that a stress look finds, from what was known at an instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from jobs.bars import bars_of
from jobs.context import Context
from jobs.portfolio.options import greeks_of, option_scenarios, shock_grid
from jobs.portfolio.positions import positions
from jobs.portfolio.returns import Market, known, market
from jobs.portfolio.valuation import Held, book_name
from mlops.errors import DataError
from mlops.risk.exposure import OPTIONS
from mlops.risk.measures import Floats
from mlops.risk.stress.episodes import EPISODES
from mlops.risk.stress.scenarios import Scenarios, episode_scenarios
from mlops.risk.stress.summary import ALL, StressAccount, stress_account
from mlops.risk.stress.table import WorstWindow, stress_table, window_returns
from mlops.risk.var.stand_in import below_zero

NAMED = frozenset(episode.name for episode in EPISODES)


@dataclass(frozen=True, slots=True)
class StressRun:
    """What one look found. `account` is None where nothing is held that has bars; `windows` are those of `account`."""

    as_of: datetime
    held: Held
    history: Market
    scenarios: Scenarios
    table: pd.DataFrame
    account: StressAccount | None
    missing: tuple[str, ...]
    options: int  # that are priced anew
    shocks: pd.DataFrame | None  # `options.shock_grid`
    doubts: tuple[str, ...]  # volatilities that rounded prices do not tell

    @property
    def total(self) -> pd.DataFrame:
        """The rows of all books together."""
        rows = self.table[self.table["strategy"] == ALL]
        return rows if len(rows) else self.table

    @property
    def worst(self) -> pd.Series | None:
        """The row of all books in the named scenario that costs most; None where no loss is known."""
        named = self.total[self.total["scenario"].isin(NAMED) & self.total["loss"].notna()]
        return None if named.empty else named.sort_values("loss").iloc[-1]


def compute(context: Context, bars: pd.DataFrame, as_of: datetime) -> StressRun:
    """Everything, from what was known at `as_of`."""
    held, risk = positions(context, as_of).counted(), context.settings.risk
    option = held.frame["kind"].isin(OPTIONS)
    units = sorted({*held.frame["unit"][~option], *held.frame["underlying"][option]} - {""})
    history = market(bars, units, as_of, len(bars))
    closes, index = _closes(bars, units, as_of), _index(context, bars, as_of)
    about = context.ledger.instruments.frame()
    sectors = {str(unit): str(sector or "") for unit, sector in zip(about["unit"], about["sector"], strict=True)}
    named, left = episode_scenarios(closes, market=index, sectors=sectors)
    greeks = greeks_of(held, risk)
    options = option_scenarios(held, greeks, named)
    without = {unit: history.lacking.get(unit, f"{unit} has no bars: no scenario speaks of it.") for unit in left}
    without |= {unit: why for unit, why in history.lacking.items() if unit not in history.units}
    without |= {unit: f"{unit} has no price yet." for unit in held.frame["unit"][held.value.isna()]}
    for unit in held.frame["unit"][below_zero(held.frame)]:
        without[unit] = f"{unit} is at or below zero, where a share of its price is no move: no scenario speaks of it."
    without |= {**options.missing, **_untold(named, index)}
    account = None
    if history.units and held.equity > 0:
        account = stress_account(
            history.returns,
            _books(held, history.units, options.worth),
            history.units,
            rng=np.random.default_rng(context.settings.train.seed),
            recent=risk.history_bars,
            confidence=risk.confidence,
            horizon=risk.horizon_bars,
            paths=risk.paths,
            compute=context.compute,
        )
        options = option_scenarios(held, greeks, _with_windows(named, history, account, closes))
    equities = {(key.model, book_name(key)): equity for key, equity in held.equities().items()}
    table = stress_table(held.valued, options.scenarios, equities)
    lost, shocks, doubts = tuple(without.values()), shock_grid(held, greeks), tuple(greeks.doubts.values())
    return StressRun(as_of, held, history, options.scenarios, table, account, lost, len(options.worth), shocks, doubts)


def _index(context: Context, bars: pd.DataFrame, as_of: datetime) -> pd.Series[float] | None:
    """Closes that were known of what stands for the S&P 500 in betas: a symbol of the bars, or a source of its own."""
    name = context.settings.risk.market
    if not name:
        return None
    table = bars[bars["symbol"] == name] if (bars["symbol"] == name).any() else bars_of(context, name, as_of)
    rows = table[(table["event_time"] <= as_of) & (table["known_at"] <= as_of)]
    if len(symbols := rows["symbol"].unique()) > 1:
        raise DataError(f"risk.market must name one symbol, got {len(symbols)} in {name}. Name one of them.")
    return rows.set_index("event_time")["close"]


def _untold(named: Scenarios, index: pd.Series[float] | None) -> dict[str, str]:
    """Units of which some scenarios tell nothing."""
    gaps = np.isnan(named.returns).sum(axis=0)
    last = "none" if index is None or index.empty else f"{index.index[-1]:%Y-%m-%d}"
    return {
        unit: f"{unit} has neither bars nor a stand-in in {n} of {len(named.names)} named scenarios (bars of the index "
        f"for betas end: {last}; `risk.market`)."
        for unit, n in zip(named.units, gaps.tolist(), strict=True)
        if n
    }


def _closes(bars: pd.DataFrame, units: list[str], as_of: datetime) -> pd.DataFrame:
    """Closes at their own instants: who reads them goes by calendar days, and by each unit's own bars."""
    rows = known(bars, units, as_of)
    return rows.pivot(index="event_time", columns="symbol", values="close").reindex(columns=units)


def _books(held: Held, units: tuple[str, ...], worth: Mapping[str, float]) -> dict[str, Floats]:
    """Weights of all books together, and of each strategy over its own equity where that is positive.

    An option counts as the holding of its underlying that moves like it now (its delta).
    """
    option = held.frame["kind"].isin(OPTIONS)
    unit = held.frame["underlying"].where(option, held.frame["unit"])
    like = held.frame["quantity"] * held.frame["unit"].map(worth)
    value = held.moves["value"].fillna(like).fillna(0.0)
    equity = {key.model: 0.0 for key in held.cash}
    for key, amount in held.equities().items():
        equity[key.model] += amount

    def weights(rows: pd.Series[bool], over: float) -> Floats:
        each = value[rows].groupby(unit[rows]).sum()
        return np.asarray(each.reindex(list(units), fill_value=0.0).to_numpy(dtype=np.float64) / over)

    vectors = {ALL: weights(held.frame["strategy"].notna(), held.equity)}
    if len(equity) > 1:
        strategy = held.frame["strategy"]
        vectors |= {name: weights(strategy == name, over) for name, over in equity.items() if over > 0}
    return vectors


def _with_windows(scenarios: Scenarios, history: Market, account: StressAccount, closes: pd.DataFrame) -> Scenarios:
    """The named ones, and the worst window of each length as one more each."""
    worst: dict[int, WorstWindow] = {}
    for window in account.windows:
        worst.setdefault(window.horizon, window)
    if not worst:
        return scenarios
    place = np.array([history.units.index(unit) if unit in history.units else -1 for unit in scenarios.units])
    names = [f"Worst {h} bar{'s' if h > 1 else ''} of this book" for h in worst]
    rows = np.array([window_returns(history.returns, window)[place] for window in worst.values()])
    rows[:, place < 0] = np.nan
    began = pd.DatetimeIndex([closes[unit].first_valid_index() for unit in scenarios.units])
    proxied = np.array([began >= history.times[worst_window.first] for worst_window in worst.values()])
    return scenarios.with_rows(names, rows, proxied)
