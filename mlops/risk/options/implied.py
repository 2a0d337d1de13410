"""The volatility that an option's own price implies, or why it implies none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.risk.options.american import Price, early, pricer
from mlops.risk.options.greeks import values
from mlops.stats.dependent import Floats

LOWEST, HIGHEST = 1e-3, 10.0  # of an American option's volatility: between them it is looked for
SURE = 0.002  # a volatility that is known to a fifth of a point to first order needs no second look
POINTS = 100.0  # in 1.00 of volatility
SILENT = 1e-9  # of the spot: a price that moves by less for a point of volatility does not tell it
BELOW, ABOVE = "the price is not above what exercise pays", "the price is above what the option can be worth"
UNKNOWN = "its price or its underlying's is not known"
MUTE = "the price does not depend on volatility there"


@dataclass(frozen=True, slots=True)
class Implied:
    """Volatilities a year of n options, from their prices.

    `volatility` (n,) is NaN where a price gives none, and `why` then says so. `low` and `high` (n,) are those of the
    prices half a step lower and higher; both equal `volatility` where prices are exact.
    """

    volatility: Floats
    low: Floats
    high: Floats
    why: list[str]


def implied_volatility(
    price: Floats,
    spot: Floats,
    strike: Floats,
    years: Floats,
    *,
    call: NDArray[np.bool_],
    rate: Floats,
    dividend: Floats,
    american: NDArray[np.bool_] | None = None,
) -> tuple[Floats, list[str]]:
    """Volatility a year of each of n options, and an empty text; or NaN and the reason.

    By vollib ("Let's be rational", Jaeckel 2015); where early exercise may pay, by bisection of QuantLib's American
    price. All arguments have shape (n,); `years` > 0. Prices are taken as exact: see `implied_interval`.

    Examples
    --------
    >>> one = np.array([1.0])
    >>> found, why = implied_volatility(
    ...     10.450583572185565 * one, 100 * one, 100 * one, one, call=one > 0, rate=0.05 * one, dividend=0 * one
    ... )
    >>> round(float(found[0]), 10), why
    (0.2, [''])
    """
    terms = (price, spot, strike, years)
    implied = implied_interval(*terms, call=call, rate=rate, dividend=dividend, american=american)
    return implied.volatility, implied.why


def implied_interval(
    price: Floats,
    spot: Floats,
    strike: Floats,
    years: Floats,
    *,
    call: NDArray[np.bool_],
    rate: Floats,
    dividend: Floats,
    american: NDArray[np.bool_] | None = None,
    step: float = 0.0,
) -> Implied:
    """Implied volatility with the interval that a quote rounded to `step` leaves open.

    A quote of 0.01 in steps of 0.01 is a price from 0.005 to 0.015. Where a lower price would be below what exercise
    pays the interval begins at no volatility; where a higher one would be more than the option can be worth it ends at
    HIGHEST. A price that no volatility gives may thus have an interval, whose nearer end is its `volatility`.
    """
    market = _Market.of(spot, strike, years, rate, dividend, call, american)
    volatility, why = market.volatility(price, np.arange(price.size))
    if step <= 0:
        for i in np.flatnonzero(market.vega(volatility) < SILENT * spot):
            volatility[i], why[i] = math.nan, MUTE
        return Implied(volatility, volatility.copy(), volatility.copy(), why)
    with np.errstate(divide="ignore"):
        width = step / 2 / (POINTS * market.vega(volatility))  # to first order
    low, high = np.maximum(volatility - width, 0.0), volatility + width
    open_rows = np.flatnonzero(~(width < SURE) & (np.array(why) != UNKNOWN))
    low[open_rows], below = market.volatility(price - step / 2, open_rows)
    high[open_rows], above = market.volatility(price + step / 2, open_rows)
    for row, lower, upper in zip(open_rows.tolist(), below, above, strict=True):
        if upper == BELOW or lower == ABOVE:  # even with half a step's grace
            volatility[row], why[row] = math.nan, upper if upper == BELOW else lower
            continue
        low[row] = 0.0 if not math.isfinite(low[row]) else low[row]
        high[row] = HIGHEST if not math.isfinite(high[row]) else high[row]
        volatility[row] = min(max(volatility[row] if math.isfinite(volatility[row]) else low[row], low[row]), high[row])
        why[row] = ""
    return Implied(volatility, low, high, why)


@dataclass(frozen=True, slots=True)
class _Market:
    """The terms of n options, arrays of shape (n,); `early`: exercising early may pay."""

    spot: Floats
    strike: Floats
    years: Floats
    rate: Floats
    dividend: Floats
    call: NDArray[np.bool_]
    early: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        spot: Floats,
        strike: Floats,
        years: Floats,
        rate: Floats,
        dividend: Floats,
        call: NDArray[np.bool_],
        american: NDArray[np.bool_] | None,
    ) -> _Market:
        real = np.zeros(spot.size, dtype=bool) if american is None else american & early(rate, dividend, call)
        return cls(spot, strike, years, rate, dividend, call, real)

    def volatility(self, price: Floats, rows: NDArray[np.intp]) -> tuple[Floats, list[str]]:
        """Volatility of each of `rows`, or NaN and the reason; `price` has shape (n,)."""
        volatility, why = np.full(rows.size, math.nan), [""] * rows.size
        prices: dict[bool, Price] = {}
        for place, i in enumerate(rows.tolist()):
            terms = (price, self.spot, self.strike, self.years, self.rate, self.dividend)
            row, kind = tuple(float(term[i]) for term in terms), bool(self.call[i])
            if not all(map(math.isfinite, row)) or min(row[1:4]) <= 0:
                why[place] = UNKNOWN
            elif self.early[i]:
                if kind not in prices:
                    prices[kind] = pricer(kind)
                volatility[place], why[place] = _american(prices[kind], kind, *row)
            else:
                volatility[place], why[place] = _european(kind, *row)
        return volatility, why

    def vega(self, volatility: Floats) -> Floats:
        """Change of each price for a point of volatility; NaN where there is no volatility."""
        vega = np.full(self.spot.size, math.nan)
        known = np.flatnonzero(np.isfinite(volatility))
        if known.size:
            terms = (self.spot, self.strike, self.years, volatility, self.rate, self.dividend)
            sign = np.where(self.call, 1.0, -1.0)
            vega[known] = values(*(np.ascontiguousarray(term[known]) for term in (*terms, sign)))[3]
        return vega


def _european(call: bool, *row: float) -> tuple[float, str]:
    from py_lets_be_rational.exceptions import VolatilityValueException
    from vollib.black_scholes_merton.implied_volatility import implied_volatility as by_vollib

    price, s, k, t, r, q = row
    worth, owed = s * math.exp(-q * t), k * math.exp(-r * t)
    if price <= max(worth - owed if call else owed - worth, 0.0):
        return math.nan, BELOW
    if price >= (worth if call else owed):
        return math.nan, ABOVE
    try:
        return float(by_vollib(*row, "c" if call else "p")), ""
    except VolatilityValueException:  # within rounding of either bound
        return math.nan, MUTE


def _american(of: Price, call: bool, *row: float) -> tuple[float, str]:
    from scipy.optimize import brentq

    price, s, k, t, r, q = row
    pays = max(s - k if call else k - s, 0.0)
    low, high = of(s, k, t, LOWEST, r, q), of(s, k, t, HIGHEST, r, q)
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan, "QuantLib has no price for it"
    if price <= max(low, pays):
        return math.nan, BELOW
    if price >= high:
        return math.nan, ABOVE
    return float(brentq(lambda v: of(s, k, t, v, r, q) - price, LOWEST, HIGHEST, xtol=1e-10)), ""
