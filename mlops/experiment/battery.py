"""The field's tests beside each other: what each says of one metric of two arms, and whether to believe it here.

None of them decides. The verdict is the sequential paired test's (`mlops.experiment.compare`), which stays valid when
it is looked at every week; these are shown so that a reader finds the test that he knows, and sees what it is worth on
data like these.

What a test's 5 % really is follows from the error that it takes for granted. A test that believes its estimate to have
the standard error `assumed`, where the error over dependent bars is `true`, rejects under its null with a chance of
2 Phi(-z assumed / true).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from mlops.experiment.arm import Arm, Floats
from mlops.experiment.methods import CLUMPS, IN_TIME, METHODS, Method, Pair, pair_of
from mlops.experiment.metrics import Metric
from mlops.stats import ALPHA, Estimate, HypothesisTest, ewc_dof, holm

LEAST_BARS = 20  # under it a long-run error says nothing, and so nothing of what another test's 5 % is
NOISE = 0.05  # chance to call an assumption broken that holds
TOLERATED = 1.5  # a rate within this factor of the nominal one is called the nominal one
PEEKS = 20_000  # Brownian paths: the rate under peeking has a standard error of 0.3 points


@dataclass(frozen=True, slots=True)
class MetricTest:
    """One test of one metric of one challenger, for a reader; it decides nothing.

    `gain`: challenger over champion in the metric's unit, positive where the challenger is better (unknown for a test
    that has no such number). `size`: the effect free of the unit. `rate`: chance that the test, at `alpha`, calls equal
    arms different at one look at data like these; `rate_peeked`: at any of the looks taken so far. `holds`: whether
    `rate` is about the nominal one; None where too few bars say so. `p_adjusted`: Holm's over the challengers.
    """

    metric: str
    challenger: int
    method: str
    title: str
    test: HypothesisTest
    gain: Estimate
    size: Estimate
    p_adjusted: float
    assumes: str
    here: str
    holds: bool | None
    rate: float
    rate_peeked: float


def battery(
    metric: Metric,
    champion: Arm,
    challenger: Arm,
    *,
    rng: np.random.Generator,
    looks: Sequence[int] = (),
    alpha: float = ALPHA,
) -> tuple[MetricTest, ...]:
    """Every test of `METHODS` that fits the metric, on the bars that both arms have; empty where none does.

    Parameters
    ----------
    looks : sequence of int
        Bars at which the data were looked at so far: what a test at `alpha` that is repeated there would cost.
    """
    return _battery(metric, champion, challenger, rng, _maxima(looks, rng), alpha)


def batteries(
    metrics: Iterable[Metric],
    champion: Arm,
    challengers: Sequence[Arm],
    *,
    rng: np.random.Generator,
    looks: Sequence[int] = (),
    alpha: float = ALPHA,
) -> tuple[MetricTest, ...]:
    """`battery` of each metric and challenger; p-values of one test and metric are Holm-adjusted over challengers."""
    results: list[MetricTest] = []
    maxima = _maxima(looks, rng)
    for metric in metrics:
        rows = [_battery(metric, champion, arm, rng, maxima, alpha) for arm in challengers]
        for together in zip(*rows, strict=True):
            adjusted = holm([shown.test.p_value for shown in together]).tolist()
            results += [replace(shown, p_adjusted=p) for shown, p in zip(together, adjusted, strict=True)]
    return tuple(results)


def true_rate(assumed: float, true: float, *, alpha: float = ALPHA) -> float:
    """Chance of a false alarm of a two-sided normal test at `alpha` whose standard error is `assumed`, not `true`.

    Examples
    --------
    >>> round(true_rate(1.0, 3**0.5), 3)  # AR(0.5): a bar carries a third of an independent one
    0.258
    """
    from scipy.stats import norm

    return float(2 * norm.sf(norm.isf(alpha / 2) * assumed / true)) if true > 0 else nan


def peeking_rate(looks: Sequence[int], *, rng: np.random.Generator, alpha: float = ALPHA) -> float:
    """Chance that a two-sided test at `alpha`, repeated at the `looks` (row counts), ever rejects equal arms.

    By simulated Brownian motion. Armitage, McPherson and Rowe (1969), JRSS A 132: 0.05 becomes 0.142 at five equally
    spaced looks.
    """
    return _beyond(_maxima(looks, rng), alpha)


def _maxima(looks: Sequence[int], rng: np.random.Generator) -> Floats:
    """Largest standardised distance of each drawn Brownian path from 0 at the looks; empty without looks."""
    if not len(looks):
        return np.empty(0)
    steps = np.diff(np.asarray(looks, dtype=np.float64), prepend=0.0)
    paths = np.cumsum(rng.normal(size=(PEEKS, steps.size)) * np.sqrt(steps), axis=1) / np.sqrt(np.cumsum(steps))
    return np.asarray(np.abs(paths).max(axis=1))


def _beyond(maxima: Floats, alpha: float) -> float:
    from scipy.stats import norm

    return float((maxima > norm.isf(alpha / 2)).mean()) if maxima.size else nan


def _battery(
    metric: Metric, champion: Arm, challenger: Arm, rng: np.random.Generator, maxima: Floats, alpha: float
) -> tuple[MetricTest, ...]:
    if metric.series is None and metric.influence is None:
        return ()
    pair = pair_of(metric, champion, challenger)
    fit = [m for m in METHODS.values() if not (m.of_trials and metric.trials is None) and (pair.single or not m.single)]
    return tuple(_shown(metric, method, pair, challenger.version, rng, maxima, alpha) for method in fit)


def _shown(
    metric: Metric,
    method: Method,
    pair: Pair,
    challenger: int,
    rng: np.random.Generator,
    maxima: Floats,
    alpha: float,
) -> MetricTest:
    test = method.test(pair, rng, alpha)
    rate, holds, here = assumption(method, pair, alpha)
    return MetricTest(
        metric=metric.name,
        challenger=challenger,
        method=method.name,
        title=method.title,
        test=test,
        gain=method.gain(pair, test, alpha),
        size=method.size(pair, test, alpha),
        p_adjusted=test.p_value,
        assumes=method.assumes,
        here=here,
        holds=holds,
        rate=rate,
        rate_peeked=_beyond(maxima, rate) if rate > 0 else nan,  # each look rejects like a test at `rate`
    )


def assumption(method: Method, pair: Pair, alpha: float = ALPHA) -> tuple[float, bool | None, str]:
    """What the test's `alpha` is on these data, whether that is the nominal one, and a sentence that says so."""
    from scipy.stats import chi2

    bars = pair.x.size
    if bars < LEAST_BARS:
        return nan, None, f"{bars} bars do not say; {LEAST_BARS} are needed."
    if method.assumed is None or method.true is None:
        return alpha, True, "Made for bars that depend on each other: holds, for one look at a time fixed beforehand."
    assumed, true = method.assumed(pair), method.true(pair)
    if not true > 0 or not assumed > 0:
        return nan, None, "The arms do not differ enough to say."
    rate, inflation = true_rate(assumed, true, alpha=alpha), (true / assumed) ** 2
    # The long-run variance is about chi-squared with the degrees of freedom of EWC: within its noise it shows nothing.
    least, most = (float(chi2.ppf(end, ewc_dof(bars))) / ewc_dof(bars) for end in (NOISE / 2, 1 - NOISE / 2))
    holds = bool(least <= inflation <= most or alpha / TOLERATED <= rate <= alpha * TOLERATED)
    return rate, holds, _sentence(method, pair, inflation, rate, alpha, holds)


def _sentence(method: Method, pair: Pair, inflation: float, rate: float, alpha: float, holds: bool) -> str:
    nominal, real = f"{100 * alpha:g} %", "under 0.1 %" if rate < 0.001 else f"about {100 * rate:.2g} %"
    n, rows = (pair.hits_x.size, "predictions") if method.of_trials else (pair.x.size, "bars")
    if holds:
        return f"No sign that it fails: its {nominal} is {real}, as far as {pair.x.size:,} bars tell."
    if rate < alpha:
        why = f"{method.spoiler}. Its {nominal} is {real}"
        return f"Does not hold, to the safe side: {why}; it misses what pairing would see."
    why = CLUMPS if method.of_trials else IN_TIME
    worth = f"{n:,} {rows} carry as much as {max(n / inflation, 1):,.0f} independent ones"
    return f"Does not hold: {why}. {worth}, so its {nominal} is {real}."
