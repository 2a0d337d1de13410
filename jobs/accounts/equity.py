"""What the account behind each bot's book is worth: by its balances, or by the setting; nothing is assumed.

A book counts its own trades from a notional start. What a balance says beside it is one number, the `offset`: the
account's worth less the book's own worth at that instant. Between two balances equity moves with the book alone, so a
deposit is no profit and a withdrawal no loss.

The offset is that of an anchor (`jobs.accounts.anchors`) and what was declared to be paid in since. A balance that is
less counts at once, and is the new anchor where it is less by more than the tolerance: a loss. One that is more is held
aside until a person says that it is right. One that was told while a price jumped moves nothing but by what no price
explains, and is judged again once the jump is over.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import Literal, Self

import numpy as np
import pandas as pd

from jobs.accounts.anchors import Anchor, Anchors, Known, Standing, Valued
from jobs.context import Context
from mlops.alerts import ALERTS
from mlops.books.book import SCALE
from mlops.experiment import Book
from mlops.io.ledger import Balance, BookKey
from mlops.stats.dependent import Floats
from mlops.types import Alert

Side = Literal["left", "right"]
SETTING, CENT = "setting", 0.01  # less is rounding, also of an account that has next to nothing
RECENT = timedelta(days=1)  # what was lost since a first balance that is older is told, and is no loss of now
REVISED = 6  # anchors that are valued anew at each look, the newest
SHOWN, MOST_LISTED = 3, 100  # books in the title of an alert, and in its details


@dataclass(frozen=True, slots=True)
class Steps:
    """Amounts at instants, in order of time; `left`: the sum of those from each one on."""

    times: pd.DatetimeIndex
    amounts: Floats
    left: Floats

    @classmethod
    def of(cls, steps: Sequence[tuple[datetime, float]]) -> Self:
        each = np.array([amount for _, amount in steps], dtype=np.float64)
        left = np.concatenate([each[::-1].cumsum()[::-1], [0.0]])
        return cls(pd.DatetimeIndex([at for at, _ in steps], tz="UTC"), each, left)

    def after(self, times: pd.DatetimeIndex, side: Side = "right") -> Floats:
        """The sum of the steps after each instant (`left`: and at it)."""
        if not len(self.amounts):  # of most books, at each look
            return np.zeros(len(times))
        return self.left[self.times.searchsorted(times, side=side)]


@dataclass(frozen=True)
class Account:
    """`offset`: what the account has beside the book's own worth. `amount` was told `at` by `source`.

    `departs`: the newest balance less what was expected of it, 0 where that is within the tolerance. `flows`: balances
    with which something was paid in or taken out. `known`: what it is counted from. `short`: by how much the newest
    balance lowers it without being an anchor.
    """

    offset: float
    amount: float
    at: datetime | None
    source: str
    departs: float = 0.0
    flows: Sequence[Balance] = ()
    known: Known = field(default_factory=Known)
    short: float = 0.0

    @property
    def covers(self) -> datetime | None:
        """Until when all that the account made is in its equity."""
        return self.known.anchors[-1].at if self.departs > 0 and self.known.anchors else self.at

    @property
    def lost(self) -> float:
        """What balances were less than could be explained, all together."""
        return sum(anchor.lost for anchor in self.known.anchors)

    @cached_property
    def losses(self) -> Steps:
        """When the account was less than could be explained, and by how much."""
        steps = [(anchor.at, anchor.lost) for anchor in self.known.anchors if anchor.lost]
        return Steps.of([*steps, (self.at, self.short)] if self.at is not None and self.short else steps)

    @property
    def fell(self) -> float:
        """All that the account was less than could be explained."""
        return float(self.losses.left[0])

    @cached_property
    def paid_in(self) -> Steps:
        """When something was paid in (or taken out) that moved it, and how much."""
        since = self.counted_from(None)
        return Steps.of([(flow.at, flow.flow) for flow in self.flows if since is None or flow.at > since])

    @cached_property
    def paid(self) -> Steps:
        """The same, and what was paid in before it is counted."""
        return Steps.of([(flow.at, flow.flow) for flow in self.flows])

    def counted_from(self, at: datetime | None) -> datetime | None:
        """The balance that it is counted from at an instant; None where that is the setting."""
        anchors = self.known.anchors
        before = [anchor.at for anchor in anchors if at is not None and anchor.at <= at]
        return before[-1] if before else anchors[0].at if anchors and not anchors[0].lost else None

    def beside(self, times: pd.DatetimeIndex) -> Floats:
        """What it had at instants beside the book's own worth, by all that is known now.

        At the instant of a balance that is less nothing is lost yet, for it may have been looked at before that came.
        """
        return self.offset + self.losses.after(times, "left") - self.paid_in.after(times)


def account(
    context: Context,
    key: BookKey,
    book: Book,
    as_of: datetime,
    valued: Valued,
    anchors: Anchors,
    standing: Standing,
    wrong: Collection[datetime] = (),
) -> Account | None:
    """The account of a bot's book, without `wrong` balances; None where nobody said what it is worth."""
    if key.version:
        return None
    told_last = context.ledger.balances.of(key.model, key.book, as_of=as_of, last=1 + len(wrong))
    newest = [balance for balance in told_last if balance.at not in wrong][-1:]
    start, stated = book.start / SCALE, _stated(context, key)
    if not newest:
        return None if stated is None else Account(stated - start, stated, None, SETTING)
    flows = [flow for flow in context.ledger.balances.flows(key.model, key.book, as_of=as_of) if flow.at not in wrong]
    row, void = newest[0], {*wrong, *context.ledger.balances.voids(key.model, key.book)}
    known = anchors.known(key, as_of)
    same = known.last is not None and (known.last.at, known.last.amount) == (row.at, row.amount)
    judged = tuple(anchor for anchor in known.anchors if anchor.at not in void)
    base = None if stated is None else stated - start
    last = known.last if known.last is not None and same else Anchor.of(row.at, row.amount, valued(row.at, {}))
    if same and last.jumps and (marks := standing(last.jumped)) is not None:
        last = last.settled(valued, marks, first=not judged and base is None)
    chain, expected = _chained(judged or _first(context, key, last, valued, as_of, stated), flows, valued, base)
    if chain and chain[0].newest:
        unexplained = _unexplained(context, key, chain[0], flows, valued, as_of)
        chain = (replace(chain[0], unexplained=unexplained), *chain[1:])
    if not chain and base is None:  # told while a price jumps, and nothing is known before: at its least
        offset = last.offset(valued) - last.high
        return Account(offset, row.amount, row.at, row.source, 0.0, flows, Known((), last))
    since = chain[-1].at if chain else None
    expected = (expected if chain else base or 0.0) + _paid(flows, since, row.at)
    account = Account(expected, row.amount, row.at, row.source, 0.0, flows, Known(chain, last))
    if since is not None and row.at <= since:
        return account
    return _judged(account, last, last.offset(valued) - expected, tolerance(context, row.amount))


def tolerance(context: Context, amount: float) -> float:
    """Amount by which a balance may depart from what is expected of it."""
    return max(CENT, context.settings.books.balance_tolerance_bps / 1e4 * abs(amount))


def _judged(account: Account, last: Anchor, gap: float, tolerance: float) -> Account:
    """The account by a newer balance, which is `gap` more than expected at the marks that stood."""
    least, most, chain = gap - last.high, gap - last.low, account.known.anchors
    if most < -tolerance:
        short = replace(account, offset=account.offset + most, departs=most)
        if last.jumps:
            return replace(short, short=-most)
        return replace(short, known=Known((*chain, replace(last, lost=-gap)), last))
    if least > tolerance:
        return replace(account, departs=least)
    less = 0.0 if last.jumps else max(0.0, -gap)
    return replace(account, offset=account.offset - less, short=less)


def _first(
    context: Context, key: BookKey, last: Anchor, valued: Valued, as_of: datetime, stated: float | None
) -> tuple[Anchor, ...]:
    """The first balance, unless a setting says more; the newest where a price jumped at the first, or it is old."""
    if stated is not None:
        return ()
    oldest = context.ledger.balances.first(key.model, key.book, as_of=as_of)
    if oldest is not None and timedelta(0) < last.at - oldest.at <= RECENT:
        first = Anchor.of(oldest.at, oldest.amount, valued(oldest.at, {}))
        if not first.jumps:
            return (first,)
    newest = oldest is not None and oldest.at < last.at
    return () if last.jumps else (replace(last, newest=newest),)


def _unexplained(
    context: Context, key: BookKey, anchor: Anchor, flows: Sequence[Balance], valued: Valued, as_of: datetime
) -> float:
    """How much less an account had than its first balance and its trades explain, by bars' closes, at the least."""
    first = context.ledger.balances.first(key.model, key.book, as_of=as_of)
    if first is None or first.at >= anchor.at:
        return 0.0
    before = first.amount - valued(first.at, {}).high + _paid(flows, first.at, anchor.at)
    less = before - anchor.offset(valued)
    return less if less > tolerance(context, anchor.amount) else 0.0


def _chained(
    chain: tuple[Anchor, ...], flows: Sequence[Balance], valued: Valued, base: float | None
) -> tuple[tuple[Anchor, ...], float]:
    """The anchors with what each lost by what is known now, and the offset of the newest.

    A late fill may explain a loss, and a void may undo it. No anchor is ever more than the one before explains.
    """
    chained, since = list(chain[:-REVISED]), None
    expected = base if base is not None and chain and chain[0].lost and not chained else math.inf
    for anchor in chain[-REVISED:]:
        own = anchor.offset(valued)
        expected += _paid(flows, since, anchor.at)
        lost = max(0.0, expected - own) if math.isfinite(expected) else anchor.lost if chained else 0.0
        expected, since = min(own, expected), anchor.at
        chained.append(replace(anchor, lost=lost))
    return tuple(chained), expected


def _paid(flows: Sequence[Balance], since: datetime | None, until: datetime) -> float:
    """What was paid in after `since`, until `until`."""
    return sum(flow.flow for flow in flows if (since is None or flow.at > since) and flow.at <= until)


def _stated(context: Context, key: BookKey) -> float | None:
    """Balance by the settings: the most particular line counts."""
    fits = [
        row for row in context.settings.books.balances if row.model in (key.model, "") and row.book in (key.book, "")
    ]
    return max(fits, key=lambda row: (bool(row.model), bool(row.book))).amount if fits else None


def offsets(known: Account, curve: pd.Series[float]) -> pd.Series[float]:
    """The offset at each bar of a book; at the last one that of now: what was paid in since was there from it on."""
    each = pd.Series(
        known.offset - known.paid.after(pd.DatetimeIndex(curve.index)), index=curve.index, dtype=np.float64
    )
    each.iloc[-1:] = known.offset
    return each


def with_losses(known: Account, curve: pd.Series[float]) -> pd.Series[float]:
    """A book's own worth at each bar, and what its account lost later without an explanation."""
    return curve + known.losses.after(pd.DatetimeIndex(curve.index))


def without_flows(own: pd.Series[float], offset: pd.Series[float]) -> pd.Series[float]:
    """Equity as if what is there now had been there always: every return is profit over what was there then.

    It ends at what the account has now. Instants before which nothing was there are left out. Of a flow between two
    instants a loss came before it, and a gain is one on the more that was there.

    Examples
    --------
    >>> own, offset = pd.Series([1000.0, 800.0, 800.0]), pd.Series([0.0, 0.0, 9200.0])
    >>> without_flows(own, offset).tolist()
    [12500.0, 10000.0, 10000.0]
    """
    if not len(own) or (offset == offset.iloc[-1]).all():
        return own + offset
    profit, beside = own.diff().to_numpy()[1:], offset.to_numpy()
    before, after = own.to_numpy()[:-1] + beside[:-1], own.to_numpy()[:-1] + beside[1:]
    base = np.where(profit < 0, before, np.maximum(before, after))
    there = np.minimum(before, after) > 0
    growth = np.where(there, 1 + profit / np.where(there, base, 1.0), np.nan)
    growth = np.where(growth > 0, growth, np.nan)
    back = np.concatenate([np.cumprod(growth[::-1])[::-1], [1.0]])
    equity = pd.Series((own.iloc[-1] + beside[-1]) / back, index=own.index)
    known: pd.Series[float] = equity[np.isfinite(back)]
    return known


def tell(context: Context, accounts: Mapping[BookKey, Account | None], as_of: datetime) -> None:
    """One alert of all bots' books without a balance, and one for each balance that is not what it should be."""
    _tell_unknown(context, sorted(_name(key) for key, account in accounts.items() if account is None), as_of)
    wrong = (_wrong(key, account, as_of) for key, account in accounts.items() if account is not None)
    kinds = ("balance_departs:less", "balance_departs:more", "balance_unexplained")
    context.ledger.alerts.settle(kinds, chain.from_iterable(wrong), as_of)


def _wrong(key: BookKey, account: Account, as_of: datetime) -> Iterator[Alert]:
    """Alerts about the balances of a book."""
    anchors = account.known.anchors
    if account.departs > 0:
        yield _departs("balance_departs:more", key, account, as_of)
    elif anchors and (last := anchors[-1]).lost:
        fell = replace(account, amount=last.amount, departs=-last.lost)
        yield _departs("balance_departs:less", key, fell, as_of, time=f"{last.at:%Y-%m-%dT%H:%M:%S}")
    if anchors and anchors[0].unexplained:
        yield _unexplained_alert(key, anchors[0], as_of)


def _departs(kind: str, key: BookKey, account: Account, as_of: datetime, **words: str) -> Alert:
    gap = f"{abs(account.departs):,.2f} {'more' if account.departs > 0 else 'less'}"
    then = (
        "It is held aside until `trader-mlops balance confirm` says that it is right"
        if account.departs > 0
        else "It counts as a loss"
    )
    text = (
        f"the balance of {key.model}/{key.book}, {account.amount:,.2f} ({account.source}), is {gap} than its own "
        f"trades and what was paid in or taken out explain. {then}"
    )
    details = {"departs": account.departs, "amount": account.amount}
    return ALERTS[kind].alert(as_of, words | {"model": key.model, "book": key.book, "text": text}, details=details)


def _unexplained_alert(key: BookKey, anchor: Anchor, as_of: datetime) -> Alert:
    text = (
        f"the balance of {key.model}/{key.book}, {anchor.amount:,.2f} at {anchor.at:%Y-%m-%d %H:%M}, is "
        f"{anchor.unexplained:,.2f} less than its first balance and its trades since explain. The account is counted "
        "from it: that is in no drawdown and no loss of the day. If it was taken out, send a balance of then with its "
        "`flow`"
    )
    words = {"model": key.model, "book": key.book, "time": f"{anchor.at:%Y-%m-%dT%H:%M:%S}", "text": text}
    return ALERTS["balance_unexplained"].alert(as_of, words, details={"less": anchor.unexplained})


def _tell_unknown(context: Context, books: Sequence[str], as_of: datetime) -> None:
    """Told once, and anew when other books are without one: the key has a digest of their names."""
    wanted = []
    if books:
        first = ", ".join(books[:SHOWN]) + (f" and {len(books) - SHOWN} more" if len(books) > SHOWN else "")
        details = {"n": len(books), "books": list(books[:MOST_LISTED])}
        words = {"digest": digest(books), "time": as_of.isoformat(), "books": first}
        wanted = [ALERTS["balance_unknown"].alert(as_of, words, details=details, about=books[0].partition("/")[0])]
    context.ledger.alerts.settle("balance_unknown", wanted, as_of)


def _name(key: BookKey) -> str:
    return f"{key.model}/{key.book}"


def digest(books: Sequence[str]) -> str:
    """Short, of the names."""
    return hashlib.sha256("\n".join(books).encode()).hexdigest()[:8]
