"""The tests that a reader may know, declared once: what each assumes, and which standard error it takes for granted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.experiment.arm import Arm, Floats
from mlops.experiment.metrics import Metric
from mlops.stats import (
    Estimate,
    HypothesisTest,
    bootstrap_test,
    by_bar,
    chi_square,
    dependent_t,
    ewc_error,
    hedges_g,
    mann_whitney,
    mcnemar,
    odds_ratio,
    paired_odds_ratio,
    paired_t,
    risk_difference,
    welch_t,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A metric of two arms on the bars and rows that both have, turned so that a higher value is better.

    `x` is the challenger, `y` the champion, a value a bar. `hits_x`, `hits_y` have 0 or 1 a row, `bar` the bar of each
    row; empty where the metric is no share. `single`: each bar has a value of its own, not only an influence on the
    whole.
    """

    x: Floats
    y: Floats
    hits_x: Floats
    hits_y: Floats
    bar: NDArray[np.intp]
    single: bool


@dataclass(frozen=True, slots=True)
class Method:
    """One test. `assumed` and `true`: standard error that it takes for granted, and that over dependent bars."""

    name: str
    title: str
    assumes: str
    spoiler: str  # what breaks it here
    of_trials: bool
    single: bool  # needs a value of its own from each bar
    test: Callable[[Pair, np.random.Generator, float], HypothesisTest]
    gain: Callable[[Pair, HypothesisTest, float], Estimate]
    size: Callable[[Pair, HypothesisTest, float], Estimate]
    assumed: Callable[[Pair], float] | None = None
    true: Callable[[Pair], float] | None = None


def _standardised(pair: Pair, test: HypothesisTest, alpha: float) -> Estimate:
    """Mean gain in standard deviations of a bar's gain, with the ends of the test's own interval."""
    spread = float((pair.x - pair.y).std(ddof=1)) if pair.x.size > 1 else 0.0
    if not test.known or spread == 0:
        return Estimate("standardised gain", nan, nan, nan, test.n, test.note or "the gain does not vary")
    e = test.effect
    return Estimate("standardised gain", e.value / spread, e.low / spread, e.high / spread, e.n)


def _table(pair: Pair) -> list[list[int]]:
    return [[int(hits.sum()), int(hits.size - hits.sum())] for hits in (pair.hits_x, pair.hits_y)]


def _shares(pair: Pair, test: HypothesisTest, alpha: float) -> Estimate:
    (hits_x, _), (hits_y, _) = _table(pair)
    return risk_difference(hits_x, pair.hits_x.size, hits_y, pair.hits_y.size, alpha=alpha)


def _only(pair: Pair) -> tuple[int, int]:
    return int((pair.hits_x > pair.hits_y).sum()), int((pair.hits_x < pair.hits_y).sum())


def _own(pair: Pair, test: HypothesisTest, alpha: float) -> Estimate:
    return test.effect


def _none(pair: Pair, test: HypothesisTest, alpha: float) -> Estimate:
    return Estimate("gain", nan, nan, nan, test.n, "a test of ranks: no gain in the metric's unit")


def _ranks(pair: Pair) -> tuple[Floats, Floats]:
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([pair.x, pair.y]))
    return ranks[: pair.x.size], ranks[pair.x.size :]


def _apart(x: Floats, y: Floats) -> float:
    """Standard error of a difference of means, for two samples that know nothing of each other."""
    return sqrt(float(x.var(ddof=1)) / x.size + float(y.var(ddof=1)) / y.size)


def _together(difference: Floats) -> float:
    return float(difference.std(ddof=1)) / sqrt(difference.size)


def _by_bar(pair: Pair) -> Floats:
    return by_bar(pair.bar, pair.hits_x - pair.hits_y)


SHARED = "the two arms are scored on the same bars"
IN_TIME = "bars depend on each other"
CLUMPS = "symbols of one bar, and bars that follow each other, are right and wrong together"
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "welch_t",
            "Welch t",
            "Two separate samples of independent bars; their variances may differ.",
            SHARED,
            False,
            True,
            lambda pair, rng, alpha: welch_t(pair.x, pair.y, alpha=alpha),
            _own,
            lambda pair, test, alpha: hedges_g(pair.x, pair.y, alpha=alpha),
            lambda pair: _apart(pair.x, pair.y),
            lambda pair: float(ewc_error(pair.x - pair.y)),
        ),
        Method(
            "paired_t",
            "Paired t",
            "The gains of the bars are independent of each other.",
            IN_TIME,
            False,
            True,
            lambda pair, rng, alpha: paired_t(pair.x, pair.y, alpha=alpha),
            _own,
            lambda pair, test, alpha: hedges_g(pair.x, pair.y, paired=True, alpha=alpha),
            lambda pair: _together(pair.x - pair.y),
            lambda pair: float(ewc_error(pair.x - pair.y)),
        ),
        Method(
            "mann_whitney",
            "Mann-Whitney",
            "Two separate samples of independent bars, of any law.",
            SHARED,
            False,
            True,
            lambda pair, rng, alpha: mann_whitney(pair.x, pair.y, alpha=alpha),
            _none,
            _own,
            lambda pair: _apart(*_ranks(pair)),
            lambda pair: float(ewc_error(np.subtract(*_ranks(pair)))),
        ),
        Method(
            "chi_square",
            "Chi-square",
            "Two separate samples of independent predictions.",
            SHARED,
            True,
            True,
            lambda pair, rng, alpha: chi_square(pair.hits_x, pair.hits_y, alpha=alpha),
            _shares,
            lambda pair, test, alpha: odds_ratio(_table(pair), alpha=alpha),
            lambda pair: _apart(pair.hits_x, pair.hits_y),
            lambda pair: float(ewc_error(_by_bar(pair))),
        ),
        Method(
            "mcnemar",
            "McNemar",
            "The predictions on which the arms differ are independent of each other.",
            CLUMPS,
            True,
            True,
            lambda pair, rng, alpha: mcnemar(pair.hits_x, pair.hits_y, alpha=alpha),
            _own,
            lambda pair, test, alpha: paired_odds_ratio(*_only(pair), alpha=alpha),
            lambda pair: _together(pair.hits_x - pair.hits_y),
            lambda pair: float(ewc_error(_by_bar(pair))),
        ),
        Method(
            "bootstrap",
            "Stationary block bootstrap",
            "The gains are stationary and their memory is short beside the sample.",
            "",
            False,
            False,
            lambda pair, rng, alpha: bootstrap_test(pair.x - pair.y, rng=rng, alpha=alpha),
            _own,
            _standardised,
        ),
        Method(
            "ewc",
            "HAC t (EWC)",
            "The gains are stationary and their memory is short beside the sample.",
            "",
            False,
            False,
            lambda pair, rng, alpha: dependent_t(pair.x, pair.y, alpha=alpha),
            _own,
            _standardised,
        ),
    )
}


def pair_of(metric: Metric, champion: Arm, challenger: Arm) -> Pair:
    """A metric of two arms on what both have."""
    empty = pd.Series(dtype=np.float64)
    series = [metric.per_bar(arm) for arm in (champion, challenger)]
    both = pd.concat([empty if values is None else values for values in series], axis=1, join="inner")
    x, y = (metric.sign * both.iloc[:, column].to_numpy(dtype=np.float64) for column in (1, 0))
    if metric.trials is None:
        return Pair(x, y, np.empty(0), np.empty(0), np.empty(0, dtype=np.intp), metric.series is not None)
    hits = [pd.Series(metric.trials(arm), index=arm.keys()) for arm in (challenger, champion)]
    rows = pd.concat(hits, axis=1, join="inner")
    bar, _ = pd.factorize(rows.index.get_level_values(0), sort=True)
    return Pair(x, y, rows.iloc[:, 0].to_numpy(), rows.iloc[:, 1].to_numpy(), bar, metric.series is not None)
