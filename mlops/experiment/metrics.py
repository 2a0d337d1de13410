"""Metrics of an arm, declared once: unit, direction, what each needs, its value, what each bar adds to it.

Bars, not rows, are what counts: units of one bar move together, so a mean is the mean of the bars' means, and its
interval comes from a long-run error over bars (`mlops.stats.dependent_t`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import nan, sqrt
from typing import Literal

import numpy as np
import pandas as pd

from mlops.experiment.arm import BOOK, Arm, Floats
from mlops.stats import (
    ALPHA,
    Estimate,
    auc,
    dependent_t,
    hits,
    log_losses,
    max_drawdown,
    sharpe_influence,
    sharpe_ratio,
)

Better = Literal["higher", "lower"]
BASIS_POINTS = 1e4
BARS_PER_YEAR = 252
ROOT_YEAR = sqrt(BARS_PER_YEAR)
SLOW = 0.99  # a bot waits for the slow answers, not for the mean
LEAST_FOR_RATIO = 20  # bars: under it a ratio of mean to spread is noise that looks like news


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of `METRICS`.

    `needs`: columns without which it is absent. `value` of an arm. `series`: where the value is a mean over bars, the
    bars' own values, so that arms can be tested in pairs. `influence`: where it is a smooth function of means, what
    each bar moves it by, with mean 0: good for a long-run error, not for a test that looks at single bars. `trials`:
    where it is a share of successes, the 0 or 1 of each row. `least`: bars under which it is not said.
    """

    name: str
    title: str
    unit: str
    better: Better
    needs: tuple[str, ...]
    meaning: str
    value: Callable[[Arm], float]
    series: Callable[[Arm], pd.Series] | None = None
    influence: Callable[[Arm], pd.Series] | None = None
    trials: Callable[[Arm], Floats] | None = None
    least: int = 1

    @property
    def sign(self) -> int:
        """+1 where higher is better, else -1: times a difference it is a gain."""
        return 1 if self.better == "higher" else -1

    def per_bar(self, arm: Arm) -> pd.Series | None:
        """One value a bar whose mean is the metric's value: its series, or its value plus its influence.

        None where it has neither; empty where the bars are too few for it.
        """
        if self.series is not None:
            return self.series(arm)
        if self.influence is None:
            return None
        value = self.value(arm) if arm.has("equity") and arm["equity"].size > self.least else nan
        return pd.Series(dtype=np.float64) if np.isnan(value) else value + self.influence(arm)


@dataclass(frozen=True, slots=True)
class MetricTable:
    """Arms by metrics. `values[version][metric]`; what is in `absent` has no value, and the text says why."""

    values: Mapping[int, Mapping[str, Estimate]]
    absent: Mapping[str, str]


def _hits(arm: Arm) -> Floats:
    return hits(arm["probability"], arm["label"])


def _accuracy(arm: Arm) -> pd.Series:
    return arm.a_bar(_hits(arm))


def _log_loss(arm: Arm) -> pd.Series:
    return arm.a_bar(log_losses(arm["probability"], arm["label"]))


def _brier(arm: Arm) -> pd.Series:
    return arm.a_bar((arm["probability"] - arm["label"]) ** 2)


def _return_per_trade(arm: Arm) -> float:
    """Mean return of one unit of money held over one bar."""
    held = float(arm["exposure"][1:].sum())
    return BASIS_POINTS * float(arm.returns().sum()) / held if held > 0 else nan


def _return_influence(arm: Arm) -> pd.Series:
    exposure, returns = arm["exposure"][1:], arm.returns()
    ratio = float(returns.sum()) / float(exposure.sum())
    return BASIS_POINTS * (returns - ratio * exposure) / float(exposure.mean())


def _sharpe(arm: Arm) -> float:
    return ROOT_YEAR * float(sharpe_ratio(arm.returns().to_numpy()))


def _sharpe_influence(arm: Arm) -> pd.Series:
    returns = arm.returns()
    return pd.Series(ROOT_YEAR * sharpe_influence(returns.to_numpy()), index=returns.index)


def _drawdown(arm: Arm) -> float:
    return float(max_drawdown(arm.returns().to_numpy())) if arm["equity"].size else nan


def _turnover(arm: Arm) -> pd.Series:
    index = arm.book.index if arm.book is not None else arm.times
    return pd.Series(BARS_PER_YEAR * arm["traded"] / arm["equity"], index=index, dtype=np.float64)


def _latency(arm: Arm) -> float:
    return 1e3 * float(np.quantile(arm["scoring_s"], SLOW)) if arm["scoring_s"].size else nan


def _mean(series: Callable[[Arm], pd.Series]) -> Callable[[Arm], float]:
    return lambda arm: float(series(arm).mean())


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "accuracy",
            "Accuracy",
            "share",
            "higher",
            ("probability", "label"),
            "Share of predictions whose likelier class came true. A coin has 0.5 where both classes are as frequent.",
            _mean(_accuracy),
            series=_accuracy,
            trials=_hits,
        ),
        Metric(
            "log_loss",
            "Log-loss",
            "nats",
            "lower",
            ("probability", "label"),
            "What a prediction costs: minus the logarithm of the probability that it gave to what came true. It "
            "punishes being sure and wrong. 0.693 is a coin.",
            _mean(_log_loss),
            series=_log_loss,
        ),
        Metric(
            "brier",
            "Brier score",
            "squared error",
            "lower",
            ("probability", "label"),
            "Mean squared distance between the probability and what came true. 0.25 is a coin.",
            _mean(_brier),
            series=_brier,
        ),
        Metric(
            "auc",
            "AUC",
            "share",
            "higher",
            ("probability", "label"),
            "Chance that a case that came true was given a higher probability than one that did not. 0.5 is no order.",
            lambda arm: auc(arm["probability"], arm["label"]),
        ),
        Metric(
            "return_per_trade",
            "Return per trade",
            "basis points",
            "higher",
            ("equity", "exposure"),
            "Net return of one unit of money held in a position over one bar, costs paid. 1 basis point is 0.01 %.",
            _return_per_trade,
            influence=_return_influence,
            least=LEAST_FOR_RATIO,
        ),
        Metric(
            "sharpe",
            "Sharpe ratio",
            "a year",
            "higher",
            ("equity",),
            "Mean net return over its standard deviation, a year. What was earned for how much up and down.",
            _sharpe,
            influence=_sharpe_influence,
            least=LEAST_FOR_RATIO,
        ),
        Metric(
            "drawdown",
            "Deepest drawdown",
            "share of the peak",
            "lower",
            ("equity",),
            "How far the book fell from its highest point so far, at worst.",
            _drawdown,
        ),
        Metric(
            "turnover",
            "Turnover",
            "times equity a year",
            "lower",
            ("equity", "traded"),
            "Value traded in a year, in multiples of the equity. Every trade costs.",
            _mean(_turnover),
            series=_turnover,
        ),
        Metric(
            "latency",
            "Latency (99th percentile)",
            "milliseconds",
            "lower",
            ("scoring_s",),
            "Time that one in a hundred scorings exceeds. Only measured where the bot reports its scoring seconds.",
            _latency,
        ),
    )
}


def needs(metrics: Iterable[Metric] = METRICS.values()) -> frozenset[str]:
    """Every column that any of the metrics reads: read these once.

    Examples
    --------
    >>> sorted(needs([METRICS["sharpe"], METRICS["turnover"]]))
    ['equity', 'traded']
    """
    return frozenset(column for metric in metrics for column in metric.needs)


def measure(arms: Mapping[int, Arm], metrics: Mapping[str, Metric] = METRICS, *, alpha: float = ALPHA) -> MetricTable:
    """Every metric of every arm, with its interval at `1 - alpha`.

    The interval is EWC's over bars (for ratios: of their influence), so it holds for bars that depend on each other; a
    metric that is neither a mean nor a smooth function of means (AUC, drawdown, latency) has none, and its note says
    so. A metric is absent where an arm lacks a column, and `absent` names it.
    """
    absent = {name: why for name, metric in metrics.items() if (why := _missing(metric, arms))}
    present = {name: metric for name, metric in metrics.items() if name not in absent}
    values = {
        version: {name: _estimate(metric, arm, alpha) for name, metric in present.items()}
        for version, arm in arms.items()
    }
    return MetricTable(values, absent)


def _missing(metric: Metric, arms: Mapping[int, Arm]) -> str:
    """Why a metric cannot be had of these arms; empty where it can."""
    for version, arm in arms.items():
        if lacking := [column for column in metric.needs if not arm.has(column)]:
            return f"v{version} has no {' and no '.join(lacking)}"
    return ""


def _estimate(metric: Metric, arm: Arm, alpha: float) -> Estimate:
    bars = len(arm.times) if arm.book is None or metric.needs[0] not in BOOK else len(arm.book)
    if bars < metric.least:
        return Estimate(metric.name, nan, nan, nan, bars, f"{bars} bars, {metric.least} needed")
    value = metric.value(arm)
    if np.isnan(value):
        return Estimate(metric.name, nan, nan, nan, bars, "not defined on these rows")
    per_bar = metric.per_bar(arm)
    if per_bar is None:
        return Estimate(metric.name, value, nan, nan, bars, "no interval: not a mean over bars")
    mean = dependent_t(per_bar.to_numpy(), alpha=alpha).effect
    return Estimate(metric.name, value, mean.low, mean.high, bars, mean.note)
