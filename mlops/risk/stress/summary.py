"""All that stress says of a book, in one object that a job logs and a page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlops.compute import SERIAL, Compute
from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.conditional import Conditional, conditional_stress, vine_stress
from mlops.risk.stress.importance_sampling import tail_loss
from mlops.risk.stress.joint import JointLaw, checked_returns, checked_weights, fit_joint
from mlops.risk.stress.montecarlo import PATHS, Simulation, simulate
from mlops.risk.stress.reverse import ReverseStress, reverse_stress
from mlops.risk.stress.sensitivity import shock_table, shocked_var
from mlops.risk.stress.table import WorstWindow, worst_windows
from mlops.risk.stress.tail_dependence import TailDependence, tail_dependence
from mlops.stats.results import Estimate

ALL = "all"
YEAR = 252  # bars of the paths
MONTH = 21  # bars over which the reverse stress is meant
SHOCK = -0.2  # of the largest position in a bar: "it falls by a fifth, what happens to the rest"
LOSS = 0.2  # of equity, that the reverse stress asks for
VINE_UNITS = 10  # the largest positions: a vine of 20 takes three times as long
LEAST_DOF = 2.5  # a covariance matrix stands for the law in the reverse stress and the grids: it must exist
PAIRS = 8  # of tail dependence that are shown
Tail = tuple[Estimate, Estimate]


@dataclass(frozen=True, slots=True, eq=False)
class StressAccount:
    """What was found. `units` names the N columns; tails are (VaR, ES) over `horizon` bars.

    `tails` has "all" and each part of the book over its own equity; `gaussian` is what a Gaussian copula would say of
    "all", to compare with. `shocked` is the unit whose fall of a fifth `conditional` and `vine` answer for; both are
    None in a book without positions. `grid` is VaR by volatility and correlation shock, `worst_grid` where correlations
    go to the book's own worst.
    """

    units: tuple[str, ...]
    weights: Floats
    bars: int
    confidence: float
    horizon: int
    law: JointLaw
    tails: Mapping[str, Tail]
    gaussian: Tail
    year: Simulation
    windows: tuple[WorstWindow, ...]
    shocked: str
    conditional: Conditional | None
    vine: Conditional | None
    vine_units: tuple[str, ...]
    reverse: ReverseStress
    grid: pd.DataFrame
    worst_grid: pd.DataFrame
    dependence: TailDependence

    def pairs(self, most: int = PAIRS) -> list[tuple[str, str, int, int]]:
        """The pairs of held units that crash together most often: two names and their places."""
        held = np.flatnonzero(self.weights != 0)
        shares = [(float(self.dependence.counted[i, j]), int(i), int(j)) for a, i in enumerate(held) for j in held[:a]]
        known = sorted((pair for pair in shares if np.isfinite(pair[0])), reverse=True)
        return [(self.units[j], self.units[i], j, i) for _, i, j in known[:most]]


def stress_account(
    history: ArrayLike,
    books: Mapping[str, ArrayLike],
    units: Sequence[str],
    *,
    rng: np.random.Generator,
    recent: int = 2000,
    confidence: float = 0.99,
    horizon: int = 1,
    paths: int = PATHS,
    compute: Compute = SERIAL,
) -> StressAccount:
    """Every stress that needs no named scenario.

    Parameters
    ----------
    history : array_like of shape (T, N)
        Simple returns of all bars there are, oldest first; the replay searches all, laws are fitted on the `recent`.
    books : mapping of str to array_like of shape (N,)
        "all" (required) and its parts, each value over its own equity.
    units : sequence of str
        The N names.

    Raises
    ------
    DataError
        "all" is missing, or an array does not fit.
    """
    table = checked_returns(history)
    if ALL not in books or len(units) != table.shape[1]:
        raise DataError(
            f"books must have {ALL!r} and units {table.shape[1]} names, got {[*books]}, {len(units)}. Add it."
        )
    seed = int(rng.integers(2**31))
    vectors = {name: checked_weights(weights, table.shape[1]) for name, weights in books.items()}
    whole, last = vectors[ALL], table[-recent:]
    law, usual, plain = fit_joint(last), fit_joint(last, volatility="constant"), fit_joint(last, copula="gaussian")

    def tail(model: JointLaw, book: Floats) -> Tail:
        return tail_loss(model, book, confidence=confidence, horizon=horizon, seed=seed)

    at = int(np.abs(whole).argmax()) if whole.any() else -1
    given = _given(usual, whole, at, units, rng) if at >= 0 else None
    vine, vine_units = _vine(last, whole, at, units, seed) if at >= 0 else (None, ())
    return StressAccount(
        units=tuple(units),
        weights=whole,
        bars=len(table),
        confidence=confidence,
        horizon=horizon,
        law=law,
        tails={name: tail(law, book) for name, book in vectors.items()},
        gaussian=tail(plain, whole),
        year=simulate(law, whole, horizon=YEAR, paths=paths, seed=seed, compute=compute),
        windows=worst_windows(table, whole),
        shocked=units[at] if at >= 0 else "",
        conditional=given,
        vine=vine,
        vine_units=vine_units,
        reverse=_reverse(usual, whole),
        grid=_grid(usual, whole, confidence, worst=False),
        worst_grid=_grid(usual, whole, confidence, worst=True),
        dependence=tail_dependence(last, usual.correlation, usual.dof.value, rng=rng),
    )


def _given(law: JointLaw, weights: Floats, at: int, units: Sequence[str], rng: np.random.Generator) -> Conditional:
    if law.known and law.volatility[at] == 0:
        gap = np.full(weights.size, np.nan)
        return Conditional(gap, gap, gap, np.empty(0), np.nan, "t copula", f"{units[at]} never moved")
    return conditional_stress(law, weights, {at: SHOCK}, rng=rng)


def _vine(
    returns: Floats, weights: Floats, at: int, units: Sequence[str], seed: int
) -> tuple[Conditional, tuple[str, ...]]:
    """On the largest positions that move at all."""
    moving = returns.std(axis=0) > 0
    some = [int(i) for i in np.argsort(-np.abs(weights)) if weights[i] != 0 and moving[i]][:VINE_UNITS]
    if at not in some:
        gap = np.full(len(some), np.nan)
        return Conditional(gap, gap, gap, np.empty(0), np.nan, "vine copula", f"{units[at]} never moved"), ()
    conditional = vine_stress(returns[:, some], weights[some], {some.index(at): SHOCK}, seed=seed)
    return conditional, tuple(units[i] for i in some)


def _covariance(law: JointLaw) -> Floats:
    return np.asarray(law.correlation * np.outer(law.volatility, law.volatility))


def _dof(law: JointLaw) -> float:
    return max(law.dof.value, LEAST_DOF)


def _reverse(law: JointLaw, weights: Floats) -> ReverseStress:
    if not law.known:
        return ReverseStress(np.full(weights.size, np.nan), np.nan, np.nan, np.nan, law.note)
    return reverse_stress(_covariance(law) * MONTH, weights, LOSS, dof=_dof(law))


def _grid(law: JointLaw, weights: Floats, confidence: float, *, worst: bool) -> pd.DataFrame:
    if not law.known:
        return shock_table(lambda shocks: np.nan, "volatility", "correlation")
    var = shocked_var(_covariance(law), weights, confidence=confidence, dof=_dof(law), worst=worst)
    return shock_table(var, "volatility", "correlation")
