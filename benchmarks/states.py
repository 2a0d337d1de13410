"""Risk states for tests of the feed and its pages, and for timings, computed from the packaged bars of twenty stocks.

Three books over those stocks, and two options; VaR is filtered historical simulation, its history out of sample. They
are no product and in no document: what the pages show of a set-up comes from the loop in `jobs/`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mlops.io import bar_feed
from mlops.risk import measures
from mlops.risk.measures import Losses
from mlops.risk.var.backtest import judge_losses
from mlops.types import Kind, Level, Priority
from mlops.web.messages import (
    AlertNow,
    Alternative,
    Backtest,
    Correlation,
    Drawdown,
    Exposure,
    GreeksOf,
    History,
    Kpi,
    LimitNow,
    Loss,
    ModelNow,
    Normal,
    PositionNow,
    PValues,
    Reason,
    RiskState,
    StressOf,
    TradingNow,
    Use,
)  # fmt: skip

Floats = NDArray[np.float64]
EQUITY, LAST, SHOWN, WINDOW, BARS, LEVEL = 1_000_000.0, "2022-12-28", 250, 60, 2_000, 0.99
SECTORS = {
    "technology": ("AAPL", "AMD", "MSFT"), "finance": ("BAC", "JPM"), "energy": ("CVX", "RRC", "XOM"),
    "health": ("JNJ", "LLY", "MRK", "PFE", "UNH"), "staples": ("KO", "PEP", "PG", "WMT"),
    "cyclical": ("BBY", "GE", "HD"),
}  # fmt: skip
SCENARIOS = (
    ("Worst 20 days of 2008", "2008-09-15", "2008-11-20", 20),
    ("Pandemic 2020", "2020-02-19", "2020-03-23", 20),
    ("Debt ceiling 2011", "2011-07-22", "2011-08-19", 5),
    ("Flash day 2015-08-24", "2015-08-20", "2015-08-26", 1),
    ("Volatility spike 2018-02", "2018-02-01", "2018-02-09", 5),
    ("Dot-com fall 2000-02", "2000-03-24", "2002-10-09", 60),
    ("Rates 2022", "2022-01-03", "2022-10-12", 20),
)


class World:
    """The market until a day, the books that are held on it, and what the page shows of them."""

    def __init__(self, last: str = LAST) -> None:
        bars = bar_feed.load_bars(
            "sp500", end=datetime.fromisoformat(last).replace(tzinfo=UTC) + timedelta(days=1)
        ).frame
        close = bars.pivot_table(index="event_time", columns="symbol", values="close")
        self.units, self.times = [*close.columns], [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in close.index]
        self.close = close.to_numpy()
        self.returns: Floats = self.close[1:] / self.close[:-1] - 1
        self.sector = {unit: name for name, units in SECTORS.items() for unit in units}
        momentum = np.sign(self.close[-1] / self.close[-61] - 1)
        quiet = 1 / self.returns[-250:].std(axis=0)
        fallen = -(self.close[-1] / self.close[-6] - 1)
        fallen -= fallen.mean()
        self._said: dict[str, Losses] = {}
        self._backtest = Backtest()
        self.books = {
            "momentum": 0.55 * momentum / 20,
            "quiet": 0.60 * quiet / quiet.sum(),
            "reversal": 0.30 * fallen / np.abs(fallen).sum(),
        }

    def state(self, at: datetime | None = None, moved: float = 0.0) -> RiskState:
        """The state, as of `at` (the last bar without it) with all prices `moved` by a fraction since then."""
        now = at or datetime.fromisoformat(self.times[-1])
        weights: Floats = np.sum([*self.books.values()], axis=0)
        scenarios = self.returns[-BARS:]
        pnl = scenarios @ weights
        sigma = _ewma(pnl)
        residuals = pnl / sigma[:-1]
        if not self._said:  # what was is the same at each look
            self._said = _past(pnl, residuals, sigma)
            self._backtest = _backtest(pnl[-len(self._said["FHS-EWMA"].var) :], self._said)
        said = self._said
        past = said["FHS-EWMA"].var
        cut = -np.quantile(residuals, 1 - LEVEL)
        var, tail = float(cut * sigma[-1]), residuals <= -cut
        es = float(-residuals[tail].mean() * sigma[-1])
        sample = scenarios / sigma[:-1, None] * sigma[-1]
        near = np.argsort(sample @ weights)[: max(3, len(pnl) // 100)]
        parts = -sample[near].mean(axis=0)  # of ES; scaled below so that those of VaR add up to it
        parts_of = parts / float(parts @ weights)
        equity = EQUITY * np.cumprod(1 + pnl[-2 * SHOWN :])
        tested = -pnl[-len(past) :]
        hits = tested > past
        under = equity / np.maximum.accumulate(equity) - 1
        percentile = float((past[-SHOWN:] < var).mean())
        money = float(equity[-1]) * (1 + moved * float(weights.sum()))
        state = RiskState(
            as_of=now,
            clock="live" if at else "replay",
            currency="USD",
            missing={
                "greeks.AMD": "AMD's implied volatility is not quoted; its realised volatility of 60 days stands in, "
                "as of the last close."
            },
            kpi=_kpi(money, float(pnl[-1]) + moved, var, es, weights, under, percentile, self.times),
            backtest=self._backtest,
            positions=self._positions(now, money, moved, var, es, parts_of),
            exposure=self._exposure(var, parts_of),
            greeks=self._greeks(),
            stress=self._stress(weights, money),
            correlation=self._correlation(),
            history=History(
                {t: (float(e), float(-u)) for t, e, u in zip(self.times[-2 * SHOWN :], equity, under, strict=True)},
                {
                    t: (float(v), float(-p), bool(h))
                    for t, v, p, h in zip(self.times[-SHOWN:], past[-SHOWN:], pnl[-SHOWN:], hits[-SHOWN:], strict=True)
                },
            ),
            models=self._models(money, under),
        )
        return _judged(state)

    def _positions(
        self, at: datetime, money: float, moved: float, var: float, es: float, parts: Floats
    ) -> dict[str, PositionNow]:
        found = {}
        for strategy, weights in self.books.items():
            for i, unit in enumerate(self.units):
                price, share = float(self.close[-1, i]) * (1 + moved), float(weights[i] * parts[i])
                stale = unit == "RRC"
                value = EQUITY * float(weights[i]) * (1 + moved)
                found[f"{strategy}/live/{unit}"] = PositionNow(
                    unit, strategy, "live", Kind.SPOT, round(value / price), price=price,
                    priced_at=at - timedelta(minutes=47) if stale else at, stale=stale, value=value,
                    weight=value / money, pnl=value * float(self.close[-1, i] / self.close[-6, i] - 1),
                    pnl_today=value * (float(self.returns[-1, i]) + moved), component_var=var * share,
                    component_es=es * share, share_of_var=share, days_to_exit=abs(value) / (0.1 * price * 2e6),
                    note="no quote for 47 minutes" if stale else "",
                )  # fmt: skip
        return found

    def _exposure(self, var: float, parts: Floats) -> dict[str, dict[str, Exposure]]:
        rows = [
            (strategy, unit, float(weights[i]), float(weights[i] * parts[i]))
            for strategy, weights in self.books.items()
            for i, unit in enumerate(self.units)
        ]
        by = {
            "strategy": lambda row: row[0], "sector": lambda row: self.sector[row[1]],
            "currency": lambda row: "USD", "underlying": lambda row: row[1],
        }  # fmt: skip
        found: dict[str, dict[str, Exposure]] = {}
        for name, group in by.items():
            found[name] = {}
            for key in sorted({group(row) for row in rows}):
                w = np.array([row[2] for row in rows if group(row) == key])
                long, short = float(w[w > 0].sum()), float(w[w < 0].sum())
                share = sum(row[3] for row in rows if group(row) == key)
                mine = [row for row in rows if group(row) == key]
                today = sum(row[2] * float(self.returns[-1, self.units.index(row[1])]) for row in mine)
                found[name][key] = Exposure(
                    long, short, long + short, long - short, component_var=var * share, pnl_today=EQUITY * today
                )
        return found

    def _greeks(self) -> dict[str, GreeksOf]:
        expiry, found = datetime(2023, 2, 17, 21, tzinfo=UTC), {}
        for unit, contracts in (("AAPL", -20), ("AMD", 15)):
            i = self.units.index(unit)
            spot, vol = float(self.close[-1, i]), float(self.returns[-WINDOW:, i].std() * sqrt(252))
            t, strike, n = 51 / 365, round(spot), 100 * contracts
            d1 = (log(spot / strike) + vol * vol / 2 * t) / (vol * sqrt(t))
            d2, density = d1 - vol * sqrt(t), float(norm.pdf(d1))
            vega = spot * density * sqrt(t)
            charm = density * d2 / (2 * t)
            found[f"{unit}|{expiry:%Y-%m-%d}"] = GreeksOf(
                unit, expiry, n * float(norm.cdf(d1)), n * density / (spot * vol * sqrt(t)), n * vega / 100,
                -n * spot * density * vol / (2 * sqrt(t)) / 365, n * strike * t * float(norm.cdf(d2)) / 100,
                -n * density * d2 / vol / 100, n * vega * d1 * d2 / vol / 1e4, n * charm / 365,
            )  # fmt: skip
        return found

    def _stress(self, weights: Floats, money: float) -> dict[str, StressOf]:
        found, days = {}, [t[:10] for t in self.times[1:]]
        for name, first, last, length in SCENARIOS:
            rows = [i for i, day in enumerate(days) if first <= day <= last]
            paths = np.cumsum(np.log1p(self.returns[rows]), axis=0)
            moves = np.expm1(paths[length - 1 :] - np.vstack([np.zeros(len(self.units)), paths[:-length]]))
            worst = int(np.argmin(moves @ weights))
            loss, by_unit = float(-(moves[worst] @ weights)), moves[worst] * weights
            dates = f"{days[rows[worst]]} to {days[rows[worst + length - 1]]}"
            level = Level.ALERT if loss > 0.2 else Level.WARN if loss > 0.1 else Level.OK
            found[f"s{len(found)}"] = StressOf(
                name, loss, loss * money, self.units[int(np.argmin(by_unit))], 0.0, "packaged closes", dates, level,
            )  # fmt: skip
        return found

    def _correlation(self) -> Correlation:
        now, before = (np.corrcoef(r.T) for r in (self.returns[-WINDOW:], self.returns[-2 * WINDOW : -WINDOW]))
        mean = float(now[np.triu_indices(len(now), 1)].mean())
        change = now - before
        values = np.linalg.eigvalsh(now) / len(now)
        broken = float((np.abs(change[np.triu_indices(len(now), 1)]) > 0.5).mean())
        rows = [tuple(tuple(round(float(v), 2) for v in row) for row in of) for of in (now, change)]
        return Correlation(
            tuple(self.units), rows[0], rows[1], WINDOW, "as calm as most of the time", Level.OK, mean,
            exp(-float((values[values > 0] * np.log(values[values > 0])).sum())), None,
            f"{broken:.0%} of the pairs moved by more than 0.5; most such moves are volatility.",
        )  # fmt: skip

    def _models(self, money: float, under: Floats) -> dict[str, ModelNow]:
        at, found = datetime.fromisoformat(self.times[-1]), {}
        for i, (name, weights) in enumerate(self.books.items()):
            curve = money / 3 * np.cumprod(1 + self.returns[-SHOWN:] @ weights)
            found[name] = ModelNow(
                champion=3 + i, champion_since=at - timedelta(days=90 * (i + 1)), challenger=4 + i if i != 1 else None,
                verdict=("hold", "promote", "inconclusive")[i], verdict_at=at - timedelta(days=2 + i),
                because=("the challenger is no better", "better by 0.4 points of accuracy", "320 of 1,000 pairs")[i],
                equity=float(curve[-1]), pnl_today=float(self.returns[-1] @ weights),
                drawdown=float(1 - curve[-1] / curve.max()), trades_since=140 - 30 * i,
                level=(Level.OK, Level.ALERT, Level.UNKNOWN)[i], last_prediction=at, last_bar=at,
                last_outcome=at - timedelta(days=1), reasons=_reasons(i),
                curve=dict(zip(self.times[-SHOWN::5], map(float, curve[::5]), strict=True)),
            )  # fmt: skip
        return found


def _reasons(i: int) -> dict[str, Reason]:
    """A model that is in order, one that lost too much, and one that never predicted."""
    found = {
        name: Reason(Level.OK, "As it should be.") for name in ("alerts", "limits", "evidence", "predictions", "bars")
    }
    if i == 1:
        found["limits"] = Reason(Level.ALERT, "Broken: its book fell 27.0% from its peak in 300 bars as champion.")
    if i == 2:
        found["predictions"] = Reason(Level.UNKNOWN, "It never predicted: nothing has come since 2022-12-20 21:00 UTC.")
    return found


def crowd(n: int, seed: int = 0, models: int = 10) -> RiskState:
    """`n` positions of `models` models, for timings: every member is there, no figure means anything."""
    rng, at = np.random.default_rng(seed), datetime(2026, 1, 5, 15, tzinfo=UTC)
    values = rng.normal(0, 1, (n, 6))
    rows = {}
    for i in range(n):
        unit, strategy, share = f"U{i:04d}", f"model{i % models}", float(values[i, 3]) / n
        rows[f"{strategy}/live/{unit}"] = PositionNow(
            unit, strategy, "live", Kind.SPOT, float(1 + i), price=100 + float(values[i, 0]), priced_at=at,
            value=1e4 * float(values[i, 1]), weight=0.01 * float(values[i, 1]), pnl=100 * float(values[i, 2]),
            pnl_today=10 * float(values[i, 4]), component_var=0.02 * share, component_es=0.03 * share,
            share_of_var=share, days_to_exit=0.2,
        )  # fmt: skip
    books = {f"model{i}": ModelNow(champion=1, equity=1e5 * float(values[i, 0])) for i in range(models)}
    return RiskState(at, "live", "USD", positions=rows, models=books, kpi=Kpi(equity=1e6 + float(values[0, 5])))


def _ewma(pnl: Floats, decay: float = 0.94) -> Floats:
    """Volatility known before each bar, and the one for the next."""
    found = np.empty(len(pnl) + 1)
    found[0] = pnl[:WINDOW].std()
    for i, r in enumerate(pnl):
        found[i + 1] = sqrt(decay * found[i] ** 2 + (1 - decay) * r * r)
    return found


def _kpi(
    money: float, today: float, var: float, es: float, weights: Floats, under: Floats, percentile: float,
    times: list[str],
) -> Kpi:  # fmt: skip
    gross, net, trough = float(np.abs(weights).sum()), float(weights.sum()), int(np.argmin(under))
    start = max(i for i in range(trough + 1) if under[i] == 0)
    of = times[-len(under) :]
    worst = float(-under.min())
    usual = "usual" if 0.05 <= percentile <= 0.95 else "unusual"
    level = Level.WARN if percentile > 0.95 else Level.OK
    return Kpi(
        equity=money, pnl_today=today, pnl_today_money=today * money,
        var=_loss(var, money, 0.05),
        es=_loss(es, money, 0.07),
        gross=Use(value=gross, limit=3.0, utilisation=gross / 3, level=_level(gross / 3)),
        net=Use(net), leverage=Use(gross),
        drawdown=Drawdown(
            float(-under[-1]), worst, datetime.fromisoformat(of[start]), datetime.fromisoformat(of[trough]), 0.2,
            float(-under[-1]) / 0.2, _level(float(-under[-1]) / 0.2),
        ),
        normal=Normal(
            f"Size: {usual}, larger than on {100 * percentile:.0f} % of the last {SHOWN} days.",
            percentile, SHOWN, level, "over its soft limit",
        ),
        trading=TradingNow(
            "reducing", "stress loss over its hard limit", "limits", datetime(2022, 12, 27, 21, tzinfo=UTC)
        ),
    )  # fmt: skip


def _loss(value: float, money: float, limit: float) -> Loss:
    return Loss(
        value=value, money=value * money, confidence=LEVEL, model="FHS-EWMA", limit=limit, utilisation=value / limit,
        level=_level(value / limit), until="by tomorrow's close", odds="worse one day in 100",
    )  # fmt: skip


def _level(share: float) -> Level:
    return Level.ALERT if share >= 1 else Level.WARN if share >= 0.4 else Level.OK


def _past(pnl: Floats, residuals: Floats, sigma: Floats) -> dict[str, Losses]:
    """VaR and ES as they were said before each of the last bars: filtered, and the plain ones of the last 500."""
    days = range(len(pnl) // 2, len(pnl))
    samples = {
        "FHS-EWMA": [residuals[:i] * sigma[i] for i in days],
        "HS 500": [pnl[i - 500 : i] for i in days],
    }  # fmt: skip
    said = {name: [measures.var_es(sample, LEVEL) for sample in of] for name, of in samples.items()}
    return {name: Losses(np.array([x.var for x in of]), np.array([x.es for x in of])) for name, of in said.items()}


def _backtest(returns: Floats, past: dict[str, Losses]) -> Backtest:
    found = {name: judge_losses(returns, losses, LEVEL, model=name) for name, losses in past.items()}
    own, other = found["FHS-EWMA"], found["HS 500"]
    p = own.p_values
    return Backtest(
        own.model, own.n, own.exceedances, own.expected, own.recent, own.zone, own.level,  # type: ignore[arg-type]
        PValues(p["kupiec"], p["independence"], p["dynamic_quantile"], p["shortfall"]), 100 * own.quantile_loss, own.fz,
        {other.model: Alternative(100 * other.quantile_loss, other.fz, other.exceedances, other.level)}, own.note,
    )  # fmt: skip


def _judged(state: RiskState) -> RiskState:
    """Limits and alerts that fit the figures."""
    worst = max(state.stress.values(), key=lambda one: one.loss or 0)
    kpi = state.kpi
    rows = (
        ("stress", worst.loss, 0.10, 0.15, 0.20, "cro"), ("var", kpi.var.value, 0.02, 0.03, 0.05, "desk"),
        ("es", kpi.es.value, 0.03, 0.045, 0.07, "desk"), ("gross", kpi.gross.value, 1.5, 2.0, 3.0, "desk"),
        ("drawdown", kpi.drawdown.now, 0.08, 0.12, 0.2, "cro"),
    )  # fmt: skip
    limits = {}
    for measure, value, warning, soft, hard, owner in rows:
        v = value or 0.0
        step = "hard" if v >= hard else "soft" if v >= soft else "warning" if v >= warning else "ok"
        limits[f"{measure}:all"] = LimitNow(
            measure, "all", value, warning, soft, hard, utilisation=v / hard, state=step, owner=owner
        )  # type: ignore[arg-type]
    key, top = max(state.positions.items(), key=lambda one: one[1].share_of_var or 0)
    at = state.as_of
    alerts = {
        "limit:stress": AlertNow(
            Priority.CRITICAL, f"{worst.name}: the present book would lose {worst.loss:.1%}, over its hard limit", at,
            "", next(k for k, p in state.positions.items() if p.unit == worst.worst_unit),
        ),
        "price:RRC": AlertNow(
            Priority.HIGH, "RRC has no quote since 47 minutes; its last good price is used", at, "momentum",
            "momentum/live/RRC",
        ),
        "concentration": AlertNow(
            Priority.MEDIUM, f"{top.unit} carries {top.share_of_var:.0%} of VaR", at - timedelta(1), top.strategy, key
        ),
    }  # fmt: skip
    return replace(state, limits=limits, alerts=alerts)
