"""The highest equity of books together, over flows and restarts: what the drawdown of this second is under.

It is kept as money. What is paid in or taken out, and a book that comes or goes, moves it by the share by which it
moves equity: a flow is neither a profit nor a loss. All else that equity loses, explained or not, is a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from jobs.held import Held
from mlops.io.ledger import Balance, BookKey, Ledger
from mlops.risk.drawdown import Drawdown
from mlops.risk.prices import Mark

STATE, ALL = "peak", "all"  # kind of the stored state, and the scope of all books
SAVED = timedelta(seconds=10)


@dataclass
class Peak:
    """The peak from look to look, of all books or of one strategy's (`scope`).

    `books`: equity of each at the last look. `flows`: of each the flows that moved it, by instant: how much, and the
    share (0: the peak was reached with it). `firsts`: of each the balance that it is counted from, and what it had then
    beside its own worth. `share`: by how much flows moved it since it was reached. `void`: number of the last void that
    it is without.
    """

    ledger: Ledger
    scope: str = ALL
    top: Mark | None = None
    books: dict[str, float] = field(default_factory=dict)
    flows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    firsts: dict[str, tuple[str, float]] = field(default_factory=dict)
    share: float = 1.0
    void: int = 0
    _saved_at: datetime | None = None
    _saved: Mark | None = None
    _restored: bool = False

    def follow(self, held: Held) -> None:
        """Take what these books are worth now, which comes in order of time."""
        if not self._restored:
            self._restore(held.as_of)
        equities = {_name(held, key): equity for key, equity in held.equities().items()}
        if not equities or not math.isfinite(sum(equities.values())):
            return
        opened = {_name(held, key): held.opened(key) for key in held.books}
        if self.top is None or not self.books.keys() & equities.keys():
            self.top, self.share = Mark(sum(opened.values()), held.as_of), 1.0
        else:
            self._moved(equities, opened)
            self._corrected(held)
            self._paid(held, sum(equities.values()))
        self.books = equities
        self.flows = {_name(held, key): self._flows(held, key) for key in held.books}
        self.firsts = {_name(held, key): first for key in held.books if (first := _first(held, key)) is not None}
        if sum(equities.values()) >= self.top.value:
            self.top, self.share = Mark(sum(equities.values()), held.as_of), 1.0
            self.flows = {
                name: {at: [amount, 0.0] for at, (amount, _) in of.items()} for name, of in self.flows.items()
            }

    def over(self, curve: Drawdown, held: Held) -> Drawdown:
        """The curve of the bars, from the peak on to the equity of now."""
        if math.isfinite(held.equity) and held.books and self.top is not None:
            curve = curve.raised(*self.top)
        later = math.isfinite(held.equity) and (curve.at is None or held.as_of > curve.at)
        return curve.after(held.equity, held.as_of) if later else curve

    def since(self, as_of: datetime) -> int:
        """Number of the last void that it is without."""
        if not self._restored:
            self._restore(as_of)
        return self.void

    def without(self, void: int, effect: Callable[[datetime], float]) -> None:
        """Take out fills that were taken back until the void of that number, which added `effect` to equity."""
        if self.top is not None:
            value = self.top.value - self.share * effect(self.top.at)
            self.top = Mark(max(0.0, value), self.top.at)
        self.void, self._saved_at = void, None

    def save(self, as_of: datetime) -> None:
        """Leave the peak in the ledger, where it moved or that is due: the fall from it outlives a restart."""
        due = self._saved_at is None or self.top != self._saved or abs(as_of - self._saved_at) >= SAVED
        if self.top is None or not due:
            return
        top = [self.top.value, self.top.at.isoformat()]
        body = {"top": top, "books": self.books, "flows": self.flows, "share": self.share, "void": self.void}
        body |= {"firsts": self.firsts}
        self.ledger.put_risk_state(STATE, self.scope, as_of, body, {})
        self._saved_at, self._saved = as_of, self.top

    def _restore(self, as_of: datetime) -> None:
        self._restored, stored = True, self.ledger.risk_state(STATE, self.scope, as_of=as_of)
        self.void = self.ledger.last_void()
        if stored is not None:
            body = stored.body
            value, at = body["top"]
            self.top = Mark(value, datetime.fromisoformat(at))
            self.books = body["books"]
            self.flows = {
                name: dict(of) if isinstance(of, dict) else {at: [math.nan, 0.0] for at in of}
                for name, of in body["flows"].items()
            }
            self.firsts = {name: (at, amount) for name, (at, amount) in body.get("firsts", {}).items()}
            self.share, self.void = body.get("share", 1.0), body.get("void", self.void)

    def _moved(self, equities: dict[str, float], opened: dict[str, float]) -> None:
        """Books that came since the last look, by what they were opened with, and that went."""
        before = sum(self.books.values())
        for name in self.books.keys() - equities.keys():
            self._scale(before, -self.books[name])
            before -= self.books[name]
        for name in equities.keys() - self.books.keys():
            self._scale(before, opened.get(name, 0.0))
            before += opened.get(name, 0.0)

    def _corrected(self, held: Held) -> None:
        """Take out flows, and what an account was counted from, that a person took back."""
        for key in held.books:
            name, account, first = _name(held, key), held.accounts.get(key), _first(held, key)
            if account is None or self.top is None:
                continue
            told = {one.at.isoformat() for one in account.flows}
            for at in self.flows.get(name, {}).keys() - told:
                amount, share = self.flows[name][at]
                if not math.isfinite(amount):  # kept by an older version, which did not say how much
                    continue
                value = self.top.value / share if share else self.top.value - self.share * amount
                self._set(value, self.share / share if share else self.share)
            known = self.firsts.get(name)
            if known is not None and first is not None and known[0] != first[0]:
                self._set(self.top.value + self.share * (first[1] - known[1]), self.share)

    def _paid(self, held: Held, equity: float) -> None:
        """Move it by the flows that count now and did not before; `equity` has them all.

        What was lost with a flow was lost before it.
        """
        new, lost = list[tuple[str, Balance]](), list[tuple[datetime, float]]()
        for key in held.books:
            name, account = _name(held, key), held.accounts.get(key)
            known = self.flows.get(name, {})
            if account is not None and name in self.books:
                new += [(name, one) for one in account.paid if one.at.isoformat() not in known]
                lost += [(one.at, one.lost) for one in account.known.anchors]
        for name, one in sorted(new, key=lambda row: row[1].at):
            after = equity + sum(loss for at, loss in lost if at > one.at)
            after -= sum(other.flow for _, other in new if other.at > one.at)
            share = self._scale(after - one.flow, one.flow)
            self.flows.setdefault(name, {})[one.at.isoformat()] = [one.flow, share]

    def _flows(self, held: Held, key: BookKey) -> dict[str, list[float]]:
        """Those that stand, with the share by which they moved it."""
        known, account = self.flows.get(_name(held, key), {}), held.accounts.get(key)
        if account is None:
            return {}
        here = {one.at.isoformat() for one in account.paid} | known.keys()
        each = {one.at.isoformat(): one.flow for one in account.flows}
        return {at: [flow, known.get(at, [flow, 0.0])[1]] for at, flow in each.items() if at in here}

    def _set(self, value: float, share: float) -> None:
        if self.top is not None:
            self.top, self.share, self._saved_at = Mark(max(0.0, value), self.top.at), share, None

    def _scale(self, before: float, flow: float) -> float:
        """Move it by the share by which a flow moves equity, which is given back; by as much where that is none."""
        share = max(0.0, (before + flow) / before) if before > 0 else 0.0
        if self.top is not None and flow:
            self._set(self.top.value * share if share else self.top.value + flow, self.share * (share or 1.0))
        return share


def _name(held: Held, key: BookKey) -> str:
    """A book that has an account since now is another one than the notional one before."""
    return f"{key.model}/{key.book}/{key.version}" + ("" if held.accounts.get(key) is not None else " notional")


def _first(held: Held, key: BookKey) -> tuple[str, float] | None:
    """The balance that an account is counted from, and what it had then beside the book's own worth."""
    account = held.accounts.get(key)
    if account is None or not account.known.anchors:
        return None
    paid = sum(one.flow for one in account.paid)
    return account.known.anchors[0].at.isoformat(), account.offset + account.lost - paid
