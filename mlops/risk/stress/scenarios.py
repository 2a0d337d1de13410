"""What each unit returns in each named crisis: by its own bars, or by what stands in where they do not reach."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.episodes import EPISODES, Episode

STALE = pd.Timedelta(days=7)  # the last close before a date may be so old: a week without trading was 9/11
LEAST_BARS = 60  # common days under which a beta is a guess; then nothing stands in
SPAN = 5  # days of the returns of a beta: markets that close at different hours still move within one week
CURRENCIES = ("EUR", "USD", "JPY", "GBP", "CHF")  # of which reference rates are in the rows
COIN_MONEY = ("USDT", "USDC", "BUSD", "FDUSD")  # what is quoted in these is a coin
# How much further than shares coins fell on 12 March 2020, the worst day that both traded: for crises before Bitcoin.
COIN_MULTIPLE = math.log(4970.79 / 7911.43) / math.log(2480.64 / 2741.38)


class AssetClass(StrEnum):
    """Class whose published move in a crisis is taken for a unit without bars of its own."""

    SHARES = "shares"
    CRYPTO = "crypto"
    OIL = "oil"
    TREASURIES = "treasuries"
    FX = "fx"


SECTORS = {
    "crypto": AssetClass.CRYPTO,
    "cryptocurrency": AssetClass.CRYPTO,
    "oil": AssetClass.OIL,
    "crude": AssetClass.OIL,
    "treasuries": AssetClass.TREASURIES,
    "government bonds": AssetClass.TREASURIES,
    "fx": AssetClass.FX,
    "forex": AssetClass.FX,
}


def asset_class(unit: str, sector: str = "") -> AssetClass:
    """The class of a unit: by its sector where `SECTORS` has it, else by its name (EUR/USD, BTC/USDT), else shares.

    >>> asset_class("BTC/USDT").value, asset_class("EURCHF").value, asset_class("XYZ", "Oil").value
    ('crypto', 'fx', 'oil')
    """
    if sector.strip().lower() in SECTORS:
        return SECTORS[sector.strip().lower()]
    if currency_pair(unit) is not None:
        return AssetClass.FX
    coins = unit.upper().replace("-", "/").replace("_", "/").split("/")
    return AssetClass.CRYPTO if len(coins) > 1 and coins[1].split(":")[0] in COIN_MONEY else AssetClass.SHARES


def currency_pair(unit: str) -> tuple[str, str] | None:
    """(base, quote) of a unit that is named as a pair of `CURRENCIES`."""
    letters = "".join(letter for letter in unit.upper() if letter.isalpha())
    base, quote = letters[:3], letters[3:]
    return (base, quote) if base in CURRENCIES and quote in CURRENCIES and base != quote else None


@dataclass(frozen=True, slots=True, eq=False)
class Scenarios:
    """What each unit returns in each scenario.

    Attributes
    ----------
    names : tuple of str
        K scenarios.
    units : tuple of str
        N units, each once.
    returns : ndarray of shape (K, N)
        Simple, compounded over the scenario; of an option the change of its value over its value now. NaN where neither
        the unit's bars nor a stand-in tell it.
    proxied : ndarray of bool, shape (K, N)
        Where the unit's own bars do not cover the scenario, so that something stands in.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    returns: Floats
    proxied: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = (len(self.names), len(self.units))
        if self.returns.shape != shape or self.proxied.shape != shape or np.isinf(self.returns).any():
            raise DataError(
                f"returns of scenarios must be finite or NaN, of shape {shape}, got {self.returns.shape}. Correct them."
            )
        if len(set(self.units)) < len(self.units):
            raise DataError(f"units of scenarios must be unique, got {self.units}. Give each one column.")

    @classmethod
    def from_stored(cls, body: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Scenarios:
        """Read the scenarios that the weekly look stored, ready for `stress_table`."""
        names, units = tuple(body["scenarios"]), tuple(body["units"])
        return cls(names, units, arrays["returns"], arrays["proxied"].astype(np.bool_))

    def with_units(self, units: Sequence[str], returns: Floats, proxied: NDArray[np.bool_]) -> Scenarios:
        """More columns: options, revalued under each scenario."""
        return replace(
            self,
            units=(*self.units, *units),
            returns=np.hstack([self.returns, returns]),
            proxied=np.hstack([self.proxied, proxied]),
        )

    def with_rows(self, names: Sequence[str], returns: Floats, proxied: NDArray[np.bool_]) -> Scenarios:
        """More scenarios, a row each."""
        table = np.vstack([self.returns, returns])
        return replace(self, names=(*self.names, *names), returns=table, proxied=np.vstack([self.proxied, proxied]))


def betas(closes: pd.DataFrame, market: pd.Series[float]) -> Floats:
    """Slope of each unit's returns over SPAN days on the market's, over common days; NaN under LEAST_BARS of them.

    Parameters
    ----------
    closes : DataFrame of shape (T, N)
        Prices by instant (UTC, ascending) and unit, NaN where there is no bar; several bars a day count by the last.
    market : Series
        Closes of the market, by instant.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=100, tz="UTC")
    >>> m = pd.Series(np.exp(np.cumsum(0.01 * np.random.default_rng(0).standard_normal(100))), days)
    >>> betas(pd.DataFrame({"A": m, "B": 3.0 + 0 * m}), m).round(6).tolist()
    [1.0, 0.0]
    """
    own, index = _daily(closes), _daily(market.to_frame("market"))["market"].dropna()
    slopes = np.full(closes.shape[1], np.nan)
    for j in range(own.shape[1]):
        both = pd.concat([own.iloc[:, j].dropna(), index], axis=1, join="inner").to_numpy(dtype=np.float64)
        if len(both) < LEAST_BARS + SPAN:
            continue
        r, base = (both[SPAN:] / both[:-SPAN] - 1).T
        base = base - base.mean()
        spread = float(base @ base)
        slopes[j] = float(base @ r) / spread if spread > 0 else np.nan
    return slopes


def episode_scenarios(
    closes: pd.DataFrame,
    episodes: Sequence[Episode] = EPISODES,
    *,
    market: pd.Series[float] | None = None,
    sectors: Mapping[str, str] | None = None,
) -> tuple[Scenarios, tuple[str, ...]]:
    """What each unit returned in each episode, or what stands in.

    A share without bars moves as (1 + S&P 500) ** beta - 1, which cannot pass -1; its beta is to the index itself. A
    coin moves as Bitcoin did, and before it as COIN_MULTIPLE shares; oil, Treasuries and pairs of currencies as
    published. Where none of these is known the return is NaN: nothing is guessed.

    Parameters
    ----------
    closes : DataFrame of shape (T, N)
        Prices by instant (UTC, ascending) and unit, NaN where there is no bar.
    market : Series, optional
        Closes of the S&P 500 (or of a fund on it) that were known: without them no beta is.
    sectors : mapping of str to str, optional
        Of a unit, as its instrument tells it (`asset_class`).

    Returns
    -------
    Scenarios
        Without the units of the second value.
    tuple of str
        Units of which no episode tells anything.

    Raises
    ------
    DataError
        The index does not ascend, or a price is not positive.
    """
    if not closes.index.is_monotonic_increasing or closes.index.has_duplicates:
        raise DataError("closes must be by ascending, unique instants, got others. Sort them, and drop duplicates.")
    prices = closes.to_numpy(dtype=np.float64)
    if (prices[~np.isnan(prices)] <= 0).any() or np.isinf(prices).any():
        raise DataError("closes must be positive and finite, got others. Set the bad ones aside.")
    moves = [_close_of(closes, episode.end) / _close_of(closes, episode.start) - 1 for episode in episodes]
    own = np.array(moves).reshape(len(episodes), closes.shape[1])
    units = [str(unit) for unit in closes.columns]
    slopes = np.full(len(units), np.nan) if market is None else betas(closes, market)
    classes = [asset_class(unit, (sectors or {}).get(unit, "")) for unit in units]
    stand_in = np.array(
        [
            [_stand_in(episode, *row) for row in zip(units, classes, slopes.tolist(), strict=True)]
            for episode in episodes
        ]
    ).reshape(own.shape)
    proxied = np.isnan(own) & np.isfinite(stand_in)
    table = np.where(np.isnan(own), stand_in, own)
    good, names = np.isfinite(table).any(axis=0), np.array(units, dtype=object)
    titles = tuple(episode.name for episode in episodes)
    return Scenarios(titles, tuple(names[good]), table[:, good], proxied[:, good]), tuple(names[~good])


def _stand_in(episode: Episode, unit: str, kind: AssetClass, beta: float) -> float:
    """The move of a unit's class; NaN where it is not known."""
    if kind is AssetClass.FX:
        pair = currency_pair(unit)
        return math.nan if pair is None else episode.pair(*pair)
    if kind is AssetClass.TREASURIES:
        return episode.treasuries()
    if kind is AssetClass.OIL:
        return math.nan if episode.oil is None else episode.oil[1] / episode.oil[0] - 1
    if kind is AssetClass.CRYPTO:
        if episode.bitcoin is not None:
            return episode.bitcoin[1] / episode.bitcoin[0] - 1
        return float((1 + episode.market) ** COIN_MULTIPLE - 1) if episode.market < 0 else math.nan
    return float((1 + episode.market) ** beta - 1)


def _daily(closes: pd.DataFrame) -> pd.DataFrame:
    """The last price of each calendar day."""
    return closes.groupby(pd.DatetimeIndex(closes.index).tz_convert("UTC").normalize()).last()


def _close_of(closes: pd.DataFrame, day: str) -> Floats:
    """Last price of each unit on `day` or in the week before; NaN for one that had none (not yet, or not any more)."""
    end = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)
    near = closes[(closes.index >= end - STALE) & (closes.index < end)].ffill()
    return near.iloc[-1].to_numpy(dtype=np.float64) if len(near) else np.full(closes.shape[1], np.nan)
