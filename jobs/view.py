"""Numbers into what the page shows: nothing is computed that a decision hangs on; what is not known stays empty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from jobs import optioned
from jobs.past import POINTS, Past
from jobs.positions import Held
from jobs.weighing import Night, Weighed
from mlops.risk.comovement import Comovement
from mlops.risk.drawdown import Drawdown as Fallen
from mlops.risk.exposure import Exposure as Exposed
from mlops.risk.exposure import Groups
from mlops.risk.limits import Measured, State
from mlops.risk.liquidity import days_to_exit
from mlops.risk.measures import Floats
from mlops.risk.options import OptionGreeks
from mlops.risk.scenarios import Scenarios
from mlops.risk.snapshot import Snapshot
from mlops.settings import RiskSettings
from mlops.types import Finding, Kind, Level
from mlops.web.messages import (
    AlertNow,
    Backtest,
    Correlation,
    Drawdown,
    Exposure,
    History,
    Kpi,
    LimitNow,
    Loss,
    ModelNow,
    Normal,
    Number,
    PositionNow,
    RiskState,
    StressOf,
    TradingNow,
    Use,
)

DIMENSIONS = {"strategy": "strategy", "sector": "sector", "currency": "currency", "symbol": "underlying"}
USUAL = (0.05, 0.95)  # percentiles of the last year's VaR between which today's is a usual one
YEAR = 250
WORDS = {Level.OK: "", Level.WARN: " But it nears its limit.", Level.ALERT: " But it is over a line."}


@dataclass
class Slow:
    """What is read every few seconds."""

    night: Night | None = None
    past: Past = field(
        default_factory=lambda: Past(pd.Series(dtype=np.float64, index=pd.DatetimeIndex([], tz="UTC")), {})
    )
    curve: Fallen = field(default_factory=Fallen)
    last_bar: object = None
    scenarios: Scenarios | None = None
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    correlation: Correlation = field(default_factory=Correlation)
    models: Mapping[str, ModelNow] = field(default_factory=dict)
    alerts: Mapping[str, AlertNow] = field(default_factory=dict)
    trading: TradingNow | None = None


@dataclass(frozen=True, slots=True)
class Now:
    """What was measured at an instant. `old`: unit -> what is wrong with its price; `missing`: what -> why."""

    held: Held
    book: Weighed
    groups: Groups
    exposed: Exposed
    greeks: OptionGreeks
    shot: Snapshot | None
    stressed: pd.DataFrame | None
    curve: Fallen
    daily: Measured
    old: Mapping[str, str]
    missing: Mapping[str, str]


def state(now: Now, slow: Slow, findings: Sequence[Finding], settings: RiskSettings) -> RiskState:
    """Everything that the pages show."""
    return RiskState(
        as_of=now.held.as_of,
        clock="live" if settings.clock == "now" else "replay",
        currency=settings.currency,
        missing=now.missing,
        kpi=_kpi(now, slow, Lines(findings), settings),
        backtest=Backtest(**slow.night.body["backtest"]) if slow.night else Backtest(),
        positions=_positions(now),
        exposure=exposure(now.exposed, _parts(now)),
        greeks=optioned.shown(now.greeks),
        stress=_stress(now, slow, Lines(findings)),
        limits=limits(findings),
        history=_history(now, slow),
        correlation=slow.correlation,
        models=slow.models,
        alerts=slow.alerts,
    )


def rows(held: Held) -> list[str]:
    """Keys of the positions, the largest first."""
    order = held.value.abs().sort_values(ascending=False).index
    told = held.frame.loc[order, ["strategy", "book", "unit"]]
    return [row_key(*row) for row in told.itertuples(index=False)]


def age(seconds: float) -> str:
    """How old, in the largest unit that has two of it.

    >>> age(90), age(7300), age(86400 * 400)
    ('90 s', '2 h', '400 d')
    """
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _kpi(now: Now, slow: Slow, lines: Lines, settings: RiskSettings) -> Kpi:
    held, exposed, curve = now.held, now.exposed, now.curve
    model = slow.night.fitted.model if slow.night else ""
    about = {"confidence": settings.confidence, "horizon_bars": settings.horizon_bars, "model": model}
    var, es = (now.shot.loss.var, now.shot.loss.es) if now.shot else (math.nan, math.nan)
    opened = held.equity / (1 - now.daily.value) if now.daily.value < 1 else math.nan
    past = list(slow.night.var) if slow.night else []
    return Kpi(
        equity=known(held.equity),
        pnl_today=known(-now.daily.value),
        pnl_today_money=known(held.equity - opened),
        var=lines.loss("var", var, held.equity, **about),
        es=lines.loss("es", es, held.equity, **about),
        gross=lines.use("gross", exposed.gross),
        net=lines.use("net", exposed.net),
        leverage=lines.use("leverage", exposed.leverage),
        drawdown=lines.drawdown(curve.current, curve.worst, curve.peak_at, curve.trough_at),
        normal=normal(var, past, lines.level("var", var), _largest(now)),
        trading=slow.trading,
    )


def _largest(now: Now) -> tuple[str, float] | None:
    """The name that has most of the VaR, and its share."""
    if now.shot is None or not now.shot.loss.var > 0:
        return None
    parts = _parts(now)["symbol"]
    if not parts:
        return None
    name = max(parts, key=lambda one: parts[one])
    return name, parts[name] / now.shot.loss.var


def _stress(now: Now, slow: Slow, lines: Lines) -> dict[str, StressOf]:
    """A row a scenario, the worst first; its level is that of the line on stress, where it is the worst one."""
    if now.stressed is None:
        return {}
    table, found = now.stressed.sort_values("loss", ascending=False), {}
    for i, row in enumerate(table.to_dict("records")):
        about = slow.about.get(str(row["scenario"]), {})
        loss, level = known(row["loss"]), lines.level("stress", row["loss"]) if i == 0 else Level.OK
        found[str(row["scenario"])] = StressOf(
            str(row["scenario"]),
            loss,
            known(row["money"]),
            str(row["worst_unit"]),
            known(row["proxied"]),
            str(about.get("source", "")),
            str(about.get("dates", "")),
            Level.UNKNOWN if loss is None else level,
        )
    return found


def _positions(now: Now) -> dict[str, PositionNow]:
    book, shot, frame = now.book, now.shot, now.book.frame
    nothing = np.full(len(book.value), math.nan)
    var, es = (book.spread(shot.component_var), book.spread(shot.component_es)) if shot else (nothing, nothing)
    quantity, volume = (frame[name].to_numpy(dtype=np.float64) for name in ("quantity", "daily_volume"))
    columns = {
        "value": book.value,
        "weight": book.shares,
        "pnl": book.value - frame["cost"].to_numpy(dtype=np.float64),
        "component_var": var,
        "component_es": es,
        "share_of_var": var / shot.loss.var if shot and shot.loss.var > 0 else nothing,
        "days_to_exit": days_to_exit(quantity, volume),
    }
    return positions(frame, columns, now.old, stale=[unit in now.old for unit in frame["unit"]])


def _parts(now: Now) -> dict[str, dict[str, float]]:
    """Component VaR by each dimension; what is in no VaR counts for nothing."""
    if now.shot is None:
        return {}
    each, found = np.nan_to_num(now.book.spread(now.shot.component_var)), {}
    for dimension, names in now.groups.names.items():
        sums = np.bincount(now.groups.codes[dimension], each, minlength=len(names))
        found[dimension] = dict(zip(names, sums.tolist(), strict=True))
    return found


def _history(now: Now, slow: Slow) -> History:
    equity = slow.past.equity.tail(POINTS)
    under = 1 - equity / slow.past.equity.cummax().tail(POINTS)
    told = zip(pd.DatetimeIndex(equity.index), equity, under, strict=True)
    curve = {at.isoformat(): (float(value), known(low)) for at, value, low in told}
    if slow.night is None:
        return History(curve)
    past = list(zip(slow.night.times, slow.night.var, slow.night.loss, strict=True))[-POINTS:]
    return History(curve, {at: (float(v), float(x), bool(x > v)) for at, v, x in past})


def row_key(strategy: str, book: str, unit: str) -> str:
    """Of a position's row."""
    return f"{strategy}/{book}/{unit}"


def known(value: float | None) -> Number:
    """The number, or None where it is none."""
    return None if value is None or not math.isfinite(value) else float(value)


def limits(findings: Iterable[Finding]) -> dict[str, LimitNow]:
    """Every line and what stands against it."""
    return {
        f"{f.name}:{f.subject}": LimitNow(
            f.name,
            f.subject,
            known(f.value),
            f.params["warning"],
            f.params["soft"],
            f.limit,
            known(f.params["utilisation"]),
            State(f.params["state"]).value,
            f.params["owner"],
        )
        for f in findings
    }


class Lines:
    """What stands against the lines of the whole book, by measure."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._of = {f.name: f for f in findings if f.subject == "all"}

    def level(self, measure: str, value: float | None) -> Level:
        """Of its line; of a measure without one OK, where it is known."""
        if measure in self._of:
            return self._of[measure].level
        return Level.UNKNOWN if known(value) is None else Level.OK

    def limit(self, measure: str) -> Number:
        """The hard line; None where nobody drew one."""
        return self._of[measure].limit if measure in self._of else None

    def used(self, measure: str) -> Number:
        """Share of the hard line."""
        return known(self._of[measure].params["utilisation"]) if measure in self._of else None

    def use(self, measure: str, value: float | None) -> Use:
        return Use(known(value), self.limit(measure), self.used(measure), self.level(measure, value))

    def loss(self, measure: str, value: float | None, equity: float, **about: Any) -> Loss:
        money = None if known(value) is None else known(float(value or 0.0) * equity)
        level = self.level(measure, value)
        return Loss(
            known(value), money, limit=self.limit(measure), utilisation=self.used(measure), level=level, **about
        )

    def drawdown(self, now: float, worst: float, start: datetime | None, trough: datetime | None) -> Drawdown:
        held = self.use("drawdown", now)
        return Drawdown(held.value, known(worst), start, trough, held.limit, held.utilisation, held.level)


def positions(
    frame: pd.DataFrame, columns: Mapping[str, Sequence[float]], notes: Mapping[str, str], *, stale: Sequence[bool]
) -> dict[str, PositionNow]:
    """Rows of a frame with POSITION_COLUMNS; `columns`: further fields of a row, NaN where they are not known."""
    found = {}
    rows = zip(frame["strategy"], frame["book"], frame["unit"], frame["kind"], frame["quantity"], strict=True)
    prices = zip(frame["price"], frame["priced_at"], stale, strict=True)
    more = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for (strategy, book, unit, kind, quantity), (price, at, old), extra in zip(rows, prices, more, strict=True):
        found[row_key(strategy, book, unit)] = PositionNow(
            unit,
            strategy,
            book,
            Kind(kind),
            float(quantity),
            known(price),
            None if pd.isna(at) else at.to_pydatetime(),
            bool(old),
            note=notes.get(unit, ""),
            **{name: known(value) for name, value in extra.items()},
        )
    return found


def exposure(found: Exposed, parts: Mapping[str, Mapping[str, float]]) -> dict[Any, dict[str, Exposure]]:
    """By each dimension, as shares of equity; `parts`: component VaR by dimension and name."""
    over = found.equity if found.equity > 0 else math.nan
    shown: dict[Any, dict[str, Exposure]] = {}
    for dimension, name in DIMENSIONS.items():
        side = found.by[dimension]
        rows = zip(found.names[dimension], side.long / over, -side.short / over, strict=True)
        shown[name] = {
            group: Exposure(
                known(up), known(down), known(up + down), known(up - down), known(parts.get(dimension, {}).get(group))
            )
            for group, up, down in rows
        }
    return shown


def normal(var: float | None, past: Sequence[float], level: Level, largest: tuple[str, float] | None) -> Normal:
    """Is today's risk usual: its place among the VaRs that the same holdings had in the last year."""
    year = np.asarray(past[-YEAR:], dtype=np.float64)
    if known(var) is None or var is None:
        return Normal("What the book may lose is not known now; what is missing is listed below.")
    where = "" if largest is None else f" {100 * largest[1]:.0f} % of it is {largest[0]}."
    if len(year) < YEAR // 5:
        return Normal(
            f"Whether that is normal is not known: {len(year)} of {YEAR // 5} bars.{where}", n=len(year), level=level
        )
    place = float((year <= var).mean())
    how = "normal" if USUAL[0] <= place <= USUAL[1] else "unusually high" if place > USUAL[1] else "unusually low"
    words = (
        f"That is {how}: higher than on {100 * place:.0f} % of the last {len(year)} bars.{where}{WORDS.get(level, '')}"
    )
    return Normal(words, place, len(year), level)


def correlation(found: Comovement, units: Sequence[str], cover: str = "") -> Correlation:
    """Of the units in `units` (columns of the returns), like beside like; numbers rounded to what a person reads."""
    stands = found.breakdown
    note = " ".join(part for part in (stands.note, cover) if part)
    return Correlation(
        tuple(units[i] for i in found.order),
        _rounded(found.matrix),
        _rounded(found.change),
        state=stands.state.value,
        level=stands.finding.level,
        mean=known(found.mean),
        effective_bets=known(found.bets),
        diversification_ratio=known(found.diversification_ratio),
        note=note,
    )


def _rounded(matrix: Floats) -> tuple[tuple[Number, ...], ...]:
    return tuple(tuple(known(round(value, 2)) for value in row) for row in matrix.tolist())
