"""American options: priced by QuantLib (QdFp), Greeks by bumping that price. About 1,500 options a second.

A price depends on time, rate, dividend and volatility only through rate x years, dividend x years and
volatility x sqrt(years), and is homogeneous in spot and strike. So one QuantLib option of one year and strike 1 prices
all of them, to the second, and nothing is built anew. The scheme's own error (Andersen, Lake and Offengenden 2016; 1e-6
of the strike) is smooth, so that differences of prices are good to 1e-5 of themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops.risk.options.greeks import NAMES
from mlops.stats.dependent import Floats

SPOT_STEP = 1e-3  # of the spot
VOLATILITY_STEP, RATE_STEP = 1e-3, 1e-4
DAYS, POINT = 365.0, 0.01
HALF_DAY = 0.5 / DAYS
Price = Callable[[float, float, float, float, float, float], float]


def early(rate: Floats, dividend: Floats, call: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where exercising early can pay at all; elsewhere an American option is a European one (Merton 1973)."""
    return ~np.where(call, (dividend <= 0) & (rate >= 0), (rate <= 0) & (dividend >= 0))


def pricer(call: bool) -> Price:
    """A function of spot, strike, years, volatility, rate and dividend: the price, NaN where QuantLib has none.

    It has none where dividend < rate < 0 for a put (and the mirror of it for a call): there are two boundaries then.
    Not for use by two threads at once.
    """
    import QuantLib

    clock, today = QuantLib.Actual365Fixed(), QuantLib.Date(1, 1, 2100)  # later than any global evaluation date
    quotes = [QuantLib.SimpleQuote(1.0) for _ in range(4)]
    spot, rate, dividend, volatility = (QuantLib.QuoteHandle(quote) for quote in quotes)
    process = QuantLib.BlackScholesMertonProcess(
        spot,
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, dividend, clock)),
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, rate, clock)),
        QuantLib.BlackVolTermStructureHandle(
            QuantLib.BlackConstantVol(today, QuantLib.NullCalendar(), volatility, clock)
        ),
    )
    payoff = QuantLib.PlainVanillaPayoff(QuantLib.Option.Call if call else QuantLib.Option.Put, 1.0)
    option = QuantLib.VanillaOption(payoff, QuantLib.AmericanExercise(today, today + 365))
    scheme = QuantLib.QdFpAmericanEngine.fastScheme()
    option.setPricingEngine(QuantLib.QdFpAmericanEngine(process, scheme))
    return _price(option, quotes)


def _price(option: Any, quotes: list[Any]) -> Price:
    def price(spot: float, strike: float, years: float, volatility: float, rate: float, dividend: float) -> float:
        asked = (spot / strike, rate * years, dividend * years, volatility * years**0.5)
        for quote, value in zip(quotes, asked, strict=True):
            quote.setValue(float(value))
        try:
            return float(strike * option.NPV())
        except RuntimeError:  # QuantLib's only way to say no
            return float("nan")

    return price


def bumped(
    spot: Floats, strike: Floats, years: Floats, volatility: Floats, rate: Floats, dividend: Floats, call: Floats
) -> Floats:
    """Price and Greeks in the order of `greeks.NAMES`, shape (9, n), for arrays of shape (n,); `years` and `volatility`
    > 0, `call` not 0 for a call. A column is NaN where there is no price.
    """
    prices: dict[bool, Price] = {}
    out = np.empty((len(NAMES), spot.size))
    for i in range(spot.size):
        kind = bool(call[i] > 0)
        price = prices.setdefault(kind, pricer(kind)) if kind not in prices else prices[kind]
        row = (spot[i], strike[i], years[i], volatility[i], rate[i], dividend[i])
        out[:, i] = _differences(price, *(float(x) for x in row))
    return out


def _differences(price: Price, s: float, k: float, t: float, v: float, r: float, q: float) -> list[float]:
    hs, hv, ht = SPOT_STEP * s, min(VOLATILITY_STEP, v / 2), min(HALF_DAY, t / 2)

    def at(ds: int = 0, dv: int = 0, dt: int = 0, dr: int = 0) -> float:
        return price(s + ds * hs, k, t + dt * ht, v + dv * hv, r + dr * RATE_STEP, q)

    def cross(dv: int, dt: int) -> float:
        return at(1, dv, dt) - at(-1, dv, dt) - at(1, -dv, -dt) + at(-1, -dv, -dt)

    here, up, down, wild, calm = at(), at(1), at(-1), at(dv=1), at(dv=-1)
    return [
        here,
        (up - down) / (2 * hs),
        (up - 2 * here + down) / hs**2,
        (wild - calm) / (2 * hv) * POINT,
        -(at(dt=1) - at(dt=-1)) / (2 * ht) / DAYS,
        (at(dr=1) - at(dr=-1)) / (2 * RATE_STEP) * POINT,
        cross(1, 0) / (4 * hs * hv) * POINT,
        (wild - 2 * here + calm) / hv**2 * POINT**2,
        -cross(0, 1) / (4 * hs * ht) / DAYS,
    ]
