"""The last confirmed price of each unit, from look to look and over restarts; what is not confirmed stands beside it.

A person's word is believed, and a bar that looks like no split. Quotes and fills are held against the mark before
(`mlops.risk.prices`), and so is a bar that looks like one. Quotes that disagree by turns for as long as a jump takes to
be confirmed are one jump, until they agree with the mark for as long. Quotes are read from the ledger as they came, so
that whoever looks at an instant sees the same; where the marks stood is left there every `SAVED`, so that a restart
goes on from it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from mlops.io.ledger import Ledger
from mlops.io.ledger.quotes import BEFORE
from mlops.risk.prices import BAR, Assessed, Jump, Mark, Observation, Trust, assess, jumped, split_of
from mlops.settings import RiskSettings
from mlops.types import Kind

STATE, ALL = "marks", "all"  # kind and scope of the stored state
SAVED = timedelta(seconds=10)  # what came since is read again from the quotes
RESUMED = timedelta(days=1)  # of quotes that are followed after a restart
EACH = timedelta(minutes=1)  # the newest of them one by one, and of those before STEPS at most
STEPS = 5000
OPTIONS = (Kind.CALL.value, Kind.PUT.value)
OPTION_SPREAD = 1.0  # of the middle: cheap options are quoted 0.05 to 0.15, and that is a price
UNBID_STEPS = 10  # of risk.option_step: 0 to 0.10 is no wider than 0.05 to 0.15, and that is a price
OPTION_FLOOR = 0.30  # a tick of a cheap option is that much
OPTION_VOLATILITY = 0.40  # a day: an option at the money moves some 20 times its share, which moves 2 %


@dataclass(frozen=True, slots=True)
class Prices:
    """What books saw of a unit: its last bar, its fills since, and a price of unknown age that stands in for a bar."""

    bar: Mark | None = None
    fills: tuple[Observation, ...] = ()
    carried: Mark | None = None

    def merged(self, other: Prices) -> Prices:
        """Merge what two books saw: the newer bar, all fills."""
        bars = [price for price in (self.bar, other.bar) if price is not None]
        fills = tuple(sorted((*self.fills, *other.fills), key=lambda price: price.at))
        return Prices(max(bars, key=lambda price: price.at, default=None), fills, self.carried or other.carried)


@dataclass
class Marks:
    """Marks of the units of all books. `volatility` is a unit's own, a calendar day, where its past is known.

    `refused`: instants of bars that were held for splits and not believed. `levels`: of a future, the day and the price
    that it began with, or half of the level before where that is more: near zero a share of the price is no move.
    """

    ledger: Ledger
    settings: RiskSettings
    volatility: Mapping[str, float] = field(default_factory=dict)
    of: dict[str, Mark] = field(default_factory=dict)
    jumps: dict[str, Jump] = field(default_factory=dict)
    unusable: dict[str, Observation] = field(default_factory=dict)
    refused: set[datetime] = field(default_factory=set)
    levels: dict[str, tuple[str, float]] = field(default_factory=dict)
    _saved_at: datetime | None = None
    _dropped: bool = False
    _restored: bool = False
    _resumed: bool = False
    _turns: dict[str, tuple[Mark, Jump]] = field(default_factory=dict)

    @classmethod
    def standing(cls, ledger: Ledger, settings: RiskSettings, prices: Mapping[str, float], at: datetime) -> Marks:
        """Marks as they stood at an instant, where that is known; else as the ledger tells them."""
        marks = cls(ledger, settings)
        if prices:
            marks.of, marks._restored = {unit: Mark(value, at) for unit, value in prices.items()}, True
        return marks

    def at(self, kinds: Mapping[str, str], prices: Mapping[str, Prices], as_of: datetime) -> dict[str, Mark]:
        """The marks at `as_of`, which comes in order, of the units in `kinds` (unit -> what it is) that have one."""
        if not self._restored:
            self._restore(as_of)
        quotes = self.ledger.risk.latest_quotes(list(kinds), as_of=as_of)
        columns = (quotes[name].tolist() for name in ("unit", "event_time", "bid", "ask"))
        newest = {unit: Observation(at.to_pydatetime(), bid, ask) for unit, at, bid, ask in zip(*columns, strict=True)}
        words = {unit: Mark(*price) for unit, price in self.ledger.confirmed_prices.last(as_of=as_of).items()}
        for unit, kind in kinds.items():
            self._level(unit, as_of)
            trust, of_books = self.trust(unit, kind), prices.get(unit, Prices())
            bar = self._believe(unit, of_books, words.get(unit), trust)
            if self._resumed:
                self._resume(unit, trust, [*of_books.fills, *bar], as_of)
            self._assess(unit, trust, [*of_books.fills, *bar], newest.get(unit), as_of)
            self._take_turns(unit, trust, as_of)
        self._resumed = False
        self.jumps = {unit: jump for unit, jump in self.jumps.items() if unit in kinds}
        return {unit: self.of[unit] for unit in kinds if unit in self.of}

    def trust(self, unit: str, kind: str) -> Trust:
        """Limits of what is believed of a unit's prices at once."""
        s = self.settings
        confirm = timedelta(seconds=s.price_confirm_s)
        if kind in OPTIONS:
            volatility = max(self.volatility.get(unit, 0.0), OPTION_VOLATILITY)
            about = (OPTION_SPREAD, OPTION_FLOOR, s.price_jump_sigmas, volatility, confirm)
            return Trust(*about, splits=False, unbid=UNBID_STEPS * s.option_step)
        own, future = self.volatility.get(unit, s.price_volatility), kind == Kind.FUTURE
        about = (s.price_max_spread, s.price_jump_floor, s.price_jump_sigmas, own, confirm)
        level = self.level(unit) if future else 0.0
        return Trust(*about, signed=future, splits=not future, level=level)

    def level(self, unit: str) -> float:
        """What it was at when the day began, or half of the level before where that is more; 0 where none is known."""
        return self.levels.get(unit, ("", 0.0))[1]

    def save(self, as_of: datetime) -> None:
        """Leave the marks in the ledger, where that is due; at once where one was taken back."""
        due = self._saved_at is None or abs(as_of - self._saved_at) >= SAVED
        if not self._dropped and not (self.of and due):
            return
        body = {
            "marks": {unit: [mark.value, mark.at.isoformat()] for unit, mark in self.of.items()},
            "volatility": dict(self.volatility),
            "jumps": {unit: asdict(jump) for unit, jump in self.jumps.items()},
            "refused": sorted(at.isoformat() for at in self.refused),
            "levels": self.levels,
        }
        self.ledger.risk.put_state(STATE, ALL, as_of, body, {})
        self._saved_at, self._dropped = as_of, False

    def split(self, unit: str, ratio: float, price: float, at: datetime) -> None:
        """Make a mark one of new units that was known before a split was told; `price`: of a new unit about then."""
        mark = self.of.get(unit)
        if (
            mark is not None
            and mark.value > 0
            and abs(math.log(mark.value / price)) > abs(math.log(mark.value / price / ratio))
        ):
            self._put(unit, Mark(mark.value / ratio, at))

    def drop(self, unit: str, mark: Mark, as_of: datetime) -> bool:
        """Take back a mark that was that of a fill which was taken back; whether it was one."""
        if not self._restored:
            self._restore(as_of)
        if self.of.get(unit) != mark:
            return False
        del self.of[unit]
        self._dropped = True
        self.jumps.pop(unit, None)
        self._turns.pop(unit, None)
        return True

    def _restore(self, as_of: datetime) -> None:
        self._restored = self._resumed = True
        stored = self.ledger.risk.state(STATE, ALL, as_of=as_of)
        if stored is None:
            return
        body = stored.body
        self.of = {unit: Mark(value, datetime.fromisoformat(at)) for unit, (value, at) in body["marks"].items()}
        self.volatility = self.volatility or body["volatility"]
        self.jumps = {unit: _jump(**jump) for unit, jump in body["jumps"].items()}
        self._turns = {unit: (self.of[unit], jump) for unit, jump in self.jumps.items() if unit in self.of}
        self.refused = {datetime.fromisoformat(at) for at in body.get("refused", [])}
        self.levels = {unit: (day, level) for unit, (day, level) in body.get("levels", {}).items()}

    def _level(self, unit: str, as_of: datetime) -> None:
        mark, (day, level) = self.of.get(unit), self.levels.get(unit, ("", 0.0))
        if mark is not None and day != f"{as_of:%F}":
            self.levels[unit] = (f"{as_of:%F}", max(abs(mark.value), level / 2))

    def _believe(self, unit: str, price: Prices, word: Mark | None, trust: Trust) -> list[Observation]:
        """Take a newer bar or word of a person, else the first price of a book; the bar where that has to wait."""
        mark, waits = self.of.get(unit), list[Observation]()
        news = [new for new in (price.bar, word) if new is not None]
        for newer in sorted(news, key=lambda new: new.at):
            if mark is not None and newer.at <= mark.at:
                continue
            if mark is None or newer is word or math.isnan(split_of(mark, newer, trust, self.jumps.get(unit))):
                mark, waits = newer, []
                self._turns.pop(unit, None)
            else:
                waits = [Observation(newer.at, newer.value, newer.value, BAR)]
                self.refused.add(newer.at)
        if mark is None and price.carried is not None:
            mark = price.carried
        if mark is None and price.fills:
            mark = Mark(price.fills[0].bid, price.fills[0].at)
        if mark is not None:
            self._put(unit, mark)
        return waits

    def _assess(
        self, unit: str, trust: Trust, fills: Sequence[Observation], newest: Observation | None, as_of: datetime
    ) -> None:
        """Hold the newest quote, and the fills since the mark, against the mark; where it jumped, those before too."""
        mark = self.of.get(unit)
        since = [fill for fill in fills if mark is None or fill.at > mark.at]
        fresh = [newest] if newest is not None and (mark is None or newest.at > mark.at) else []
        if not since and not fresh:
            return  # what jumped before the last look still does
        known = self.jumps.get(unit)
        assessed = assess(mark, _in_order(since, fresh), trust, known)
        if mark is not None and assessed.jump is not None and fresh:
            span = 3 * trust.confirm
            rows = self.ledger.quotes.last(unit, after=mark.at, until=fresh[0].at, span=span, as_of=as_of)
            assessed = assess(mark, _in_order(since, [Observation(*row) for row in rows]), trust, known)
        self._settle(unit, mark, assessed)

    def _resume(self, unit: str, trust: Trust, others: Sequence[Observation], as_of: datetime) -> None:
        """Follow the quotes since the stored mark as if each had been looked at: small steps are no jump."""
        mark = self.of.get(unit)
        if mark is None:
            return
        rows = self.ledger.quotes.last(unit, after=mark.at, until=as_of, span=RESUMED, as_of=as_of)
        recent = _thinned([Observation(*row) for row in rows])
        times = [quote.at for quote in recent]
        for i, at in enumerate(times):
            mark = self.of[unit]
            window = max(bisect_right(times, at - 3 * trust.confirm) - BEFORE, 0)
            quotes = recent[max(window, bisect_right(times, mark.at)) : i + 1]
            new = _in_order([observation for observation in others if mark.at < observation.at <= at], quotes)
            self._settle(unit, mark, assess(mark, new, trust, self.jumps.get(unit)))
            self._take_turns(unit, trust, at)

    def _settle(self, unit: str, before: Mark | None, assessed: Assessed) -> None:
        if assessed.mark is not None:
            known = self.jumps.get(unit) if assessed.mark == before else None
            self._put(unit, assessed.mark)
            if assessed.jump is not None:
                since = assessed.jump.since if known is None else min(known.since, assessed.jump.since)
                self.jumps[unit] = replace(assessed.jump, since=since)
        if assessed.unusable is not None:
            self.unusable[unit] = assessed.unusable
        else:
            self.unusable.pop(unit, None)

    def _take_turns(self, unit: str, trust: Trust, as_of: datetime) -> None:
        """Keep a jump that quotes take back and make again, from its first time on, while the mark stands."""
        jump, mark = self.jumps.get(unit), self.of.get(unit)
        before = self._turns.pop(unit, None)
        last = None if before is None or mark is None or jumped(before[0], mark, trust) else before[1]
        if last is not None and jump is None:
            over = as_of - last.at >= trust.confirm
            lasted = not over and last.at - last.since >= trust.confirm
            last, jump = None if over else last, last if lasted else None
        if jump is not None:
            last = self.jumps[unit] = jump if last is None else replace(jump, since=min(last.since, jump.since))
        if last is not None and mark is not None:
            self._turns[unit] = (mark, last)

    def _put(self, unit: str, mark: Mark) -> None:
        """A new mark ends what had jumped away from the one before."""
        if self.of.get(unit) != mark:
            self.jumps.pop(unit, None)
        self.of[unit] = mark


def _jump(value: float, at: str, since: str, sustained: bool, split: float | None) -> Jump:
    """Read a stored jump: JSON has no NaN, it comes back as None."""
    ratio = math.nan if split is None else split
    return Jump(value, datetime.fromisoformat(at), datetime.fromisoformat(since), sustained, ratio)


def _thinned(quotes: Sequence[Observation]) -> list[Observation]:
    """Quotes of a long time: not more than STEPS of those before the last EACH."""
    recent = bisect_right([quote.at for quote in quotes], quotes[-1].at - EACH) if quotes else 0
    return [*quotes[: recent : max(1, -(-recent // STEPS))], *quotes[recent:]]


def _in_order(*lots: Sequence[Observation]) -> list[Observation]:
    return sorted((observation for lot in lots for observation in lot), key=lambda observation: observation.at)
