"""What the live page shows of what was: equity with its drawdown, models, alerts. Read anew every few seconds.

Every book counts from its first cash: a book that began later was flat before, and its opening is no profit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs import restatement, standing
from jobs.accounts import offsets, with_losses, without_flows
from jobs.foreign import without
from jobs.held import Held, book_name
from jobs.house import House
from mlops.experiment.book import SCALE
from mlops.io.ledger import BookKey, Experiment, Promotion
from mlops.risk.drawdown import overdue, session_start
from mlops.risk.limits import Measured
from mlops.web.messages import AlertNow, ModelNow, TradingNow

POINTS = 500  # of a series on the page
CURVE_POINTS = 120  # of a model's small one
SESSION = timedelta(days=1)  # of a book without bars
LOOK_BACK = timedelta(days=3 * 365)
COMPARED = ("compare", "watch")


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a book was worth `at` an instant, which is no more than a session ago (`today`), and whether at a close."""

    value: float
    at: datetime
    today: bool
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Past:
    """Equity of all books together at each bar, and of each one; when each of them `traded` first."""

    equity: pd.Series[float]
    curves: Mapping[BookKey, pd.Series[float]]
    traded: Mapping[BookKey, datetime | None] = field(default_factory=dict)

    def beginning(self, key: BookKey, opening: float, as_of: datetime) -> Beginning:
        """What a book's day began with: its last close, or without bars its opening, of its first trade."""
        curve = self.curves.get(key)
        at = None if curve is None else closed(curve, as_of)
        if curve is None or at is None:
            first = self.traded.get(key) or as_of
            return Beginning(opening, first, as_of - first <= SESSION, closed=False)
        return Beginning(float(curve[at]), at, not overdue(naive(curve), as_of))

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


def past(house: House, held: Held) -> Past:
    """The last years of every book that is held now, without what is in other currencies."""
    start = held.as_of - LOOK_BACK
    ledger, units = house.ledger, restatement.units(house).foreign
    read = {key: ledger.book_curve(*key, start=start, as_of=held.as_of).set_index("event_time") for key in held.books}
    home = {key: without(frame["equity"], ledger, key, units) for key, frame in read.items()}
    accounts = {key: found for key, found in held.accounts.items() if found is not None}
    curves = {key: _undoubted(curve, key, held) for key, curve in home.items()}
    beside = {key: offsets(accounts[key], curve) if key in accounts else curve * 0.0 for key, curve in curves.items()}
    curves = {key: with_losses(accounts[key], curve) if key in accounts else curve for key, curve in curves.items()}
    lost = {key: found.lost for key, found in accounts.items()}
    opened = {key: book.start / SCALE + lost.get(key, 0.0) for key, book in held.books.items()}
    own, flat = _summed(curves, opened), {key: found.offset for key, found in accounts.items()}
    whole = without_flows(own, _summed(beside, {key: flat.get(key, 0.0) for key in curves}))
    traded = {key: house.ledger.first_traded(key.model, key.book) for key, curve in curves.items() if not len(curve)}
    return Past(whole, {key: without_flows(curve, beside[key]) for key, curve in curves.items()}, traded)


def _undoubted(curve: pd.Series[float], key: BookKey, held: Held) -> pd.Series[float]:
    """Without what fills would gain whose price nothing agrees with."""
    for one in held.doubts:
        if one.key == key and one.gain:
            curve = curve.where(pd.DatetimeIndex(curve.index) < pd.Timestamp(one.at), curve - one.gain)
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


def closed(curve: pd.Series[float], as_of: datetime) -> datetime | None:
    """The last close before `as_of`."""
    at = session_start(naive(curve), as_of)
    return pd.Timestamp(curve.index[at - 1]).to_pydatetime() if at else None


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
