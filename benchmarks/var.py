"""VaR and ES of one book after another, forecast walk-forward, beside what others ship: `python -m benchmarks.var`.

What is measured is what ships: `mlops.risk.var.selection.track_record`, which the nightly job calls, with the job's
refits and history; the last 750 bars of the first book are also judged by the job's own function, from the bars that
the job loads. 20 US stocks at equal weight (2000-01-03 to 2022-12-28, losses in per cent) give the figures in the last
line. Then books of other things; none of the books here chose the model (docs/var.md says which did). `--quick` fits
every 40 bars. `--ranges` adds models of open, high, low and close, which the job does not use.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: two threads on a busy machine are slower than one

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student
from skfolio.datasets import load_factors_dataset, load_sp500_dataset
from skfolio.measures import cvar, value_at_risk

from jobs.risk import JUDGED, judged
from mlops.risk.measures import CONFIDENCES
from mlops.risk.var.backtest import Backtest, judge
from mlops.risk.var.forecasts import REFIT, Forecasts, walk
from mlops.risk.var.selection import track_record
from mlops.settings import RiskSettings

Floats = NDArray[np.float64]
COMPARED = ("evt_gjr_tgarch", "evt_gjr_skewt", "fhs_garch", "garch_t", "ewma_normal", "historical", "normal")
RANGED = ("range_gjr_tgarch_evt", "range_gjr_evt", "range_ewma", "evt_gjr_skewt", "historical")
PERCENT = 100.0
SAMPLE = 50  # days at which our historical simulation is held against skfolio's
LOADED = RiskSettings().history_bars + JUDGED  # bars that the job loads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fit every 40 bars instead of every 10")
    parser.add_argument("--ranges", action="store_true", help="also the models of ranges, on the S&P 500")
    given = parser.parse_args()
    refit = 40 if given.quick else REFIT
    started = time.process_time()
    prices = load_sp500_dataset().pct_change().dropna()
    stocks, first = prices.to_numpy(), int(prices.index.searchsorted(pd.Timestamp("2000-01-01")))
    average = stocks.mean(axis=1)
    results, forecasts = book("20 stocks, equal weight", average, first, refit=refit)
    apart = as_the_job(average, forecasts)
    same_as_skfolio(average, first)
    others(stocks, first, refit)
    if given.ranges:
        ranges(refit)
    at99, at975, at95 = results[0.99], results[0.975], results[0.95]
    result = {
        "ql99": round(at99.quantile_loss * PERCENT, 4),
        "fz99": round(at99.fz, 4),
        "fz975": round(at975.fz, 4),
        "ql95": round(at95.quantile_loss * PERCENT, 4),
        "exceedances99": at99.exceedances,
        "min_p99": round(min(at99.p_values.values()), 3),
        "job_apart_pct": round(PERCENT * apart, 3),
        "cpu_s": round(time.process_time() - started),
    }
    print(json.dumps(result))


def book(
    name: str, returns: Floats, first: int, *, refit: int, truth: Forecasts | None = None
) -> tuple[dict[float, Backtest], Forecasts]:
    """The default's record over a book beside other models': print the table, return its backtests and forecasts."""
    track = track_record(returns, returns.size - first, compared=COMPARED, refit=refit)
    assert track is not None, f"{first} bars must suffice for a model"
    rows: dict[str, Forecasts] = {"DEFAULT": track.forecasts, **track.others}
    rows |= {} if truth is None else {"the true law": truth}
    print(f"\n{name}: {returns.size - track.forecasts.first} bars, fitted every {refit}: {' + '.join(track.names)}")
    for confidence in reversed(CONFIDENCES):
        print(f"{confidence:.1%}: {(1 - confidence) * len(track.forecasts.var):.0f} exceedances expected")
        for model, forecasts in rows.items():
            print(row(model, scored(returns, forecasts, confidence, track.others)))
    results = {confidence: scored(returns, track.forecasts, confidence, track.others) for confidence in CONFIDENCES}
    return results, track.forecasts


def as_the_job(returns: Floats, forecasts: Forecasts) -> float:
    """How far the job's VaR, from the bars that it loads, is from what is measured here: at most, as a share of it."""
    night = judged(returns[-LOADED:], 0.99, 1)
    assert night.track is not None, "the job's bars must suffice"
    assert night.backtest is not None, "the job's bars must suffice"
    shown, measured = night.track.forecasts.at(0.99).var, forecasts.at(0.99).var[-JUDGED:]
    verdict = f"{night.backtest.exceedances} exceedances, {night.backtest.note}"
    print(f"\nthe job, {len(shown)} bars of the same book: {verdict}")
    return float(np.abs(shown / measured - 1).max())


def scored(returns: Floats, forecasts: Forecasts, confidence: float, walked: Mapping[str, Forecasts]) -> Backtest:
    against = in_percent(walked["historical"])
    return judge(PERCENT * returns, in_percent(forecasts), confidence, against=against)


def in_percent(forecasts: Forecasts) -> Forecasts:
    return Forecasts(forecasts.confidences, forecasts.first, PERCENT * forecasts.var, PERCENT * forecasts.es)


def row(model: str, found: Backtest) -> str:
    p = " ".join(f"{one:.3f}" for one in found.p_values.values())
    return (
        f"  {model:22s} {found.exceedances:4d}  QL x100 {PERCENT * found.quantile_loss:7.3f}  FZ {found.fz:7.4f}  "
        f"p {p}  Z2 {found.z2:6.3f}  {found.level.value:5s}  over historical {found.gain:+.3f} (p {found.gain_p:.4f})"
    )


def same_as_skfolio(returns: Floats, first: int) -> None:
    """Our historical simulation is the peers': hold it against skfolio's on days of the book."""
    walked = walk(["historical"], returns, first)["historical"]
    days = np.linspace(first, returns.size - 1, SAMPLE).astype(int)
    apart = 0.0
    for j, confidence in enumerate(CONFIDENCES):
        for day in days:
            past = returns[day - 500 : day]
            apart = max(apart, abs(value_at_risk(past, confidence) - walked.var[day - first, j]))
            apart = max(apart, abs(cvar(past, confidence) - walked.es[day - first, j]))
    print(f"\nhistorical simulation against skfolio: {apart:.1e} apart at most")


def ranges(refit: int) -> None:
    import arch.data.sp500

    bars = arch.data.sp500.load()
    ohlc = bars[["Open", "High", "Low", "Close"]].to_numpy()
    ohlc[:, 1], ohlc[:, 2] = ohlc.max(axis=1), ohlc.min(axis=1)
    first = int(bars.index[1:].searchsorted(pd.Timestamp("2004-01-01")))
    logs = np.diff(np.log(ohlc[:, 3]))
    walked = walk(RANGED, logs, first, ohlc=ohlc[1:], refit=refit)
    print(f"\nS&P 500 with ranges: {logs.size - first} bars; the job does not use these")
    for confidence in reversed(CONFIDENCES):
        for model, forecasts in walked.items():
            print(row(model, scored(logs, forecasts, confidence, walked)))


def others(stocks: Floats, first: int, refit: int) -> None:
    import arch.data.nasdaq
    import arch.data.sp500
    import arch.data.wti

    rng = np.random.default_rng(11)
    weights = rng.normal(size=8) / 4
    book("random long and short 8", stocks[:, rng.permutation(20)[:8]] @ weights, first, refit=refit)
    coin, truth = simulated(rng)
    book("simulated coin", coin, truth.first, refit=refit, truth=truth)
    funds = load_factors_dataset().pct_change().dropna().to_numpy()
    book("factor funds, equal weight", funds.mean(axis=1), 750, refit=refit)
    for name, frame, column in (("S&P 500", arch.data.sp500, "Adj Close"), ("Nasdaq", arch.data.nasdaq, "Adj Close")):
        book(name, frame.load()[column].pct_change().dropna().to_numpy(), 2000, refit=refit)
    oil = arch.data.wti.load().iloc[:, 0].dropna().pct_change().dropna().to_numpy()
    book("oil", oil, 2000, refit=refit)


def simulated(rng: np.random.Generator, n: int = 5000, first: int = 2000) -> tuple[Floats, Forecasts]:
    """A GARCH world as wild as a coin's: t with 3.5 degrees, 4 % a day, no leverage effect; and its true law."""
    nu, variance, r, sigma = 3.5, 1.0, np.empty(n), np.empty(n)
    scale = np.sqrt((nu - 2) / nu)
    for i, z in enumerate(rng.standard_t(nu, n) * scale):
        sigma[i] = 0.04 * np.sqrt(variance)
        r[i] = max(sigma[i] * z, -0.9)
        variance = 0.03 + 0.09 * (r[i] / 0.04) ** 2 + 0.88 * variance
    share = 1.0 - np.array(CONFIDENCES)
    edge = student.ppf(share, nu)
    es = student.pdf(edge, nu) / share * (nu + edge**2) / (nu - 1)
    return r, Forecasts(CONFIDENCES, first, np.outer(sigma[first:], -edge * scale), np.outer(sigma[first:], es * scale))


if __name__ == "__main__":
    main()
