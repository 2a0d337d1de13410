"""What an option book gains or loses in scenarios of its underlyings: by its Greeks, and by pricing it anew.

The former is quick and goes into a scenario VaR; the latter says how far off it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.risk.measures import var_es
from mlops.risk.options.american import pricer
from mlops.risk.options.greeks import values
from mlops.risk.options.positions import MONEY, OptionGreeks
from mlops.stats.dependent import Floats
from mlops.types import Kind

POINTS = 100.0  # in 1.00 of volatility
CELLS = 262_144  # scenarios x options priced at a time: 19 MB


@dataclass(frozen=True, slots=True)
class Approximation:
    """The P&L by Greeks against the P&L by pricing anew, over S scenarios.

    `var_taylor`, `var_full`: losses at `confidence`, positive, in money. `worst`: largest difference, `rms`: its root
    mean square, in money. `positions` were checked.
    """

    var_taylor: float
    var_full: float
    worst: float
    rms: float
    confidence: float
    positions: int

    @property
    def var_error(self) -> float:
        """Error of the VaR by Greeks, over the full one; NaN where that is not a loss."""
        return self.var_taylor / self.var_full - 1 if self.var_full > 0 else float("nan")


def taylor_pnl(
    returns: Floats,
    underlyings: Sequence[str],
    book: OptionGreeks,
    *,
    volatility_points: Floats | None = None,
    days: float = 0.0,
) -> Floats:
    """P&L of each option position in each scenario, by delta, gamma and theta, with vega where volatility moves.

    Parameters
    ----------
    returns : ndarray of shape (S, N)
        Simple returns of the underlyings over the horizon, finite, > -1.
    underlyings : sequence of str, length N
        Names of the columns. Every underlying of the book must be among them.
    volatility_points : ndarray of shape (S, N), optional
        Change of each underlying's volatilities, in points (0.01); adds vega, vanna and volga.
    days : float
        Calendar days that pass; adds theta.

    Returns
    -------
    ndarray of shape (S, n)
        In money of each position's currency, a gain positive, columns in the order of `book.held`.

    Raises
    ------
    DataError
        An underlying has no column, or a return is not finite or not above -1.
    """
    column = _columns(returns, underlyings, book)
    greek = dict(zip(MONEY, book.money, strict=True))
    x = returns[:, column]
    # gamma_value_per_percent = gamma x spot^2 / 100, and the price moves by gamma x (spot x return)^2 / 2
    pnl = x * (greek["delta_value"] + x * (50.0 * greek["gamma_value_per_percent"])) + days * greek["theta_per_day"]
    if volatility_points is not None:
        v = _volatility(volatility_points, returns)[:, column]
        pnl += v * (greek["vega_per_point"] + x * greek["vanna_value_per_point"] + v * (0.5 * greek["volga_per_point"]))
    return np.asarray(pnl)


def book_pnl(returns: Floats, underlyings: Sequence[str], book: OptionGreeks, *, days: float = 0.0) -> Floats:
    """The same for the whole book, shape (S,): Greeks are added up by underlying first, so that n does not matter.

    Money of different currencies must not meet in one book here.
    """
    if book.held["currency"].nunique() > 1:
        got = sorted(book.held["currency"].unique())
        raise DataError(f"a book must be of one currency to be added up, got {got}. Take `taylor_pnl` and convert.")
    column, n = _columns(returns, underlyings, book), len(underlyings)
    greek = dict(zip(MONEY, book.money, strict=True))
    delta, gamma = (np.bincount(column, greek[g], n) for g in ("delta_value", "gamma_value_per_percent"))
    return np.asarray(returns @ delta + (returns * returns) @ (50.0 * gamma) + days * greek["theta_per_day"].sum())


def full_pnl(
    returns: Floats,
    underlyings: Sequence[str],
    book: OptionGreeks,
    *,
    volatility_points: Floats | None = None,
    days: float = 0.0,
) -> Floats:
    """Profit with every option priced anew in every scenario: 1,500 prices a second where early exercise may pay.

    What expires within `days` is worth what it pays. Volatility that falls to zero and below is taken as zero.
    """
    column = _columns(returns, underlyings, book)
    moved = None if volatility_points is None else _volatility(volatility_points, returns)
    held = book.held
    strike = held["strike"].to_numpy(dtype=np.float64)
    amount = held["quantity"].to_numpy(dtype=np.float64) * held["multiplier"].to_numpy(dtype=np.float64)
    sign = np.where(held["kind"].to_numpy() == Kind.CALL.value, 1.0, -1.0)
    pnl = np.empty((len(returns), len(held)))
    rows = max(1, CELLS // max(1, len(held)))
    for start in range(0, len(returns), rows):
        x = returns[start : start + rows][:, column]
        volatility = book.volatility + (0.0 if moved is None else moved[start : start + rows][:, column] / POINTS)
        terms = (book.spot * (1 + x), strike, book.years - days / 365.0, np.maximum(volatility, 0.0))
        given = (*terms, book.rate, book.dividend, sign)
        flat = [np.ascontiguousarray(np.broadcast_to(a, x.shape)).ravel() for a in given]
        worth = values(*flat)[0].reshape(x.shape)
        for j in np.flatnonzero(book.american).tolist():
            worth[:, j] = _american(*(np.broadcast_to(term, x.shape)[:, j] for term in given), european=worth[:, j])
        pnl[start : start + rows] = (worth - book.each[0]) * amount
    return pnl


def _american(*terms: Floats, european: Floats) -> Floats:
    """American prices of shape (S,), at least those of exercise now and of no early exercise (all where QuantLib has
    no price: far in or out of the money)."""
    spot, strike, years, volatility, rate, dividend, sign = terms
    price, worth = pricer(bool(sign[0] > 0)), np.full(len(spot), np.nan)
    for i in range(len(spot)):
        if years[i] > 0 and volatility[i] > 0:
            worth[i] = price(*(float(term[i]) for term in (spot, strike, years, volatility, rate, dividend)))
    return np.asarray(np.fmax(worth, np.maximum(european, np.maximum(sign * (spot - strike), 0.0))))


def approximation(
    returns: Floats,
    underlyings: Sequence[str],
    book: OptionGreeks,
    *,
    days: float = 0.0,
    confidence: float = 0.99,
    volatility_points: Floats | None = None,
) -> Approximation:
    """How far the P&L by Greeks is off in these scenarios."""
    taylor, full = (
        pnl(returns, underlyings, book, volatility_points=volatility_points, days=days).sum(axis=1)
        for pnl in (taylor_pnl, full_pnl)
    )
    off = taylor - full
    return Approximation(
        var_taylor=var_es(taylor, confidence).var,
        var_full=var_es(full, confidence).var,
        worst=float(np.abs(off).max()),
        rms=float(np.sqrt(np.mean(off * off))),
        confidence=confidence,
        positions=len(book.held),
    )


def _columns(returns: Floats, underlyings: Sequence[str], book: OptionGreeks) -> NDArray[np.intp]:
    if returns.ndim != 2 or returns.shape[1] != len(underlyings):
        raise DataError(f"returns must have a column an underlying, got {returns.shape} and {len(underlyings)} names.")
    if not (np.isfinite(returns).all() and (returns > -1).all()):
        raise DataError("returns must be finite and above -1, got another. Leave the scenario out.")
    place = {name: i for i, name in enumerate(underlyings)}
    lacking = sorted(set(book.held["underlying"]) - place.keys())
    if lacking:
        raise DataError(f"every underlying must have a column, got none for {lacking}. Add scenarios of it.")
    return np.array([place[name] for name in book.held["underlying"]], dtype=np.intp)


def _volatility(points: Floats, returns: Floats) -> Floats:
    if points.shape != returns.shape or not np.isfinite(points).all():
        raise DataError(
            f"volatility_points must be finite and as returns, got shape {points.shape}. Match the returns."
        )
    return points
