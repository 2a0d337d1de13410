"""What a position without a history may lose: a stand-in that is said, and that only ever adds to a loss.

The rule is deliberately simple. A unit that no model knows moves like the most volatile unit that is known, or like one
of a stated volatility where that is more, and always against the book: no diversification, no hedge. So a position
that is added, long or short, never lowers what is held against a limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mlops.risk.measures import Floats, Loss, sample_losses
from mlops.types import Kind

AS_IS = Loss(1.0, 1.0)
TAIL = 4.0  # degrees of freedom of the stated volatility's law: daily returns of shares have 3 to 5 (Cont 2001)
BARS_A_YEAR = 252.0  # where no past says how many there are
SECONDS_A_YEAR = 365.25 * 86_400
OPTIONS = (Kind.CALL.value, Kind.PUT.value)


@dataclass(frozen=True, slots=True)
class StandIn:
    """VaR and ES of a position that is worth the whole equity, and in `words` whose they are."""

    loss: Loss
    words: str


def stand_in(
    returns: NDArray[np.floating],
    names: tuple[str, ...],
    *,
    volatility: float,
    confidence: float = 0.99,
    growth: Loss = AS_IS,
    bars_a_year: float = BARS_A_YEAR,
) -> StandIn:
    """The larger of the riskiest known unit's loss and that of a unit of the stated volatility.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Simple returns of the units in `names`, finite. T or N may be 0.
    volatility : float
        A year, > 0: of a Student t with `TAIL` degrees of freedom.
    growth : Loss
        VaR and ES over the horizon, each over that of one bar.

    Examples
    --------
    >>> found = stand_in(np.empty((0, 0)), (), volatility=0.5)
    >>> round(found.loss.var, 3), found.words
    (0.083, '50 % volatility a year')
    """
    stated = _stated(volatility / math.sqrt(bars_a_year), confidence)
    words, loss = f"{100 * volatility:g} % volatility a year", stated
    if returns.size:
        each = sample_losses(-np.abs(returns.T.astype(np.float64)), (confidence,))
        at = int(each.var[:, 0].argmax())
        if each.var[at, 0] > stated.var:
            loss = Loss(float(each.var[at, 0]), max(stated.es, float(each.es[at, 0])))
            words = f"the moves of {names[at]}, the most volatile unit held"
    return StandIn(Loss(loss.var * growth.var, loss.es * growth.es), words)


def sizes(frame: pd.DataFrame, value: Floats, losses: Loss) -> tuple[Floats, Floats]:
    """What each position of a frame with POSITION_COLUMNS may lose by a stand-in, VaR and ES in money, shape (P,).

    A position whose value is not known (NaN) counts by what it cost, one at or below zero by the larger of both. An
    option that was bought can lose what it is worth and no more; one that was sold moves at most as its
    underlying does, so it counts by its strike.
    """
    quantity, cost, strike, multiplier = (
        frame[name].to_numpy(dtype=np.float64) for name in ("quantity", "cost", "strike", "multiplier")
    )
    size = np.abs(np.where(np.isfinite(value), value, cost))
    size = np.where(np.isfinite(size), size, 0.0)
    size = np.where(below_zero(frame), np.fmax(size, np.abs(cost)), size)
    option = frame["kind"].isin(OPTIONS).to_numpy()
    sold = option & (quantity < 0)
    notional = np.abs(quantity * strike * multiplier)
    size = np.where(sold & np.isfinite(notional), np.maximum(size, notional), size)
    bought = option & ~sold
    return np.where(bought, size, size * losses.var), np.where(bought, size, size * losses.es)


def below_zero(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """The futures of a frame of positions whose price is at or below zero: returns have no meaning there."""
    return np.asarray((frame["kind"] == Kind.FUTURE.value) & (frame["price"] <= 0), dtype=np.bool_)


def bars_a_year(times: NDArray[np.datetime64]) -> float:
    """Bars a year of a series of rising times; that of trading days where there are fewer than two."""
    if len(times) < 2:
        return BARS_A_YEAR
    seconds = float((times[-1] - times[0]) / np.timedelta64(1, "s"))
    return (len(times) - 1) * SECONDS_A_YEAR / seconds if seconds > 0 else BARS_A_YEAR


def _stated(deviation: float, confidence: float) -> Loss:
    """VaR and ES of a Student t of this standard deviation."""
    scale, share = deviation / math.sqrt(TAIL / (TAIL - 2)), 1 - confidence
    at = float(stats.t.ppf(confidence, TAIL))
    es = float(stats.t.pdf(at, TAIL)) / share * (TAIL + at**2) / (TAIL - 1)
    return Loss(scale * at, scale * es)
