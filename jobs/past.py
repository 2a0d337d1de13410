"""What the live page shows of what was: equity with its drawdown, models, alerts. Read anew every few seconds.

Every book counts from its first cash: a book that began later was flat before, and its opening is no profit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs import restatement, standing
from jobs.accounts import offsets, with_losses, without_flows
from jobs.foreign import without
from jobs.held import Held, book_name
from jobs.house import House
from jobs.reading import Memo
from mlops.experiment.book import SCALE
from mlops.io.ledger import BookKey, Experiment, Promotion
from mlops.risk.drawdown import overdue, session_start
from mlops.risk.limits import Measured
from mlops.web.messages import AlertNow, ModelNow, TradingNow

POINTS = 500  # of a series on the page
CURVE_POINTS = 120  # of a model's small one
SESSION = timedelta(days=1)  # of a book without bars
LOOK_BACK = timedelta(days=3 * 365)
MOMENT = timedelta(microseconds=1)
MOST = 20  # sets of books whose past is kept
COMPARED = ("compare", "watch")


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a book was worth `at` an instant, which is no more than a session ago (`today`), and whether at a close."""

    value: float
    at: datetime
    today: bool
    closed: bool = True


@dataclass(frozen=True)
class Past:
    """Equity of all books together at each bar, and of each one; when each of them `traded` first."""

    equity: pd.Series[float]
    curves: Mapping[BookKey, pd.Series[float]]
    traded: Mapping[BookKey, datetime | None] = field(default_factory=dict)
    _sessions: dict[int, tuple[datetime, int, bool]] = field(default_factory=dict, compare=False, repr=False)

    def beginning(self, key: BookKey, opening: float, as_of: datetime) -> Beginning:
        """What a book's day began with: its last close, or without bars its opening, of its first trade."""
        curve = self.curves.get(key)
        n, late = (0, True) if curve is None else self._session(self._times[key], as_of)
        if curve is None or not n:
            first = self.traded.get(key) or as_of
            return Beginning(opening, first, as_of - first <= SESSION, closed=False)
        at: datetime = self._times[key][n - 1].item()
        return Beginning(float(curve.to_numpy()[n - 1]), at.replace(tzinfo=UTC), not late)

    def _session(self, times: NDArray[np.datetime64], as_of: datetime) -> tuple[int, bool]:
        """How many bars there were at the last close before `as_of`, and whether that is overdue."""
        known = self._sessions.get(id(times))
        if known is None or known[0] != as_of:
            n = session_start(times, as_of)
            known = self._sessions[id(times)] = as_of, n, bool(n) and overdue(times, as_of)
        return known[1:]

    @cached_property
    def _times(self) -> dict[BookKey, NDArray[np.datetime64]]:
        """Of each book's bars; books with bars at the same instants share them."""
        each, one = {key: naive(curve) for key, curve in self.curves.items()}, dict[bytes, NDArray[np.datetime64]]()
        return {key: one.setdefault(times.tobytes(), times) for key, times in each.items()}

    def without(self, times: Collection[datetime]) -> Past:
        """The same but for bars at those instants: one whose price nobody believed is no close and no peak."""
        if not times:
            return self
        curves = {key: curve[~curve.index.isin(list(times))] for key, curve in self.curves.items()}
        return Past(self.equity[~self.equity.index.isin(list(times))], curves, self.traded)

    def day_began(self, as_of: datetime) -> float | None:
        """Equity at the last close of each book before `as_of`; None where one has no bar before."""
        each = [began(curve, as_of) for curve in self.curves.values()]
        known = [one for one in each if one is not None]
        return sum(known) if each and len(known) == len(each) else None


@dataclass
class Curve:
    """Equity of a book at bars that were read, without what is in other currencies, and when each bar was `known`."""

    equity: pd.Series[float]
    times: NDArray[np.datetime64]
    known: NDArray[np.datetime64]
    _last: tuple[NDArray[np.bool_], pd.Series[float]] | None = None

    @classmethod
    def read(cls, house: House, key: BookKey, start: datetime, end: datetime, units: Collection[str]) -> Self:
        rows = house.ledger.book_equity(key, start=start, end=end).set_index("event_time")
        known = naive(rows.set_index("known_at")["equity"])
        return cls(without(rows["equity"], house.ledger, key, units), naive(rows["equity"]), known)

    def at(self, start: datetime, as_of: datetime) -> pd.Series[float]:
        """Of the bars from `start` on that were known then; the same object where those are the same."""
        first, now = (np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us") for at in (start, as_of))
        seen = (self.times >= first) & (self.times <= now) & (self.known <= now)
        if self._last is None or not np.array_equal(self._last[0], seen):
            self._last = seen, self.equity[seen]
        return self._last[1]


class Pasts:
    """What books were worth, from look to look: bars are read anew of a book that has new ones, or was made anew."""

    def __init__(self, house: House) -> None:
        self._house, self._common = house, object()
        self._curves = Memo[Curve]()
        self._of: dict[tuple[BookKey, ...], tuple[list[Any], Mapping[BookKey, pd.Series[float]], Past]] = {}

    def at(self, held: Held) -> Past:
        """The last years of every book that is held now, without what is in other currencies."""
        house, start, keys = self._house, held.as_of - LOOK_BACK, tuple(held.books)
        common = house.ledger.split_news(), restatement.units(house)
        if common != self._common or len(self._of) > MOST:
            self._common, self._curves, self._of = common, Memo(), {}
        tips, units = house.ledger.all_marks(as_of=held.as_of), common[1].foreign
        found: dict[BookKey, pd.Series[float]] = {}
        for key in keys:
            read = partial(Curve.read, house, key, start, held.as_of + MOMENT, units)
            found[key] = self._curves.get(key, tips.get(key), read).at(start, held.as_of)
        bare = {key: held.books[key] for key, curve in found.items() if not len(curve)}
        about = [held.accounts, held.doubts, {key: book.start for key, book in held.books.items()}, bare]
        known = self._of.get(keys)
        if known is None or known[0] != about or any(curve is not known[1][key] for key, curve in found.items()):
            known = self._of[keys] = about, found, _past(house, held, found)
        return known[2]


def past(house: House, held: Held) -> Past:
    """The last years of every book that is held now, without what is in other currencies."""
    return Pasts(house).at(held)


def _past(house: House, held: Held, home: Mapping[BookKey, pd.Series[float]]) -> Past:
    accounts = {key: found for key, found in held.accounts.items() if found is not None}
    curves = {key: _undoubted(curve, key, held) for key, curve in home.items()}
    beside = {key: offsets(accounts[key], curve) if key in accounts else curve * 0.0 for key, curve in curves.items()}
    curves = {key: with_losses(accounts[key], curve) if key in accounts else curve for key, curve in curves.items()}
    lost = {key: found.fell for key, found in accounts.items()}
    opened = {key: book.start / SCALE + lost.get(key, 0.0) for key, book in held.books.items()}
    own, flat = _summed(curves, opened), {key: found.offset for key, found in accounts.items()}
    whole = without_flows(own, _summed(beside, {key: flat.get(key, 0.0) for key in curves}))
    traded = {key: house.ledger.first_traded(key.model, key.book) for key, curve in curves.items() if not len(curve)}
    return Past(whole, {key: without_flows(curve, beside[key]) for key, curve in curves.items()}, traded)


def _undoubted(curve: pd.Series[float], key: BookKey, held: Held) -> pd.Series[float]:
    """Without what doubtful fills would gain; from one of a doubtful size on, no higher than it was before."""
    for one in held.doubts:
        before = pd.DatetimeIndex(curve.index) < pd.Timestamp(one.at)
        if one.key == key and one.times:
            most = float(curve[before].iloc[-1]) if before.any() else held.books[key].start / SCALE
            curve = curve.where(before, curve.clip(upper=most))
        elif one.key == key and one.gain:
            curve = curve.where(before, curve - one.gain)
    return curve


def began(curve: pd.Series[float], as_of: datetime) -> float | None:
    """The value at the last close before `as_of`."""
    at = session_start(naive(curve), as_of)
    return float(curve.iloc[at - 1]) if at else None


def daily(began: Mapping[BookKey, Beginning], equity: float) -> Measured:
    """Loss since the day of each book began; where that is longer than a session ago it is not the day's."""
    start = sum(one.value for one in began.values())
    if not start > 0 or not math.isfinite(equity):
        why = "there is no equity yet" if not start > 0 else "equity is not known"
        return Measured("daily_loss", math.nan, why=why)
    loss = Measured("daily_loss", 1 - equity / start, n=len(began))
    since = [(f"{key.model}/{book_name(key)}", began[key].at) for key in late(began)]
    if not since:
        return loss
    why = "; ".join(f"{name} has had no close since {at:%-d %b}" for name, at in since)
    return replace(loss, why=why, at_least=True, words=f"since {since[0][1]:%-d %b}")


def late(began: Mapping[BookKey, Beginning]) -> list[BookKey]:
    """The books whose day began longer than a session ago, the longest first."""
    return sorted((key for key, one in began.items() if not one.today), key=lambda key: began[key].at)


def naive(curve: pd.Series[float]) -> NDArray[np.datetime64]:
    """Its instants."""
    found: NDArray[np.datetime64] = pd.DatetimeIndex(curve.index).tz_localize(None).to_numpy(dtype="datetime64[us]")
    return found


def _summed(curves: Mapping[BookKey, pd.Series[float]], opened: Mapping[BookKey, float]) -> pd.Series[float]:
    known = {key: curve for key, curve in curves.items() if len(curve)}
    if not known:
        return pd.Series(dtype=np.float64, index=pd.DatetimeIndex([], tz="UTC"))
    wide = pd.concat(known, axis=1).sort_index().ffill()
    flat = sum(opened[key] for key in curves if key not in known)
    return wide.fillna(pd.Series({key: opened[key] for key in known})).sum(axis=1) + flat


def alerts(house: House, rows: Iterable[str], as_of: datetime) -> dict[str, AlertNow]:
    """Open alerts. One whose details name a unit leads to its row, the largest first in `rows`."""
    found, rows = {}, list(rows)
    for alert in house.ledger.alerts():
        if alert.as_of <= as_of:
            unit = str(alert.details.get("unit", ""))
            row = next((row for row in rows if unit and row.rpartition("/")[2] == unit), "")
            found[alert.key] = AlertNow(alert.priority, alert.title, alert.as_of, alert.model, row)
    return found


def trading(house: House) -> TradingNow:
    """The switch above all models."""
    log = house.ledger.trading_log()
    if not log:
        return TradingNow("active", "It was never set.")
    last = log[-1]
    return TradingNow(last.state.value, last.reason, last.actor, last.created_at)


def models(house: House, held: Held, seen: Past, judgements: standing.Standing) -> dict[str, ModelNow]:
    """Every model that has a champion or a book, with its book: the one it is held by now; how it stands, and why."""
    of = {key.model: key for key in held.books}
    found = {name: _model(house, name, of.get(name), held, seen) for name in sorted({*house.ledger.models(), *of})}
    return {name: judgements.judged(name, now) for name, now in found.items()}


def _model(house: House, name: str, key: BookKey | None, held: Held, seen: Past) -> ModelNow:
    log = [entry for entry in house.ledger.promotions(name) if entry.state != "undone"]
    trials = [trial for trial in house.ledger.experiments(name) if trial.started_at <= held.as_of]
    verdict, at, because = _verdict(log, trials)
    running = [trial.challenger for trial in trials if trial.ended_at is None and trial.kind == "compare"]
    champion = log[-1] if log else None
    now = ModelNow(
        champion=champion.to_version if champion else None,
        champion_since=champion.created_at if champion else None,
        challenger=running[-1] if running else None,
        verdict=verdict,
        verdict_at=at,
        because=because,
        trades_since=house.ledger.fills_since(name, champion.created_at) if champion else None,
    )
    if key is None:
        return now
    curve, equity = seen.curves[key], held.equities()[key]
    start = seen.beginning(key, held.opened(key), held.as_of)
    peak = max(float(curve.max()), equity) if len(curve) else equity
    if key in held.abroad:
        return replace(now, curve=_thin(curve))
    return replace(
        now,
        equity=equity,
        pnl_today=equity / start.value - 1 if start.closed and start.today and start.value else None,
        drawdown=1 - equity / peak if peak > 0 else None,
        curve=_thin(curve),
    )


def _thin(curve: pd.Series[float]) -> dict[str, float]:
    """Not more points than a small chart can show."""
    thin = curve.iloc[np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).astype(int))] if len(curve) else curve
    return {at.isoformat(): value for at, value in zip(pd.DatetimeIndex(thin.index), thin.tolist(), strict=True)}


def _verdict(log: list[Promotion], trials: list[Experiment]) -> tuple[str, datetime | None, str]:
    """What was decided last, when and why: the newest of the promotion log and of the comparisons that ended."""
    ended = [trial for trial in trials if trial.ended_at is not None and trial.kind in COMPARED]
    told = [(entry.created_at, entry.kind, entry.reason) for entry in log[-1:]]
    for trial in ended[-1:]:
        if trial.ended_at is not None:
            pair = f"v{trial.challenger} against v{trial.champion}"
            told.append((trial.ended_at, trial.verdict or "", f"{trial.kind}: {pair}"))
    if not told:
        return "", None, ""
    at, verdict, because = max(told, key=lambda one: one[0])
    return verdict, at, because
