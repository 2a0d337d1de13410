"""The leak audit: what a strategy said at a time must not change, whatever comes later.

The past is computed again beside other futures: none, a wild one, one turned upside down, one that only rises, one of
other rows. All that was not known at a cut is replaced, late and revised bars before it too; every row that was known
there is compared. A leak that does not go through the bars, such as a table joined from elsewhere, stays as it is in
any of these worlds: its score gives it away (`mlops.learn.plausible`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import LeakError
from mlops.learn import features, labels
from mlops.learn.strategy import Strategy

CUTS = 16  # instants at which the future is replaced, each by every one of FUTURES
UNITS = 4  # drawn anew for each cut: what leaks does not ask of which unit
LABEL_BARS = 4000, 500  # before and after a cut, for a label may compare with all of its history
WILD, RISE = 0.2, 0.02  # log-returns a bar, far from any market's: what depends on them at all moves
ROUNDING = 1e-6  # of a feature's size and spread: sums may differ in the last bits where other rows lie beside them
FARTHEST = 30  # bars beyond its horizon that a label is searched for what it depends on

Future = Callable[[pd.DataFrame, NDArray[np.bool_], np.random.Generator], pd.DataFrame]


def audit(
    strategy: Strategy,
    bars: pd.DataFrame,
    rng: np.random.Generator,
    *,
    delay: timedelta = timedelta(0),
    cuts: int = CUTS,
) -> None:
    """Recompute features and labels beside other futures; refuse any that change.

    Parameters
    ----------
    bars : frame with BAR_COLUMNS
    delay : timedelta
        After a bar's close, when the bot decides; see `mlops.learn.features.in_time`.
    cuts : int
        More see rarer leaks, and take longer: each costs 5 times features of some 750 bars and labels of 4,500, of 4
        units.

    Raises
    ------
    LeakError
        A feature at its bar, or a label once it is known, is another one with another future.
    """
    times = pd.DatetimeIndex(bars["event_time"].unique()).sort_values()
    least = strategy.lookback + strategy.horizon + 2  # shorter histories have no row of features to audit, or to learn
    if len(times) <= least:
        return
    for cut in rng.integers(least, len(times) - 1, size=cuts):
        at = times[cut] + delay
        # A piece is enough for features: what leaks from beyond a few windows leaks from within them too.
        piece = _piece(bars, times, (cut - least - strategy.lookback, cut, cut + strategy.lookback), rng)
        now = features.table(strategy, features.in_time(piece, delay))
        for other in _others(piece, at, rng):
            _same_features(strategy, now[now["event_time"] + delay <= at], features.in_time(other, delay), at)
        piece = _piece(bars, times, (cut - LABEL_BARS[0], cut, cut + LABEL_BARS[1]), rng)
        now = labels.table(strategy, piece)
        for other in _others(piece, at, rng):
            _same_labels(strategy, now[now["known_at"] <= at], (piece, other), at)


def _piece(
    bars: pd.DataFrame, times: pd.DatetimeIndex, around: tuple[int, int, int], rng: np.random.Generator
) -> pd.DataFrame:
    """Bars of a few units that have one at the cut, from the first to the last of `around`."""
    first, cut, last = np.clip(around, 0, len(times) - 1)
    within = bars[bars["event_time"].between(times[first], times[last])]
    units = within.loc[within["event_time"] == times[cut], "symbol"].unique()
    chosen = rng.choice(units, min(UNITS, len(units)), replace=False)
    return within[within["symbol"].isin(chosen)].reset_index(drop=True)


def _others(piece: pd.DataFrame, at: pd.Timestamp, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    """The piece beside other futures: all that was not known at `at` is replaced."""
    later = (piece["known_at"] > at).to_numpy()
    if later.any():
        for future in FUTURES:
            yield future(piece, later, rng)


def _gone(piece: pd.DataFrame, later: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
    return piece[~later]


def _wild(piece: pd.DataFrame, later: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
    return _priced(piece, later, piece["close"].to_numpy() * np.exp(WILD * rng.standard_normal(len(piece))))


def _turned(piece: pd.DataFrame, later: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
    """Each later return with the other sign."""
    return _priced(piece, later, _last_known(piece, later) ** 2 / piece["close"].to_numpy())


def _risen(piece: pd.DataFrame, later: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
    step = pd.Series(later).groupby(piece["symbol"]).cumsum().to_numpy()
    return _priced(piece, later, _last_known(piece, later) * np.exp(RISE * step))


def _other_rows(piece: pd.DataFrame, later: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
    """Half of the later bars are missing, others lie between them, and a symbol is new."""
    wild = _wild(piece, later, rng)
    coming = wild[later & (piece["event_time"] > piece["event_time"][~later].max()).to_numpy()]
    between = coming.assign(event_time=coming["event_time"] + timedelta(seconds=1), known_at=coming["known_at"].max())
    new = coming.drop_duplicates("event_time").assign(symbol=f"{piece['symbol'].iloc[0]} new")
    rows: pd.DataFrame = pd.concat([wild[~(later & (rng.random(len(piece)) < 0.5))], between, new])
    return rows.sort_values(["event_time", "symbol"], ignore_index=True)


FUTURES: tuple[Future, ...] = (_gone, _wild, _turned, _risen, _other_rows)


def _priced(piece: pd.DataFrame, later: NDArray[np.bool_], close: NDArray[np.float64]) -> pd.DataFrame:
    return piece.assign(close=np.where(later, close, piece["close"].to_numpy()))


def _last_known(piece: pd.DataFrame, later: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The last close of each row's symbol that was known at the cut; its first one where none was."""
    known = piece[~later].groupby("symbol")["close"].last()
    first = piece.groupby("symbol")["close"].first()
    return np.asarray(piece["symbol"].map(known.reindex(first.index).fillna(first)), dtype=np.float64)


def _same_features(strategy: Strategy, now: pd.DataFrame, other: pd.DataFrame, at: pd.Timestamp) -> None:
    changed = _changed(now, features.table(strategy, other))
    if changed is not None:
        name, unit, time = changed
        raise LeakError(
            f"feature {name} at {time} must not depend on later bars, got another value for {unit} where the bars "
            f"that were known after {at} are others. Compute it from its own window."
        )


def _same_labels(
    strategy: Strategy, now: pd.DataFrame, bars: tuple[pd.DataFrame, pd.DataFrame], at: pd.Timestamp
) -> None:
    piece, other = bars
    changed = _changed(now, labels.table(strategy, other))
    if changed is not None:
        name, unit, time = changed
        raise LeakError(
            f"{name} at {time} must depend on no bar after its horizon of {strategy.horizon}, got another one for "
            f"{unit} where the bars that were known after {at} are others. {_remedy(strategy, piece, unit, time)}"
        )


def _changed(now: pd.DataFrame, other: pd.DataFrame) -> tuple[str, str, pd.Timestamp] | None:
    """The first value of `now` that is another one in `other`, or has no row there: column, unit, event_time."""
    keys = ["event_time", "unit"]
    place = pd.MultiIndex.from_frame(other[keys]).get_indexer(pd.MultiIndex.from_frame(now[keys]))
    beside = other.take(np.maximum(place, 0))
    for name in now.columns.drop(keys):
        apart = (place < 0) | ~_alike(now[name], beside[name])
        if apart.any():
            row = now.iloc[int(apart.argmax())]
            return name, row["unit"], row["event_time"]
    return None


def _alike(first: pd.Series, second: pd.Series) -> NDArray[np.bool_]:
    """Which values are the same; features within what rounding does."""
    missing = first.isna().to_numpy() & second.isna().to_numpy()
    same = np.asarray(first.array == second.array, dtype=np.bool_) | missing
    if first.dtype != np.float32:
        return same
    x, y = first.to_numpy(np.float64), second.to_numpy(np.float64)
    return np.asarray(same | (np.abs(x - y) <= ROUNDING * (np.abs(x) + np.nanstd(x))), dtype=np.bool_)


def _remedy(strategy: Strategy, piece: pd.DataFrame, unit: str, time: pd.Timestamp) -> str:
    """How many bars the label really depends on, found by letting them go on a bar more at a time."""
    rows = piece[piece["symbol"] == unit].sort_values("event_time")
    close, bar = rows["close"].to_numpy(dtype=np.float64), int((rows["event_time"] < time).sum())
    returns = np.concatenate([[np.nan], close[1:] / close[:-1] - 1])
    for reach in range(strategy.horizon + 1, strategy.horizon + FARTHEST):
        if bar + reach < len(returns) and _reaches_no_farther(strategy, returns, bar, reach):
            return f"Give a label its full horizon: this one depends on {reach} bars, so set horizon={reach}."
    return "It compares with bars long after it, such as a mean, a rank or a quantile of all history: use its past."


def _reaches_no_farther(strategy: Strategy, returns: NDArray[np.float64], bar: int, reach: int) -> bool:
    end = bar + reach + 1
    others = [returns[:end], *(np.append(returns[:end], np.full_like(returns[end:], r)) for r in (-0.3, 0.0, 0.3))]
    now = strategy.label(returns)[bar]
    return all(np.array_equal(strategy.label(other)[bar], now, equal_nan=True) for other in others)
