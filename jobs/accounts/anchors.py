"""Balances that accounts are counted from: the first of a book, and each that was less than could be explained.

Only those and a person's word move what an account is counted from; what is more than a book's own trades and declared
flows explain is never believed because it was told often. With each balance stand the prices that its book was valued
at then, so that it means the same an hour later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from mlops.io.ledger import BookKey, Ledger
from mlops.risk.prices import Mark

STATE, ALL = "anchors", "all"  # kind and scope of the stored state
MOST = 50  # of a book


@dataclass(frozen=True, slots=True)
class Worth:
    """What a book was worth by its own trades, at `marks`; from `low` to `high` at prices that were not confirmed.

    `jumped`: the units of those prices.
    """

    value: float
    low: float
    high: float
    marks: Mapping[str, float]
    jumped: tuple[str, ...] = ()


Standing = Callable[[Collection[str]], Mapping[str, float] | None]  # marks of units; None while one jumps or has none
Valued = Callable[[datetime, Mapping[str, float]], Worth]  # of a book at an instant, at these marks where it has them


@dataclass(frozen=True, slots=True)
class Anchor:
    """A balance, and the marks that its book was valued at; `lost`: how much less it was than expected.

    From `low` (<= 0) to `high`: what the book was worth beside that at prices that were not confirmed. `jumped`: the
    units of those prices, until it was judged at what came of them. `newest`: an older balance was told that it is not
    counted from, and `unexplained` by how much it is less than that one and the book's own trades explain.
    """

    at: datetime
    amount: float
    marks: Mapping[str, float] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    lost: float = 0.0
    jumped: tuple[str, ...] = ()
    newest: bool = False
    unexplained: float = 0.0

    @classmethod
    def of(cls, at: datetime, amount: float, worth: Worth) -> Self:
        """A balance of now."""
        low, high = worth.low - worth.value, worth.high - worth.value
        return cls(at, amount, worth.marks, low, high, jumped=worth.jumped if low < 0 or high > 0 else ())

    def settled(self, valued: Valued, standing: Mapping[str, float], *, first: bool) -> Self:
        """The same once the prices that were not confirmed stand: any between those and the ones before may explain it.

        Of a jump that proved false nothing is left. A book is at its least, but in a `first` balance at its most.
        """
        marks = self.marks, {**self.marks, **standing}
        values = [valued(self.at, each).value for each in marks]
        least, most = sorted((0, 1), key=values.__getitem__)
        if first:
            return replace(self, marks=marks[most], low=0.0, high=0.0, jumped=())
        return replace(self, marks=marks[least], low=0.0, high=values[most] - values[least], jumped=())

    @property
    def jumps(self) -> bool:
        """Whether a price that counts was not confirmed then, and nobody knows yet what came of it."""
        return bool(self.jumped)

    def offset(self, valued: Valued) -> float:
        """What the account had beside the book's own worth."""
        return self.amount - valued(self.at, self.marks).value


@dataclass(frozen=True, slots=True)
class Known:
    """The anchors of a book, oldest first, and the `last` balance that was looked at."""

    anchors: tuple[Anchor, ...] = ()
    last: Anchor | None = None


@dataclass
class Anchors:
    """Anchors of all books, from look to look and over restarts."""

    ledger: Ledger
    of: dict[BookKey, Known] = field(default_factory=dict)
    _saved: dict[BookKey, Known] = field(default_factory=dict)
    _restored: bool = False

    def known(self, key: BookKey, as_of: datetime) -> Known:
        """Anchors that are known of a book."""
        if not self._restored:
            self._restore(as_of)
        return self.of.get(key, Known())

    def drop(self, unit: str, mark: Mark) -> None:
        """Take back a mark from what balances were valued at."""
        for key, known in self.of.items():
            last = None if known.last is None else _dropped(known.last, unit, mark)
            self.of[key] = Known(tuple(_dropped(anchor, unit, mark) for anchor in known.anchors), last)

    def save(self, as_of: datetime) -> None:
        """Leave them in the ledger, where one is new."""
        if self.of != self._saved:
            rows = [{"key": list(key), **_stored(known)} for key, known in self.of.items()]
            self.ledger.risk.put_state(STATE, ALL, as_of, {"books": rows}, {})
            self._saved = dict(self.of)

    def _restore(self, as_of: datetime) -> None:
        self._restored, state = True, self.ledger.risk.state(STATE, ALL, as_of=as_of)
        for row in () if state is None else state.body["books"]:
            last = None if row["last"] is None else _read(row["last"])
            self.of[BookKey(*row["key"])] = Known(tuple(map(_read, row["anchors"])), last)
        self._saved = dict(self.of)


def _dropped(anchor: Anchor, unit: str, mark: Mark) -> Anchor:
    if anchor.at < mark.at or anchor.marks.get(unit) != mark.value:
        return anchor
    return replace(anchor, marks={name: value for name, value in anchor.marks.items() if name != unit})


def _stored(known: Known) -> dict[str, Any]:
    return {
        "anchors": [asdict(anchor) for anchor in known.anchors[-MOST:]],
        "last": None if known.last is None else asdict(known.last),
    }


def _read(row: Mapping[str, Any]) -> Anchor:
    older = row["marks"] if row["low"] < 0 or row["high"] > 0 else ()
    return Anchor(**{**row, "at": datetime.fromisoformat(row["at"]), "jumped": tuple(row.get("jumped", older))})
