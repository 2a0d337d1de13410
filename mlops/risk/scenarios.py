"""Named days and spells that a book is held against, as rows of data, and what each unit did in them.

`start` is the last close before the fall, `end` the close at which it is measured; `market` is the published move of
the S&P 500 between the two closes. To add a scenario: one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlops.errors import DataError
from mlops.risk.measures import Floats

STALE = pd.Timedelta(days=7)  # the last close before a date may be so old: a week without trading was 9/11
LEAST_BARS = 60  # own bars under which a beta is a guess; such a unit is listed, not proxied
INDEX = "S&P Dow Jones Indices, daily closes of the S&P 500"


@dataclass(frozen=True, slots=True)
class Episode:
    """A named scenario. Dates are those of New York's closes; `market` is a fraction."""

    name: str
    start: str
    end: str
    market: float
    source: str = INDEX
    note: str = ""


EPISODES = (
    Episode(
        "Black Monday 1987",
        "1987-10-16",
        "1987-10-19",
        224.84 / 282.70 - 1,
        f"{INDEX}; Presidential Task Force on Market Mechanisms (Brady report), January 1988",
        "One day.",
    ),
    Episode("Russia and LTCM 1998", "1998-07-17", "1998-08-31", 957.28 / 1186.75 - 1),
    Episode("Dot-com bust 2000 to 2002", "2000-03-24", "2002-10-09", 776.76 / 1527.46 - 1, note="Thirty months."),
    Episode("Lehman weeks 2008", "2008-09-12", "2008-10-10", 899.22 / 1251.70 - 1),
    Episode("Financial crisis 2007 to 2009", "2007-10-09", "2009-03-09", 676.53 / 1565.15 - 1, note="Peak to trough."),
    Episode(
        "Flash crash 2010",
        "2010-05-05",
        "2010-05-06",
        1128.15 / 1165.87 - 1,
        f"{INDEX}; CFTC and SEC, Findings regarding the market events of May 6, 2010 (September 2010)",
        "Close to close shows 3.2 %; within the day the index stood 8.6 % under the last close (1,065.79), and single "
        "shares traded at a cent. Stops and margin calls saw the day's low.",
    ),
    Episode("US downgrade 2011", "2011-07-22", "2011-08-08", 1119.46 / 1345.02 - 1),
    Episode(
        "China devaluation 2015",
        "2015-08-21",
        "2015-08-24",
        1893.21 / 1970.89 - 1,
        f"{INDEX}; SEC, Equity market volatility on August 24, 2015 (December 2015)",
        "Close to close shows 3.9 %; within the day the low was 5.3 % down (1,867.01).",
    ),
    Episode(
        "Volmageddon 2018", "2018-02-02", "2018-02-05", 2648.94 / 2762.13 - 1, note="Sellers of volatility lost most."
    ),
    Episode("Covid crash 2020", "2020-02-19", "2020-03-23", 2237.40 / 3386.15 - 1),
    Episode("Covid worst day 2020", "2020-03-13", "2020-03-16", 2386.13 / 2711.02 - 1, note="One day."),
    Episode("Rates shock 2022", "2022-01-03", "2022-10-12", 3577.03 / 4796.56 - 1, note="Bonds fell with shares."),
)


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
        Simple, compounded over the scenario; of an option the change of its value over its value now.
    proxied : ndarray of bool, shape (K, N)
        Where the unit's own bars do not cover the scenario, so that its beta stands in.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    returns: Floats
    proxied: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = (len(self.names), len(self.units))
        if self.returns.shape != shape or self.proxied.shape != shape or not np.isfinite(self.returns).all():
            raise DataError(
                f"returns of scenarios must be finite and of shape {shape}, got {self.returns.shape}. Leave units out."
            )
        if len(set(self.units)) < len(self.units):
            raise DataError(f"units of scenarios must be unique, got {self.units}. Give each one column.")

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


def betas(returns: ArrayLike, market: ArrayLike | None = None) -> Floats:
    """Slope of each unit's returns on the market's, over its own bars; NaN under 60 of them.

    Parameters
    ----------
    returns : array_like of shape (T, N)
        NaN before a unit's first bar.
    market : array_like of shape (T,), optional
        By default the mean of the units that have a bar.

    Examples
    --------
    >>> import numpy as np
    >>> m = 0.01 * np.random.default_rng(0).standard_normal(100)
    >>> betas(np.column_stack([m, 2 * m]), m).round(6).tolist()
    [1.0, 2.0]
    """
    table = np.asarray(returns, dtype=np.float64)
    there = np.isfinite(table)
    if market is None:
        count = there.sum(axis=1)
        total = np.where(there, table, 0.0).sum(axis=1)
        index = np.divide(total, count, out=np.zeros(len(table)), where=count > 0)
    else:
        index = np.asarray(market, dtype=np.float64)
    found = np.full(table.shape[1], np.nan)
    for unit in np.flatnonzero(there.sum(axis=0) >= LEAST_BARS):
        mine = there[:, unit]
        m = index[mine] - index[mine].mean()
        spread = float(m @ m)
        found[unit] = float(m @ table[mine, unit]) / spread if spread > 0 else np.nan
    return found


def episode_scenarios(
    closes: pd.DataFrame, episodes: Sequence[Episode] = EPISODES
) -> tuple[Scenarios, tuple[str, ...]]:
    """What each unit returned in each episode, or its beta times the market's published move.

    The beta is to the mean of the units given, the move is the S&P 500's: a book of other things than US shares reads
    its proxied rows with care. Over long spells the move compounds: (1 + market) ** beta - 1, which cannot pass -1.

    Parameters
    ----------
    closes : DataFrame of shape (T, N)
        Prices by instant (UTC, ascending) and unit, NaN where there is no bar.

    Returns
    -------
    Scenarios
        Without the units of the second value.
    tuple of str
        Units that have neither bars for an episode nor the 60 that a beta needs.

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
    moves = [_close_of(closes, one.end) / _close_of(closes, one.start) - 1 for one in episodes]
    own = np.array(moves).reshape(len(episodes), closes.shape[1])
    slope = betas(closes.ffill().pct_change(fill_method=None).to_numpy()[1:])
    market = np.array([one.market for one in episodes])
    stand_in = (1 + market)[:, None] ** slope[None, :] - 1
    proxied = np.isnan(own)
    table = np.where(proxied, stand_in, own)
    good = np.isfinite(table).all(axis=0)
    units = np.array([str(unit) for unit in closes.columns], dtype=object)
    names = tuple(one.name for one in episodes)
    return Scenarios(names, tuple(units[good]), table[:, good], proxied[:, good]), tuple(units[~good])


def _close_of(closes: pd.DataFrame, day: str) -> Floats:
    """Last price of each unit on `day` or in the week before; NaN for one that had none (not yet, or not any more)."""
    end = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)
    near = closes[(closes.index >= end - STALE) & (closes.index < end)].ffill()
    return near.iloc[-1].to_numpy(dtype=np.float64) if len(near) else np.full(closes.shape[1], np.nan)
