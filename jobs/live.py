"""The risk of all books, every second: what `jobs/serve.py` publishes to the page, and what limits are held against.

Load: positions at the newest prices, and what the nightly jobs left. Compute: weights, losses, exposures. Nothing is
fitted and nothing is logged; a part that cannot be told stays empty, and `missing` says why.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs import past as seen
from jobs import view
from jobs.house import House
from jobs.positions import Held, Holdings
from jobs.weighing import Night, Weighed
from mlops.errors import DataError
from mlops.risk.drawdown import Drawdown, daily_loss, drawdown, last_close
from mlops.risk.exposure import Exposure, Groups, exposure
from mlops.risk.limits import Line, Measured, judge
from mlops.risk.snapshot import Snapshot, snapshot
from mlops.types import Finding, Level
from mlops.web.messages import AlertNow, Backtest, History, Kpi, ModelNow, PositionNow, RiskState, TradingNow

SLOW_S = 10.0  # how often that is read which a job or a person changes
ALL = "all"
STUCK = timedelta(minutes=15)  # quotes that come and never move for so long are not a market


@dataclass(frozen=True, slots=True)
class Look:
    """What stands at an instant, and every line held against it."""

    state: RiskState
    findings: tuple[Finding, ...]


@dataclass
class Slow:
    """What is read every few seconds."""

    night: Night | None = None
    past: seen.Past = field(default_factory=lambda: seen.Past(pd.Series(dtype=np.float64), {}))
    curve: Drawdown = field(default_factory=Drawdown)
    last_bar: object = None
    models: Mapping[str, ModelNow] = field(default_factory=dict)
    alerts: Mapping[str, AlertNow] = field(default_factory=dict)
    trading: TradingNow | None = None


@dataclass
class Prices:
    """How old each price is, and whether it ever moves."""

    stale_s: float
    since: dict[str, tuple[float, datetime]] = field(default_factory=dict)

    def notes(self, held: Held) -> dict[str, str]:
        """Unit -> what is wrong with its price."""
        found = {}
        for unit, price in held.prices.items():
            value, since = self.since.get(unit, (math.nan, price.at))
            if value != price.value:
                value, since = self.since[unit] = (price.value, price.at)
            age = (held.as_of - price.at).total_seconds()
            if age > self.stale_s:
                found[unit] = f"The last good price of {unit}, {price.value:g}, is {_age(age)} old."
            elif price.at - since > STUCK:
                found[unit] = f"{unit} is quoted at {value:g}, unmoved for {_age((price.at - since).total_seconds())}."
        return found


class Live:
    """The risk of all books of a house. Not for several threads at once."""

    def __init__(self, house: House) -> None:
        r = house.settings.risk
        self._house, self._slow, self._read_at = house, Slow(), -math.inf
        self._prices, self._holdings = Prices(r.price_stale_s), Holdings(house)
        self._lines = tuple(Line(x.measure, x.warning, x.soft, x.hard, x.owner, x.scope) for x in r.limits)

    def look(self, as_of: datetime) -> Look:
        """All that can be told at `as_of`."""
        held = self._holdings.at(as_of)
        self._refresh(held)
        base, groups = self._house.settings.risk.currency, Groups.of(held.frame)
        rates = dict.fromkeys(held.frame["currency"], 1.0)  # books have one currency, and all prices are in it
        book = Weighed.of(held, self._slow.night)
        missing, old = dict(book.missing), self._prices.notes(held)
        missing |= {f"price:{unit}": why for unit, why in old.items()}
        exposed = exposure(held.frame, held.equity, as_of=as_of, base=base, rates=rates, groups=groups)
        shot = self._shot(book, missing)
        curve = self._curve(held)
        measured = [*self._measured(book, exposed, shot, held, curve)]
        findings = judge(self._lines, measured)
        lines = view.Lines(findings)
        state = RiskState(
            as_of=as_of,
            clock="live" if self._house.settings.risk.clock == "now" else "replay",
            currency=base,
            missing=missing,
            kpi=self._kpi(book, exposed, shot, held, lines, curve),
            backtest=self._backtest(),
            positions=self._positions(book, shot, old),
            exposure=view.exposure(exposed, self._parts(book, shot, groups)),
            limits=view.limits(findings),
            history=self._history(held),
            models=self._slow.models,
            alerts=self._slow.alerts,
        )
        return Look(state, findings)

    def _refresh(self, held: Held) -> None:
        """Read what changes slowly, every SLOW_S seconds of the wall clock."""
        if time.monotonic() - self._read_at < SLOW_S:
            return
        ledger, slow = self._house.ledger, self._slow
        newest = ledger.risk_state_at("var", ALL, as_of=held.as_of)
        if newest is not None and (slow.night is None or slow.night.as_of != newest):
            state = ledger.risk_state("var", ALL, as_of=held.as_of)
            slow.night = None if state is None else Night.of(state)
        slow.past = seen.past(self._house, held)
        equity = slow.past.equity
        if len(equity) and equity.index[-1] != slow.last_bar:
            slow.curve, slow.last_bar = drawdown(np.asarray(equity, dtype=np.float64), _naive(equity)), equity.index[-1]
        slow.models = seen.models(self._house, held, slow.past)
        slow.alerts = seen.alerts(self._house, self._rows(held), held.as_of)
        slow.trading = seen.trading(self._house)
        self._read_at = time.monotonic()

    def _shot(self, book: Weighed, missing: dict[str, str]) -> Snapshot | None:
        """VaR and ES of the book; None where they are not known, and then `missing` says why."""
        night, confidence = self._slow.night, self._house.settings.risk.confidence
        if night is None:
            return None
        if not book.equity > 0:
            missing["var"] = f"Equity is {book.equity:,.0f}: a loss cannot be told as a share of it."
            return None
        try:
            return snapshot(night.returns, book.weights, night.fitted, confidence=confidence, growth=night.growth)
        except DataError as error:
            missing["var"] = str(error)
            return None

    def _curve(self, held: Held) -> Drawdown:
        """Drawdown with the equity of this second; a peak within the day is kept."""
        slow = self._slow
        if math.isfinite(held.equity) and (slow.curve.at is None or held.as_of > slow.curve.at):
            slow.curve = slow.curve.after(held.equity, held.as_of)
        return slow.curve

    def _measured(
        self, book: Weighed, exposed: Exposure, shot: Snapshot | None, held: Held, curve: Drawdown
    ) -> Iterator[Measured]:
        """Everything that lines may be drawn on: of the whole, and VaR and ES of each strategy for itself."""
        yield from exposed.measures()
        yield curve.measured()
        yield self._daily(held)
        yield from _losses(ALL, shot, book, self._slow.night)
        scopes = {line.scope for line in self._lines} - {ALL}
        if scopes:
            equities = pd.Series({key.model: 0.0 for key in held.books}).to_dict()
            for key, equity in held.equities().items():
                equities[key.model] += equity
            for name, part in book.strategies({n: e for n, e in equities.items() if n in scopes}).items():
                yield from _losses(name, self._shot(part, {}), part, self._slow.night)

    def _daily(self, held: Held) -> Measured:
        equity = self._slow.past.equity
        values, times = np.asarray(equity, dtype=np.float64), _naive(equity)
        now = np.datetime64(held.as_of.replace(tzinfo=None), "us")
        if not len(times) or times[-1] < now:
            values, times = np.append(values, held.equity), np.concatenate([times, np.array([now])])
        opening = self._house.settings.books.cash * len(held.books)
        return daily_loss(values, times, last_close(held.as_of), opening or math.nan)

    def _kpi(
        self, book: Weighed, exposed: Exposure, shot: Snapshot | None, held: Held, lines: view.Lines, curve: Drawdown
    ) -> Kpi:
        r, night, daily = self._house.settings.risk, self._slow.night, self._daily(held)
        about = {
            "confidence": r.confidence,
            "horizon_bars": r.horizon_bars,
            "model": night.fitted.model if night else "",
        }
        var, es = (shot.loss.var, shot.loss.es) if shot else (math.nan, math.nan)
        worst = self._largest(book, shot)
        level = lines.level("var", var)
        opened = held.equity / (1 - daily.value) if daily.value < 1 else math.nan
        return Kpi(
            equity=view.known(held.equity),
            pnl_today=view.known(-daily.value),
            pnl_today_money=view.known(held.equity - opened),
            var=lines.loss("var", var, held.equity, **about),
            es=lines.loss("es", es, held.equity, **about),
            gross=lines.use("gross", exposed.gross),
            net=lines.use("net", exposed.net),
            leverage=lines.use("leverage", exposed.leverage),
            drawdown=lines.drawdown(curve.current, curve.worst, curve.peak_at, curve.trough_at),
            normal=view.normal(var, list(night.var) if night else [], level, worst),
            trading=self._slow.trading,
        )

    def _largest(self, book: Weighed, shot: Snapshot | None) -> tuple[str, float] | None:
        """The unit that has most of the VaR, and its share."""
        if (
            shot is None
            or self._slow.night is None
            or not shot.loss.var > 0
            or not np.isfinite(shot.component_var).all()
        ):
            return None
        i = int(np.argmax(shot.component_var))
        return list(self._slow.night.units)[i], float(shot.component_var[i] / shot.loss.var)

    def _backtest(self) -> Backtest:
        return Backtest(**self._slow.night.body["backtest"]) if self._slow.night else Backtest(level=Level.UNKNOWN)

    def _positions(self, book: Weighed, shot: Snapshot | None, old: Mapping[str, str]) -> dict[str, PositionNow]:
        nothing = np.full(len(book.value), math.nan)
        var, es = (book.spread(shot.component_var), book.spread(shot.component_es)) if shot else (nothing, nothing)
        columns = {
            "value": book.value,
            "weight": book.shares,
            "pnl": book.value - book.frame["cost"].to_numpy(dtype=np.float64),
            "component_var": var,
            "component_es": es,
            "share_of_var": var / shot.loss.var if shot and shot.loss.var > 0 else nothing,
        }
        stale = [unit in old for unit in book.frame["unit"]]
        return view.positions(book.frame, columns, {**old}, stale=stale)

    def _parts(self, book: Weighed, shot: Snapshot | None, groups: Groups) -> dict[str, dict[str, float]]:
        """Component VaR by each dimension; what is in no VaR counts for nothing."""
        if shot is None:
            return {}
        each, found = np.nan_to_num(book.spread(shot.component_var)), {}
        for dimension, names in groups.names.items():
            sums = np.bincount(groups.codes[dimension], each, minlength=len(names))
            found[dimension] = dict(zip(names, sums.tolist(), strict=True))
        return found

    def _rows(self, held: Held) -> list[str]:
        """Keys of the positions, the largest first."""
        order = held.value.abs().sort_values(ascending=False).index
        rows = held.frame.loc[order, ["strategy", "book", "unit"]]
        return [view.row_key(*row) for row in rows.itertuples(index=False)]

    def _history(self, held: Held) -> History:
        equity = self._slow.past.equity
        under = 1 - equity / equity.cummax()
        rows = zip(pd.DatetimeIndex(equity.index), equity, under, strict=True)
        told = {at.isoformat(): (float(value), view.known(low)) for at, value, low in list(rows)[-seen.POINTS :]}
        night = self._slow.night
        if night is None:
            return History(told)
        past = zip(night.times, night.var, night.loss, strict=True)
        return History(told, {at: (float(v), float(x), bool(x > v)) for at, v, x in past})


def _losses(scope: str, shot: Snapshot | None, book: Weighed, night: Night | None) -> Iterator[Measured]:
    """VaR and ES; where a position is in neither, they are known from below at best."""
    n = 0 if night is None else night.returns.shape[0]
    out = [unit for unit, good in zip(book.frame["unit"], book.linear, strict=True) if not good]
    why = f"{len(out)} positions are not in it: {', '.join(out[:3])}" if out else ""
    if shot is None:
        yield from (Measured(name, math.nan, scope, why="there is none yet") for name in ("var", "es"))
    else:
        yield Measured("var", shot.loss.var, scope, n, why)
        yield Measured("es", shot.loss.es, scope, n, why)


def _naive(curve: pd.Series[float]) -> NDArray[np.datetime64]:
    found: NDArray[np.datetime64] = pd.DatetimeIndex(curve.index).tz_localize(None).to_numpy(dtype="datetime64[us]")
    return found


def _age(seconds: float) -> str:
    """How old, in the largest unit that has two of it.

    >>> _age(90), _age(7300), _age(86400 * 400)
    ('90 s', '2 h', '400 d')
    """
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
