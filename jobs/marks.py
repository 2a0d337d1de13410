"""The last confirmed price of each unit, from look to look and over restarts; what is not confirmed stands beside it.

Bars and a person's word are believed. Quotes and fills are held against the mark before (`mlops.risk.prices`). Quotes
are read from the ledger as they came, so that whoever looks at an instant sees the same; where the marks stood is left
there every `SAVED`, so that a restart goes on from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from mlops.io.ledger import Ledger
from mlops.risk.prices import Assessed, Jump, Mark, Observation, Trust, assess
from mlops.settings import RiskSettings
from mlops.types import Kind

STATE, ALL = "marks", "all"  # kind and scope of the stored state
SAVED = timedelta(seconds=10)  # what came since is read again from the quotes
OPTIONS = (Kind.CALL.value, Kind.PUT.value)
OPTION_SPREAD = 1.0  # of the middle: cheap options are quoted 0.05 to 0.15, and that is a price
OPTION_FLOOR = 0.30  # a tick of a cheap option is that much
OPTION_VOLATILITY = 0.40  # a day: an option at the money moves some 20 times its share, which moves 2 %


@dataclass(frozen=True, slots=True)
class Seen:
    """What books saw of a unit: its last bar, its fills since, and a price of unknown age that stands in for a bar."""

    bar: Mark | None = None
    fills: tuple[Observation, ...] = ()
    carried: Mark | None = None

    def merged(self, other: Seen) -> Seen:
        """Of two books: the newer bar, all fills."""
        bars = [one for one in (self.bar, other.bar) if one is not None]
        fills = tuple(sorted((*self.fills, *other.fills), key=lambda one: one.at))
        return Seen(max(bars, key=lambda one: one.at, default=None), fills, self.carried or other.carried)


@dataclass
class Marks:
    """Marks of the units of all books. `volatility` is a unit's own, a calendar day, where its past is known."""

    ledger: Ledger
    settings: RiskSettings
    volatility: Mapping[str, float] = field(default_factory=dict)
    of: dict[str, Mark] = field(default_factory=dict)
    jumps: dict[str, Jump] = field(default_factory=dict)
    unusable: dict[str, Observation] = field(default_factory=dict)
    _saved_at: datetime | None = None
    _restored: bool = False

    def at(self, kinds: Mapping[str, str], seen: Mapping[str, Seen], as_of: datetime) -> dict[str, Mark]:
        """The marks at `as_of`, which comes in order, of the units in `kinds` (unit -> what it is) that have one."""
        if not self._restored:
            self._restore(as_of)
        quotes = self.ledger.latest_quotes(list(kinds), as_of=as_of)
        columns = (quotes[name].tolist() for name in ("unit", "event_time", "bid", "ask"))
        newest = {unit: Observation(at.to_pydatetime(), bid, ask) for unit, at, bid, ask in zip(*columns, strict=True)}
        words = {unit: Mark(*told) for unit, told in self.ledger.confirmed_prices(as_of=as_of).items()}
        for unit, kind in kinds.items():
            self._believe(unit, seen.get(unit, Seen()), words.get(unit))
            self._assess(unit, self.trust(unit, kind), seen.get(unit, Seen()).fills, newest.get(unit), as_of)
        self.jumps = {unit: jump for unit, jump in self.jumps.items() if unit in kinds}
        return {unit: self.of[unit] for unit in kinds if unit in self.of}

    def trust(self, unit: str, kind: str) -> Trust:
        """What is believed of a unit's prices at once."""
        s = self.settings
        confirm = timedelta(seconds=s.price_confirm_s)
        if kind in OPTIONS:
            volatility = max(self.volatility.get(unit, 0.0), OPTION_VOLATILITY)
            return Trust(OPTION_SPREAD, OPTION_FLOOR, s.price_jump_sigmas, volatility, confirm, splits=False)
        own, future = self.volatility.get(unit, s.price_volatility), kind == Kind.FUTURE
        sigmas = s.price_jump_sigmas
        return Trust(s.price_max_spread, s.price_jump_floor, sigmas, own, confirm, signed=future, splits=not future)

    def save(self, as_of: datetime, *, at_once: bool = False) -> None:
        """Leave the marks in the ledger, where that is due."""
        if not self.of or not (at_once or self._saved_at is None or abs(as_of - self._saved_at) >= SAVED):
            return
        body = {
            "marks": {unit: [mark.value, mark.at.isoformat()] for unit, mark in self.of.items()},
            "volatility": dict(self.volatility),
            "jumps": {unit: asdict(jump) for unit, jump in self.jumps.items()},
        }
        self.ledger.put_risk_state(STATE, ALL, as_of, body, {})
        self._saved_at = as_of

    def forget(self) -> None:
        """Start from what books saw: a fill was taken back, and may have been a mark."""
        self.of, self.jumps, self._restored = {}, {}, True

    def _restore(self, as_of: datetime) -> None:
        self._restored, stored = True, self.ledger.risk_state(STATE, ALL, as_of=as_of)
        if stored is None:
            return
        body = stored.body
        self.of = {unit: Mark(value, datetime.fromisoformat(at)) for unit, (value, at) in body["marks"].items()}
        self.volatility = self.volatility or body["volatility"]
        self.jumps = {unit: _jump(**jump) for unit, jump in body["jumps"].items()}

    def _believe(self, unit: str, seen: Seen, word: Mark | None) -> None:
        """Take a newer bar or word of a person; where nothing is known, the first price that a book saw."""
        mark = self.of.get(unit)
        for told in (seen.bar, word):
            if told is not None and (mark is None or mark.at < told.at):
                mark = told
        if mark is None and seen.carried is not None:
            mark = seen.carried
        if mark is None and seen.fills:
            mark = Mark(seen.fills[0].bid, seen.fills[0].at)
        if mark is not None:
            self._put(unit, mark)

    def _assess(
        self, unit: str, trust: Trust, fills: Sequence[Observation], newest: Observation | None, as_of: datetime
    ) -> None:
        """Hold the newest quote, and the fills since the mark, against the mark; where it jumped, those before too."""
        mark = self.of.get(unit)
        since = [one for one in fills if mark is None or one.at > mark.at]
        fresh = [newest] if newest is not None and (mark is None or newest.at > mark.at) else []
        if not since and not fresh:
            return  # what jumped before the last look still does
        found = assess(mark, _in_order(since, fresh), trust)
        if mark is not None and found.jump is not None and fresh:
            rows = self.ledger.last_quotes(unit, after=mark.at, until=fresh[0].at, span=trust.confirm, as_of=as_of)
            found = assess(mark, _in_order(since, [Observation(*row) for row in rows]), trust)
        self._settle(unit, mark, found)

    def _settle(self, unit: str, before: Mark | None, found: Assessed) -> None:
        if found.mark is not None:
            known = self.jumps.get(unit) if found.mark == before else None
            self._put(unit, found.mark)
            if found.jump is not None:
                since = found.jump.since if known is None else min(known.since, found.jump.since)
                self.jumps[unit] = replace(found.jump, since=since)
        if found.unusable is not None:
            self.unusable[unit] = found.unusable
        else:
            self.unusable.pop(unit, None)

    def _put(self, unit: str, mark: Mark) -> None:
        """A new mark ends what had jumped away from the one before."""
        if self.of.get(unit) != mark:
            self.jumps.pop(unit, None)
        self.of[unit] = mark


def _jump(value: float, at: str, since: str, sustained: bool, split: float | None) -> Jump:
    """As it was stored: JSON has no NaN, it comes back as None."""
    ratio = math.nan if split is None else split
    return Jump(value, datetime.fromisoformat(at), datetime.fromisoformat(since), sustained, ratio)


def _in_order(*lots: Sequence[Observation]) -> list[Observation]:
    return sorted((one for lot in lots for one in lot), key=lambda one: one.at)
