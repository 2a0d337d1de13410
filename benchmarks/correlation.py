"""What correlation costs, how often its alarm is heard, and what sizing did: `python -m benchmarks.correlation`.

One JSON line. Speed: one day of 1,000 units, matrix and eigenvalues, beside pandas and numpy. The alarm: replayed on
daily closes from 1995 with a threshold that knows only the past (calibrated anew each year), on all stocks, on halves
of them, from other start years and on five factor funds; the episodes below are looked at afterwards and choose
nothing. With `--all` also the alarm on other markets, and sizing: books of real stocks with and without it, the
difference by paired block bootstrap.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from skfolio.datasets import load_factors_dataset, load_sp500_dataset

from jobs import promote, train
from jobs.context import opened
from jobs.paper_bot import PaperBot
from mlops.io import bar_feed
from mlops.learn import STRATEGIES
from mlops.risk.correlation.breakdown import BREAKDOWN, State, advance
from mlops.risk.correlation.comovement import comovement
from mlops.risk.correlation.matrices import correlation
from mlops.risk.correlation.rolling import RollingCorrelation
from mlops.risk.correlation.sizer import Sizer
from mlops.risk.correlation.sizing import SizingLimits
from mlops.risk.correlation.threshold import calibrate, shifts
from mlops.settings import RiskSettings, Settings
from mlops.stats import max_drawdown
from mlops.stats.resample import stationary_indices

Floats = NDArray[np.float64]
WINDOW, YEAR, FIRST = 60, 252, 500  # the alarm's first calibration knows two years
EPISODES = (  # what a person remembers as a day on which everything fell together, and when it was over
    ("2007-02-27", "2007-05-15"),
    ("2008-09-15", "2009-01-31"),
    ("2010-05-06", "2010-07-31"),
    ("2011-08-01", "2011-10-31"),
    ("2015-08-20", "2015-10-15"),
    ("2018-02-01", "2018-04-30"),
    ("2020-02-24", "2020-05-31"),
)
PAPER = (("volatility", 2007, 2009), ("volatility", 2018, 2022), ("direction", 2007, 2009))  # replays of the bot
COST = 5e-4  # of the traded value
BLOCK = 60  # bars, mean length of the bootstrap's blocks: a drawdown is slow


def clock(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Wall and CPU milliseconds of a call, the lower of two passes' medians; the first call does not count."""
    work()
    passes = []
    for _ in range(2):
        times = []
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        passes.append(np.median(times, axis=0))
    wall, cpu = 1e3 * np.min(passes, axis=0)
    return float(wall), float(cpu)


def speed() -> dict[str, float]:
    rng = np.random.default_rng(7)
    found: dict[str, float] = {}
    for units in (20, 200, 1000):
        table = 0.01 * (
            rng.standard_normal((400, 3)) @ rng.normal(0.6, 0.3, (3, units)) + rng.standard_normal((400, units))
        )
        days = [dict(zip(map(str, range(units)), row, strict=True)) for row in table.tolist()]
        for kind in ("pearson", "spearman", "ewma", "shrunk"):
            rolling = RollingCorrelation(WINDOW, kind)
            coming = iter(days)
            for _ in range(WINDOW):
                rolling.update(next(coming))
            found[f"{kind}_{units}"], found[f"{kind}_{units}_cpu"] = clock(
                lambda r=rolling, c=coming: r.update(next(c)).eigenvalues,
                150,
            )
        last = table[-WINDOW:]
        found[f"numpy_{units}"] = clock(lambda x=last: np.corrcoef(x.T), 50)[0]
        frame = pd.DataFrame(last)
        found[f"pandas_corr_{units}"] = clock(lambda f=frame: f.corr(), 5)[0]
        if units <= 200:
            weights = np.full(units, 1 / units)
            if units == 20:
                found["pandas_rolling_20"] = clock(lambda f=frame: f.rolling(WINDOW).corr().iloc[-20:], 5)[0]
            calibration = calibrate(table, rng=np.random.default_rng(0), years=20)
            found[f"page_{units}"] = clock(lambda t=table[-130:], w=weights, c=calibration: comovement(t, w, c), 100)[0]
    forty = table[:, :40]
    calibration = calibrate(forty, rng=np.random.default_rng(0), years=20)
    found["page_40"] = clock(lambda: comovement(forty[-130:], np.full(40, 1 / 40), calibration), 100)[0]
    found["accuracy"] = float(np.abs(correlation(last).matrix - np.corrcoef(last.T)).max())
    began = time.process_time()
    calibrate(table[:, :40], rng=np.random.default_rng(0))
    found["calibrate_40_s"] = time.process_time() - began
    return found


def alarms(returns: pd.DataFrame, *, first: int = FIRST) -> dict[str, Any]:
    """The alarm day by day, its threshold from the days before; episodes hit, and alarms a year."""
    table, days = returns.to_numpy(), returns.index
    shift = shifts(table, WINDOW)
    state, states = State.UNKNOWN, []
    for t in range(first, len(table)):
        if (t - first) % YEAR == 0:
            calibration = calibrate(table[:t], rng=np.random.default_rng([5, t]))
        state = advance(state, float(shift[t - 2 * WINDOW + 1]), calibration)
        states.append(state)
    on = np.array([s is State.BROKEN for s in states])
    onset = on & ~np.append(False, on[:-1])
    seen = days[first:]
    within = [np.asarray((seen >= a) & (seen <= b)) for a, b in EPISODES if seen[0] <= pd.Timestamp(a)]
    inside = np.logical_or.reduce(within) if within else np.zeros(len(seen), bool)
    return {
        "alarms_per_year": float(onset.sum() * YEAR / len(seen)),
        "episodes_hit": int(sum(bool((onset & part).any()) for part in within)),
        "episodes": len(within),
        "inside": float((on & inside).sum() / max(1, on.sum())),
        "onsets": [str(d.date()) for d in seen[onset]],
    }


def pair_rule(returns: pd.DataFrame) -> float:
    """Share of days on which some pair's correlation is more than 0.5 away from where it was 60 days before."""
    table = returns.to_numpy()
    past: list[Floats] = []
    fired = 0
    for t in range(WINDOW, len(table) + 1):
        past.append(correlation(table[t - WINDOW : t]).matrix)
        if len(past) > WINDOW:
            fired += bool((np.abs(past[-1] - past.pop(0)) > BREAKDOWN).any())
    return fired / (len(table) - 2 * WINDOW + 1)


def held_out(stocks: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    rng = np.random.default_rng(11)
    for name in ("half 1", "half 2", "half 3", "half 4"):
        yield name, stocks.iloc[:, np.sort(rng.choice(stocks.shape[1], stocks.shape[1] // 2, replace=False))]
    for year in ("1999", "2004", "2008"):
        yield f"from {year}", stocks.loc[year:]
    yield "factors", load_factors_dataset().pct_change().iloc[1:]


def sized_book(
    prices: pd.DataFrame, weights: Floats, start: str, limits: SizingLimits | None = None
) -> tuple[Floats, Floats]:
    """Daily returns of a book held at `weights` of equity, without and with sizing, after costs."""
    sizer, wanted = Sizer(limits), dict(zip(prices.columns, weights.tolist(), strict=True))
    held = []
    for day, row in prices.iterrows():
        sizer.update(row.to_dict())
        if str(day) >= start:
            held.append(sizer.size(wanted).weights)
    table = prices.pct_change().to_numpy()[-len(held) + 1 :]
    return _after_costs(np.broadcast_to(weights, (len(held), len(weights))), table), _after_costs(np.array(held), table)


def _after_costs(held: Floats, returns: Floats) -> Floats:
    """Weights at each close earn the next bar; what moves them back to the target is traded."""
    earned = (held[:-1] * returns).sum(axis=1)
    drifted = held[:-1] * (1 + returns) / (1 + earned)[:, None]
    traded = np.abs(held[1:] - drifted).sum(axis=1)
    return np.asarray(earned - COST * traded)


def measures(path: Floats) -> Floats:
    """Return and volatility a year, Sharpe ratio and maximum drawdown along the last axis, shape (..., 4)."""
    mean, deviation = path.mean(axis=-1) * YEAR, path.std(axis=-1) * YEAR**0.5
    return np.stack([mean, deviation, mean / deviation, max_drawdown(path)], axis=-1)


def compared(plain: Floats, sized: Floats, paths: int = 1000) -> dict[str, Any]:
    """Both, and the 90 % interval of sized minus plain by drawing the same blocks of days for both."""
    drawn = stationary_indices(len(plain), length=len(plain), paths=paths, block=BLOCK, rng=np.random.default_rng(3))
    difference = measures(sized[drawn]) - measures(plain[drawn])
    low, high = np.quantile(difference, [0.05, 0.95], axis=0)
    names = ("return", "volatility", "sharpe", "drawdown")
    return {
        name: [round(float(v), 4) for v in (a, b, lo, hi)]
        for name, a, b, lo, hi in zip(names, measures(plain), measures(sized), low, high, strict=True)
    }


def sizing(books: int) -> dict[str, Any]:
    """Long books of random stocks and weights, and one half short, in two spans; medians over books, and each
    interval."""
    prices = load_sp500_dataset().loc["2003":]
    rng = np.random.default_rng(23)
    found: dict[str, Any] = {}
    for span, (a, b) in {"2007-2009": ("2007", "2009"), "2018-2022": ("2018", "2022")}.items():
        start = f"{a}-01-01"
        history = prices.loc[str(int(a) - 3) : b]
        even = np.full(prices.shape[1], 1 / prices.shape[1])
        plain, sized = sized_book(history, even, start)
        found[f"{span} equal weight"] = compared(plain, sized)
        unstressed = sized_book(history, even, start, SizingLimits(stress=0.0))[1]
        found[f"{span} equal weight, what stress adds"] = compared(unstressed, sized)
        found[f"{span} long/short"] = compared(*sized_book(history, even * np.resize([1.5, -0.5], len(even)), start))
        pairs = []
        for _ in range(books):
            mine = history.iloc[:, np.sort(rng.choice(prices.shape[1], int(rng.integers(5, 16)), replace=False))]
            pairs.append([measures(path) for path in sized_book(mine, rng.dirichlet(np.ones(mine.shape[1])), start)])
        both = np.array(pairs)  # (books, 2, 4)
        found[f"{span} {books} random books"] = {
            "median": [[round(float(v), 4) for v in row] for row in np.median(both, axis=0)],
            "shallower": float((both[:, 1, 3] < both[:, 0, 3]).mean()),
            "better_sharpe": float((both[:, 1, 2] > both[:, 0, 2]).mean()),
        }
    return found


def paper(model: str, first: int, last: int) -> dict[str, Any]:
    """The paper bot in those years with a strategy trained on what was known before: its equity with `risk.sizing` off
    and on, fees included."""
    start, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last + 1, 1, 1, tzinfo=UTC)
    bars = bar_feed.load_bars("sp500", start=datetime(1995, 1, 1, tzinfo=UTC), end=end).frame
    strategy, paths = STRATEGIES[model], {}
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with TemporaryDirectory() as name:
        settings = Settings(state=Path(name), tracking_uri=f"sqlite:///{name}/mlflow.db")
        with opened(settings) as context:
            ref = train.train(context, strategy, bars, as_of=start, start=None)
            promote.promote(context, ref, reason="benchmark", actor="benchmark", at=start)
            for switch in ("off", "on"):
                settings = context.settings.model_copy(update={"risk": RiskSettings(sizing=switch)})
                bot = PaperBot(replace(context, settings=settings), strategy, bars, start)
                equity = []
                for at, bar in bars[bars.event_time >= start].groupby("event_time", sort=True):
                    bot.on_bar(bar, pd.Timestamp(str(at)).to_pydatetime())
                    equity.append(bot.book.equity)
                paths[switch] = np.diff(equity) / np.array(equity[:-1], dtype=np.float64)
    return compared(paths["off"], paths["on"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="also held-out markets, sizing and the paper bot: an hour")
    parser.add_argument("--books", type=int, default=20, help="random books of each span")
    given = parser.parse_args()
    stocks = load_sp500_dataset().pct_change().loc["1995":]
    times, main_run = speed(), alarms(stocks)
    report = {
        "day_ms_1000": round(times["pearson_1000"], 3),
        "day_cpu_ms_1000": round(times["pearson_1000_cpu"], 3),
        "alarms_per_year": round(main_run["alarms_per_year"], 3),
        "episodes_hit": main_run["episodes_hit"],
        "episodes": main_run["episodes"],
        "alarm_days_inside": main_run["inside"],
        "onsets": main_run["onsets"],
        "accuracy": times["accuracy"],
        "ms": {name: round(value, 4) for name, value in times.items() if name != "accuracy"},
    }
    print(json.dumps(report | (more(stocks, given.books) if given.all else {})))


def more(stocks: pd.DataFrame, books: int) -> dict[str, Any]:
    """What takes long: other markets than the first, what sizing does, and the paper bot under it."""
    return {
        "held_out": {name: alarms(table, first=min(FIRST, len(table) // 4)) for name, table in held_out(stocks)},
        "pair_rule_days": pair_rule(stocks),
        "sizing": sizing(books),
        "paper": {f"{model} {a}-{b}": paper(model, a, b) for model, a, b in PAPER},
    }


if __name__ == "__main__":
    main()
