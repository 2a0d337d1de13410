"""Many models on the same bars: is any better than the benchmark, which are, and which may be the best of all?"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from arch.bootstrap import MCS, SPA
from numpy.typing import ArrayLike, NDArray

from mlops.errors import DataError
from mlops.stats.bootstrap import LEAST_BARS, block_length
from mlops.stats.dependent import Floats, ewc_error, finite_series
from mlops.stats.results import ALPHA, check_share

ROUNDING = 1e-13  # of the largest loss: differences under it are what subtraction leaves over
PATHS = 2000  # the p-value has a standard error of half a point at 5 %


@dataclass(frozen=True, slots=True)
class ConfidenceSet:
    """`included` columns may be the best at `1 - alpha`; `p_values` (one a column) say at which alpha each would leave.

    With too few bars every model is included, the p-values are NaN and `note` says so.
    """

    included: tuple[int, ...]
    excluded: tuple[int, ...]
    p_values: tuple[float, ...]
    n: int
    block: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Superiority:
    """`p_value` (Hansen's consistent one, between `p_lower` and `p_upper`) of "no model beats the benchmark".

    `gains`: mean loss of the benchmark minus that of each model. `superior`: the models proven better by the step-down
    form, with the chance of any false one at most `alpha`. NaN and empty with too few bars; `note` says so.
    """

    p_value: float
    p_lower: float
    p_upper: float
    gains: tuple[float, ...]
    superior: tuple[int, ...]
    n: int
    block: float
    note: str = ""


def model_confidence_set(
    losses: ArrayLike,
    *,
    rng: np.random.Generator,
    alpha: float = ALPHA,
    block: float | None = None,
    paths: int = PATHS,
) -> ConfidenceSet:
    """Models that the data cannot tell from the best: model confidence set, range statistic.

    Null, again and again: all models still in have one expected loss; while it is rejected the worst leaves. The set
    holds every truly best model with a chance of at least `1 - alpha`, asymptotically. A wide set says that the data
    are few, not that the models are equal. Assumes stationary loss differences of short memory; they may depend on
    each other in time and across models.

    Parameters
    ----------
    losses : array_like of shape (n, models)
        Loss a bar, lower is better, the same bars for all. NaN is refused. Under 20 bars: nothing is excluded.
    block : float, optional
        Mean length of the stationary bootstrap's blocks in bars; by default the longest automatic one of the losses'
        differences from their mean over models.

    Raises
    ------
    DataError
        `losses` is no finite table of two columns or more, or `alpha` is no share.

    References
    ----------
    Hansen, Lunde and Nason (2011), The model confidence set, Econometrica 79(2). Computed by `arch.bootstrap.MCS`.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.random.default_rng(0).normal(size=(300, 3)) + np.array([0.0, 0.0, 1.0])
    >>> model_confidence_set(losses, rng=np.random.default_rng(1), paths=200).included
    (0, 1)
    """
    table, level = _table(losses, "losses", least=2), check_share(alpha, "alpha")
    n, models = table.shape
    # Models with one and the same loss throughout are one model; the first stands for all (their ratio is 0 / 0).
    kinds, kind = np.unique(table, axis=1, return_inverse=True)
    if n < LEAST_BARS or kinds.shape[1] == 1:
        note = f"{n} bars, {LEAST_BARS} needed" if n < LEAST_BARS else "all models lose alike"
        return ConfidenceSet(tuple(range(models)), (), (nan,) * models, n, nan, note)
    length = block if block is not None else block_length(*(kinds - kinds.mean(axis=1, keepdims=True)).T)
    found = MCS(kinds, size=level, reps=paths, block_size=max(1, round(length)), seed=rng)
    with np.errstate(divide="ignore", invalid="ignore"):  # a loss that is another plus a constant: no variance, out
        found.compute()
    by_kind = found.pvalues["Pvalue"].sort_index().to_numpy()
    p = tuple(float(by_kind[k]) for k in kind.ravel())
    stay = set(found.included)
    included = tuple(i for i, k in enumerate(kind.ravel()) if int(k) in stay)
    return ConfidenceSet(included, tuple(i for i in range(models) if i not in included), p, n, float(length))


def superior_predictive_ability(
    benchmark: ArrayLike,
    losses: ArrayLike,
    *,
    rng: np.random.Generator,
    alpha: float = ALPHA,
    block: float | None = None,
    paths: int = PATHS,
) -> Superiority:
    """Does any of many challengers beat the benchmark? Hansen's SPA, and Romano and Wolf's step-down for which.

    Null: no model has a lower expected loss than the benchmark. Error rate: near `alpha` (5 to 7 % measured with twenty
    equal challengers) whatever their number and correlation, where picking the best by its own t-test errs in 46 %.
    Assumes stationary loss differences of short memory, and **every** challenger tried among the columns.

    Parameters
    ----------
    benchmark : array_like of shape (n,)
        Loss a bar, lower is better.
    losses : array_like of shape (n, models)
        The challengers' losses on the same bars. NaN is refused. Under 20 bars, or no difference at all: unknown.
    block : float, optional
        Mean length of the stationary bootstrap's blocks; by default the longest automatic one of the differences. The
        library's own default, the root of n, rejects too often.

    Raises
    ------
    DataError
        The losses are not finite, their lengths differ, or `alpha` is no share.

    References
    ----------
    Hansen (2005), A test for superior predictive ability, JBES 23(4); Romano and Wolf (2005), Stepwise multiple testing
    as formalized data snooping, Econometrica 73(4). Computed by `arch.bootstrap.SPA`.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.random.default_rng(0).normal(size=(300, 4)) - np.array([0.0, 0.0, 0.0, 0.5])
    >>> superior_predictive_ability(losses[:, 0], losses[:, 1:], rng=np.random.default_rng(1), paths=200).superior
    (2,)
    """
    champion, table = finite_series(benchmark, "benchmark"), _table(losses, "losses", least=1)
    level, n = check_share(alpha, "alpha"), champion.size
    if n != len(table):
        raise DataError(f"losses must have the benchmark's {n} bars, got {len(table)}. Score both on the same bars.")
    gains = champion[:, None] - table
    means = tuple(float(gain) for gain in gains.mean(axis=0)) if n else (nan,) * table.shape[1]
    varies = np.flatnonzero(np.ptp(gains, axis=0) > ROUNDING * np.abs(table).max()) if n else np.empty(0, np.intp)
    if n < LEAST_BARS or not varies.size:
        note = f"{n} bars, {LEAST_BARS} needed" if n < LEAST_BARS else "no challenger differs from the benchmark"
        return Superiority(nan, nan, nan, means, (), n, nan, note)
    # The library's statistic is the plain mean: in units of each column's own error it becomes Hansen's.
    scaled = gains[:, varies] / (ewc_error(gains[:, varies].T) * np.sqrt(n))
    length = block if block is not None else block_length(*scaled.T)
    test = SPA(np.zeros(n), -scaled, block_size=max(1, round(length)), reps=paths, seed=rng)
    test.compute()
    p = test.pvalues
    superior = tuple(int(i) for i in varies[_step_down(test, level)])
    return Superiority(float(p["consistent"]), float(p["lower"]), float(p["upper"]), means, superior, n, float(length))


def _step_down(test: SPA, level: float) -> NDArray[np.bool_]:
    """Models proven better: take them out, test the rest again. (arch's StepM fails where it ends with none left.)"""
    proven = np.zeros(test.k, dtype=np.bool_)
    while not proven.all():
        test.subset(~proven)
        test.compute()
        more = test.better_models(level)
        if not len(more):
            break
        proven[more] = True
    return proven


def _table(losses: ArrayLike, name: str, *, least: int) -> Floats:
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < least:
        raise DataError(f"{name} must be a table (bars, models >= {least}), got {table.shape}. One column a model.")
    if not np.isfinite(table).all():
        raise DataError(f"{name} must be finite, got NaN or infinity. Keep the bars that every model scored.")
    return table
