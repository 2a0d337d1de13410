"""The highest equity of books together, over flows and restarts: what the drawdown of this second is under.

It is kept as money. What is paid in or taken out, and a book that comes or goes, moves it by the share by which it
moves equity: a flow is neither a profit nor a loss. All else that equity loses, explained or not, is a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from jobs.held import Held
from mlops.io.ledger import BookKey, Ledger
from mlops.risk.drawdown import Drawdown
from mlops.risk.prices import Mark

STATE, ALL = "peak", "all"  # kind of the stored state, and the scope of all books
SAVED = timedelta(seconds=10)


@dataclass
class Peak:
    """The peak from look to look, of all books or of one strategy's (`scope`).

    `books`: equity of each at the last look. `flows`: instants of those that it has. `share`: by how much flows moved
    it since it was reached. `void`: number of the last void that it is without.
    """

    ledger: Ledger
    scope: str = ALL
    top: Mark | None = None
    books: dict[str, float] = field(default_factory=dict)
    flows: dict[str, list[str]] = field(default_factory=dict)
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
            for name, flow, amount in self._paid(held):
                self._scale(amount - flow + sum(equities.values()) - equities[name], flow)
        self.books = equities
        self.flows = {_name(held, key): _instants(held, key) for key in held.books}
        if sum(equities.values()) >= self.top.value:
            self.top, self.share = Mark(sum(equities.values()), held.as_of), 1.0

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
        self.ledger.put_risk_state(STATE, self.scope, as_of, body, {})
        self._saved_at, self._saved = as_of, self.top

    def _restore(self, as_of: datetime) -> None:
        self._restored, stored = True, self.ledger.risk_state(STATE, self.scope, as_of=as_of)
        self.void = self.ledger.last_void()
        if stored is not None:
            body = stored.body
            value, at = body["top"]
            self.top = Mark(value, datetime.fromisoformat(at))
            self.books, self.flows = body["books"], body["flows"]
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

    def _paid(self, held: Held) -> Iterator[tuple[str, float, float]]:
        """Flows that are told now and were not before, and the balance after each."""
        for key in held.books:
            name, account = _name(held, key), held.accounts.get(key)
            for one in account.flows if account is not None and name in self.books else ():
                if one.at.isoformat() not in self.flows.get(name, ()):
                    yield name, one.flow, one.amount
                    self._saved_at = None

    def _scale(self, before: float, flow: float) -> None:
        if self.top is not None and flow:
            share = (before + flow) / before if before > 0 else 0.0
            value = self.top.value * share if share > 0 else max(0.0, self.top.value + flow)
            self.top, self.share = Mark(value, self.top.at), self.share * max(share, 0.0)
            self._saved_at = None


def _name(held: Held, key: BookKey) -> str:
    """A book that has an account since now is another one than the notional one before."""
    return f"{key.model}/{key.book}/{key.version}" + ("" if held.accounts.get(key) is not None else " notional")


def _instants(held: Held, key: BookKey) -> list[str]:
    account = held.accounts.get(key)
    return [one.at.isoformat() for one in (account.flows if account is not None else ())]
