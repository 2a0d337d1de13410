"""Fills that cannot well be: they are booked, and what they would gain counts once that is settled.

A fill is judged once, when it is first seen: its price is further from the mark of its unit than the market may have
moved since (`Trust.possible`), and no quote says the same. Equity then counts the worse of it at its price and at that
mark. It ends when the unit is marked there, or when a person confirms or voids the fill. What is open is told by an
alert, and anew where somebody closes that.

One that is worth more than `risk.fill_most_times_equity` times its book is doubtful at any price: what such fills of a
unit gain, at each price of it, counts once a person confirms them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Self

from mlops.alerts import ALERTS
from mlops.books.book import SCALE
from mlops.errors import DataError
from mlops.experiment import Fill
from mlops.io.ledger import BookKey, Ledger
from mlops.risk.prices import Mark, Observation, Trust, price
from mlops.types import Alert

REMEDY = "`trader-mlops fill confirm` or `fill void` settles it"
ALERT, CONFIRMED = "fill_doubtful:", "fill_confirmed:"
NUMBERS = ("price", "mark", "gain", "number", "multiplier", "times")  # of a doubt, in the alert
STATE, ALL = "doubts", "all"  # kind and scope of the stored state: up to which fill all are judged


@dataclass(frozen=True, slots=True)
class Doubt:
    """A fill of a book, the mark that it jumped away from, and its `gain` there in money (0 for a loss).

    `number`: its own among the ledger's fills. `times`: how many times its book's equity it is worth, where that is
    what is doubtful of it; 0 where its price is.
    """

    key: BookKey
    fill_id: str
    unit: str
    at: datetime
    quantity: float
    price: float
    mark: float
    gain: float
    number: int = 0
    multiplier: float = 1.0
    times: float = 0.0

    def profit(self, mark: Mark | None) -> float:
        """What it made at a mark, in money; at that of when it was judged where there is none."""
        value = self.mark if mark is None or not math.isfinite(mark.value) else mark.value
        return self.quantity * (value - self.price) * self.multiplier

    @classmethod
    def read(cls, key: Sequence[Any], at: str, **rest: Any) -> Self:
        """Read what `stored` wrote."""
        return cls(BookKey(*key), at=datetime.fromisoformat(at), **rest)

    def stored(self) -> dict[str, Any]:
        """Make a row of a stored state."""
        return {**asdict(self), "key": list(self.key), "at": self.at.isoformat()}

    def __str__(self) -> str:
        verb = "bought" if self.quantity > 0 else "sold"
        trade = f"fill {self.fill_id} {verb} {abs(self.quantity):g} {self.unit} at {self.price:g}"
        if self.times:
            size = f"{trade}, {self.times:,.0f} times what its book is worth"
            return f"{size}: what it gains is not counted, what it loses is. {REMEDY}."
        counted = f"{self.gain:,.2f} that it would gain is not counted" if self.gain else "its loss is counted"
        return f"{trade} when {self.unit} was at {self.mark:g}, and no quote agrees: {counted}. {REMEDY}."


@dataclass
class Doubts:
    """The doubtful fills of all books, from look to look. `judged`: the number of the last fill that was.

    `most`: times the equity of its book, beyond which a fill is doubtful.
    """

    ledger: Ledger
    most: float
    open: dict[str, Doubt] = field(default_factory=dict)
    judged: int = 0
    _saved: tuple[int, Mapping[str, Doubt]] = (0, MappingProxyType({}))
    _restored: bool = False

    def follow(
        self,
        fills: Iterable[tuple[BookKey, str, Fill]],
        mark_of: Callable[[str, datetime], Mark | None],
        trust: Mapping[str, Trust],
        worth: Callable[[BookKey], float],
        as_of: datetime,
    ) -> bool:
        """Judge new fills, and settle what can be; whether anything changed.

        `mark_of` gives what a unit is marked at that was traded at an instant: an option past its expiry pays, before
        it has a price. `worth` gives the equity of a book with all that its fills made, NaN where nobody knows it.
        """
        before = set(self.open)
        if not self._restored:
            self._restore(as_of)
        new = [row for row in fills if row[2].number > self.judged]
        for key, fill_id, fill in sorted(new, key=lambda row: row[2].number):
            mark = mark_of(fill.unit, fill.at or as_of)
            if mark is None:
                continue
            doubt = _doubt(key, fill_id, fill, mark.value)
            if (times := _times(doubt, worth(key))) > self.most:
                self.open.setdefault(fill_id, replace(doubt, times=times))
            elif self._doubtful(fill, mark, trust[fill.unit], as_of):
                self.open.setdefault(fill_id, doubt)
            self.judged = max(self.judged, fill.number)
        if self.open:
            void = {entry.fill_id for entry in self.ledger.voids.all()}
            for name, doubt in list(self.open.items()):
                mark, rule = mark_of(doubt.unit, doubt.at), trust.get(doubt.unit)
                agreed = not doubt.times and mark is not None and rule is not None and _reached(doubt, mark, rule)
                if agreed or name in void or self.ledger.alerts.get(CONFIRMED + name) is not None:
                    del self.open[name]
        return before != set(self.open)

    def of(self, key: BookKey, prices: Mapping[str, Mark], at: datetime | None = None) -> float:
        """What a book would gain at these prices by its doubtful fills until `at`; those of a size by unit."""
        doubts = [doubt for doubt in self.open.values() if doubt.key == key and (at is None or doubt.at <= at)]
        large: defaultdict[str, float] = defaultdict(float)
        for doubt in doubts:
            large[doubt.unit] += doubt.profit(prices.get(doubt.unit)) if doubt.times else 0.0
        return sum(doubt.gain for doubt in doubts if not doubt.times) + sum(max(0.0, each) for each in large.values())

    def units(self, fills: Iterable[Fill]) -> set[str]:
        """Units whose prices are wanted, held or not: of fills to judge, and of those in doubt."""
        return {item.unit for item in fills if item.number > self.judged} | {item.unit for item in self.open.values()}

    def settle(self, as_of: datetime) -> None:
        """Leave in the ledger what was judged and is in doubt, tell of each that is, and close what is settled."""
        if (self.judged, self.open) != self._saved:  # first: alerts that a kill leaves out follow from it
            body = {"judged": self.judged, "open": [doubt.stored() for doubt in self.open.values()]}
            self.ledger.risk.put_state(STATE, ALL, as_of, body, {})
            self._saved = self.judged, dict(self.open)
        reported = _told(self.ledger)
        wanted = [reported.get(name) or self._alert(name, doubt, as_of) for name, doubt in self.open.items()]
        self.ledger.alerts.settle("fill_doubtful", wanted, as_of)

    def _alert(self, name: str, doubt: Doubt, as_of: datetime) -> Alert:
        """The alert of a fill; of another key where the first was closed."""
        at = {"at": doubt.at.isoformat(), "book": list(doubt.key), "unit": doubt.unit, "quantity": doubt.quantity}
        details = at | {number: getattr(doubt, number) for number in NUMBERS} | {"fill": name}
        again = "" if self.ledger.alerts.get(ALERT + name) is None else f"@{as_of.isoformat()}"
        kind = ALERTS["fill_doubtful"]
        return kind.alert(as_of, {"fill": f"{name}{again}", "text": str(doubt)}, details=details, about=doubt.key.model)

    def _restore(self, as_of: datetime) -> None:
        self._restored, state = True, self.ledger.risk.state(STATE, ALL, as_of=as_of)
        self.judged = 0 if state is None else int(state.body["judged"])
        self._saved = self.judged, {}
        if state is not None and "open" in state.body:
            self.open = {row["fill_id"]: Doubt.read(**row) for row in state.body["open"]}
            self._saved = self.judged, dict(self.open)
            return
        for name, alert in _told(self.ledger).items():  # as an older version left it
            d = alert.details
            about = BookKey(*d["book"]), name, d["unit"], datetime.fromisoformat(d["at"])
            self.open[name] = Doubt(*about, d["quantity"], **{name: d[name] for name in NUMBERS if name in d})

    def _doubtful(self, fill: Fill, mark: Mark, trust: Trust, as_of: datetime) -> bool:
        """Whether neither the mark nor a quote of then or now is what was paid."""
        at = fill.at or as_of
        if abs(fill.price - mark.value) <= trust.possible(at - mark.at) * trust.scale(mark.value):
            return False
        for instant in (at, as_of):
            frame = self.ledger.risk.latest_quotes([fill.unit], as_of=instant)
            for then, bid, ask in zip(*(frame[name].tolist() for name in ("event_time", "bid", "ask")), strict=True):
                quote = Observation(then.to_pydatetime(), bid, ask)
                value = price(quote, None, trust)
                if abs(fill.price - value) <= trust.possible(at - quote.at) * trust.scale(value):
                    return False
        return True


def confirm(ledger: Ledger, fill_id: str, actor: str, reason: str, at: datetime) -> None:
    """A person's word that a doubtful fill is as it was told.

    Raises
    ------
    DataError
        The fill is not doubtful, or there is no reason.
    """
    if not reason.strip():
        raise DataError("reason must be a text, got none. Say why the fill is right.")
    if (alert := _told(ledger).get(fill_id)) is None:
        raise DataError(f"fill must be a doubtful one, got {fill_id!r}. `trader-mlops status` names those.")
    details = {"actor": actor, "reason": reason}
    ledger.alerts.add(ALERTS["fill_confirmed"].alert(at, details | {"fill": fill_id}, details=details))
    ledger.alerts.resolve(alert.key, at)


def _told(ledger: Ledger) -> dict[str, Alert]:
    """The open alert of each fill."""
    each = ledger.alerts.newest("fill_doubtful")
    return {str(alert.details.get("fill", alert.key.removeprefix(ALERT))): alert for alert in each}


def notes(doubts: Sequence[Doubt]) -> dict[str, str]:
    """A sentence a fill."""
    return {f"fill:{doubt.fill_id}": str(doubt)[:1].upper() + str(doubt)[1:] for doubt in doubts}


def _doubt(key: BookKey, fill_id: str, fill: Fill, mark: float) -> Doubt:
    if fill.at is None:
        raise DataError(f"fill {fill_id} must have a time, got none. Void it.")
    about = key, fill_id, fill.unit, fill.at, fill.quantity / SCALE, fill.price
    doubt = Doubt(*about, mark, 0.0, fill.number, float(fill.multiplier))
    return replace(doubt, gain=max(0.0, doubt.profit(None)))


def _times(doubt: Doubt, equity: float) -> float:
    """How many times what its book was worth without it a fill is worth; 0 where that is not known."""
    without = equity - doubt.profit(None)
    return abs(doubt.quantity * doubt.price * doubt.multiplier) / without if without > 0 else 0.0


def _reached(doubt: Doubt, mark: Mark, trust: Trust) -> bool:
    """Whether the mark has come to the price of the fill, or went past it."""
    room = 2 * trust.possible(mark.at - doubt.at) * trust.scale(mark.value)
    low, high = sorted((doubt.mark, mark.value))
    moved = mark.value != doubt.mark and low <= doubt.price <= high
    return moved or abs(doubt.price - mark.value) <= room
