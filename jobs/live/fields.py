"""Numbers as the page shows them: what is not known is None, never 0; what stands against a line has its level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from mlops.risk.correlation.comovement import Comovement
from mlops.risk.exposure import Exposure as Exposed
from mlops.risk.limits import State
from mlops.risk.measures import Floats
from mlops.risk.prices import Jump
from mlops.types import Finding, Kind, Level
from mlops.web.messages import (
    AlertNow,
    Correlation,
    Drawdown,
    Exposure,
    LimitNow,
    LimitState,
    Loss,
    Normal,
    Number,
    PositionNow,
    StressOf,
    Use,
)

DIMENSIONS = {"strategy": "strategy", "sector": "sector", "currency": "currency", "symbol": "underlying"}
USUAL = (0.05, 0.95)  # percentiles of the last year's VaR between which today's is a usual one
YEAR = 250
FRIDAY, DAILY = 4, (pd.Timedelta(hours=20), pd.Timedelta(hours=28))  # between the bars of a day and the next
LINES = {
    "ok": "within its limit",
    "warning": "near its limit",
    "soft": "over its soft limit",
    "hard": "over its hard limit",
    "unknown": "not known against its limit",
}


def age(seconds: float) -> str:
    """How old, in the largest unit that has two of it.

    >>> age(90), age(7300), age(86400 * 400)
    ('90 s', '2 h', '400 d')
    """
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def row_key(strategy: str, book: str, unit: str) -> str:
    """Key of a position's row; a slash in the book's name is written as %2F, so that no two positions share one."""
    return f"{strategy}/{book.replace('%', '%25').replace('/', '%2F')}/{unit}"


def known(value: float | None) -> Number:
    """The number, or None where it is none."""
    return None if value is None or not math.isfinite(value) else float(value) + 0.0  # never -0


def counted(finding: Finding) -> float:
    """Value held against a line: the measure, or its bound where something is missing; NaN where there is none."""
    if finding.params["beyond"]:
        return math.nan
    return finding.value if math.isfinite(finding.value) else float(finding.params["bound"])


def _stands(finding: Finding, alerts: Iterable[str]) -> LimitState | None:
    """The worst line that was crossed while the measure was known; None where it is known, or none was."""
    if State(finding.params["state"]) is not State.UNKNOWN:
        return None
    about = f"risk_limit:{finding.name}:{finding.subject}:"
    states = {key.removeprefix(about).partition(":")[0] for key in alerts if key.startswith(about)}
    return "hard" if "hard" in states else "soft" if "soft" in states else None


def limits(findings: Iterable[Finding], alerts: Iterable[str] = (), old: str = "") -> dict[str, LimitNow]:
    """Every line and what stands against it; `alerts`: keys of the open ones, which say what was crossed before.

    `old`: on what old parameters or prices VaR and ES stand.
    """
    alerts = list(alerts)
    return {
        f"{f.name}:{f.subject}": LimitNow(
            f.name,
            f.subject,
            known(counted(f)),
            f.params["warning"],
            f.params["soft"],
            f.limit,
            known(counted(f) / f.limit),
            State(f.params["state"]).value,
            stands=_stands(f, alerts),
            why=f.params["beyond"] or f.params["why"],
            owner=f.params["owner"],
            old=old if f.name in ("var", "es") else "",
        )
        for f in findings
    }


class Lines:
    """What stands against the lines of the whole book, by measure."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._of = {f.name: f for f in findings if f.subject == "all"}

    def level(self, measure: str, value: float | None) -> Level:
        """Level against the measure's limit; OK without a limit, UNKNOWN without a value."""
        if measure in self._of:
            return self._of[measure].level
        return Level.UNKNOWN if known(value) is None else Level.OK

    def state(self, measure: str) -> LimitState | None:
        """Which of its lines is crossed; None of a measure without any."""
        return State(self._of[measure].params["state"]).value if measure in self._of else None

    def limit(self, measure: str) -> Number:
        """The hard line; None where nobody drew one."""
        return self._of[measure].limit if measure in self._of else None

    def used(self, measure: str) -> Number:
        """Share of the hard line."""
        return known(counted(self._of[measure]) / self._of[measure].limit) if measure in self._of else None

    def use(self, measure: str, value: float | None) -> Use:
        return Use(
            known(value),
            limit=self.limit(measure),
            utilisation=self.used(measure),
            level=self.level(measure, value),
        )

    def loss(
        self, measure: str, value: float, equity: float, *, by_stand_ins: float, modelled: bool, **about: Any
    ) -> Loss:
        """A VaR or an ES; what is known by stand-ins is a bound, and an estimate while no model says anything."""
        bounds = known(by_stand_ins), known(by_stand_ins * equity)
        return Loss(
            known(value),
            known(value * equity),
            *(bounds if modelled else (None, None)),
            *((None, None) if modelled else bounds),
            limit=self.limit(measure),
            utilisation=self.used(measure),
            level=self.level(measure, value),
            **about,
        )

    def drawdown(self, now: float, worst: float, start: datetime | None, trough: datetime | None) -> Drawdown:
        held = self.use("drawdown", now)
        return Drawdown(held.value, known(worst), start, trough, held.limit, held.utilisation, held.level)


def positions(
    frame: pd.DataFrame,
    columns: Mapping[str, Sequence[float]],
    notes: Mapping[str, str],
    jumps: Mapping[str, Jump],
    *,
    stale: Sequence[bool],
) -> dict[str, PositionNow]:
    """Rows of a frame with POSITION_COLUMNS; `columns`: further fields of a row, NaN where they are not known."""
    positions = {}
    rows = zip(frame["strategy"], frame["book"], frame["unit"], frame["kind"], frame["quantity"], strict=True)
    prices = zip(frame["price"], frame["priced_at"], stale, strict=True)
    more = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for (strategy, book, unit, kind, quantity), (price, at, old), extra in zip(rows, prices, more, strict=True):
        positions[row_key(strategy, book, unit)] = PositionNow(
            unit,
            strategy,
            book,
            Kind(kind),
            float(quantity),
            known(price),
            None if pd.isna(at) else at.to_pydatetime(),
            unconfirmed=known(jumps[unit].value) if unit in jumps else None,
            unconfirmed_since=jumps[unit].since if unit in jumps else None,
            stale=bool(old),
            notional=False,
            note=notes.get(unit, ""),
            **{name: known(value) for name, value in extra.items()},
        )
    return positions


def led(key: str, alert: AlertNow, rows: Mapping[str, PositionNow], stress: Mapping[str, StressOf]) -> AlertNow:
    """An alert about a line leads to the position that adds most to what crossed it: the first question is which."""
    kind, _, rest = key.partition(":")
    measure, scope = (*rest.split(":"), "")[:2]
    own = {name: row for name, row in rows.items() if scope in ("all", row.strategy)}
    if alert.position or kind != "risk_limit" or not own:
        return alert
    worst = next((row.worst_unit for row in stress.values()), "")
    ranks: dict[str, Callable[[PositionNow], float]] = {
        "var": lambda row: row.component_var or 0.0,
        "es": lambda row: row.component_es or 0.0,
        "stress": lambda row: abs(row.value or 0.0) * (row.unit == worst),
        "drawdown": lambda row: -(row.pnl or 0.0),
        "daily_loss": lambda row: -(row.pnl or 0.0),
    }
    rank = ranks.get(measure, _size)
    return replace(alert, position=max(own, key=lambda name: rank(own[name])))


def _size(row: PositionNow) -> float:
    return abs(row.value or 0.0)


def exposure(
    exposed: Exposed, parts: Mapping[str, Mapping[str, float]], gains: Mapping[str, Mapping[str, float]]
) -> dict[Any, dict[str, Exposure]]:
    """Exposure by dimension, shares of equity; `parts`: component VaR, `gains`: money since the close, by name."""
    over = exposed.equity if exposed.equity > 0 else math.nan
    by: dict[Any, dict[str, Exposure]] = {}
    for dimension, name in DIMENSIONS.items():
        side = exposed.by[dimension]
        rows = zip(exposed.names[dimension], side.long / over, -side.short / over, strict=True)
        by[name] = {
            group: Exposure(
                known(up),
                known(down),
                known(up + down),
                known(up - down),
                known(parts.get(dimension, {}).get(group)),
                known(gains.get(dimension, {}).get(group)),
            )
            for group, up, down in rows
        }
    return by


def normal(
    var: float | None,
    past: Sequence[float],
    level: Level,
    line: LimitState | None = None,
    why: str = "",
    old: str = "",
) -> Normal:
    """Is today's risk usual: its place among the VaRs that the same holdings had in the last year.

    `level` is of the line on VaR, whose state `line` says. `why` the VaR is not known, where it is not: then nothing is
    said to be usual, or low; neither of one that stands on what is `old`.
    """
    year = np.asarray(past[-YEAR:], dtype=np.float64)
    stands = LINES.get(line or "", "")
    if known(var) is None or var is None or old:
        instead = "Not known while the VaR is not." if why else "Not known: what is missing is listed below."
        unknown = f"Not known to be usual. {old}" if old and known(var) is not None else instead
        return Normal(unknown, level=level, line=stands)
    if len(year) < YEAR // 5:
        short = f"Size: not known to be usual, {len(year)} of {YEAR // 5} bars of history."
        return Normal(short, n=len(year), line=stands)
    place = float((year <= var).mean())
    how = "usual" if USUAL[0] <= place <= USUAL[1] else "unusually large" if place > USUAL[1] else "unusually small"
    words = f"Size: {how}, larger than on {100 * place:.0f} % of the last {len(year)} bars."
    return Normal(words, place, len(year), Level.OK if how == "usual" else Level.WARN, stands)


def until(ends: pd.DatetimeIndex, horizon: int, as_of: datetime) -> tuple[str, str]:
    """Time by which a loss may come, and what one time of it is: `by tomorrow's close`, `day`.

    Parameters
    ----------
    ends : DatetimeIndex
        Ends of the bars that the VaR was estimated from.

    Examples
    --------
    >>> friday = datetime(2026, 1, 2, 22)
    >>> days = pd.bdate_range("2025-12-01 21:00", "2026-01-02 21:00")
    >>> until(days, 1, friday), until(days, 5, friday)
    (("by Monday's close", 'day'), ('within 5 days', 'day'))
    """
    bars = ends[-YEAR:]
    every = bars.to_series().diff().median()
    if pd.isna(every) or not DAILY[0] <= every <= DAILY[1]:
        return ("within the next bar" if horizon == 1 else f"within {horizon} bars"), "bar"
    if horizon > 1:
        return f"within {horizon} days", "day"
    due = pd.Timestamp(as_of) + pd.Timedelta(days=1 if bars[-1].date() >= as_of.date() else 0)
    while due.weekday() > FRIDAY and not (bars.weekday > FRIDAY).any():
        due += pd.Timedelta(days=1)
    ahead = (due.date() - as_of.date()).days
    day = ("today", "tomorrow")[ahead] if ahead < 2 else f"{due:%A}"
    return f"by {day}'s close", "day"


def correlation(source: Comovement, units: Sequence[str], cover: str = "") -> Correlation:
    """Correlation of `units` (columns of the returns), like beside like; rounded to what a person reads."""
    stands = source.breakdown
    note = " ".join(part for part in (stands.note, cover) if part)
    return Correlation(
        tuple(units[i] for i in source.order),
        _rounded(source.matrix),
        _rounded(source.change),
        state=stands.state.value,
        level=stands.finding.level,
        mean=known(source.mean),
        effective_bets=known(source.bets),
        diversification_ratio=known(source.diversification_ratio),
        note=note,
    )


def _rounded(matrix: Floats) -> tuple[tuple[Number, ...], ...]:
    return tuple(tuple(known(round(value, 2)) for value in row) for row in matrix.tolist())
