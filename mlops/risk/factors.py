"""What drives a book: its beta to a benchmark, its exposure to factors, with honest standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from mlops.errors import DataError
from mlops.stats.dependent import Floats, ewc_cosines, ewc_dof
from mlops.types import Level

LEAST = 60  # bars beyond one a coefficient: three months of days, nu = 6
CONDITION = 1e8  # of the standardised factors: beyond it their coefficients are noise


@dataclass(frozen=True, slots=True)
class Factors:
    """A linear regression of a book's returns on factors, both per bar.

    `names` begin with `alpha` (return a bar that no factor explains); `coefficient`, `error`, `low`, `high` have shape
    (1 + k,). `level` is UNKNOWN, with the reason in `note` and NaN for numbers, where there are too few bars or factors
    that cannot be told apart. `r2`: the share of variance explained.
    """

    names: tuple[str, ...]
    coefficient: Floats
    error: Floats
    low: Floats
    high: Floats
    r2: float
    n: int
    dof: int
    level: Level
    note: str = ""

    def frame(self) -> pd.DataFrame:
        columns = {"coefficient": self.coefficient, "error": self.error, "low": self.low, "high": self.high}
        return pd.DataFrame({"factor": self.names, **columns})


def factor_exposure(returns: Floats, factors: Floats, names: Sequence[str], *, alpha: float = 0.05) -> Factors:
    """Exposure of a book to factors, all at once: what one of them moves while the others stand still.

    Parameters
    ----------
    returns : ndarray of shape (T,)
        Simple returns of the book, oldest first.
    factors : ndarray of shape (T, k)
        Simple returns of the factors over the same bars.
    alpha : float
        1 - coverage of each interval.

    Returns
    -------
    Factors

    Notes
    -----
    Ordinary least squares. Errors are robust to heteroskedastic and autocorrelated residuals: the long-run variance by
    equal-weighted cosines with Student quantiles of nu degrees (Lazarus, Lewis, Stock and Watson 2018), which covers
    where Newey and West's with normal quantiles falls short. Measured for 95 %: 93 to 94 % of samples of 250 to 1,000
    bars with t(5) returns, AR(0.4), and residuals that grow with the market's moves (classical intervals: 60 %).
    Assumes that exposures stay the same over the T bars.

    Raises
    ------
    DataError
        A value is not finite, or the shapes do not fit.
    """
    y, x = np.asarray(returns, dtype=np.float64), np.asarray(factors, dtype=np.float64)
    if y.ndim != 1 or x.shape != (y.size, len(names)):
        got = f"{x.shape} for {y.size} bars and {len(names)} names"
        raise DataError(f"factors must have a row a bar and a column a name, got {got}. Match them.")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise DataError("returns must be finite, got NaN or infinity. Leave those bars out of both.")
    n, k, labels = y.size, len(names), ("alpha", *names)
    needed = LEAST + k + 1
    if n < needed:
        return _unknown(labels, n, f"{n} bars, {needed} needed")
    if (flat := [name for name, s in zip(names, np.ptp(x, axis=0), strict=True) if s == 0]) or np.ptp(y) == 0:
        return _unknown(labels, n, f"{', '.join(flat) or 'the book'} never moved")
    if np.linalg.cond((x - x.mean(axis=0)) / x.std(axis=0)) > CONDITION:
        return _unknown(labels, n, "factors cannot be told apart: one is a combination of others")
    return _fitted(y, np.column_stack([np.ones(n), x]), labels, alpha)


def beta(returns: Floats, benchmark: Floats, *, alpha: float = 0.05) -> Factors:
    """Beta of a book to a benchmark: `factor_exposure` with one factor, named `beta`.

    Examples
    --------
    >>> market = np.random.default_rng(0).standard_t(5, 1000) / 100
    >>> book = 0.5 * market + np.random.default_rng(1).standard_t(5, 1000) / 500
    >>> found = beta(book, market)
    >>> round(float(found.coefficient[1]), 2), bool(found.low[1] < 0.5 < found.high[1])
    (0.49, True)
    """
    return factor_exposure(returns, np.asarray(benchmark, dtype=np.float64)[:, None], ["beta"], alpha=alpha)


def _fitted(y: Floats, x: Floats, names: tuple[str, ...], alpha: float) -> Factors:
    n, dof = y.size, ewc_dof(y.size)
    coefficient, *_ = np.linalg.lstsq(x, y, rcond=None)
    rest = y - x @ coefficient
    bread = np.linalg.inv(x.T @ x / n)
    waves = ewc_cosines((x * rest[:, None]).T)  # (1 + k, nu)
    error = np.sqrt(np.diag(bread @ (waves @ waves.T / dof) @ bread) / n)
    width: Floats = error * student.ppf(1 - alpha / 2, dof)
    r2 = 1 - float(rest @ rest) / float(((y - y.mean()) ** 2).sum())
    loadings = np.asarray(coefficient, dtype=np.float64)
    return Factors(names, loadings, error, loadings - width, loadings + width, r2, n, dof, Level.OK)


def _unknown(names: tuple[str, ...], n: int, note: str) -> Factors:
    none = np.full(len(names), np.nan)
    return Factors(names, none, none, none, none, np.nan, n, 0, Level.UNKNOWN, note)
