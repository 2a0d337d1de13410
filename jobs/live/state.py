"""Numbers into what the page shows: nothing is computed that a decision hangs on; what is not known stays empty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd

from jobs.live import fields
from jobs.live.history import POINTS, Past
from jobs.portfolio import options
from jobs.portfolio.valuation import Held
from jobs.portfolio.weights import BookWeights, Night
from mlops.risk.drawdown import Drawdown as Fallen
from mlops.risk.exposure import Exposure as Exposed
from mlops.risk.exposure import Groups
from mlops.risk.limits import Measured
from mlops.risk.liquidity import days_to_exit
from mlops.risk.measures import Floats
from mlops.risk.options.positions import OptionGreeks
from mlops.risk.stress.scenarios import Scenarios
from mlops.risk.var.snapshot import Snapshot
from mlops.risk.var.stand_in import StandIn
from mlops.settings import RiskSettings
from mlops.types import Finding, Level
from mlops.web.messages import (
    AlertNow,
    Backtest,
    Correlation,
    History,
    Kpi,
    Loss,
    ModelNow,
    PositionNow,
    RiskState,
    StressOf,
    TradingNow,
)


@dataclass
class Slow:
    """Inputs that are read every few seconds. `curves`: drawdown at the last bar, by scope."""

    stand_in: StandIn
    night: Night | None = None
    past: Past = field(
        default_factory=lambda: Past(pd.Series(dtype=np.float64, index=pd.DatetimeIndex([], tz="UTC")), {})
    )
    curves: Mapping[str, Fallen] = field(default_factory=dict)
    last_bar: object = None
    scenarios: Scenarios | None = None
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    correlation: Correlation = field(default_factory=Correlation)
    models: Mapping[str, ModelNow] = field(default_factory=dict)
    alerts: Mapping[str, AlertNow] = field(default_factory=dict)
    trading: TradingNow | None = None


@dataclass(frozen=True, slots=True)
class Now:
    """What was measured at an instant.

    `gains`: profit and loss of each position since the last close; `stand_ins`: what each position that is in no model
    may lose by a stand-in, VaR and ES, NaN for the others; `old`: unit -> what is wrong with its price; `missing`:
    what -> why; `since`: from when on the day's loss counts, where that is longer ago than a session.
    """

    held: Held
    book: BookWeights
    groups: Groups
    exposed: Exposed
    greeks: OptionGreeks
    shot: Snapshot | None
    stand_ins: tuple[Floats, Floats]
    stressed: pd.DataFrame | None
    curve: Fallen
    daily: Measured
    gains: Floats
    old: Mapping[str, str]
    missing: dict[str, str]
    since: datetime | None = None


def state(now: Now, slow: Slow, findings: Sequence[Finding], settings: RiskSettings) -> RiskState:
    """Everything that the pages show."""
    held, stress = _positions(now), _stress(now, slow, fields.Lines(findings))
    kpi = _kpi(now, slow, fields.Lines(findings), settings)
    return RiskState(
        as_of=now.held.as_of,
        clock="live" if settings.clock == "now" else "replay",
        currency=settings.currency,
        missing=now.missing,
        kpi=kpi,
        backtest=_backtest(slow.night, kpi.var),
        positions=held,
        exposure=fields.exposure(now.exposed, _parts(now), _grouped(now, now.gains)),
        greeks=options.by_expiry(now.greeks),
        stress=stress,
        limits=fields.limits(findings, slow.alerts, now.missing.get("age", "")),
        history=_history(now, slow),
        correlation=slow.correlation,
        models=slow.models,
        alerts={key: fields.led(key, alert, held, stress) for key, alert in slow.alerts.items()},
    )


def rows(held: Held) -> list[str]:
    """Keys of the positions, the largest first."""
    order = held.value.abs().sort_values(ascending=False).index
    names = held.frame.loc[order, ["strategy", "book", "unit"]]
    return [fields.row_key(*row) for row in names.itertuples(index=False)]


def _kpi(now: Now, slow: Slow, lines: fields.Lines, settings: RiskSettings) -> Kpi:
    held, exposed, curve = now.held, now.exposed, now.curve
    model = slow.night.fitted.model if slow.night else ""
    due, step = fields.until(slow.night.bars if slow.night else pd.DatetimeIndex([]), settings.horizon_bars, held.as_of)
    odds = f"worse one {step} in {1 / (1 - settings.confidence):.0f}"
    about: dict[str, Any] = {
        "confidence": settings.confidence,
        "horizon_bars": settings.horizon_bars,
        "model": model,
        "until": due,
        "odds": odds,
        "modelled": slow.night is not None,
        "why": (why := now.missing.get("var", "")),
        "old": (old := now.missing.get("age", "")),
    }
    (var, var_by), (es, es_by) = _loss(now, "var"), _loss(now, "es")
    opened = held.equity / (1 - now.daily.value) if now.daily.value < 1 else math.nan
    past = list(slow.night.var) if slow.night else []
    return Kpi(
        equity=fields.known(held.equity),
        pnl_today=fields.known(-now.daily.value),
        pnl_today_money=fields.known(held.equity - opened),
        pnl_since=now.since,
        var=lines.loss("var", var, held.equity, by_stand_ins=var_by, **about),
        es=lines.loss("es", es, held.equity, by_stand_ins=es_by, **about),
        gross=lines.use("gross", exposed.gross),
        net=lines.use("net", exposed.net),
        leverage=lines.use("leverage", exposed.leverage),
        drawdown=lines.drawdown(curve.current, curve.worst, curve.peak_at, curve.trough_at),
        normal=fields.normal(var, past, lines.level("var", var), lines.state("var"), why, old),
        trading=slow.trading,
    )


def _backtest(night: Night | None, var: Loss) -> Backtest:
    """Backtest of the model that is shown; one of whose tests none gave an answer is not known to be right.

    Neither is a VaR of now that is not known, or stands on what is old; what failed has failed all the same.
    """
    backtest = Backtest(**night.body["backtest"]) if night else Backtest()
    tested = backtest.p if isinstance(backtest.p, Mapping) else asdict(backtest.p)
    if all(value is None for value in tested.values()):
        return replace(backtest, level=Level.UNKNOWN)
    if backtest.level is Level.ALERT or (var.value is not None and not var.old):
        return backtest
    doubt = "is not known" if var.value is None else "stands on what is old"
    note = f"the VaR of now {doubt}; this is of the night of the risk job: {backtest.note}"
    return replace(backtest, level=Level.UNKNOWN, note=note)


def _loss(now: Now, measure: Literal["var", "es"]) -> tuple[float, float]:
    """VaR or ES, and where positions are in neither, NaN and the loss with stand-ins for them.

    Neither where what is in another currency has a part in equity that nobody knows.
    """
    known = math.nan if now.shot is None else float(getattr(now.shot.loss, measure))
    if not now.book.outside:
        return (math.nan if now.held.abroad else known), math.nan
    if now.held.abroad:
        return math.nan, math.nan
    inside = 0.0 if not now.book.inside.any() else known
    return math.nan, inside + float(np.nansum(now.stand_ins[measure == "es"]))


def _stress(now: Now, slow: Slow, lines: fields.Lines) -> dict[str, StressOf]:
    """A row a scenario, the worst first; the worst named one has the level of the line on stress."""
    if now.stressed is None:
        return {}
    table, by_name, worst = now.stressed.sort_values("loss", ascending=False), {}, True
    for row in table.to_dict("records"):
        about = slow.about.get(str(row["scenario"]), {})
        loss, level = fields.known(row["loss"]), Level.OK
        if worst and about.get("named", True):
            worst, level = False, lines.level("stress", row["loss"])
        by_name[str(row["scenario"])] = StressOf(
            str(row["scenario"]),
            loss,
            fields.known(row["money"]),
            str(row["worst_unit"]),
            fields.known(row["proxied"]),
            str(about.get("source", "")),
            str(about.get("dates", "")),
            Level.UNKNOWN if loss is None else level,
        )
    return by_name


def _positions(now: Now) -> dict[str, PositionNow]:
    book, shot, frame = now.book, now.shot, now.book.frame
    nothing = np.full(len(book.value), math.nan)
    var, es = (book.spread(shot.component_var), book.spread(shot.component_es)) if shot else (nothing, nothing)
    quantity, volume = (frame[name].to_numpy(dtype=np.float64) for name in ("quantity", "daily_volume"))
    columns = {
        "value": book.value,
        "weight": book.shares,
        "pnl": book.value - frame["cost"].to_numpy(dtype=np.float64),
        "pnl_today": now.gains,
        "component_var": var,
        "component_es": es,
        "share_of_var": var / shot.loss.var if shot and shot.loss.var > 0 and not book.outside else nothing,
        "stand_in": now.stand_ins[0],
        "days_to_exit": days_to_exit(quantity, volume),
    }
    stale = [unit in now.old and unit not in now.held.jumps for unit in frame["unit"]]
    notes = {**now.old, **now.held.expired}
    return fields.positions(frame, columns, notes, now.held.jumps, stale=stale)


def _parts(now: Now) -> dict[str, dict[str, float]]:
    """Component VaR by each dimension; NaN where a position of the group is in no VaR."""
    if now.shot is None:
        return {}
    return _grouped(now, now.book.spread(now.shot.component_var))


def _grouped(now: Now, each: Floats) -> dict[str, dict[str, float]]:
    """Sums over positions by each dimension and name; NaN where one of the group is not known."""
    grouped = {}
    for dimension, names in now.groups.names.items():
        sums = np.bincount(now.groups.codes[dimension], each, minlength=len(names))
        grouped[dimension] = dict(zip(names, sums.tolist(), strict=True))
    return grouped


def _history(now: Now, slow: Slow) -> History:
    equity = slow.past.equity.tail(POINTS)
    under = 1 - equity / slow.past.equity.cummax().tail(POINTS)
    points = zip(pd.DatetimeIndex(equity.index), equity, under, strict=True)
    curve = {at.isoformat(): (float(value), fields.known(low)) for at, value, low in points}
    if slow.night is None:
        return History(curve)
    past = list(zip(slow.night.times, slow.night.stored_var, slow.night.loss, strict=True))[-POINTS:]
    return History(curve, {at: (float(v), float(x), bool(x > v)) for at, v, x in past})
