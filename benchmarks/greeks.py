"""Price and Greeks of European options beside QuantLib and vollib: `python -m benchmarks.greeks`.

Options a CPU second on one thread, medians of several passes over the same options; differences from QuantLib's
analytic engine in its own units (vega and rho for 1.00, theta a year). We compute nine values, the peers six.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import QuantLib

from mlops.risk.options import greeks as room
from mlops.risk.options.american import bumped
from mlops.risk.options.implied import implied_volatility
from mlops.risk.options.positions import Contracts
from mlops.types import POSITION_COLUMNS

SIZES = {"1k": 1_000, "100k": 100_000}
CHECKED, SCALAR, AMERICAN = 20_000, 2_000, 200
TODAY = QuantLib.Date(1, 1, 2100)
RAW = {
    "price": 1.0,
    "delta": 1.0,
    "gamma": 1.0,
    "vega_per_point": 100.0,
    "theta_per_day": 365.0,
    "rho_per_point": 100.0,
}


def options(n: int) -> list[Any]:
    """spot, strike, years, volatility, rate, dividend, sign: around the money, five days to two years."""
    rng = np.random.default_rng(0)
    years = rng.integers(5, 730, n) / 365
    sign = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    terms = rng.uniform(80, 120, n), rng.uniform(70, 130, n), years, rng.uniform(0.1, 0.6, n)
    return [*terms, np.full(n, 0.03), np.full(n, 0.01), sign]


def rate(work: Callable[[], Any], n: int, repeats: int) -> float:
    """Options a CPU second: of the median pass; the first does not count."""
    work()
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return n / median(spent)


def repeated(n: int) -> tuple[Callable[[], None], int]:
    """Enough calls on n options that the clock's step does not matter; options in all."""
    terms, out, times = options(n), np.empty((len(room.NAMES), n)), max(1, 200_000 // n)

    def work() -> None:
        for _ in range(times):
            room.values(*terms, out=out)

    return work, times * n


def by_quantlib(s: float, k: float, t: float, v: float, r: float, q: float, sign: float) -> tuple[float, ...]:
    """The six values that QuantLib's analytic engine has, everything built anew."""
    clock, calendar = QuantLib.Actual365Fixed(), QuantLib.NullCalendar()
    process = QuantLib.BlackScholesMertonProcess(
        QuantLib.QuoteHandle(QuantLib.SimpleQuote(s)),
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(TODAY, q, clock)),
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(TODAY, r, clock)),
        QuantLib.BlackVolTermStructureHandle(QuantLib.BlackConstantVol(TODAY, calendar, v, clock)),
    )
    kind = QuantLib.Option.Call if sign > 0 else QuantLib.Option.Put
    option = QuantLib.VanillaOption(
        QuantLib.PlainVanillaPayoff(kind, k), QuantLib.EuropeanExercise(TODAY + round(t * 365))
    )
    option.setPricingEngine(QuantLib.AnalyticEuropeanEngine(process))
    return option.NPV(), option.delta(), option.gamma(), option.vega(), option.theta(), option.rho()


def by_calculator(s: float, k: float, t: float, v: float, r: float, q: float, sign: float) -> tuple[float, ...]:
    """The same by QuantLib's formula object, its quickest way for one option."""
    payoff = QuantLib.PlainVanillaPayoff(QuantLib.Option.Call if sign > 0 else QuantLib.Option.Put, k)
    one = QuantLib.BlackCalculator(payoff, s * math.exp((r - q) * t), v * math.sqrt(t), math.exp(-r * t))
    return one.value(), one.delta(s), one.gamma(s), one.vega(t), one.theta(s, t), one.rho(t)


def by_vollib(s: float, k: float, t: float, v: float, r: float, q: float, sign: float) -> tuple[float, ...]:
    from vollib.black_scholes_merton import black_scholes_merton
    from vollib.black_scholes_merton.greeks import analytical

    flag = "c" if sign > 0 else "p"
    greeks = (analytical.delta, analytical.gamma, analytical.vega, analytical.theta, analytical.rho)
    return black_scholes_merton(flag, s, k, t, r, v, q), *(greek(flag, s, k, t, r, v, q) for greek in greeks)


def scalar(one: Callable[..., tuple[float, ...]], n: int) -> float:
    rows = [*zip(*(column[:n].tolist() for column in options(n)), strict=True)]
    return rate(lambda: [one(*row) for row in rows], n, 3)


def difference() -> dict[str, float]:
    """Largest difference from QuantLib of each value, in QuantLib's units."""
    terms = options(CHECKED)
    ours = dict(zip(room.NAMES, room.values(*terms), strict=True))
    theirs = np.array([by_quantlib(*row) for row in zip(*(column.tolist() for column in terms), strict=True)]).T
    return {name: float(np.abs(ours[name] * RAW[name] - row).max()) for name, row in zip(RAW, theirs, strict=True)}


def book(n: int) -> float:
    """Milliseconds of CPU for the Greeks in money of n option positions, sorted out before."""
    spot, strike, years, volatility, *_, sign = options(n)
    now = datetime(2026, 1, 5, tzinfo=UTC)
    rows = {
        "strategy": "a",
        "book": "b",
        "quantity": 1.0,
        "unit": [f"u{i}" for i in range(n)],
        "currency": "USD",
        "kind": np.where(sign > 0, "call", "put"),
        "multiplier": 100.0,
        "underlying": [f"s{i % 50}" for i in range(n)],
        "strike": strike,
        "expiry": [pd.Timestamp(now + timedelta(days=365 * t)) for t in years],
        "american": False,
    }
    frame = pd.DataFrame(rows).reindex(columns=[*POSITION_COLUMNS])
    known = {"volatilities": dict(zip(frame["unit"], volatility, strict=True)), "rate": 0.03}
    contracts, spots = Contracts.of(frame), {f"s{i}": float(spot[i]) for i in range(50)}
    return 1e3 * n / rate(lambda: contracts.greeks(spots, as_of=now, **known), n, 200)


def implied(n: int) -> float:
    spot, strike, years, _, r, q, sign = terms = options(n)
    price = room.values(*terms)[0]
    return rate(lambda: implied_volatility(price, spot, strike, years, call=sign > 0, rate=r, dividend=q), n, 3)


def main() -> None:
    off = difference()
    rates = {name: rate(*repeated(n), repeats=15) for name, n in SIZES.items()}
    s, k, t, v, r, q, sign = options(AMERICAN)
    peers = {
        "quantlib_built": scalar(by_quantlib, SCALAR),
        "quantlib_calculator": scalar(by_calculator, SCALAR),
        "vollib": scalar(by_vollib, SCALAR),
    }
    others = {
        "american_per_cpu_s": rate(lambda: bumped(s, k, t, v, r + 0.02, q, sign), AMERICAN, 3),
        "implied_per_cpu_s": implied(SCALAR),
        "positions_ms_1000": book(1_000),
    }
    versions = f"Python {sys.version.split()[0]}, QuantLib {QuantLib.__version__}"
    print(f"European options, CPU seconds of one thread; {versions}\n")
    for name, found in {**{f"ours, nine values, {size}": x for size, x in rates.items()}, **peers}.items():
        print(f"{name:34s}{found:16,.0f} a second")
    for name, found in others.items():
        print(f"{name:34s}{found:16,.1f}")
    print(f"\nlargest difference from QuantLib, {CHECKED:,} options")
    for name, found in off.items():
        print(f"{name:34s}{found:16.1e}")
    result = {
        "options_per_cpu_s": round(rates["100k"]),
        "max_abs_diff": max(off.values()),
        "options_per_cpu_s_1000": round(rates["1k"]),
        **{name: round(found, 1) for name, found in others.items()},
        "peers": {name: round(found) for name, found in peers.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
