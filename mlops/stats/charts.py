"""Charts of labels that are right or wrong: Bernoulli CUSUM and p-chart, their alarm rates exact, not simulated.

One knob: false alarms a label. The CUSUM moves on whole numbers, so its mean run length solves a small banded system. A
baseline that was learned from labels is a distribution, not a number: the limit holds the *average* rate over it, and
`rate_low`, `rate_high` say what the rate of this one baseline may really be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import log
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_banded
from scipy.special import ndtr

from mlops.errors import DataError
from mlops.stats.dependent import Floats, finite_series

Direction = Literal["fall", "rise"]
DROP = 0.05  # points of accuracy to be quickest at; twice that fall is found within 5 % of its own optimum
FINENESS = 48  # largest denominator of the reference value: off by 1/4,600 at most, and a few hundred states
INTERVAL = 0.9  # probability that the stated interval of the rate holds it
NODES = 11  # of Gauss-Hermite over what the baseline may be
MIN_LABELS = 100  # under it a baseline's rate interval spans orders of magnitude
GROUP = 100  # labels of a p-chart's point
MOST_STATES = 100_000  # a limit beyond it is never reached
LOOK_AHEAD = 4096  # labels looked at before the next restart, at first

_Z, _WEIGHT = np.polynomial.hermite_e.hermegauss(NODES)
_WEIGHT = _WEIGHT / _WEIGHT.sum()


@dataclass(frozen=True, slots=True)
class LabelChart:
    """A calibrated Bernoulli CUSUM: `up` on what it looks for, else `down`, in whole steps; an alarm at `limit`.

    `rate` is the expected number of false alarms a label, averaged over what the baseline may be; with probability 90 %
    the rate of this baseline lies between `rate_low` and `rate_high`. A known baseline has all three equal.
    """

    direction: Direction
    accuracy: float
    labels: float
    up: int
    down: int
    limit: int
    rate: float
    rate_low: float
    rate_high: float


@dataclass(frozen=True, slots=True)
class GroupChart:
    """A p-chart: a group of `size` labels with `limit` misses or more is an alarm; `rate` is false alarms a label."""

    size: int
    limit: int
    rate: float


def run_length(accuracy: float, *, up: int, down: int, limit: int, direction: Direction = "fall") -> float:
    """Mean labels from a start at zero to the alarm, exactly, when each label is right with chance `accuracy`.

    Brook and Evans (1972), Biometrika 59: the chart is a Markov chain on 0 .. limit - 1, and (I - Q) a = 1.

    Examples
    --------
    >>> round(run_length(0.5, up=1, down=1, limit=2), 6)  # two misses in a row more than hits
    6.0
    """
    chance = 1 - accuracy if direction == "fall" else accuracy
    states, reach = np.arange(limit), (min(down, limit - 1), min(up, limit - 1))
    bands = np.zeros((sum(reach) + 1, limit))
    bands[reach[1]] = 1.0
    rises = states[: max(limit - up, 0)]
    if reach[1]:
        bands[reach[1] - up, rises + up] -= chance if up < limit else 0.0
    falls = np.maximum(states - down, 0)
    np.subtract.at(bands, (reach[1] + states - falls, falls), 1 - chance)
    mean = float(solve_banded(reach, bands, np.ones(limit), overwrite_ab=True, check_finite=False)[0])
    return mean if mean > 0 else float("inf")


def label_chart(
    accuracy: float,
    *,
    labels: float | None = None,
    drop: float = DROP,
    false_alarms: float,
    direction: Direction = "fall",
) -> LabelChart:
    """Bernoulli CUSUM for a change of accuracy from `accuracy` by `drop`, at `false_alarms` a label.

    Null: labels are independent, each right with the baseline's accuracy. Error rate: `false_alarms` a label of a chart
    that restarts after an alarm, by the exact Markov chain; with a learned baseline averaged over Jeffreys' posterior
    of its accuracy. Labels that overlap are not independent: thin them (`label_alarms(horizon=...)`), which keeps the
    rate whatever their dependence. Optimal for the one drop (Moustakides 1986) and within some percent near it.

    Parameters
    ----------
    accuracy : float
        Share of right labels while all was well.
    labels : float, optional
        Independent labels that this share was learned from (of labels that overlap `horizon` bars, a `horizon`-th), at
        least 100; None where it is known.
    drop : float
        Change to be quickest at, in points of accuracy, > 0.
    false_alarms : float
        A label: one a year is `1 / labels_per_year`.
    direction : {"fall", "rise"}
        Two-sided is one of each, at half of the rate.

    Raises
    ------
    DataError
        A share or rate is out of range, or the baseline is too short.

    References
    ----------
    Page (1954), Biometrika 41; Reynolds and Stoumbos (1999), Journal of Quality Technology 31; Moustakides (1986),
    Annals of Statistics 14; on learned baselines Jones, Champ and Rigdon (2004), Journal of Quality Technology 36.

    Examples
    --------
    >>> chart = label_chart(0.6, false_alarms=1e-4)
    >>> round(run_length(0.6, up=chart.up, down=chart.down, limit=chart.limit), -2)
    10000.0
    """
    _check(accuracy, labels, drop, false_alarms)
    after = accuracy - drop if direction == "fall" else accuracy + drop
    if not 0 < after < 1:
        raise DataError(f"drop must leave an accuracy inside (0, 1), got {after:.3f}. Ask for a smaller one.")
    up, down = _steps(accuracy, after)
    worlds, weights = _baselines(accuracy, labels)

    def rates(limit: int, at: Floats) -> Floats:
        lengths = [run_length(float(p), up=up, down=down, limit=limit, direction=direction) for p in at]
        return 1 / np.array(lengths)

    limit = _least_limit(lambda h: float(rates(h, worlds) @ weights), false_alarms, up + down)
    low, high = sorted(rates(limit, _bounds(accuracy, labels)).tolist())
    return LabelChart(
        direction,
        accuracy,
        float("inf") if labels is None else labels,
        up,
        down,
        limit,
        float(rates(limit, worlds) @ weights),
        low,
        high,
    )


def label_path(chart: LabelChart, right: ArrayLike) -> NDArray[np.int64]:
    """The chart along the last axis of `right` (True or 1: the label was right), from zero, without restarts.

    Examples
    --------
    >>> chart = LabelChart("fall", 0.6, 1e4, 11, 9, 40, 1e-4, 1e-4, 1e-4)
    >>> label_path(chart, [0, 1, 1, 0]).tolist()
    [11, 2, 0, 11]
    """
    sought = np.asarray(right, dtype=bool)
    if chart.direction == "fall":
        sought = ~sought
    total = np.where(sought, np.int64(chart.up), np.int64(-chart.down)).cumsum(axis=-1)
    return np.asarray(total - np.minimum(np.minimum.accumulate(total, axis=-1), 0))


def label_alarms(chart: LabelChart, right: ArrayLike, *, horizon: int = 1) -> list[int]:
    """Positions of the alarms in `right` (1: right, 0: wrong, in order of time) of charts that restart after each.

    Labels that overlap `horizon` bars are thinned: phase i is labels i, i + horizon, ..., each phase has a chart of its
    own, and any alarm counts. Within a phase labels are independent, and expectations add up whatever the dependence
    between phases: the rate a label stays that of `label_chart`. It costs delay, for each phase sees every
    `horizon`-th label.
    """
    hits = finite_series(right, "right").astype(bool)
    if horizon < 1:
        raise DataError(f"horizon must be at least 1, got {horizon}. Give the bars that a label spans.")
    return sorted(phase + horizon * at for phase in range(horizon) for at in _restarted(chart, hits[phase::horizon]))


def group_chart(accuracy: float, *, labels: float | None = None, size: int = GROUP, false_alarms: float) -> GroupChart:
    """p-chart (Shewhart): how many misses in a group of `size` labels are too many.

    Null and assumptions as `label_chart`; groups must not overlap. Error rate: at most `false_alarms` a label, by the
    binomial law, or by the beta-binomial where the baseline was learned. Sees a collapse within a group and a slow
    fall late: the CUSUM is for that.

    Examples
    --------
    >>> group_chart(0.6, size=100, false_alarms=1e-4).limit
    53
    """
    from scipy.stats import betabinom, binom

    _check(accuracy, labels, DROP, false_alarms)
    misses = np.arange(size + 2)
    if labels is None:
        tail = binom.sf(misses - 1, size, 1 - accuracy)
    else:
        tail = betabinom.sf(misses - 1, size, (1 - accuracy) * labels + 0.5, accuracy * labels + 0.5)
    limit = int(np.flatnonzero(tail <= min(size * false_alarms, 1.0))[0])
    return GroupChart(size, limit, float(tail[limit]) / size)


def _restarted(chart: LabelChart, hits: NDArray[np.bool_]) -> list[int]:
    alarms, start, span = [], 0, LOOK_AHEAD
    while start < hits.size:
        over = label_path(chart, hits[start : start + span]) >= chart.limit
        first = int(over.argmax())
        if over[first]:
            alarms.append(start + first)
            start, span = start + first + 1, LOOK_AHEAD
        elif start + span >= hits.size:
            break
        else:  # a path is cheap to begin anew, and a restart throws the rest of it away
            span *= 2
    return alarms


def _steps(before: float, after: float) -> tuple[int, int]:
    """Whole-number steps in the ratio of the log-likelihood ratios of the two labels."""
    towards, against = sorted((log(after / before), log((1 - after) / (1 - before))), reverse=True)
    share = Fraction(-against / (towards - against)).limit_denominator(FINENESS)
    share = min(max(share, Fraction(1, FINENESS)), Fraction(FINENESS - 1, FINENESS))
    return share.denominator - share.numerator, share.numerator


def _posterior(accuracy: float, labels: float) -> tuple[float, float]:
    return accuracy * labels + 0.5, (1 - accuracy) * labels + 0.5


def _baselines(accuracy: float, labels: float | None) -> tuple[Floats, Floats]:
    from scipy.stats import beta

    if labels is None:
        return np.array([accuracy]), np.ones(1)
    return np.asarray(beta.ppf(ndtr(_Z), *_posterior(accuracy, labels))), np.asarray(_WEIGHT)


def _bounds(accuracy: float, labels: float | None) -> Floats:
    from scipy.stats import beta

    if labels is None:
        return np.array([accuracy, accuracy])
    return np.asarray(beta.interval(INTERVAL, *_posterior(accuracy, labels)))


def _least_limit(rate: Callable[[int], float], wanted: float, first: int) -> int:
    low, high = 0, first
    while rate(high) > wanted:
        low, high = high, 2 * high
        if high > MOST_STATES:
            raise DataError(f"false_alarms must be reachable, got {wanted:.3g}. Allow more, or learn from more labels.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rate(middle) > wanted else (low, middle)
    return high


def _check(accuracy: float, labels: float | None, drop: float, false_alarms: float) -> None:
    if not 0 < accuracy < 1:
        raise DataError(f"accuracy must lie between 0 and 1, got {accuracy}. Give the share of right labels.")
    if labels is not None and labels < MIN_LABELS:
        raise DataError(f"baseline must have at least {MIN_LABELS} labels, got {labels:g}. Wait for more labels.")
    if drop <= 0 or not 0 < false_alarms < 1:
        got = (drop, false_alarms)
        raise DataError(f"drop and false_alarms must be positive, got {got}. One in 10,000 labels is 1e-4.")
