"""The highest equity of books together, over flows and restarts: what the drawdown of this second is under.

It is derived at each look from one list: what the books were worth by their own trades at the looks before, and what
their accounts have beside it by all that is known now. So it is what it had been if all that stands now had been told
in order: a balance that was taken back leaves nothing in it, and what a fill made of a book
(`jobs.accounts.corrections`) is put into each look that did not know of it. But a fill that is told late makes no look
worth less than it was seen to be.

Flows move it by the share by which they move equity, and so does a book that comes or goes: they are neither a profit
nor a loss. All else that equity loses, explained or not, is a loss.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.accounts import corrections
from jobs.accounts.corrections import Correction, Effect
from jobs.accounts.doubtful_fills import Doubt
from jobs.accounts.equity import Account, Side, Steps
from jobs.portfolio.valuation import Held
from mlops.books.book import SCALE
from mlops.io.ledger import BookKey, Ledger
from mlops.risk.drawdown import Drawdown
from mlops.risk.prices import Mark
from mlops.stats.dependent import Floats

STATE, ALL = "peak", "all"  # kind of the stored state, and the scope of all books
SAVED, SECOND = timedelta(seconds=10), timedelta(seconds=1)
MOST = 64  # looks that are kept: the newest one by one, the older ones the sparser
WHOLE = ""  # in the place of the names of books that are gone


@dataclass(frozen=True, slots=True)
class Point:
    """What books were worth `own` at a look, by their names; `fill`: number of the last fill that was known then.

    `late`: what fills that were told later made of each account. `top`: of books that are gone, when they were worth
    most. `doubts`: numbers of the fills that were in doubt: their gains are not in it.
    """

    at: datetime
    fill: int
    own: dict[str, float]
    late: dict[str, float] = field(default_factory=dict)
    top: datetime | None = None
    doubts: tuple[int, ...] = ()

    @classmethod
    def of(cls, held: Held) -> Self:
        """The look of now."""
        offsets = {key: 0.0 if account is None else account.offset for key, account in held.accounts.items()}
        own = {named(held, key): equity - offsets.get(key, 0.0) for key, equity in held.equities().items()}
        return cls(held.as_of, held.last_fill, own, doubts=tuple(doubt.number for doubt in held.doubts))

    def corrected(self, lot: Sequence[Correction], names: Mapping[BookKey, str], effect: Effect) -> Point:
        """The same with what these made of each book."""
        lot, doubts = self._in_doubt(lot)
        own, late = dict(self.own), dict(self.late)
        for key in {fix.key for fix in lot} & names.keys():
            name, own_lot = names[key], [fix for fix in lot if fix.key == key]
            later = [fix for fix in own_lot if fix.number > self.fill]
            if not own.keys() & {name, WHOLE} and any(fix.at <= self.at for fix in later):
                own[name] = effect.held.books[key].start / SCALE
            if name in own:
                own[name] += effect.own(key, own_lot, self.at)
                late[name] = late.get(name, 0.0) + effect.account(key, later, self.at)
            elif WHOLE in own:
                own[WHOLE] += effect.account(key, own_lot, self.top or self.at)
        return replace(self, own=own, late=late, doubts=doubts)

    def _in_doubt(self, lot: Sequence[Correction]) -> tuple[list[Correction], tuple[int, ...]]:
        """The corrections with those gains alone that this look is without, and which fills are in doubt after them."""
        late = {fix.number for fix in lot if fix.fill is not None and fix.sign > 0}
        confirmed = {fix.number for fix in lot if fix.fill is None}
        without = {*self.doubts} - confirmed
        each = [
            fix if fix.number in ({*self.doubts} if fix.fill is None else without | late) else replace(fix, gain=0.0)
            for fix in lot
        ]
        new = {fix.number for fix in lot if fix.number in late and fix.gain and fix.at <= self.at}
        return each, tuple(sorted((without | new) - {fix.number for fix in lot if fix.sign < 0}))


@dataclass
class Peak:
    """The peak from look to look, of all books or of one strategy's (`scope`).

    `void`, `fill`: numbers of the last void and fill that its points know of. `doubts`: fills in doubt in them.
    """

    ledger: Ledger
    scope: str = ALL
    top: Mark | None = None
    points: list[Point] = field(default_factory=list)
    void: int = 0
    fill: int = 0
    doubts: tuple[Doubt, ...] = ()
    _equities: dict[str, float] = field(default_factory=dict)
    _saved_at: datetime | None = None
    _saved: Mark | None = None
    _restored: bool = False

    def void_since(self, held: Held) -> int:
        """Number of the last void that it knows of."""
        if not self._restored:
            self._restore(held)
        return self.void

    def correct(self, effect: Effect, held: Held, void: int) -> None:
        """Put what was told late, confirmed or taken back, until the void of that number, into the looks before."""
        if self.void_since(held) == void and self.fill >= held.last_fill and self.doubts == held.doubts:
            return
        context = effect.context
        lot = corrections.told(context, held, self.fill) + corrections.confirmed(context, self.doubts, held)
        lot += [fix for fix in corrections.voided(context, self.void) if fix.number <= self.fill]
        names = {key: named(held, key) for key in held.books}
        if lot:  # all at once: what failed in between is done again
            points = self._with_late_tops(lot, effect)
            self.points, self._saved_at = [point.corrected(lot, names, effect) for point in points], None
        self.void, self.fill, self.doubts = void, max(self.fill, held.last_fill), held.doubts

    def follow(self, held: Held) -> None:
        """Take what these books are worth now, which comes in order of time."""
        self.void_since(held)
        equities = {named(held, key): equity for key, equity in held.equities().items()}
        if not math.isfinite(sum(equities.values())) or (self._equities and not equities):
            return
        keys = {named(held, key): key for key in held.books}
        point = Point.of(held)
        last = self.points[-1].own if self.points else {}
        if last and not last.keys() & {*point.own, WHOLE}:
            self.points = []
        elif last.keys() - point.own.keys() - {WHOLE}:
            self._gone(held, keys)
        self.points.append(point)
        self._equities = equities
        path = _Path.of(self.points, held, keys)
        self.top = path.highest() if point.own else None
        while len(self.points) > MOST:
            del self.points[path.dispensable()]
            path = _Path.of(self.points, held, keys) if len(self.points) > MOST else path

    def over(self, curve: Drawdown, held: Held) -> Drawdown:
        """The curve of the bars, from the peak on to the equity of now."""
        if math.isfinite(held.equity) and held.books and self.top is not None:
            curve = curve.raised(*self.top)
        later = math.isfinite(held.equity) and (curve.at is None or held.as_of > curve.at)
        return curve.after(held.equity, held.as_of) if later else curve

    def save(self, as_of: datetime) -> None:
        """Leave the peak in the ledger, where it moved or that is due: the fall from it outlives a restart."""
        due = self._saved_at is None or self.top != self._saved or abs(as_of - self._saved_at) >= SAVED
        if not due:
            return
        body: dict[str, Any] = {
            "points": self.points,
            "top": None if self.top is None else [self.top.value, self.top.at.isoformat()],
            "equities": self._equities,
            "void": self.void,
            "fill": self.fill,
            "doubts": [doubt.stored() for doubt in self.doubts],
        }
        self.ledger.risk.put_state(STATE, self.scope, as_of, body, {})
        self._saved_at, self._saved = as_of, self.top

    def _restore(self, held: Held) -> None:
        self._restored, stored = True, self.ledger.risk.state(STATE, self.scope, as_of=held.as_of)
        self.void, self.fill = self.ledger.voids.last(), held.last_fill
        if stored is None:
            return
        body = stored.body
        self.void, self.fill = body.get("void", self.void), body.get("fill", self.fill)
        self.top = None if body["top"] is None else Mark(body["top"][0], datetime.fromisoformat(body["top"][1]))
        self._equities, self.doubts = (
            body.get("equities", {}),
            tuple(Doubt.read(**row) for row in body.get("doubts", ())),
        )
        if "points" in body:
            self.points = [_point(self.doubts, **row) for row in body["points"]]
        elif self.top is not None:  # as an older version left it
            self.points = [Point(stored.as_of, self.fill, {WHOLE: self.top.value}, top=self.top.at)]

    def _with_late_tops(self, lot: Sequence[Correction], effect: Effect) -> list[Point]:
        """The points, and one where a fill that is told late was worth most: no look between those is left to have it.

        All else was worth the lower of what it was at the looks around it.
        """
        if len(self.points) < MOST:  # each look is there
            return self.points
        start, end = self.points[0].at, self.points[-1].at
        late = [fix for fix in lot if fix.sign > 0 and math.isfinite(fix.gain) and fix.number > self.fill]
        times = {at for fix in late for at in effect.highest(fix, max(fix.at, start), end)}
        points = list(self.points)
        for at in sorted(times - {point.at for point in points}):
            i = bisect_right(points, at, key=lambda point: point.at)
            before, after = points[i - 1], points[i]
            if before.own.keys() == after.own.keys() and WHOLE not in before.own:
                own = {name: min(value, after.own[name]) for name, value in before.own.items()}
                points.insert(i, Point(at, before.fill, own, doubts=before.doubts))
        return points

    def _gone(self, held: Held, keys: Mapping[str, BookKey]) -> None:
        """Keep the peak alone, by the share of what is left when books went since the last look, and others came."""
        if self.top is None:
            return
        last, value, before = self.points[-1], self.top.value, sum(self._equities.values())
        for name in self._equities.keys() - keys.keys():
            value, before = _moved(value, before, -self._equities[name]), before - self._equities[name]
        for name in keys.keys() - self._equities.keys():
            value, before = _moved(value, before, opened := held.opened(keys[name])), before + opened
        doubts = next((point.doubts for point in self.points if (point.top or point.at) == self.top.at), last.doubts)
        self.points = [Point(last.at, last.fill, {WHOLE: value}, top=self.top.at, doubts=doubts)]


@dataclass
class _Moves:
    """Amounts that fall between points: each to the first point (`place`) after it, in order of time."""

    places: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    times: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    amounts: Floats = field(default_factory=lambda: np.zeros(0))

    def add(self, places: NDArray[np.intp], times: pd.DatetimeIndex, amounts: Floats) -> None:
        at = np.concatenate([self.times, times.as_unit("ns").asi8])
        place, amount = np.concatenate([self.places, places]), np.concatenate([self.amounts, amounts])
        order = np.lexsort((amount, at))
        self.places, self.times, self.amounts = place[order], at[order], amount[order]

    def fill(self, steps: Steps, times: pd.DatetimeIndex, here: NDArray[np.bool_], side: Side) -> None:
        """Add each step that falls to a point where the book is `here`."""
        if len(steps.amounts):
            places = times.searchsorted(steps.times, side=side)
            at = here[places]
            self.add(places[at], steps.times[at], steps.amounts[at])

    def later(self, places: NDArray[np.intp], times: NDArray[np.int64]) -> Floats:
        """The sum of those that fall to the same point, and later."""
        whole, end = np.concatenate([[0.0], self.amounts.cumsum()]), self.places.searchsorted(places, side="right")
        sums: Floats = whole[end] - whole[np.minimum(self.times.searchsorted(times, side="right"), end)]
        return sums


@dataclass(frozen=True, slots=True)
class _Path:
    """Equity at each point by all that is known now; flows and unexplained losses since the point before.

    `late`: by how much it was seen to be more.
    """

    points: Sequence[Point]
    equity: Floats
    late: Floats
    flows: _Moves = field(default_factory=_Moves)
    losses: _Moves = field(default_factory=_Moves)

    @classmethod
    def of(cls, points: Sequence[Point], held: Held, keys: Mapping[str, BookKey]) -> _Path:
        """The path of the books that are held."""
        path = cls(points, np.array([point.own.get(WHOLE, 0.0) for point in points]), np.zeros(len(points)))
        times = pd.DatetimeIndex([point.at for point in points])
        for name, key in keys.items():
            path._add(name, held.books[key].start / SCALE, held.accounts.get(key), times)
        return path

    def highest(self) -> Mark:
        """The peak in the money of now; it begins with what the first books were opened with."""
        top, before, flows = Mark(0.0, self.points[0].at), dict[str, float](), self.flows
        then = self.equity[flows.places] - flows.later(flows.places, flows.times) - flows.amounts
        then += self.losses.later(flows.places, flows.times)
        moves = list(zip(then.tolist(), flows.amounts.tolist(), strict=True))
        ends = flows.places.searchsorted(np.arange(len(self.points)), side="right").tolist()
        each = zip(self.points, (self.equity + self.late).tolist(), [0, *ends], ends, strict=False)
        for point, equity, start, end in each:
            if not before:
                top = Mark(sum(flow for _, flow in moves[start:end]), point.at)
            elif end > start:
                top = Mark(reduce(lambda value, move: _moved(value, *move), moves[start:end], top.value), top.at)
            top, before = Mark(equity, point.top or point.at) if equity >= top.value else top, point.own
        return top

    def dispensable(self) -> int:
        """The lower one of the two points that are closest for their age, if no flow makes it needed."""
        now, best, high = self.points[-1].at, (math.inf, 1), self.equity + self.late
        flows = np.bincount(self.flows.places, minlength=len(self.points))
        for i, (point, following) in enumerate(pairwise(self.points[1:-1]), start=1):
            lower = i if high[i] < high[i + 1] else i + 1
            needed = bool(flows[i + 1] or flows[lower] or flows[lower + 1])
            best = min(best, (needed + (following.at - point.at) / (now - point.at + SECOND), lower))
        return best[1]

    def _add(self, name: str, start: float, account: Account | None, times: pd.DatetimeIndex) -> None:
        """Add a book: where it came later, what it was opened with is a flow."""
        own = np.array([point.own.get(name, math.nan) for point in self.points])
        self.late[:] += [max(0.0, -point.late.get(name, 0.0)) for point in self.points]
        beside, opened = np.zeros((2, len(times)))
        if account is not None:
            beside = account.beside(times)
            opened = account.offset + account.fell - account.paid_in.after(times)
        here = np.isfinite(own)
        self.equity[:] += np.where(here, own + beside, 0.0)
        known = here | np.array([WHOLE in point.own for point in self.points])
        before = np.concatenate([[False], known[:-1]])
        came = np.flatnonzero(here & ~before)
        self.flows.add(came, times[came], start + opened[came])
        if account is not None:
            both = np.concatenate([here & before, [False]])
            self.flows.fill(account.paid_in, times, both, "left")
            self.losses.fill(account.losses, times, both, "right")


def _moved(value: float, before: float, flow: float) -> float:
    """A peak moved by the share by which a flow moves equity; by as much where that is none."""
    share = max(0.0, (before + flow) / before) if before > 0 else 0.0
    return max(0.0, value * share if share else value + flow)


def named(held: Held, key: BookKey) -> str:
    """A book that has an account since now is another one than the notional one before."""
    return f"{key.model}/{key.book}/{key.version}" + ("" if held.accounts.get(key) is not None else " notional")


def _point(
    open_now: Sequence[Doubt], at: str, top: str | None, doubts: Sequence[int] | None = None, **rest: Any
) -> Point:
    """Read a stored point; an older version left out which fills were in doubt: those that are `open_now`."""
    then, highest = datetime.fromisoformat(at), None if top is None else datetime.fromisoformat(top)
    known = [doubt.number for doubt in open_now if doubt.at <= then] if doubts is None else doubts
    return Point(then, top=highest, doubts=tuple(known), **rest)
