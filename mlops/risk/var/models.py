"""VaR and ES models: volatility filters and a law of what they leave over. One line in `MODELS` adds one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.risk.measures import Floats, finite
from mlops.risk.var.distributions import Aged, Empirical, Gaussian, Law, Pareto, Student
from mlops.risk.var.filters import RANGE_DECAY, Ewma, Filter, Flat, Garch, Recursion, range_squares

HISTORY = 2000  # bars that a filter is fitted to: eight years of days hold a crisis, and are not another market yet


@dataclass(frozen=True, slots=True)
class Model:
    """The geometric mean of the filters' volatilities, and a law of what is left of a bar without it."""

    filters: tuple[Filter, ...]
    law: Law
    history: int = HISTORY

    @property
    def least(self) -> int:
        """Bars under which it cannot be fitted."""
        return max(self.law.least, *(rule.least for rule in self.filters))

    @property
    def ranged(self) -> bool:
        """Whether it needs open, high, low and close."""
        return any(rule.ranged for rule in self.filters)


GJR = Garch(asymmetric=True)
GJR_SKEWED = Garch(asymmetric=True, residuals="skewt")
TGARCH_SKEWED = Garch(asymmetric=True, power=1.0, residuals="skewt")
RANGE = Ewma(RANGE_DECAY, ranged=True)
LONG = 4000
MODELS: dict[str, Model] = {
    "historical": Model((Flat(),), Empirical(500)),
    "normal": Model((Flat(),), Gaussian(estimated=True)),
    "ewma_normal": Model((Ewma(),), Gaussian()),
    "age_weighted": Model((Flat(),), Aged()),
    "garch_t": Model((Garch(residuals="t"),), Student()),
    "gjr_skewt": Model((GJR_SKEWED,), Student()),
    "fhs_ewma": Model((Ewma(),), Empirical(1500)),
    "fhs_garch": Model((Garch(),), Empirical()),
    "fhs_gjr": Model((GJR,), Empirical()),
    "fhs_gjr_skewt": Model((GJR_SKEWED,), Empirical()),
    "evt_gjr": Model((GJR,), Pareto()),
    "evt_gjr_skewt": Model((GJR_SKEWED,), Pareto()),
    "evt_gjr_long": Model((GJR_SKEWED,), Pareto(LONG), LONG),
    "evt_tgarch": Model((TGARCH_SKEWED,), Pareto()),
    "evt_gjr_tgarch": Model((GJR_SKEWED, TGARCH_SKEWED), Pareto()),
    "evt_gjr_tgarch_ewma": Model((GJR_SKEWED, TGARCH_SKEWED, Ewma()), Pareto()),
    "range_ewma": Model((RANGE,), Empirical()),
    "range_gjr": Model((Garch(asymmetric=True, zero_mean=True), RANGE), Empirical()),
    "range_gjr_evt": Model((GJR_SKEWED, RANGE), Pareto()),
    "range_gjr_tgarch_evt": Model((GJR_SKEWED, TGARCH_SKEWED, RANGE, RANGE), Pareto()),
}


@dataclass(frozen=True, slots=True)
class Filtered:
    """A series seen through a model's filters, in units of `unit`: `sigma` holds one value more, for the next bar."""

    residuals: Floats
    sigma: Floats
    variances: tuple[float, ...]  # of the next bar, a filter each
    mean: float
    unit: float


def needs(names: Iterable[str]) -> tuple[int, bool]:
    """Bars under which these models, or one of them, cannot be fitted; and whether any needs ranges."""
    models = [MODELS[name] for name in names]
    return max(model.least for model in models), any(model.ranged for model in models)


def series(returns: ArrayLike, ohlc: ArrayLike | None, *, least: int, ranged: bool) -> tuple[Floats, Floats | None]:
    """Returns, and the squares that ranges stand for where `ranged`; a `DataError` where the model cannot take them.

    A book of many times its equity may return less than -1 in a bar: it loses more than it has.
    """
    r = finite(returns, "returns", least=least)
    if not ranged:
        return r, None
    if ohlc is None:
        raise DataError("ohlc must be given to a model of ranges, got none. Pass the bars or choose another model.")
    squares = range_squares(np.asarray(ohlc, dtype=np.float64))
    if squares.size != r.size:
        raise DataError(f"ohlc must have the bars of the {r.size} returns, got {squares.size}. Match them.")
    return r, squares


Paths = dict[tuple[Recursion, int, bool], Floats]


def filtered(
    model: Model,
    recursions: tuple[Recursion, ...],
    returns: Floats,
    squares: Floats | None,
    unit: float,
    shared: Paths | None = None,
) -> Filtered:
    """The series through the filters with these parameters, `unit` being the spread they are relative to.

    `shared` keeps variances of the last bars of one series, for models that share a filter.
    """
    r, paths = returns / unit, {} if shared is None else shared
    variances = []
    for rule, recursion in zip(model.filters, recursions, strict=True):
        key = (recursion, r.size, rule.ranged)
        if key not in paths:
            ranges = squares / unit**2 if rule.ranged and squares is not None else None
            paths[key] = recursion.variances(r, ranges)
        variances.append(paths[key])
    sigma = np.sqrt(variances[0]) if len(variances) == 1 else np.exp(np.log(variances).mean(axis=0) / 2)
    mean = sum(member.mean for member in recursions) / len(recursions)
    following = tuple(float(path[-1]) for path in variances)
    return Filtered((r - mean) / sigma[:-1], sigma, following, mean, unit)


def unit_of(returns: Floats) -> float:
    """Spread that parameters are relative to: the standard deviation, 1 for a constant."""
    return float(returns.std()) or 1.0
