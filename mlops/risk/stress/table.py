"""A book under scenarios: the worst windows of its own history, and one table of scenarios and books."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.joint import checked_returns, checked_weights
from mlops.risk.stress.scenarios import Scenarios

HORIZONS = (1, 5, 20, 60)  # bars
ROUNDING = 1e-12  # of equity: what floating point makes of a window in which nothing moved
TABLE_COLUMNS = (
    "scenario", "strategy", "book", "money", "loss", "worst_unit", "worst_money", "proxied", "missing",
)  # fmt: skip
ALL = "all"  # the strategy of the row that holds all books


@dataclass(frozen=True, slots=True)
class WorstWindow:
    """A window of the returns from bar `first` to bar `last`, both in it, and the book's loss (positive) over it."""

    horizon: int
    first: int
    last: int
    loss: float


def worst_windows(
    returns: ArrayLike, weights: ArrayLike, *, horizons: Sequence[int] = HORIZONS, top: int = 3
) -> tuple[WorstWindow, ...]:
    """The windows in which today's book would have lost most, of every window there is.

    Each unit's return compounds over the window, quantities stay as they are (no rebalancing). Of windows that share
    a bar only the worst counts, so that the `top` are as many different spells. A window that gains is none.

    Parameters
    ----------
    returns : array_like of shape (T, N)
        Simple returns, oldest first; NaN is refused.
    weights : array_like of shape (N,)
        Value over equity, signed.
    horizons : sequence of int
        In bars; those longer than the history are left out.

    Examples
    --------
    >>> found = worst_windows([[0.1], [-0.5], [-0.5], [0.1]], [1.0], horizons=(1, 2), top=1)
    >>> [(w.horizon, w.first, w.last, round(w.loss, 2)) for w in found]
    [(1, 1, 1, 0.5), (2, 1, 2, 0.75)]
    """
    table = checked_returns(returns)
    vector = checked_weights(weights, table.shape[1])
    growth = np.vstack([np.ones(table.shape[1]), np.cumprod(1 + table, axis=0)])
    if not (growth > 0).all():
        raise DataError("returns must be above -1, got a unit that lost everything. Take it out from that bar on.")
    held = vector / growth  # the quantity that today's weight buys at each bar
    windows: list[WorstWindow] = []
    for horizon in (h for h in horizons if 1 <= h <= len(table)):
        profit = np.einsum("ij,ij->i", growth[horizon:], held[:-horizon]) - vector.sum()
        windows += _distinct(profit, horizon, top)
    return tuple(windows)


def window_returns(returns: ArrayLike, window: WorstWindow) -> Floats:
    """What each unit returned over the window, compounded, shape (N,)."""
    table = checked_returns(returns)
    return np.asarray(np.prod(1 + table[window.first : window.last + 1], axis=0) - 1)


def stress_table(
    positions: pd.DataFrame, scenarios: Scenarios, equities: Mapping[tuple[str, str], float]
) -> pd.DataFrame:
    """What each book would lose in each scenario; cheap enough for once a second.

    Parameters
    ----------
    positions : DataFrame with POSITION_COLUMNS
        Values are quantity x price x multiplier. A position without a price, or whose unit has no scenario, is left
        out and counted in `missing`.
    equities : mapping of (strategy, book) to float
        Of books that are to be shown; those without positions lose nothing.

    Returns
    -------
    DataFrame with TABLE_COLUMNS
        A row a scenario and book, and one a scenario for all books together (strategy "all") where there are several.
        `money` is the loss in the currency of the books, NaN where all of a book is missing; `loss` the same as a
        fraction of equity, NaN where that is not positive. Losses are positive. `worst_unit` loses most, `worst_money`
        that much. `proxied` is the share of gross value whose return is a stand-in, `missing` the share of positions
        that is not in that scenario's number (by gross value where they have a price, by count where they have none).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> row = {"strategy": "s", "book": "b", "unit": "A", "quantity": 2.0, "price": 50.0, "multiplier": 1.0}
    >>> crash = Scenarios(("crash",), ("A",), np.array([[-0.2]]), np.array([[False]]))
    >>> stress_table(pd.DataFrame([row]), crash, {("s", "b"): 1000.0})[["money", "loss", "worst_unit"]].values.tolist()
    [[20.0, 0.02, 'A']]
    """
    keys = sorted(equities)
    at = {key: i for i, key in enumerate(keys)}
    column = {unit: j for j, unit in enumerate(scenarios.units)}
    book = np.array(
        [at.get(key, -1) for key in zip(positions["strategy"], positions["book"], strict=True)], dtype=np.intp
    )
    unit = np.array([column.get(name, -1) for name in positions["unit"]], dtype=np.intp)
    value = (positions["quantity"] * positions["price"] * positions["multiplier"]).to_numpy(dtype=np.float64)
    if (book < 0).any():
        lost = positions.loc[book < 0, ["strategy", "book"]].iloc[0].tolist()
        raise DataError(f"equities must have every book of the positions, got none of {lost}. Add it.")
    known = (unit >= 0) & np.isfinite(value)
    table = np.zeros((len(keys), len(scenarios.units)))
    np.add.at(table, (book[known], unit[known]), value[known])
    gross = np.zeros_like(table)
    np.add.at(gross, (book[known], unit[known]), np.abs(value[known]))
    covered = np.isfinite(scenarios.returns)  # of a unit, in a scenario
    by_scenario = [known & (covered[k, unit] if covered.shape[1] else False) for k in range(len(covered))]
    missing = _over(by_scenario, book, value, len(keys))
    equity = np.array([equities[key] for key in keys], dtype=np.float64)
    if len(keys) > 1:
        keys = [*keys, (ALL, "")]
        table, gross = np.vstack([table, table.sum(axis=0)]), np.vstack([gross, gross.sum(axis=0)])
        missing = np.hstack([missing, _over(by_scenario, np.zeros_like(book), value, 1)])
        equity = np.append(equity, equity.sum())
    return _frame(scenarios, keys, table, gross, missing, equity)


def _frame(
    scenarios: Scenarios, keys: list[tuple[str, str]], value: Floats, gross: Floats, missing: Floats, equity: Floats
) -> pd.DataFrame:
    """`missing` has shape (K, books)."""
    scenarios_n, books = len(scenarios.names), len(keys)
    returns = np.nan_to_num(scenarios.returns)
    money = np.where(missing < 1, -(returns @ value.T), np.nan)
    size = gross.sum(axis=1)
    share = np.divide(scenarios.proxied @ gross.T, size, out=np.zeros((scenarios_n, books)), where=size > 0)
    units = np.array([*scenarios.units, ""], dtype=object)
    if len(scenarios.units):
        each = -(returns[:, None, :] * value[None, :, :])
        worst = each.argmax(axis=2)
        most = np.take_along_axis(each, worst[:, :, None], axis=2)[:, :, 0]
        named = np.where(most > 0, worst, len(units) - 1)
    else:
        most, named = np.zeros((scenarios_n, books)), np.zeros((scenarios_n, books), dtype=np.intp)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.where(equity > 0, money / equity, np.nan)
    columns = (
        np.repeat(np.array(scenarios.names, dtype=object), books),
        np.tile(np.array([key[0] for key in keys], dtype=object), scenarios_n),
        np.tile(np.array([key[1] for key in keys], dtype=object), scenarios_n),
        money.ravel() + 0.0,
        loss.ravel() + 0.0,
        units[named.ravel()],
        np.maximum(most, 0).ravel(),
        share.ravel(),
        missing.ravel(),
    )
    return pd.DataFrame(dict(zip(TABLE_COLUMNS, columns, strict=True)))


def _over(
    known: Sequence[np.ndarray[tuple[int], np.dtype[np.bool_]]],
    book: np.ndarray[tuple[int], np.dtype[np.intp]],
    value: Floats,
    books: int,
) -> Floats:
    """`_missing` of each scenario, shape (K, books)."""
    if not known:
        return np.zeros((0, books))
    first = _missing(book, known[0], value, books)  # most scenarios know the same positions
    return np.array([first if (row == known[0]).all() else _missing(book, row, value, books) for row in known])


def _missing(
    book: np.ndarray[tuple[int], np.dtype[np.intp]],
    known: np.ndarray[tuple[int], np.dtype[np.bool_]],
    value: Floats,
    books: int,
) -> Floats:
    """Share of each book's positions that no scenario speaks of; one without a price, or with one of 0 that no scenario
    moves, weighs as its book's mean one."""
    priced = np.isfinite(value) & (known | (value != 0))
    size = np.abs(np.where(priced, value, 0.0))
    count, n = np.bincount(book, minlength=books), np.bincount(book[priced], minlength=books)
    total = np.bincount(book, weights=size, minlength=books)
    mean = np.divide(total, n, out=np.ones(books), where=(n > 0) & (total > 0))
    weigh = np.where(priced, size, mean[book])
    whole = np.bincount(book, weights=weigh, minlength=books)
    absent = np.bincount(book[~known], weights=weigh[~known], minlength=books)
    return np.divide(absent, whole, out=np.zeros(books), where=(count > 0) & (whole > 0))


def _distinct(profit: Floats, horizon: int, top: int) -> list[WorstWindow]:
    """The worst windows of one length that share no bar, the worst first."""
    left, windows = profit.copy(), list[WorstWindow]()
    for _ in range(top):
        at = int(left.argmin())
        if not left[at] < -ROUNDING:
            break
        windows.append(WorstWindow(horizon, at, at + horizon - 1, -float(left[at])))
        left[max(0, at - horizon + 1) : at + horizon] = np.inf
    return windows
