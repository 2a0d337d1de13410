"""Forecasts that were stored before their bars came, beside what the books then lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.risk.measures import Floats, Losses
from mlops.risk.var.backtest import Backtest, judge_losses


@dataclass(frozen=True, slots=True)
class Realised:
    """VaR and ES as stored, and the loss, by the last bar of each forecast's bars, as fractions of equity."""

    times: pd.DatetimeIndex
    var: Floats
    es: Floats
    loss: Floats

    def judged(self, confidence: float) -> Backtest:
        """The backtest of what was stored."""
        return judge_losses(-self.loss, Losses(self.var, self.es), confidence, model="stored")

    def arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """For the night's state; times in microseconds since 1970."""
        times = np.asarray(self.times.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64))
        return {"stored_times": times, "stored_var": self.var, "stored_loss": self.loss}


def realised(forecasts: pd.DataFrame, equity: pd.Series[float], sessions: pd.DatetimeIndex, horizon: int) -> Realised:
    """What became of each forecast: the books' own returns over its `horizon` sessions.

    Left out are forecasts whose sessions are not over, or during which no book had a bar (no loss is known then), and
    of several that overlap all but the first.

    Parameters
    ----------
    forecasts : DataFrame
        event_time (the last bar that it knew), var, es; by time.
    equity : Series
        Of all books together, by time, without deposits.
    sessions : DatetimeIndex
        The closes of the market's sessions.
    """
    rows, free = [], pd.Timestamp.min.tz_localize("UTC")
    for at, var, es in zip(forecasts["event_time"], forecasts["var"], forecasts["es"], strict=True):
        last = int(sessions.searchsorted(at, side="right")) - 1 + horizon
        if at < free or last >= len(sessions) or last < horizon:
            continue
        end = sessions[last]
        before, after = (int(equity.index.searchsorted(when, side="right")) - 1 for when in (at, end))
        if before < 0 or after <= before or not equity.iloc[before] > 0:
            continue
        rows.append((end, float(var), float(es), 1.0 - float(equity.iloc[after] / equity.iloc[before])))
        free = end
    times, var, es, loss = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Realised(
        pd.DatetimeIndex(times, tz="UTC"), *(np.array(column, dtype=np.float64) for column in (var, es, loss))
    )
