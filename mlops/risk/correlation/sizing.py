"""How large a position may be: caps, then the book's forecast volatility, with correlation as it is or as it may get.

Pure and the same for the same input. Signs are kept. No weight grows unless `scale_up` says so, and then within the
caps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.risk.correlation.breakdown import State
from mlops.risk.correlation.diversification import clusters
from mlops.risk.correlation.matrices import DECAY, WINDOW, Correlation, Floats, ages, checked_returns, correlation
from mlops.risk.correlation.threshold import BARS_PER_YEAR

ROUNDING = 1e-13  # relative: sums of a thousand shares err by less; what is over a line by no more is on it


@dataclass(frozen=True, slots=True)
class SizingLimits:
    """The lines. Shares of equity; volatility a year.

    Parameters
    ----------
    volatility_target : float
        The user's default, 15 %.
    max_weight : float
        Of one unit, long or short.
    max_cluster : float
        Gross, of units whose mean correlation is at least `cluster`: nearly one bet.
    max_gross : float
        Of the whole book; 1 is no leverage.
    stress : float
        While correlation is broken, how far every pair goes from its correlation to the worst one for the book, 0 to 1.
    scale_up : bool
        Whether a book under its volatility target grows to it. Off: sizing only ever makes smaller.
    """

    volatility_target: float = 0.15
    max_weight: float = 0.20
    max_cluster: float = 0.40
    cluster: float = 0.70
    max_gross: float = 1.0
    stress: float = 0.5
    scale_up: bool = False
    bars_per_year: int = BARS_PER_YEAR

    def __post_init__(self) -> None:
        for name in ("volatility_target", "max_weight", "max_cluster", "max_gross", "bars_per_year"):
            if not (value := getattr(self, name)) > 0:
                raise DataError(f"{name} must be positive, got {value}. Give a share of equity; 0.15 is 15 %.")
        if not 0 <= self.stress <= 1:
            raise DataError(f"stress must lie between 0 and 1, got {self.stress}. 0 leaves correlations as they are.")


@dataclass(frozen=True, slots=True)
class Forecast:
    """What sizing knows of the units: `volatility` a bar, shape (N,), NaN where unknown; their correlation; its
    state."""

    volatility: Floats
    correlation: Correlation
    state: State = State.UNKNOWN


@dataclass(frozen=True, slots=True)
class Sized:
    """`weights` and why each is not what was asked for (empty: it is). `volatility`: a year, of the book as it was
    wanted within the caps; NaN where nothing is known. `scale`: what volatility made of all weights."""

    weights: Floats
    why: tuple[str, ...]
    volatility: float
    scale: float


def forecast(returns: Floats, *, state: State = State.UNKNOWN, window: int = WINDOW, decay: float = DECAY) -> Forecast:
    """Exponentially weighted volatility and shrunk correlation of the units, from what is known.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Simple returns, oldest first; the last `window` are used. NaN: no bar. A unit that `correlation` leaves out has
        no volatility either.
    """
    last = checked_returns(returns)[-window:]
    shrunk = correlation(last, "shrunk")
    weight = ages(np.arange(len(last) - 1, -1, -1), decay)[:, None] * ~np.isnan(last)
    volatility = np.full(last.shape[1], np.nan)
    columns = shrunk.columns
    squares = (weight * np.where(np.isnan(last), 0.0, last) ** 2).sum(axis=0)[columns]
    volatility[columns] = np.sqrt(squares / weight.sum(axis=0)[columns])
    return Forecast(volatility, shrunk, state)


def size(wanted: Floats, known: Forecast, limits: SizingLimits | None = None) -> Sized:
    """Weights that a book may have, and why.

    First each unit is capped, then each cluster, then the gross weight. Then all are scaled by target / forecast, where
    the forecast is above the target. A unit without history is taken for as wild as the wildest other one, and for
    moving with the book; where no unit has any, only the caps hold.

    Parameters
    ----------
    wanted : ndarray of shape (N,)
        Value / equity, signed. NaN is refused.

    Examples
    --------
    >>> import numpy as np
    >>> r = 0.02 * np.random.default_rng(0).normal(size=(60, 2))
    >>> sized = size(np.array([0.5, -0.1]), forecast(r))
    >>> sized.weights.tolist(), sized.why
    ([0.2, -0.1], ('20% is the most of one unit, 50% wanted', ''))
    """
    lines = limits or SizingLimits()
    weights = np.array(wanted, dtype=np.float64)
    if weights.shape != known.volatility.shape or not np.isfinite(weights).all():
        raise DataError(f"wanted must be {len(known.volatility)} finite weights, got {wanted}. One for each unit.")
    why: list[list[str]] = [[] for _ in weights]
    groups = _groups(known.correlation, len(weights), lines.cluster)
    _cap_units(weights, lines, why)
    _cap_clusters(weights, lines, groups, why)
    _cap_gross(weights, lines, why)
    volatility = book_volatility(weights, known, lines)
    scale = _scale(weights, volatility, lines, groups)
    if scale != 1:
        how = f", correlation {lines.stress:.0%} of the way to the worst" if known.state is State.BROKEN else ""
        reason = f"x {scale:.2f}: {volatility:.0%} a year forecast{how}, {lines.volatility_target:.0%} the target"
        for i in np.flatnonzero(weights):
            why[i].append(reason)
    return Sized(weights * scale, tuple("; ".join(reasons) for reasons in why), volatility, scale)


def book_volatility(weights: Floats, known: Forecast, limits: SizingLimits) -> float:
    """Forecast volatility of the book a year; NaN where nothing is known of any unit that it holds.

    While correlation is broken the covariance goes `stress` of the way to that in which every position loses with every
    other: shorts too, so a hedge is not trusted. It stays positive semi-definite.
    """
    columns = known.correlation.columns
    alone = weights[columns] * known.volatility[columns]
    gross = float(np.abs(alone).sum())
    together = float(alone @ known.correlation.matrix @ alone)
    stress = limits.stress if known.state is State.BROKEN else 0.0
    deviation = np.sqrt(max((1 - stress) * together + stress * gross**2, 0.0))
    unknown = float(np.abs(weights).sum() - np.abs(weights[columns]).sum())
    if not len(columns):
        return float("nan")
    if unknown > 0:
        deviation += unknown * float(known.volatility[columns].max())
    return float(deviation * np.sqrt(limits.bars_per_year))


def _groups(shrunk: Correlation, units: int, least: float) -> list[NDArray[np.intp]]:
    labels = clusters(shrunk, least)[0]
    return [shrunk.columns[labels == label] for label in range(int(labels.max(initial=-1)) + 1)]


def _cap_units(weights: Floats, limits: SizingLimits, why: list[list[str]]) -> None:
    for i in np.flatnonzero(np.abs(weights) > limits.max_weight * (1 + ROUNDING)):
        why[i].append(f"{limits.max_weight:.0%} is the most of one unit, {abs(weights[i]):.0%} wanted")
        weights[i] = np.sign(weights[i]) * limits.max_weight


def _cap_clusters(weights: Floats, limits: SizingLimits, groups: list[NDArray[np.intp]], why: list[list[str]]) -> None:
    for units in groups:
        gross = float(np.abs(weights[units]).sum())
        if len(units) > 1 and gross > limits.max_cluster * (1 + ROUNDING):
            weights[units] *= limits.max_cluster / gross
            for i in units[weights[units] != 0]:
                why[i].append(f"{limits.max_cluster:.0%} is the most of {len(units)} units that move as one")


def _cap_gross(weights: Floats, limits: SizingLimits, why: list[list[str]]) -> None:
    gross = float(np.abs(weights).sum())
    if gross > limits.max_gross * (1 + ROUNDING):
        weights *= limits.max_gross / gross
        for i in np.flatnonzero(weights):
            why[i].append(f"{limits.max_gross:.0%} is the most of the whole book")


def _scale(weights: Floats, volatility: float, limits: SizingLimits, groups: list[NDArray[np.intp]]) -> float:
    """What all weights are multiplied by: exactly 1 where a line is met but for rounding."""
    if not volatility > 0:
        return 1.0
    scale = limits.volatility_target / volatility
    if scale > 1:
        scale = min(scale, _room(weights, limits, groups)) if limits.scale_up else 1.0
    return 1.0 if abs(scale - 1) <= ROUNDING else scale


def _room(weights: Floats, limits: SizingLimits, groups: list[NDArray[np.intp]]) -> float:
    """How far all weights may grow within the caps, 1 or more."""
    each = [np.abs(weights[units]).sum() for units in groups if len(units) > 1]
    room = [limits.max_gross / np.abs(weights).sum(), limits.max_weight / np.abs(weights).max()]
    room += [limits.max_cluster / gross for gross in each if gross > 0]
    return max(1.0, float(min(room)))
