"""The leak audit: what a strategy said at a time must not change when the future is cut off."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlops.errors import LeakError
from mlops.learn import features, labels
from mlops.learn.strategy import Strategy

CUTS = 3  # times at which history is cut; a leak that depends on later rows shows at nearly any


def audit(strategy: Strategy, bars: pd.DataFrame, rng: np.random.Generator, *, cuts: int = CUTS) -> None:
    """Recompute features and labels on histories that end at random times; refuse any that change.

    Parameters
    ----------
    bars : frame with BAR_COLUMNS

    Raises
    ------
    LeakError
        A feature at its bar, or a label `horizon` bars after its own, differs from what full history gives.
    """
    times = np.unique(bars["event_time"].to_numpy())
    least = strategy.lookback + strategy.horizon + 2  # shorter histories have no row of features to audit, or to learn
    if len(times) <= least:
        return
    # A piece of history is enough: what leaks from beyond a few windows leaks from within them too.
    piece = least + strategy.lookback
    for cut in rng.integers(least, len(times) - 1, size=cuts):
        first, last = max(0, cut - piece), min(len(times) - 1, cut + strategy.lookback)
        whole = _between(bars, times[first], times[last])
        known = _between(bars, times[first], times[cut])
        _same(features.table(strategy, known), features.table(strategy, whole), times[cut], "feature")
        later = labels.table(strategy, whole)  # a symbol that pauses keeps its label waiting, which is no leak
        later = later[later["known_at"].to_numpy() <= times[cut]]
        _same(labels.table(strategy, known), later, times[cut - strategy.horizon], "label")


def _between(bars: pd.DataFrame, first: np.datetime64, last: np.datetime64) -> pd.DataFrame:
    times = bars["event_time"].to_numpy()
    return bars[(times >= first) & (times <= last)]


def _same(known: pd.DataFrame, whole: pd.DataFrame, at: np.datetime64, what: str) -> None:
    then, now = (t[t["event_time"].to_numpy() == at].set_index("unit") for t in (known, whole))
    for name in now.columns.difference(["event_time"]):
        if not then[name].equals(now[name]):
            raise LeakError(
                f"{what} {name} at {pd.Timestamp(at)} must not depend on later bars, got another value without "
                "them. Compute it from its own window, and give a label its full horizon."
            )
