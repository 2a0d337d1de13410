"""What the feed says: one risk state; `mlops.web.envelopes` has the messages that carry it.

The state is a tree of objects keyed by an id, so that what changed since the last second is an RFC 7386 merge patch.
Lists stand only for short rows that change as a whole. A field that is not known is `None`, never 0, and `missing` says
why. In JSON it is then left out: absent and null are the same, because in a merge patch null means "take it away".

Losses (`var`, `es`, `loss`, `drawdown`) are positive and fractions of equity; what is money ends in `_money` or is an
amount by its nature (`equity`, `value`, `pnl`, `price`). Weights and exposures are signed fractions of equity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from mlops.types import Kind, Level, Priority

Number = float | None
Zone = Literal["green", "yellow", "red"]  # Basel's traffic light of 250 days: 0-4, 5-9, 10 exceedances or more
Trading = Literal["active", "reducing", "halted"]
LimitState = Literal["ok", "warning", "soft", "hard", "unknown"]


@dataclass(frozen=True, slots=True)
class TradingNow:
    """What the bot may do, who said so, why and since when."""

    state: Trading
    reason: str = ""
    actor: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A VaR or an ES. `value` is a fraction of equity, `utilisation` its share of the hard limit.

    `until` says by when it may be lost ("by tomorrow's close"), `odds` how rare a larger loss is ("worse one day in
    100").

    Where positions are in no model, `value` and `money` are absent and `why` names the positions; `bound` and
    `bound_money` are then the loss with a stand-in for each of them, which is what the limit is held against.
    `estimate` and `estimate_money`: the loss by stand-ins alone where there is no nightly model yet. No limit is held
    against it.
    `old`: on what old parameters or prices it stands.
    """

    value: Number = None
    money: Number = None
    bound: Number = None
    bound_money: Number = None
    estimate: Number = None
    estimate_money: Number = None
    why: str = ""
    confidence: float = 0.99
    horizon_bars: int = 1
    model: str = ""
    until: str = ""
    odds: str = ""
    limit: Number = None
    utilisation: Number = None
    level: Level = Level.UNKNOWN
    old: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """A measure, the hard limit it is held against, and the share of it that is used.

    `bound`: where `value` is absent, what it is at least; `why` says what is missing.
    """

    value: Number = None
    bound: Number = None
    why: str = ""
    limit: Number = None
    utilisation: Number = None
    level: Level = Level.UNKNOWN


@dataclass(frozen=True, slots=True)
class Drawdown:
    """How far equity, open trades counted, lies under its highest so far, and the deepest such fall."""

    now: Number = None
    worst: Number = None
    start: datetime | None = None
    trough: datetime | None = None
    limit: Number = None
    utilisation: Number = None
    level: Level = Level.UNKNOWN


@dataclass(frozen=True, slots=True)
class Normal:
    """Whether today's risk is usual: the percentile of today's VaR in its own last `n` bars, and one sentence.

    `level` is about how usual it is: WARN where it is unusually high or low. `line` says how it stands to its limit
    ("over its soft limit"), whose level `Kpi.var` has.
    """

    sentence: str = ""
    percentile: Number = None
    n: int = 0
    level: Level = Level.UNKNOWN
    line: str = ""


@dataclass(frozen=True, slots=True)
class Kpi:
    """The strip on top. `pnl_today` is a fraction of the equity that the day began with.

    `pnl_since`: the close since which it counts, where no newer one is known: then it is not of today, and no
    position's `pnl_today` is known.

    `notional`: the part of `equity` that nobody told the balance of (absent: every balance is known). All fractions of
    it are then "of a notional" amount, and money alone is true.
    """

    equity: Number = None
    notional: Number = None
    pnl_today: Number = None
    pnl_today_money: Number = None
    pnl_since: datetime | None = None
    var: Loss = Loss()
    es: Loss = Loss()
    gross: Use = Use()
    net: Use = Use()
    leverage: Use = Use()
    drawdown: Drawdown = Drawdown()
    normal: Normal = Normal()
    trading: TradingNow | None = None


@dataclass(frozen=True, slots=True)
class PValues:
    """P-values of the tests that the VaR model is right: small ones speak against it."""

    kupiec: Number = None
    christoffersen: Number = None
    dq: Number = None
    z2: Number = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another model on the same days: mean quantile loss (x 100) and FZ score; lower is better."""

    ql: Number = None
    fz: Number = None
    exceedances: int | None = None
    level: Level = Level.UNKNOWN


@dataclass(frozen=True, slots=True)
class Backtest:
    """How the VaR that is shown did, out of sample, on `n` days. `level` alert: it failed, and is shown red."""

    model: str = ""
    n: int = 0
    exceedances: int | None = None
    expected: Number = None
    exceedances_250: int | None = None
    zone: Zone | None = None
    level: Level = Level.UNKNOWN
    p: PValues = PValues()
    ql: Number = None
    fz: Number = None
    alternatives: Mapping[str, Alternative] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class PositionNow:
    """One position. `component_*`: its part of the book's VaR or ES; the parts add up to the whole.

    `price` is the last good one, of `priced_at`; `stale`: that was too long ago. `unconfirmed` is what has been quoted
    since `unconfirmed_since`, where that jumped away from `price` and nothing confirms it yet. `stand_in`: what a
    position without history adds to `Loss.bound`. `notional`: no balance of its book is known, so `weight` is absent.
    """

    unit: str
    strategy: str
    book: str
    kind: Kind
    quantity: float
    price: Number = None
    priced_at: datetime | None = None
    unconfirmed: Number = None
    unconfirmed_since: datetime | None = None
    stale: bool = False
    value: Number = None
    weight: Number = None
    pnl: Number = None
    pnl_today: Number = None
    component_var: Number = None
    component_es: Number = None
    share_of_var: Number = None
    stand_in: Number = None
    notional: bool = False
    days_to_exit: Number = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Signed sums of weights: `short` <= 0 <= `long`."""

    long: Number = None
    short: Number = None
    net: Number = None
    gross: Number = None
    component_var: Number = None
    pnl_today: Number = None


@dataclass(frozen=True, slots=True)
class GreeksOf:
    """Options on one underlying that expire together; money per the move that the name says."""

    underlying: str
    expiry: datetime | None
    delta_units: Number = None
    gamma_units_per_point: Number = None
    vega_per_vol_point: Number = None
    theta_per_day: Number = None
    rho_per_rate_point: Number = None
    vanna_per_vol_point: Number = None
    volga_per_vol_point: Number = None
    charm_per_day: Number = None


@dataclass(frozen=True, slots=True)
class StressOf:
    """What the present book would lose in a scenario. `proxied`: share of the book moved by a stand-in."""

    name: str
    loss: Number = None
    loss_money: Number = None
    worst_unit: str = ""
    proxied: Number = None
    source: str = ""
    dates: str = ""
    level: Level = Level.UNKNOWN


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pairwise correlations of the heaviest units, and their change against `window_days` ago. Rows follow `units`."""

    units: tuple[str, ...] = ()
    matrix: tuple[tuple[Number, ...], ...] = ()
    change: tuple[tuple[Number, ...], ...] = ()
    window_days: int = 60
    state: str = ""
    level: Level = Level.UNKNOWN
    mean: Number = None
    effective_bets: Number = None
    diversification_ratio: Number = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class LimitNow:
    """A measure against its three levels. `utilisation` is the share of the hard one.

    `why`: what is not in the measure. Then `value` is a bound, absent where there is none; `state` is the line that the
    bound crosses, or `unknown`; and `stands` is the worst line that was crossed while it was known and still counts.
    """

    measure: str
    scope: str
    value: Number
    warning: float
    soft: float
    hard: float
    utilisation: Number = None
    state: LimitState = "unknown"
    stands: LimitState | None = None
    why: str = ""
    owner: str = ""
    old: str = ""


@dataclass(frozen=True, slots=True)
class BalanceNow:
    """What the account behind a book is worth, by whoever told it last.

    `source`: `setting`, `api`, `bot`, `freqtrade`, or `virtual` for a book that trades on paper by nature. Absent
    `amount`: nobody told one, the book counts from a notional amount and no limit is held against it.
    `departs`: this balance less what the book's own trades make of the anchor, where that is too much; above 0 it is
    held aside.
    """

    amount: Number = None
    equity: Number = None
    at: datetime | None = None
    source: str = ""
    departs: Number = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class AlertNow:
    """An alert that is open. `position` is the key of the row in `positions` that it leads to, or empty."""

    priority: Priority
    title: str
    as_of: datetime
    model: str = ""
    position: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Series by the instant (ISO 8601, sorts as text): `equity` [equity, drawdown], `var` [VaR, loss, exceeded].

    `var` has each forecast as it was kept before its bars, and the loss over the same `Loss.horizon_bars`.
    """

    equity: Mapping[str, tuple[Number, Number]] = field(default_factory=dict)
    var: Mapping[str, tuple[Number, Number, bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reason:
    """What one kind of evidence says of a model, and how well it stands by that."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class ModelNow:
    """A model that trades: its champion, who challenges it, what was decided last, and its book.

    `notional`: no balance of its book is known.
    `level` is the worst of `reasons`: alerts, limits, evidence, predictions, bars. What is not known is never in order.
    """

    champion: int | None = None
    champion_since: datetime | None = None
    challenger: int | None = None
    stage: str = ""  # of the challenger: `shadow`, it trades nothing, or `ab`
    verdict: str = ""
    verdict_at: datetime | None = None
    because: str = ""
    equity: Number = None
    pnl_today: Number = None
    drawdown: Number = None
    trades_since: int | None = None
    notional: bool = False
    level: Level = Level.UNKNOWN
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    last_prediction: datetime | None = None
    last_outcome: datetime | None = None
    last_bar: datetime | None = None
    curve: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RiskState:
    """Everything that the pages show at one instant.

    Topics that nothing is known of stay empty. `missing` says why: one sentence, with how old the last good
    value is, by the name of a part (`var`, `greeks`, `kpi.normal`) or by a kind and whose (`price:AAPL`).
    """

    as_of: datetime
    clock: Literal["live", "replay"]
    currency: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    kpi: Kpi = Kpi()
    backtest: Backtest = Backtest()
    positions: Mapping[str, PositionNow] = field(default_factory=dict)
    exposure: Mapping[Literal["strategy", "sector", "currency", "underlying"], Mapping[str, Exposure]] = field(
        default_factory=dict
    )
    greeks: Mapping[str, GreeksOf] = field(default_factory=dict)
    stress: Mapping[str, StressOf] = field(default_factory=dict)
    correlation: Correlation = Correlation()
    limits: Mapping[str, LimitNow] = field(default_factory=dict)
    balances: Mapping[str, BalanceNow] = field(default_factory=dict)
    alerts: Mapping[str, AlertNow] = field(default_factory=dict)
    history: History = History()
    models: Mapping[str, ModelNow] = field(default_factory=dict)
