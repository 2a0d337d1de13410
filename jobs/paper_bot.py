"""The paper bot: a real bot's life on paper. Bars in; features, scores, targets, fills and matured outcomes out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pandas as pd
import structlog

from jobs.context import Context
from mlops.books.book import SCALE, Step
from mlops.experiment import Book, Fill, Terms
from mlops.learn import Strategy, features, labels
from mlops.risk.correlation.sizer import Sizer
from mlops.risk.correlation.sizing import SizingLimits
from mlops.settings import RiskSettings
from mlops.types import TradingState
from registry_hooks.bot.client import Bot, Scored

BOOK = "paper"  # the traded book's name in the ledger
log = structlog.get_logger()
WARM_UP = 2  # histories that a row of features needs: enough for any symbol that skips bars


class PaperBot:
    """One strategy on paper.

    Parameters
    ----------
    bars : frame with BAR_COLUMNS
        All of the replay. What lies before `start` warms the features up; labels are taken from it bar by bar, each at
        the moment at which it became known.
    """

    def __init__(self, context: Context, strategy: Strategy, bars: pd.DataFrame, start: datetime) -> None:
        self.context, self.strategy, self.model = context, strategy, strategy.name
        self.stream, self.book = features.Stream(strategy), Book.opened(context.settings.books.cash)
        self.terms = Terms(strategy.cost_bps / 1e4, context.settings.books.slippage_bps / 1e4)
        self.multipliers = context.ledger.instruments.multipliers()
        self._delay = timedelta(seconds=context.settings.train.bar_delay_s)
        self.bot = Bot(
            self.model,
            context.registry,
            features=lambda probe: features.last_row(strategy, probe),
            names=strategy.feature_names,
            poll_s=context.settings.service.poll_s,
            background=False,  # on simulated time: what a job reads at a bar is there when the bar is over
        )
        self.sizer = sizer(context.settings.risk)
        about = {"model": self.model, "book": BOOK, "event_time": start, "known_at": start}
        balance = pd.DataFrame([about | {"amount": self.context.settings.books.cash, "flow": 0.0}])
        self.context.ledger.balances.add(balance, source="paper")  # its account is what the setting says
        self._warm_up(bars, start)
        coming = labels.table(strategy, bars)
        coming = coming[coming["event_time"] >= start].assign(model=self.model)
        self._outcomes = coming.sort_values("known_at", kind="stable", ignore_index=True)

    def on_bar(self, bar: pd.DataFrame, at: datetime) -> int | None:
        """One closed bar of every symbol; the new champion's version where models were swapped before it."""
        swapped = self.bot.boundary(at)
        self._mature(at)
        bar = features.in_time(bar, self._delay)
        prices = dict(zip(bar["symbol"], bar["close"], strict=True))
        if self.sizer:
            self.sizer.update(prices)
        units, values = self.stream.update(bar)
        if units:
            # The earliest instant at which the label can be known; the outcome carries the true one.
            matures = at + timedelta(days=self.strategy.horizon)
            keys = [f"{unit}:{at:%Y-%m}" for unit in units]  # a unit keeps its arm for a month
            known = max(at, bar["known_at"].max().to_pydatetime())
            scored = self.bot.score(units, values, event_time=at, known_at=known, matures_at=matures, keys=keys)
            self._trade(scored, prices, at)
        return swapped

    def _mature(self, at: datetime) -> None:
        """Tell of the labels that have become known since the bar before."""
        known = int(self._outcomes["known_at"].searchsorted(pd.Timestamp(at), side="right"))
        if known:
            self.context.ledger.telemetry.add_outcomes(self._outcomes.iloc[:known])
            self._outcomes = self._outcomes.iloc[known:]

    def _warm_up(self, bars: pd.DataFrame, start: datetime) -> None:
        times = (
            bars.loc[bars["event_time"] < start, "event_time"].drop_duplicates().tail(WARM_UP * self.strategy.lookback)
        )
        past = features.in_time(bars[bars["event_time"].isin(times)], self._delay)
        for _, bar in past.groupby("event_time", sort=True):
            self.stream.update(bar)
            if self.sizer:
                self.sizer.update(dict(zip(bar["symbol"], bar["close"], strict=True)))

    def _trade(self, scored: Scored, prices: dict[str, float], at: datetime) -> None:
        weights = self.strategy.position(scored.probability) / len(scored.units)
        targets = {unit: float(weight) for unit, weight in zip(scored.units, weights, strict=True)}
        if self.sizer:
            sized = self.sizer.size(targets)
            targets = dict(zip(targets, sized.weights.tolist(), strict=True))
            log.debug(
                "sized", model=self.model, state=self.sizer.state.value, why=dict(zip(targets, sized.why, strict=True))
            )
        known = {unit: weight for unit, weight in targets.items() if unit in prices}
        step = self._allowed(self.book.rebalanced(at, prices, known, self.terms, self.multipliers), prices)
        fills = [fill.in_price() for fill in step.fills]
        self.book = self.book.after(replace(step, fills=fills))
        versions = dict(zip(scored.units, scored.version.tolist(), strict=True))
        if fills:
            self.context.ledger.telemetry.add_fills(pd.DataFrame([self._row(fill, versions, at) for fill in fills]))

    def _allowed(self, step: Step, prices: dict[str, float]) -> Step:
        """What the trading state lets through: REDUCING, open positions may only shrink; HALTED, no orders at all."""
        state = self.bot.trading
        if state is TradingState.ACTIVE:
            return step
        fills = self.book.shrinking(step.fills) if state is TradingState.REDUCING else ()
        return replace(self.book.taking(step.at, prices, fills), funding=step.funding)

    def _row(self, fill: Fill, versions: dict[str, int], at: datetime) -> dict[str, object]:
        return {
            "fill_id": f"{self.model}:{BOOK}:{fill.unit}:{at.isoformat()}",
            "model": self.model,
            "version": versions.get(fill.unit, self.bot.champion),
            "book": BOOK,
            "unit": fill.unit,
            "event_time": at,
            "quantity": fill.quantity / SCALE,
            "price": fill.price,
            "fee": fill.fee / SCALE,
        }


def sizer(risk: RiskSettings) -> Sizer | None:
    """What sizes a bot's targets; None where the setting `risk.sizing` is off."""
    if risk.sizing == "off":
        return None
    limits = SizingLimits(volatility_target=risk.volatility_target, max_weight=risk.max_weight)
    return Sizer(limits, window=risk.window_days, alarms_per_year=risk.alarms_per_year)
