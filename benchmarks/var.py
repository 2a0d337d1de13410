"""VaR and ES of one book after another, forecast walk-forward, beside what others ship: `python -m benchmarks.var`.

20 US stocks at equal weight (2000-01-03 to 2022-12-28, losses in per cent) give the figures in the last line; all of
them are of the default, which `mlops.risk.choice` picks from past scores alone. Then the S&P 500 with ranges (2004 to
2018, log returns), and books that nothing was set by: a random long and short one, a simulated coin with the true law
beside it. Nasdaq and oil were looked at when the rule of the choice was set. `--quick` fits every 40 bars.
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
from skfolio.datasets import load_sp500_dataset
from skfolio.measures import cvar, value_at_risk

from mlops.risk.backtest import Backtest, judge
from mlops.risk.choice import CANDIDATES, RANGE_CANDIDATES, chosen
from mlops.risk.forecasts import Forecasts, walk
from mlops.risk.measures import CONFIDENCES

Floats = NDArray[np.float64]
SHOWN_TOO = ("garch_t", "fhs_gjr")  # compared with, never chosen
PERCENT = 100.0
SAMPLE = 50  # days at which our historical simulation is held against skfolio's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fit every 40 bars instead of 10 and 20")
    refit = 40 if parser.parse_args().quick else None
    started = time.process_time()
    prices = load_sp500_dataset().pct_change().dropna()
    stocks, first = prices.to_numpy(), int(prices.index.searchsorted(pd.Timestamp("2000-01-01")))
    found = book("20 stocks, equal weight", stocks.mean(axis=1), first, refit=refit or 10, extra=SHOWN_TOO)
    same_as_skfolio(stocks.mean(axis=1), first)
    ranges(refit or 10)
    others(stocks, first, refit or 20)
    at99, at975, at95 = found[0.99], found[0.975], found[0.95]
    result = {
        "ql99": round(at99.quantile_loss * PERCENT, 4),
        "fz99": round(at99.fz, 4),
        "fz975": round(at975.fz, 4),
        "ql95": round(at95.quantile_loss * PERCENT, 4),
        "exceedances99": at99.exceedances,
        "min_p99": round(min(at99.p_values.values()), 3),
        "cpu_s": round(time.process_time() - started),
    }
    print(json.dumps(result))


def book(
    name: str,
    returns: Floats,
    first: int,
    *,
    refit: int,
    models: tuple[str, ...] = CANDIDATES,
    extra: tuple[str, ...] = (),
    ohlc: Floats | None = None,
    truth: Forecasts | None = None,
) -> dict[float, Backtest]:
    """Walk every model over a book, print the table, and return the default's backtests."""
    walked = walk([*models, *extra], returns, first, ohlc=ohlc, refit=refit)
    default, history = chosen(returns, {model: walked[model] for model in models})
    rows: dict[str, Forecasts] = {"DEFAULT": default, **walked} | ({} if truth is None else {"the true law": truth})
    print(f"\n{name}: {returns.size - first} bars; failed fits {sum(len(f.notes) for f in walked.values())}")
    print(f"led in the end: {', '.join(history[-1][1])}")
    for confidence in reversed(CONFIDENCES):
        print(f"{confidence:.1%}: {(1 - confidence) * (returns.size - first):.0f} exceedances expected")
        for model, forecasts in rows.items():
            print(row(model, judged(returns, forecasts, confidence, walked)))
    return {confidence: judged(returns, default, confidence, walked) for confidence in CONFIDENCES}


def judged(returns: Floats, forecasts: Forecasts, confidence: float, walked: Mapping[str, Forecasts]) -> Backtest:
    scaled = in_percent(forecasts)
    return judge(PERCENT * returns, scaled, confidence, against=in_percent(walked["historical"]))


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
    models = RANGE_CANDIDATES
    book("S&P 500 with ranges", logs, first, refit=refit, models=models, extra=("range_gjr",), ohlc=ohlc[1:])


def others(stocks: Floats, first: int, refit: int) -> None:
    import arch.data.nasdaq
    import arch.data.wti

    rng = np.random.default_rng(11)
    weights = rng.normal(size=8) / 4
    book("random long and short 8", stocks[:, rng.permutation(20)[:8]] @ weights, first, refit=refit)
    coin, truth = simulated(rng)
    book("simulated coin", coin, truth.first, refit=refit, truth=truth)
    nasdaq = arch.data.nasdaq.load()["Adj Close"].pct_change().dropna().to_numpy()
    book("Nasdaq", nasdaq, 2000, refit=refit)
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
