"""The volatility that an option's own price implies, or why it implies none."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlops.risk.american import Price, early, pricer
from mlops.risk.greeks import values
from mlops.stats.dependent import Floats

LOWEST, HIGHEST = 1e-3, 10.0  # of an American option's volatility: between them it is looked for
SILENT = 1e-9  # of the spot: a price that moves by less for a point of volatility does not tell it
BELOW, ABOVE = "the price is not above what exercise pays", "the price is above what the option can be worth"
MUTE = "the price does not depend on volatility there"


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
    price. All arguments have shape (n,); `years` > 0.

    Examples
    --------
    >>> one = np.array([1.0])
    >>> found, why = implied_volatility(
    ...     10.450583572185565 * one, 100 * one, 100 * one, one, call=one > 0, rate=0.05 * one, dividend=0 * one
    ... )
    >>> round(float(found[0]), 10), why
    (0.2, [''])
    """
    real = np.zeros(price.size, dtype=bool) if american is None else american & early(rate, dividend, call)
    found, why = np.full(price.size, math.nan), [""] * price.size
    prices: dict[bool, Price] = {}
    for i in range(price.size):
        row = tuple(float(a[i]) for a in (price, spot, strike, years, rate, dividend))
        kind = bool(call[i])
        if not all(map(math.isfinite, row)) or min(row[1:4]) <= 0:
            why[i] = "its price or its underlying's is not known"
        elif real[i]:
            if kind not in prices:
                prices[kind] = pricer(kind)
            found[i], why[i] = _american(prices[kind], kind, *row)
        else:
            found[i], why[i] = _european(kind, *row)
    return _telling(found, why, spot, strike, years, rate, dividend, np.where(call, 1.0, -1.0))


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


def _telling(found: Floats, why: list[str], spot: Floats, *rest: Floats) -> tuple[Floats, list[str]]:
    """Without those whose price would be the same at another volatility: rounding speaks there, not the market."""
    strike, years, rate, dividend, sign = rest
    known = np.flatnonzero(np.isfinite(found))
    at = [np.ascontiguousarray(a[known]) for a in (spot, strike, years, found, rate, dividend, sign)]
    vega = values(*at)[3] if known.size else np.empty(0)
    for i in known[vega < SILENT * at[0]]:
        found[i], why[i] = math.nan, MUTE
    return found, why
