"""What all books would lose in crises that were, in those that may come, and which move would cost a fifth. Weekly.

Load: positions now, all bars. Compute: named scenarios, the worst windows, simulations, shocks. Log: an MLflow run with
the page, the table and the numbers; and the scenarios, by which the live page multiplies what is held each second.
Act: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from jobs import stress_page
from jobs.house import House, moment, run
from jobs.market import Market, market
from jobs.positions import Held, book_name, positions
from jobs.stress_options import optioned
from mlops.io import feed, page, record
from mlops.io.ledger import RiskState
from mlops.risk.account import ALL, StressAccount, stress_account
from mlops.risk.exposure import OPTIONS
from mlops.risk.limits import Line, Measured, judge
from mlops.risk.scenarios import EPISODES, Scenarios, episode_scenarios
from mlops.risk.stress import WorstWindow, stress_table, window_returns
from mlops.types import Decision, Finding, Level, ModelRef, Report, Verdict

MODEL = ModelRef("risk", 0)  # the MLflow experiment of what is about all models at once
KIND = "stress"  # of the state in the ledger


@dataclass(frozen=True, slots=True)
class Stressed:
    """What one look found. `account` is None where nothing is held that has bars; `windows` are those of `account`."""

    as_of: datetime
    held: Held
    history: Market
    scenarios: Scenarios
    table: pd.DataFrame
    account: StressAccount | None
    missing: tuple[str, ...]
    options: int  # that are priced anew

    @property
    def total(self) -> pd.DataFrame:
        """The rows of all books together."""
        rows = self.table[self.table["strategy"] == ALL]
        return rows if len(rows) else self.table

    @property
    def worst(self) -> pd.Series | None:
        """The row of all books in the named scenario that costs most; None where no loss is known."""
        named = self.total[self.total["scenario"].isin([one.name for one in EPISODES]) & self.total["loss"].notna()]
        return None if named.empty else named.sort_values("loss").iloc[-1]


@dataclass(frozen=True, slots=True)
class Written:
    """The page, what it shows, and the run that keeps both."""

    html: str
    stressed: Stressed
    run_id: str


def at(house: House, model: str, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """One look at all books. It is about no model in particular."""
    write(house, bars, as_of)
    return []


def write(house: House, bars: pd.DataFrame, as_of: datetime) -> Written:
    """Compute, store what the live page needs, log the run."""
    found = compute(house, bars, as_of)
    s = found.scenarios
    body = {"scenarios": s.names, "units": s.units, "missing": found.missing, "about": stress_page.about(found)}
    house.ledger.put_risk_state(KIND, ALL, as_of, body, {"returns": s.returns, "proxied": s.proxied})
    html = page.render("stress.html", stress_page.context(found, house.settings.risk.currency))
    report = Report(MODEL, as_of, _findings(house, found))
    evidence = record.Evidence(
        "stress",
        report,
        Decision(Verdict.HOLD, MODEL, report.findings, reason=report.findings[0].note),
        figures=stress_page.figures(found),
        numbers=stress_page.numbers(found),
        pages={"stress.html": html, "scenarios.csv": found.table.to_csv(index=False)},
    )
    return Written(html, found, record.emit(house.client, evidence, house.run_id))


def scenarios_of(state: RiskState) -> Scenarios:
    """The scenarios that a look stored, ready for `stress_table`."""
    names, units = tuple(state.body["scenarios"]), tuple(state.body["units"])
    return Scenarios(names, units, state.arrays["returns"], state.arrays["proxied"].astype(np.bool_))


def compute(house: House, bars: pd.DataFrame, as_of: datetime) -> Stressed:
    """Everything, from what was known at `as_of`."""
    held, risk = positions(house, as_of), house.settings.risk
    option = held.frame["kind"].isin(OPTIONS)
    units = sorted({*held.frame["unit"][~option], *held.frame["underlying"][option]} - {""})
    history = market(bars, units, as_of, len(bars))
    named, left = episode_scenarios(_closes(bars, units, as_of))
    told = optioned(house, held, named)
    without = {unit: history.lacking.get(unit, f"{unit} has no bars: no scenario speaks of it.") for unit in left}
    without |= {unit: f"{unit} has no price yet." for unit in held.frame["unit"][held.value.isna()]} | dict(
        told.missing
    )
    account = None
    if history.units and held.equity > 0:
        account = stress_account(
            history.returns,
            _books(held, history.units, told.worth),
            history.units,
            rng=np.random.default_rng(house.settings.train.seed),
            recent=risk.history_bars,
            confidence=risk.confidence,
            horizon=risk.horizon_bars,
            paths=risk.paths,
            n_jobs=house.settings.train.n_jobs,
        )
        told = optioned(house, held, _with_windows(named, history, account))
    equities = {(key.model, book_name(key)): equity for key, equity in held.equities().items()}
    table = stress_table(held.frame, told.scenarios, equities)
    return Stressed(as_of, held, history, told.scenarios, table, account, tuple(without.values()), len(told.worth))


def _closes(bars: pd.DataFrame, units: list[str], as_of: datetime) -> pd.DataFrame:
    seen = bars[(bars["event_time"] <= as_of) & (bars["known_at"] <= as_of) & bars["symbol"].isin(units)]
    return seen.pivot(index="event_time", columns="symbol", values="close").reindex(columns=units)


def _books(
    held: Held, units: tuple[str, ...], worth: Mapping[str, float]
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Weights of all books together, and of each strategy over its own equity where that is positive.

    An option counts as the holding of its underlying that moves like it now (its delta).
    """
    option = held.frame["kind"].isin(OPTIONS)
    unit = held.frame["underlying"].where(option, held.frame["unit"])
    like = held.frame["quantity"] * held.frame["unit"].map(worth)
    value = like.where(option, held.value).fillna(0.0)
    equity = {key.model: 0.0 for key in held.cash}
    for key, amount in held.equities().items():
        equity[key.model] += amount

    def weights(mine: pd.Series[bool], over: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        each = value[mine].groupby(unit[mine]).sum()
        return np.asarray(each.reindex(list(units), fill_value=0.0).to_numpy(dtype=np.float64) / over)

    found = {ALL: weights(held.frame["strategy"].notna(), held.equity)}
    if len(equity) > 1:
        strategy = held.frame["strategy"]
        found |= {name: weights(strategy == name, over) for name, over in equity.items() if over > 0}
    return found


def _with_windows(scenarios: Scenarios, history: Market, account: StressAccount) -> Scenarios:
    """The named ones, and the worst window of each length as one more each."""
    worst: dict[int, WorstWindow] = {}
    for window in account.windows:
        worst.setdefault(window.horizon, window)
    if not worst:
        return scenarios
    place = [history.units.index(unit) for unit in scenarios.units if unit in history.units]
    if len(place) < len(scenarios.units):
        return scenarios
    names = [f"Worst {h} bar{'s' if h > 1 else ''} of this book" for h in worst]
    rows = np.array([window_returns(history.returns, one)[place] for one in worst.values()])
    return scenarios.with_rows(names, rows)


def _findings(house: House, found: Stressed) -> tuple[Finding, ...]:
    """The worst named scenario, against the line that a person drew if there is one."""
    why = f"{len(found.missing)} units are not in it" if found.missing else ""
    value = float("nan") if found.worst is None else float(found.worst["loss"])
    lines = [line for line in house.settings.risk.limits if line.measure == KIND and line.scope == ALL]
    if lines:
        drawn = [Line(one.measure, one.warning, one.soft, one.hard, one.owner, one.scope) for one in lines]
        return tuple(judge(drawn, [Measured(KIND, value, ALL, len(EPISODES), why)]))
    level = Level.UNKNOWN if found.worst is None or why else Level.OK
    note = stress_page.headline(found) + (f" {why}." if why else "")
    return (Finding(KIND, value, float("nan"), level, len(EPISODES), note=note),)


def main(
    out: Annotated[str, typer.Option(help="Also write the page there.")] = "",
    as_of: str = "now",
) -> None:
    def body(house: House) -> None:
        written = write(house, feed.load_bars(house.settings.jobs.source).frame, moment(as_of))
        if out:
            Path(out).write_text(written.html, encoding="utf-8")

    run("stress", body)


if __name__ == "__main__":
    typer.run(main)
