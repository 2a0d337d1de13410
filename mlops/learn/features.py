"""Features: one definition for history and for the live bar.

Features are a function on arrays (..., window) that turns the last axis into values. History applies it to sliding
windows, the live stream to the last window: the same code on the same numbers, so both agree bit for bit. Every symbol
has its own history (a missing bar is not filled); a market series is the mean over the symbols that have a bar.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.learn.strategy import Features, Strategy

Floats = NDArray[np.float64]
CHUNK = 2048  # windows a step: keeps the copies that a median makes in the cache


def in_time(bars: pd.DataFrame, delay: timedelta) -> pd.DataFrame:
    """Bars that a bot had when it decided, `delay` after their close: of the others no feature is made.

    A bar that arrives later, or was revised later, is as if there were none, on its own day and ever after, for that
    is how a stream of bars sees it. Labels use it, from the moment at which it was known.

    Parameters
    ----------
    bars : frame with BAR_COLUMNS
    """
    late = bars["known_at"] - bars["event_time"] > delay
    return bars[~late] if late.any() else bars


def refuse_late(bars: pd.DataFrame, delay: timedelta) -> None:
    """Refuse a feed most of whose bars are later than `delay`: not bars are late then, the delay is another one.

    Raises
    ------
    DataError
        Half of the bars or more are late.
    """
    usual = pd.Timedelta((bars["known_at"] - bars["event_time"]).median())
    if usual > delay:
        raise DataError(
            f"most bars must be known within {delay} of their close, got {usual} for half of them. Set "
            "train.bar_delay_s to how long after a close your bot decides, or correct known_at."
        )


def table(strategy: Strategy, bars: pd.DataFrame) -> pd.DataFrame:
    """All features over history.

    Parameters
    ----------
    bars : frame with event_time, symbol, close

    Returns
    -------
    DataFrame
        event_time, unit, and one float32 column a feature; a row for each bar with enough history, by time and unit.
    """
    wide = bars.pivot(index="event_time", columns="symbol", values="close")
    market = _market(wide)
    parts = [_unit_table(strategy, unit, wide[unit].dropna(), market) for unit in wide.columns]
    return pd.concat(parts, ignore_index=True).sort_values(["event_time", "unit"], ignore_index=True)


class Stream:
    """The same features, one bar at a time.

    >>> from mlops.learn import STRATEGIES
    >>> stream = Stream(STRATEGIES["direction"])
    >>> units, values = stream.update(pd.DataFrame({"symbol": ["A"], "close": [10.0]}))
    >>> units, values.shape[0]  # one bar is no history yet
    ((), 0)
    """

    def __init__(self, strategy: Strategy) -> None:
        self._features = strategy.features
        self._length, self._width = strategy.lookback, len(strategy.feature_names)
        self._last: dict[str, float] = {}
        self._returns: dict[str, deque[float]] = {}
        self._market: deque[float] = deque(maxlen=self._length)

    def update(self, bar: pd.DataFrame) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """One bar a symbol (symbol, close) -> (units, float32 (n, k)); units without enough history are left out."""
        moved = self._take(dict(zip(bar["symbol"], bar["close"], strict=True)))
        if moved:
            self._market.append(float(np.abs(np.array([moved[u] for u in sorted(moved)])).mean()))
        ready = tuple(u for u in sorted(moved) if len(self._returns[u]) == self._length)
        if not ready or len(self._market) < self._length:
            return (), np.empty((0, self._width), dtype=np.float32)
        own = np.array([self._returns[u] for u in ready])
        market = np.array(self._market)
        return ready, np.concatenate([self._last_values(f, own, market) for f in self._features], axis=1)

    def _take(self, closes: Mapping[str, float]) -> dict[str, float]:
        moved = {u: close / self._last[u] - 1 for u, close in closes.items() if u in self._last}
        for unit, value in moved.items():
            self._returns.setdefault(unit, deque(maxlen=self._length)).append(value)
        self._last.update(closes)
        return moved

    def _last_values(self, features: Features, own: Floats, market: Floats) -> NDArray[np.float32]:
        source = own if features.source == "unit" else market
        values = features.compute(np.ascontiguousarray(source[..., -features.window :]))
        return np.broadcast_to(np.asarray(values, dtype=np.float32), (len(own), len(features.names)))


def last_row(strategy: Strategy, bars: pd.DataFrame) -> tuple[Sequence[str], NDArray[np.float32]]:
    """The features of the newest bar, by streaming through `bars`: what a bot would score."""
    stream = Stream(strategy)
    units: Sequence[str] = ()
    values = np.empty((0, len(strategy.feature_names)), dtype=np.float32)
    for _, bar in bars.groupby("event_time", sort=True):
        units, values = stream.update(bar)
    return units, values


def _market(wide: pd.DataFrame) -> pd.Series:
    """Mean absolute return over the symbols that have a bar, in order of their names as the stream sums them."""
    moves = pd.DataFrame({u: wide[u].dropna().pct_change(fill_method=None) for u in wide.columns}).abs()
    values = moves.to_numpy()
    mean = [float(row[~np.isnan(row)].mean()) if (~np.isnan(row)).any() else np.nan for row in values]
    return pd.Series(mean, index=moves.index).dropna()


def _unit_table(strategy: Strategy, unit: str, closes: pd.Series, market: pd.Series) -> pd.DataFrame:
    values = closes.to_numpy(dtype=np.float64)
    own = values[1:] / values[:-1] - 1
    times, length = closes.index[1:], strategy.lookback
    at = market.index.get_indexer(times)  # where each of the unit's bars stands in the market's series
    ready = np.flatnonzero((np.arange(len(times)) >= length - 1) & (at >= length - 1))
    series = {"unit": (own, ready), "market": (market.to_numpy(), at[ready])}
    values = np.concatenate([_rolled(f, *series[f.source]) for f in strategy.features], axis=1)
    keys = pd.DataFrame({"event_time": times[ready], "unit": unit})
    return pd.concat([keys, pd.DataFrame(values, columns=list(strategy.feature_names))], axis=1)


def _rolled(features: Features, series: Floats, ends: NDArray[np.intp]) -> NDArray[np.float32]:
    """The features on the windows that end at `ends`, shape (len(ends), len(names))."""
    out = np.empty((len(ends), len(features.names)), dtype=np.float32)
    if len(ends):
        windows = sliding_window_view(series, features.window)
        for i in range(0, len(ends), CHUNK):
            part = ends[i : i + CHUNK] - (features.window - 1)
            out[i : i + CHUNK] = features.compute(np.ascontiguousarray(windows[part]))
    return out
