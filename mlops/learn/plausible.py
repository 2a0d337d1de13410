"""Is a score too good to be true? What leaks by another way than the bars shows in the score alone.

A table that was joined by the wrong day gives the same values in any future, so the leak audit cannot see it. But no
honest feature ranks the next bar's return, and no honest model of such labels is nearly always right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from mlops.learn import splits
from mlops.learn.calibration import Floats
from mlops.learn.learner import Learner, Table
from mlops.stats import auc

# Rank correlation with the return of the next bar. The largest of our features on 20 stocks, 5 funds and 2 indices:
# 0.06; of a forecaster 0.05 is good and 0.15 world class (Grinold and Kahn 1999, information coefficients).
FORESIGHT = 0.5
# With its size, which features of volatility do know: 0.42 there, and 0.73 on a feed that is stuck every other week.
FORESIGHT_OF_SIZE = 0.9
NAMED = 3  # features that a message names


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A score that is too good, and the features that carry it.

    `value` beyond `bound` of what `measure` says; `carriers` best first; `evidence`: numbers by name, for a run.
    """

    measure: str
    value: float
    bound: float
    carriers: Sequence[str]
    evidence: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.measure} must be at most {self.bound:g}, got {self.value:.3f}: {', '.join(self.carriers)}"


def foresight(rows: pd.DataFrame, names: Sequence[str]) -> Suspicion | None:
    """Features that rank the return of the next bar, or its size, better than any can.

    Parameters
    ----------
    rows : DataFrame
        The features `names`, and `value`: the simple return over the next bar.
    """
    for word, known, bound in (
        ("return", rows["value"], FORESIGHT),
        ("absolute return", rows["value"].abs(), FORESIGHT_OF_SIZE),
    ):
        correlations = {name: _rank_correlation(rows[name].to_numpy(), known.to_numpy()) for name in names}
        if max(correlations.values()) > bound:
            measure = f"rank correlation of a feature with the {word} of the next bar"
            evidence = {f"foresight.{name}": value for name, value in correlations.items()}
            return Suspicion(measure, max(correlations.values()), bound, _best(correlations, bound), evidence)
    return None


def too_good(
    learner: Learner,
    table: Table,
    folds: Sequence[splits.Fold],
    margin: Floats,
    names: Sequence[str],
    bound: float,
    rng: np.random.Generator,
    params: Mapping[str, Any],
) -> Suspicion | None:
    """The suspicion that a model knows the future, where the AUC of out-of-fold margins exceeds `bound`.

    Features that exceed it alone carry it; where none does, those without which the model falls farthest: their values
    are permuted among the rows of the last fold's test.

    Parameters
    ----------
    margin : array of shape (n,)
        Of the folds' test rows, one fold after the other.
    params : mapping
        Of the model, which is fitted on the last fold once more.
    """
    tests = np.concatenate([fold.test for fold in folds])
    y = table.y[tests]
    value = auc(margin, y)
    if not value > bound:  # of labels that are all the same nothing is known, and nothing learned
        return None
    single = {name: _either_way(y, table.x[tests, i]) for i, name in enumerate(names)}
    drops = _drops(learner, table, folds[-1], names, rng, params)
    carriers = _best(single, bound) or _best(drops, 0.0)
    evidence = {
        "auc": value,
        **{f"single.{name}": alone for name, alone in single.items()},
        **{f"drop.{name}": drop for name, drop in drops.items()},
    }
    return Suspicion("AUC on rows that were not learned from", value, bound, carriers, evidence)


def _rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's, without its sign; 0 where one of them never changes, for then it ranks nothing."""
    ranks = np.stack([rankdata(x), rankdata(y)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    size = float(np.sqrt((ranks**2).sum(axis=1).prod()))
    return abs(float(ranks[0] @ ranks[1])) / size if size else 0.0


def _drops(
    learner: Learner,
    table: Table,
    fold: splits.Fold,
    names: Sequence[str],
    rng: np.random.Generator,
    params: Mapping[str, Any],
) -> dict[str, float]:
    """AUC that the last fold's model loses where one feature is permuted."""
    x, y = table.x[fold.test], table.y[fold.test]
    fitted = learner.fit(Table(table.x[fold.train], table.y[fold.train]), params, 0)

    def scored(values: NDArray[np.float32]) -> float:
        return auc(fitted.margins(values), y)

    whole, out = scored(x), {}
    for i, name in enumerate(names):
        stirred = x.copy()
        stirred[:, i] = rng.permutation(stirred[:, i])
        out[name] = whole - scored(stirred)
    return out


def _either_way(y: Floats, values: NDArray[np.float32]) -> float:
    value = auc(values.astype(np.float64), y)
    return max(value, 1 - value)


def _best(scores: Mapping[str, float], over: float) -> list[str]:
    """The few highest over a bound, each with its score."""
    high = sorted((name for name in scores if scores[name] > over), key=lambda name: -scores[name])
    return [f"{name} ({scores[name]:.3f})" for name in high[:NAMED]]
