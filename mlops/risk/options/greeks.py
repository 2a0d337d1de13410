"""Price and Greeks of European options, thousands at once. Units are in the names.

Black and Scholes (1973), Merton (1973): a lognormal underlying with a continuous dividend (or carry) yield.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops.errors import DataError
from mlops.stats.dependent import Floats

NAMES = (
    "price",
    "delta",  # of the price, for 1.00 of the underlying
    "gamma",  # of the delta, for 1.00 of the underlying
    "vega_per_point",  # of the price, for one point (0.01) of volatility
    "theta_per_day",  # of the price, for one calendar day less
    "rho_per_point",  # of the price, for one point (0.01) of the interest rate
    "vanna_per_point",  # of the delta, for one point of volatility
    "volga_per_point",  # of vega_per_point, for one point of volatility
    "charm_per_day",  # of the delta, for one calendar day less
)


@dataclass(frozen=True, slots=True)
class Greeks:
    """`values` has shape (9, n), a row for each of `NAMES`; `expired` shape (n,): nothing but what they paid."""

    values: Floats
    expired: NDArray[np.bool_]

    def __getitem__(self, name: str) -> Floats:
        """The row of one of `NAMES`."""
        return np.asarray(self.values[NAMES.index(name)])


def greeks(
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    volatility: ArrayLike,
    *,
    call: ArrayLike = True,
    rate: ArrayLike = 0.0,
    dividend: ArrayLike = 0.0,
) -> Greeks:
    """Price and eight Greeks of European options, each for one option on one unit of the underlying.

    Parameters
    ----------
    spot, strike : array_like
        In money, > 0. All arguments broadcast to shape (n,).
    years : array_like
        To expiry, Actual/365. Zero and less: `expired`, worth what it pays, and every Greek but delta is 0.
    volatility : array_like
        A year, as a fraction, >= 0. Zero: the limit, where the forward pays or does not.
    call : array_like of bool
        False: a put.
    rate, dividend : array_like
        Continuously compounded, a year, as fractions.

    Raises
    ------
    DataError
        A value is not finite, a price not positive, or a volatility negative.

    References
    ----------
    Haug (2007), The Complete Guide to Option Pricing Formulas, ch. 2. Equal to QuantLib's to 1e-11.

    Examples
    --------
    >>> found = greeks(100.0, 100.0, 1.0, 0.2, rate=0.05)
    >>> round(float(found["price"][0]), 4), round(float(found["vega_per_point"][0]), 4)
    (10.4506, 0.3752)
    """
    sign = np.where(np.asarray(call, dtype=bool), 1.0, -1.0)
    given = np.atleast_1d(*np.broadcast_arrays(spot, strike, years, volatility, rate, dividend, sign))
    rows = [np.ascontiguousarray(argument, dtype=np.float64) for argument in given]
    names = ("spot", "strike", "years", "volatility", "rate", "dividend")
    for name, row in zip(names, rows, strict=False):
        _refuse(name, row)
    return Greeks(values(*rows), rows[2] <= 0)


def values(
    spot: Floats,
    strike: Floats,
    years: Floats,
    volatility: Floats,
    rate: Floats,
    dividend: Floats,
    sign: Floats,
    out: Floats | None = None,
) -> Floats:
    """The same for contiguous arrays of shape (n,), `sign` 1.0 for a call and -1.0 for a put; nothing is checked.

    `out` of shape (9, n) is filled where it is given: then nothing is allocated.
    """
    from mlops.risk.options import blackscholes  # compiles, or loads what was compiled

    out = np.empty((len(NAMES), spot.size)) if out is None else out
    blackscholes.fill(spot, strike, years, volatility, rate, dividend, sign, out)
    return out


def _refuse(name: str, row: Floats) -> None:
    rule = "positive" if name in ("spot", "strike") else "at least 0" if name == "volatility" else "finite"
    lowest = {"positive": row > 0, "at least 0": row >= 0}.get(rule, True)
    bad = ~(np.isfinite(row) & lowest)
    if bad.any():
        raise DataError(f"{name} of every option must be {rule}, got {row[bad][0]}. Leave the option out.")
