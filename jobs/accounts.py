"""What the account behind each bot's book is worth: by its balances, or by the setting; nothing is assumed.

A book counts its own trades from a notional start. What a balance says beside it is one number, the `offset`: the
account's worth less the book's own equity at that instant. Between two balances equity moves with the book alone, so a
deposit is no profit and a withdrawal no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from jobs.house import House
from mlops.experiment import Book
from mlops.experiment.book import SCALE
from mlops.io.ledger import Balance, BookKey
from mlops.types import Alert, Priority

SETTING = "setting"
HISTORY = 5_000  # balances of a book that its past is told by
Worth = Callable[[datetime], float]  # of the book by its own trades, at an instant


@dataclass(frozen=True, slots=True)
class Account:
    """`offset`: what the account has beside the book's own equity. `amount` was told `at` by `source`.

    `departs`: the newest balance less what was expected of it, 0 where that is within the tolerance. `balances`: all.
    """

    offset: float
    amount: float
    at: datetime | None
    source: str
    departs: float = 0.0
    balances: Sequence[Balance] = ()


def account(house: House, key: BookKey, book: Book, as_of: datetime, worth: Worth) -> Account | None:
    """The account of a bot's book; None where nobody said what it is worth."""
    if key.version:
        return None
    told, start = house.ledger.balances(key.model, key.book, as_of=as_of, last=HISTORY), book.start / SCALE
    stated = _stated(house, key)
    if not told:
        return None if stated is None else Account(stated - start, stated, None, SETTING)
    last, offset = told[-1], told[-1].amount - worth(told[-1].at)
    before = told[-2].amount - worth(told[-2].at) if len(told) > 1 else None if stated is None else stated - start
    departs = 0.0 if before is None else offset - before - last.flow
    if abs(departs) <= house.settings.books.balance_tolerance_bps / 1e4 * last.amount:
        departs = 0.0
    # What is more than expected counts once the next balance says so too: a typo must not make limits wider.
    return Account(offset - max(departs, 0.0), last.amount, last.at, last.source, departs, told)


def _stated(house: House, key: BookKey) -> float | None:
    """By the setting: the most particular line counts."""
    fits = [one for one in house.settings.books.balances if one.model in (key.model, "") and one.book in (key.book, "")]
    return max(fits, key=lambda one: (bool(one.model), bool(one.book))).amount if fits else None


def offsets(found: Account, curve: pd.Series[float], start: float) -> pd.Series[float]:
    """The offset at each bar of a book; before the first balance that of the first, at the end that of now."""
    if len(found.balances) < 2 or not len(curve):
        return pd.Series(found.offset, index=curve.index)
    times = pd.DatetimeIndex([one.at for one in found.balances])
    place = np.asarray(curve.index.searchsorted(times, side="right")) - 1
    own = np.where(place >= 0, curve.to_numpy(dtype=np.float64)[np.maximum(place, 0)], start)
    each = np.array([one.amount for one in found.balances]) - own
    each[-1] = found.offset
    at = np.maximum(np.asarray(times.searchsorted(pd.DatetimeIndex(curve.index), side="right")) - 1, 0)
    each = each[at]
    each[-1] = found.offset  # what was paid in since the last bar was there from it on
    return pd.Series(each, index=curve.index)


def without_flows(own: pd.Series[float], offset: pd.Series[float]) -> pd.Series[float]:
    """Equity as if what is there now had been there always: every return is profit over what was there then.

    It ends at what the account has now. Bars before which nothing was there are left out.

    Examples
    --------
    >>> own, offset = pd.Series([1000.0, 800.0, 800.0]), pd.Series([0.0, 0.0, 9200.0])
    >>> without_flows(own, offset).tolist()
    [12500.0, 10000.0, 10000.0]
    """
    if not len(own) or (offset == offset.iloc[-1]).all():
        return own + offset
    profit, beside = own.diff().to_numpy()[1:], offset.to_numpy()
    base = own.to_numpy()[:-1] + np.minimum(beside[:-1], beside[1:])
    growth = np.where(base > 0, 1 + profit / np.where(base > 0, base, 1.0), np.nan)
    growth = np.where(growth > 0, growth, np.nan)
    back = np.concatenate([np.cumprod(growth[::-1])[::-1], [1.0]])
    found = pd.Series((own.iloc[-1] + beside[-1]) / back, index=own.index)
    known: pd.Series[float] = found[np.isfinite(back)]
    return known


def tell(house: House, accounts: Mapping[BookKey, Account | None], as_of: datetime) -> None:
    """An alert for each bot's book without a balance, and for each balance that is not what it should be."""
    wanted: dict[str, Alert] = {}
    for key, found in accounts.items():
        name = f"{key.model}:{key.book}"
        if found is None:
            title = f"no balance of {key.model}/{key.book} is known: no limit in per cent of equity is held against it"
            alert = Alert(f"balance_unknown:{name}", Priority.HIGH, key.model, title, as_of)
        elif found.departs:
            what = f"{abs(found.departs):,.2f} {'more' if found.departs > 0 else 'less'}"
            title = (
                f"the balance of {key.model}/{key.book}, {found.amount:,.2f} ({found.source}), is {what} than its own "
                "trades and what was paid in or taken out make of the one before"
            )
            at = "" if found.at is None else found.at.isoformat()
            details = {"departs": found.departs, "amount": found.amount}
            alert = Alert(f"balance_departs:{name}:{at}", Priority.HIGH, key.model, title, as_of, details)
        else:
            continue
        wanted[alert.key] = alert
    open_now = {alert.key for alert in house.ledger.alerts()}
    for gone in open_now - wanted.keys():
        if gone.startswith("balance_unknown:"):
            house.ledger.resolve_alert(gone, as_of)
    for new in wanted.keys() - open_now:
        house.ledger.add_alert(wanted[new])
