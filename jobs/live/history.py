"""What the live page shows of what was: equity with its drawdown, models, alerts. Read anew every few seconds.

Every book counts from its first cash: a book that began later was flat before, and its opening is no profit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.accounts.equity import offsets, with_losses, without_flows
from jobs.accounts.peak import Peak, Point, named
from jobs.context import Context
from jobs.live import model_status
from jobs.portfolio import restatement
from jobs.portfolio.book_cache import MOMENT, Memo
from jobs.portfolio.foreign_currency import without
from jobs.portfolio.valuation import Held, book_name
from mlops.books.book import SCALE
from mlops.io.ledger import BookKey, ComparisonRow, Promotion
from mlops.risk.drawdown import overdue, session_start
from mlops.risk.limits import Measured
from mlops.web.messages import AlertNow, ModelNow, TradingNow
from registry_hooks import stages

POINTS = 500  # of a series on the page
CURVE_POINTS = 120  # of a model's small one
SESSION = timedelta(days=1)  # of a book without bars
LOOK_BACK = timedelta(days=3 * 365)
MOST = 20  # sets of books whose past is kept
COMPARED = ("compare", "watch")
Steps = tuple[tuple[datetime, float], ...]
Rows = tuple["pd.Series[float]", "pd.Series[float]"]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a book was worth `at` an instant, which is no more than a session ago (`today`), and whether at a close."""

    value: float
    at: datetime
    today: bool
    closed: bool = True


@dataclass(frozen=True)
class Past:
    """Equity of all books together at each bar, and of each one; when each of them `traded` first.

    `rows`: what each book was worth by its own trades, and what its account had beside that, at its bars and at the
    looks before and after each flow. Only where there was a flow.
    """

    equity: pd.Series[float]
    curves: Mapping[BookKey, pd.Series[float]]
    traded: Mapping[BookKey, datetime | None] = field(default_factory=dict)
    rows: Mapping[BookKey, Rows] = field(default_factory=dict)
    _days: dict[object, float] = field(default_factory=dict, compare=False, repr=False)
    _sessions: dict[int, tuple[datetime, int, bool]] = field(default_factory=dict, compare=False, repr=False)

    def beginning(self, key: BookKey, opening: float, as_of: datetime) -> Beginning:
        """What a book's day began with: its last close, or without bars its opening, of its first trade."""
        curve = self.curves.get(key)
        n, late = (0, True) if curve is None else self._session(self._times[key], as_of)
        if curve is None or not n:
            first = self.traded.get(key) or as_of
            began = Beginning(opening, first, as_of - first <= SESSION, closed=False)
            return replace(began, value=self.together({key: began}))
        at: datetime = self._times[key][n - 1].item()
        return Beginning(float(curve.to_numpy()[n - 1]), at.replace(tzinfo=UTC), not late)

    def together(self, began: Mapping[BookKey, Beginning]) -> float:
        """What these books began with, in the money of now: a flow of one moves it by the share that it moves them all.

        Before its beginning, and where it has no bar and no flow, a book was worth what it began with.
        """
        about = tuple((key, beginning.at, beginning.value) for key, beginning in began.items())
        if about not in self._days:
            self._days[about] = self._together(began)
        return self._days[about]

    def _together(self, began: Mapping[BookKey, Beginning]) -> float:
        parts = {key: self._since(key, beginning.at) for key, beginning in began.items()}
        whole = sum(beginning.value for beginning in began.values())
        known = {key: part for key, part in parts.items() if len(part[0])}
        if not known:
            return whole
        flat = sum(began[key].value for key in parts.keys() - known.keys())
        own, beside = (
            pd.concat({key: part[i] for key, part in known.items()}, axis=1).sort_index().ffill().bfill().sum(axis=1)
            for i in (0, 1)
        )
        equity = without_flows(own + flat, beside)
        return float(equity.iloc[0]) if equity.index[0] == own.index[0] else whole

    def _since(self, key: BookKey, at: datetime) -> Rows:
        own, beside = self.rows.get(key, (_empty(), _empty()))
        return own[own.index >= at], beside[own.index >= at]

    def _session(self, times: NDArray[np.datetime64], as_of: datetime) -> tuple[int, bool]:
        """How many bars there were at the last close before `as_of`, and whether that is overdue."""
        known = self._sessions.get(id(times))
        if known is None or known[0] != as_of:
            n = session_start(times, as_of)
            known = self._sessions[id(times)] = as_of, n, bool(n) and overdue(times, as_of)
        return known[1:]

    @cached_property
    def _times(self) -> dict[BookKey, NDArray[np.datetime64]]:
        """Instants of each book's bars; books with bars at the same instants share them."""
        each, shared = {key: naive(curve) for key, curve in self.curves.items()}, dict[bytes, NDArray[np.datetime64]]()
        return {key: shared.setdefault(times.tobytes(), times) for key, times in each.items()}

    def without(self, times: Collection[datetime]) -> Past:
        """The same but for bars at those instants: one whose price nobody believed is no close and no peak."""
        if not times:
            return self

        def kept(curve: pd.Series[float]) -> pd.Series[float]:
            return curve[~curve.index.isin(list(times))]

        curves = {key: kept(curve) for key, curve in self.curves.items()}
        rows = {key: (kept(own), kept(beside)) for key, (own, beside) in self.rows.items()}
        return Past(kept(self.equity), curves, self.traded, rows)

    def day_began(self, as_of: datetime) -> float | None:
        """Equity at the last close of each book before `as_of`; None where one has no bar before."""
        each = [began(curve, as_of) for curve in self.curves.values()]
        known = [value for value in each if value is not None]
        return sum(known) if each and len(known) == len(each) else None


@dataclass
class Curve:
    """Equity of a book at bars that were read, without what is in other currencies, and when each bar was `known`."""

    equity: pd.Series[float]
    times: NDArray[np.datetime64]
    known: NDArray[np.datetime64]
    _last: tuple[NDArray[np.bool_], pd.Series[float]] | None = None

    @classmethod
    def read(cls, context: Context, key: BookKey, start: datetime, end: datetime, units: Collection[str]) -> Self:
        rows = context.ledger.books.equity(key, start=start, end=end).set_index("event_time")
        known = naive(rows.set_index("known_at")["equity"])
        return cls(without(rows["equity"], context.ledger, key, units), naive(rows["equity"]), known)

    def at(self, start: datetime, as_of: datetime) -> pd.Series[float]:
        """Equity of the bars from `start` on that were known then; the same object where those are the same."""
        first, now = (np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us") for at in (start, as_of))
        known = (self.times >= first) & (self.times <= now) & (self.known <= now)
        if self._last is None or not np.array_equal(self._last[0], known):
            self._last = known, self.equity[known]
        return self._last[1]


class Pasts:
    """What books were worth, from look to look: bars are read anew of a book that has new ones, or was made anew.

    `peak`: it knows what they were worth at the looks before and after a flow.
    """

    def __init__(self, context: Context, peak: Peak | None = None) -> None:
        self._context, self._peak, self._common = context, peak, object()
        self._curves = Memo[Curve]()
        self._of: dict[tuple[BookKey, ...], tuple[list[Any], Mapping[BookKey, pd.Series[float]], Past]] = {}

    def at(self, held: Held) -> Past:
        """The last years of every book that is held now, without what is in other currencies."""
        context, start, keys = self._context, held.as_of - LOOK_BACK, tuple(held.books)
        common = context.ledger.books.split_news(), restatement.units(context)
        if common != self._common or len(self._of) > MOST:
            self._common, self._curves, self._of = common, Memo(), {}
        tips, units = context.ledger.books.all_marks(as_of=held.as_of), common[1].foreign
        curves: dict[BookKey, pd.Series[float]] = {}
        for key in keys:
            read = partial(Curve.read, context, key, start, held.as_of + MOMENT, units)
            curves[key] = self._curves.get(key, tips.get(key), read).at(start, held.as_of)
        bare = {key: held.books[key] for key, curve in curves.items() if not len(curve)}
        looks = _looks(() if self._peak is None else self._peak.points, held)
        about = [held.accounts, held.doubts, {key: book.start for key, book in held.books.items()}, bare, looks]
        known = self._of.get(keys)
        if known is None or known[0] != about or any(curve is not known[1][key] for key, curve in curves.items()):
            known = self._of[keys] = about, curves, _past(context, held, curves, looks)
        return known[2]


def past(context: Context, held: Held) -> Past:
    """The last years of every book that is held now, without what is in other currencies."""
    return Pasts(context).at(held)


def _past(
    context: Context, held: Held, home: Mapping[BookKey, pd.Series[float]], looks: Mapping[BookKey, Steps]
) -> Past:
    accounts = {key: account for key, account in held.accounts.items() if account is not None}
    traded = {
        key: context.ledger.risk.first_traded(key.model, key.book) for key, curve in home.items() if not len(curve)
    }
    curves, bars = {key: _undoubted(curve, key, held) for key, curve in home.items()}, home
    if looks:
        starts = {key: (traded.get(key), held.books[key].start / SCALE) for key in home}
        curves = {key: _finer(curve, looks.get(key, ()), *starts[key]) for key, curve in curves.items()}
    beside = {key: offsets(accounts[key], curve) if key in accounts else curve * 0.0 for key, curve in curves.items()}
    curves = {key: with_losses(accounts[key], curve) if key in accounts else curve for key, curve in curves.items()}
    lost = {key: account.fell for key, account in accounts.items()}
    opened = {key: book.start / SCALE + lost.get(key, 0.0) for key, book in held.books.items()}
    for key in traded:
        curves[key].iloc[:1] = opened[key]
    flat = {key: 0.0 if key not in accounts else accounts[key].offset for key in curves}
    flat |= {key: float(beside[key].iloc[0]) for key in traded if len(beside[key])}
    whole = without_flows(_summed(curves, opened), _summed(beside, flat))
    each = {key: without_flows(curve, beside[key]) for key, curve in curves.items()}
    if not looks:
        return Past(whole, each, traded)
    rows = {key: (curve, beside[key]) for key, curve in curves.items()}
    every = {at for curve in bars.values() for at in curve.index}
    at_bars = {key: curve[curve.index.isin(bars[key].index)] for key, curve in each.items()}
    return Past(whole[whole.index.isin(list(every))], at_bars, traded, rows)


def _looks(points: Sequence[Point], held: Held) -> dict[BookKey, Steps]:
    """What each book was worth by its own trades at the looks before and after each flow of any of them."""
    flows = [p.paid.times for p in held.accounts.values() if p is not None and len(p.flows)]
    if not flows:
        return {}
    looks = [*points, Point.of(held)]
    times = pd.DatetimeIndex([p.at for p in looks])
    places = np.unique(np.concatenate([times.searchsorted(each) for each in flows]))
    around = [looks[i] for i in np.unique([places - 1, places]).tolist() if 0 <= i < len(looks)]
    same = {at for each in flows for at in each[each.isin(times)]}  # a look at a flow's instant: all was made before
    each_at = [(at, p) for p in around for at in ([p.at - MOMENT, p.at] if p.at in same else [p.at])]
    near = {key: [(at, p.own.get(named(held, key), math.nan)) for at, p in each_at] for key in held.books}
    return {key: tuple(row for row in rows if math.isfinite(row[1])) for key, rows in near.items()}


def _finer(curve: pd.Series[float], looks: Steps, traded: datetime | None, start: float) -> pd.Series[float]:
    """With looks between its bars; without bars, from what a book was opened with when it was `traded` first."""
    if not len(curve):
        looks = tuple(row for row in looks if traded is not None and row[0] > traded)
        looks = ((traded, start), *looks) if looks and traded is not None else ()
    more = pd.Series([own for _, own in looks], pd.DatetimeIndex([at for at, _ in looks], tz="UTC"), dtype=np.float64)
    more = more[~more.index.isin(curve.index)]
    return pd.concat([curve, more]).sort_index() if len(more) and len(curve) else more if len(more) else curve


def _undoubted(curve: pd.Series[float], key: BookKey, held: Held) -> pd.Series[float]:
    """Without what doubtful fills would gain; from one of a doubtful size on, no higher than it was before."""
    for doubt in held.doubts:
        before = pd.DatetimeIndex(curve.index) < pd.Timestamp(doubt.at)
        if doubt.key == key and doubt.times:
            most = float(curve[before].iloc[-1]) if before.any() else held.books[key].start / SCALE
            curve = curve.where(before, curve.clip(upper=most))
        elif doubt.key == key and doubt.gain:
            curve = curve.where(before, curve - doubt.gain)
    return curve


def began(curve: pd.Series[float], as_of: datetime) -> float | None:
    """The value at the last close before `as_of`."""
    at = session_start(naive(curve), as_of)
    return float(curve.iloc[at - 1]) if at else None


def daily(began: Mapping[BookKey, Beginning], equity: float, start: float) -> Measured:
    """Loss since the day of each book began, with `start` of all together; not the day's where that is longer ago."""
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
    return sorted((key for key, beginning in began.items() if not beginning.today), key=lambda key: began[key].at)


def naive(curve: pd.Series[float]) -> NDArray[np.datetime64]:
    """Its instants."""
    times: NDArray[np.datetime64] = pd.DatetimeIndex(curve.index).tz_localize(None).to_numpy(dtype="datetime64[us]")
    return times


def _empty() -> pd.Series[float]:
    return pd.Series(dtype=np.float64, index=pd.DatetimeIndex([], tz="UTC"))


def _summed(curves: Mapping[BookKey, pd.Series[float]], opened: Mapping[BookKey, float]) -> pd.Series[float]:
    known = {key: curve for key, curve in curves.items() if len(curve)}
    if not known:
        return _empty()
    wide = pd.concat(known, axis=1).sort_index().ffill()
    flat = sum(opened[key] for key in curves if key not in known)
    return wide.fillna(pd.Series({key: opened[key] for key in known})).sum(axis=1) + flat


def alerts(context: Context, rows: Iterable[str], as_of: datetime) -> dict[str, AlertNow]:
    """Open alerts. One whose details name a unit leads to its row, the largest first in `rows`."""
    by_key, rows = {}, list(rows)
    for alert in context.ledger.alerts.newest():
        if alert.as_of <= as_of:
            unit = str(alert.details.get("unit", ""))
            row = next((row for row in rows if unit and row.rpartition("/")[2] == unit), "")
            by_key[alert.key] = AlertNow(alert.priority, alert.title, alert.as_of, alert.model, row)
    return by_key


def trading(context: Context) -> TradingNow:
    """The switch above all models."""
    log = context.ledger.trading.log()
    if not log:
        return TradingNow("active", "It was never set.")
    last = log[-1]
    return TradingNow(last.state.value, last.reason, last.actor, last.created_at)


def models(context: Context, held: Held, past: Past, judgements: model_status.Standing) -> dict[str, ModelNow]:
    """Every model that has a champion or a book, with its book: the one it is held by now; how it stands, and why."""
    of = {key.model: key for key in held.books}
    by_name = {
        name: _model(context, name, of.get(name), held, past)
        for name in sorted({*context.ledger.registry.models(), *of})
    }
    return {name: judgements.judged(name, now) for name, now in by_name.items()}


def _model(context: Context, name: str, key: BookKey | None, held: Held, past: Past) -> ModelNow:
    log = [entry for entry in context.ledger.registry.promotions(name) if entry.state != "undone"]
    comparisons = [c for c in context.ledger.registry.comparisons(name) if c.started_at <= held.as_of]
    verdict, at, because = _verdict(log, comparisons)
    running = [c.challenger for c in comparisons if c.ended_at is None and c.kind == "compare"]
    champion = log[-1] if log else None
    now = ModelNow(
        champion=champion.to_version if champion else None,
        champion_since=champion.created_at if champion else None,
        challenger=running[-1] if running else None,
        stage=stages.stages(context.ledger, name).get(running[-1], "") if running else "",
        verdict=verdict,
        verdict_at=at,
        because=because,
        trades_since=context.ledger.risk.fills_since(name, champion.created_at) if champion else None,
    )
    if key is None:
        return now
    curve, equity = past.curves[key], held.equities()[key]
    start = past.beginning(key, held.opened(key), held.as_of)
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


def _verdict(log: list[Promotion], comparisons: list[ComparisonRow]) -> tuple[str, datetime | None, str]:
    """What was decided last, when and why: the newest of the promotion log and of the comparisons that ended."""
    ended = [c for c in comparisons if c.ended_at is not None and c.kind in COMPARED]
    moves = [(entry.created_at, entry.kind, entry.reason) for entry in log[-1:]]
    for comparison in ended[-1:]:
        if comparison.ended_at is not None:
            pair = f"v{comparison.challenger} against v{comparison.champion}"
            moves.append((comparison.ended_at, comparison.verdict or "", f"{comparison.kind}: {pair}"))
    if not moves:
        return "", None, ""
    at, verdict, because = max(moves, key=lambda row: row[0])
    return verdict, at, because
