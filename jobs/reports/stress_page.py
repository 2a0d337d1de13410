"""What the page and the run of a stress look show, out of what it found. Nothing is computed that is not shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version as installed
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jobs.portfolio.stress import StressRun
from mlops.plots import page, stress, svg
from mlops.risk.stress.episodes import EPISODES
from mlops.risk.stress.summary import ALL, MONTH, StressAccount
from mlops.risk.stress.table import WorstWindow

NAMED = {episode.name: episode for episode in EPISODES}
SHOWN = 8  # units in a table of some
NO_OPTIONS = "No option is in these numbers."
PRICED = (
    "{} options are priced anew in every scenario, at the volatility that their prices imply today and with today's "
    "time to expiry. A crash raises volatility: options that were sold then lose more than is shown. In the "
    "simulations they count as the holding of the underlying that moves like them now."
)
DRAWN = 20  # scenarios in the picture, those that cost most; the table has all
BOOKS = 6  # columns of the table of scenarios: more do not fit; scenarios.csv has all


def headline(look: StressRun) -> str:
    """The answer in one sentence."""
    row = look.worst
    if row is None:
        return "What all books would lose is not known."
    named = look.total[look.total["scenario"].isin(NAMED)]
    partly = int((named["loss"].isna() | (named["missing"] > 0)).sum())
    rest = f" Of {partly} of {len(named)} scenarios not all is known." if partly else ""
    if row["loss"] <= 0:
        which = "None of the named scenarios" if not partly else "No scenario of which all is known"
        return f"{which} would cost the books anything.{rest}"
    return f"The worst scenario, {row['scenario']}, would cost {page.percent(row['loss'], 1)} of equity.{rest}"


def about(look: StressRun) -> list[dict[str, Any]]:
    """Describe each scenario: dates, source, remark, the market's move."""
    spells = {f"Worst {w.horizon} bar{'s' if w.horizon > 1 else ''} of this book": w for w in reversed(_windows(look))}
    rows = []
    for name in look.scenarios.names:
        past, spell = NAMED.get(name), spells.get(name)
        dates = f"{past.start} to {past.end}" if past else _dates(look, spell) if spell else ""
        row = {"source": past.source, "note": past.note, "market": past.market} if past else {"source": "", "note": ""}
        rows.append({"name": name, "dates": dates, "named": past is not None, **row})
    return rows


def context(look: StressRun, currency: str) -> dict[str, Any]:
    """What the template reads."""
    a = look.account
    worst = look.worst if look.worst is not None and look.worst["loss"] > 0 else None
    drawn = figures(look)
    pictures = {name: svg.svg(drawn[name], *WORDS[name]) if name in drawn else "" for name in WORDS}
    windows = [
        {"horizon": w.horizon, "start": _time(look, w.first), "end": _time(look, w.last), "loss": w.loss}
        for w in _windows(look)
    ]
    base = {
        "a": a,
        "as_of": look.as_of,
        "equity": look.held.equity,
        "currency": currency,
        "headline": headline(look),
        "missing": look.missing,
        "books": list(dict.fromkeys(_label(look)))[:BOOKS],
        "scenarios": [*_scenarios(look)],
        "windows": windows,
        "worst": None if worst is None else worst.to_dict(),
        "pictures": pictures,
        "shocks": look.shocks,
        "month": MONTH,
        "options": NO_OPTIONS if not look.options else " ".join((PRICED.format(look.options), *look.doubts)),
        "version": installed("gpt-trader-mlops"),
    }
    return base | (_of_account(a) if a else {})


WORDS = {
    "losses": ("Losses by scenario", "Loss of all books together in each scenario, the worst on top."),
    "fan": ("Paths", "Where simulated equity lies bar by bar, and how deep each path fell."),
    "grid": ("Shocks", "VaR under shocks of volatility and correlation."),
}


def figures(look: StressRun) -> dict[str, Figure]:
    """Figures of what is known."""
    drawn, a = dict[str, Figure](), look.account
    known = look.total[look.total["loss"].notna()].nlargest(DRAWN, "loss")
    if len(known):
        drawn["losses"] = stress.losses(known)
    if a is not None and a.law.known:
        drawn["fan"] = stress.fan(a.year.courses, a.year.drawdown)
        drawn["grid"] = stress.grid(
            a.grid, _cell(a.grid, 0.0, 0.0), ("volatility", "correlation: share of the way to 1")
        )
    return drawn


def numbers(look: StressRun) -> dict[str, float]:
    """Metrics of the run; NaN is left out there."""
    values = {
        f"scenario.{_key(name)}": float(loss)
        for name, loss in zip(look.total["scenario"], look.total["loss"], strict=True)
    }
    a = look.account
    if a is None:
        return values
    for name, (var, es) in a.tails.items():
        values |= {f"var.{name}": var.value, f"es.{name}": es.value, f"es_error.{name}": (es.high - es.low) / 2}
    fall = a.year.expected_drawdown()
    values |= {"es_gaussian": a.gaussian[1].value, "dof": a.law.dof.value, "expected_drawdown": fall.value}
    values |= {"expected_drawdown_error": (fall.high - fall.low) / 2, "reverse_sigmas": a.reverse.sigmas}
    for kind, conditional in (("t", a.conditional), ("vine", a.vine)):
        if conditional is not None and conditional.known:
            values[f"conditional_{kind}"] = -float(conditional.profit.mean())
    for w in reversed(a.windows):
        values[f"worst_window.{w.horizon}"] = w.loss
    return values


def _of_account(a: StressAccount) -> dict[str, Any]:
    fall, deep = a.year.expected_drawdown(), a.year.drawdown_at(0.95)
    d = a.dependence
    both = [
        {"names": f"{x} and {y}", "counted": d.counted[i, j], "low": d.low[i, j], "high": d.high[i, j]}
        | {"implied": d.implied[i, j], "gaussian": d.gaussian[i, j], "limit": d.limit[i, j]}
        for x, y, i, j in a.pairs()
    ]
    chance = a.reverse.chance
    worst = [w.loss for w in a.windows if w.horizon == a.windows[-1].horizon]
    return {
        "fall": fall,
        "fall95": deep,
        "year_var": a.year.var(0.99),
        "windows_worst": max(worst, default=0.0),
        "given": [*_following(a)],
        "given_worst": _twentieth(a.conditional),
        "vine_worst": _twentieth(a.vine),
        "reverse": [*_costly(a)],
        "chance": f"1 in {1 / chance:,.0f}" if chance > 0 else "nil",
        "worst_case": _cell(a.worst_grid, 0.0, 1.0),
        "pairs": both,
    }


def _twentieth(tail: Any) -> float:
    return -float(np.quantile(tail.profit, 0.05)) if tail is not None and tail.known else float("nan")


def _following(a: StressAccount) -> Iterator[dict[str, Any]]:
    """The held units that follow the shocked one most."""
    c = a.conditional
    if c is None or not c.known:
        return
    others = [i for i in np.argsort(c.mean) if a.weights[i] != 0 and a.units[i] != a.shocked]
    for i in others[:SHOWN]:
        yield {"unit": a.units[i], "mean": c.mean[i], "low": c.low[i], "high": c.high[i]}


def _costly(a: StressAccount) -> Iterator[dict[str, Any]]:
    cost = -a.weights * a.reverse.moves
    for i in np.argsort(-cost)[:SHOWN]:
        if a.reverse.known and a.weights[i] != 0:
            yield {"unit": a.units[i], "weight": a.weights[i], "move": a.reverse.moves[i], "cost": cost[i]}


def _label(look: StressRun) -> pd.Series:
    """Label of each row of the table, all books last."""
    t = look.table
    return t["strategy"].where(t["strategy"] == ALL, t["strategy"] + " " + t["book"])


def _scenarios(look: StressRun) -> Iterator[dict[str, Any]]:
    label = _label(look)
    for row in about(look):
        own = look.table["scenario"] == row["name"]
        rows, total = look.table[own], look.total[look.total["scenario"] == row["name"]]
        by_book = dict(zip(label[own], rows["loss"], strict=True))
        nothing = {"money": np.nan, "worst_unit": "", "proxied": 0.0, "missing": 0.0}
        last = total.iloc[-1] if len(total) else pd.Series(nothing)
        yield {
            **row,
            "losses": [by_book[name] for name in list(dict.fromkeys(label))[:BOOKS]],
            "money": last["money"],
            "worst_unit": last["worst_unit"],
            "proxied": last["proxied"],
            "missing": last["missing"],
        }


def _windows(look: StressRun) -> tuple[WorstWindow, ...]:
    return look.account.windows if look.account is not None else ()


def _time(look: StressRun, bar: int) -> datetime:
    at: datetime = look.history.times[bar].to_pydatetime()
    return at


def _dates(look: StressRun, window: WorstWindow) -> str:
    return f"{page.day(_time(look, window.first))} to {page.day(_time(look, window.last))}"


def _cell(table: pd.DataFrame, row: float, column: float) -> float:
    i, j = table.index.get_indexer(pd.Index([row]))[0], table.columns.get_indexer(pd.Index([column]))[0]
    return float(table.iloc[i, j])


def _key(name: str) -> str:
    """A metric's name has no signs of its own."""
    return "".join(c if c.isalnum() else "_" for c in name.lower())
