"""What a person believes, mixed into what was seen: entropy pooling (Meucci 2008), by skfolio."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.risk.measures import Floats, Loss, var_es
from mlops.risk.stress.joint import checked_returns, checked_weights

LEAST_BARS = 250
LEAST_EFFECTIVE = 50  # bars that carry the answer; under it the views ask for what hardly ever was


@dataclass(frozen=True, slots=True, eq=False)
class ViewedRisk:
    """The bars weighed anew.

    Attributes
    ----------
    weights : ndarray of shape (T,)
        How likely each bar is under the views; they sum to one.
    effective : float
        Bars that carry it (exponential of the entropy): of T where the views change nothing.
    before, after : Loss
        The book's VaR and ES without and with the views.
    note : str
        Why nothing is known, or what to beware of.
    """

    weights: Floats
    effective: float
    before: Loss
    after: Loss
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there was enough to say anything."""
        return self.weights.size > 0


def with_views(
    returns: ArrayLike,
    weights: ArrayLike,
    units: Sequence[str],
    *,
    mean_views: Sequence[str] = (),
    variance_views: Sequence[str] = (),
    correlation_views: Sequence[str] = (),
    cvar_views: Sequence[str] = (),
    confidence: float = 0.99,
) -> ViewedRisk:
    """VaR and ES of the book if the views hold: bars are weighed anew, as little as the views need.

    Views are skfolio's: `"AAPL == -0.002"` on means, `"AAPL >= 0.0009"` on variances, `"(AAPL, GE) == 0.8"` on
    correlations, `"AAPL == 0.08"` on the mean loss beyond 95 %. Nothing that never happened gets any weight: a view
    beyond what was seen has no answer.

    Parameters
    ----------
    returns : array_like of shape (T, N)
        Simple returns; NaN is refused. Under 250 bars: unknown.
    weights : array_like of shape (N,)
    units : sequence of str
        The N names that the views use.

    Raises
    ------
    DataError
        A view cannot be read, or the bars cannot satisfy them all.

    References
    ----------
    Meucci (2008), Fully flexible views, Risk 21(10).
    """
    table = checked_returns(returns)
    vector = checked_weights(weights, table.shape[1])
    if len(units) != table.shape[1]:
        raise DataError(f"units must name all {table.shape[1]} columns, got {len(units)}. Name each.")
    if len(table) < LEAST_BARS:
        gap = Loss(np.nan, np.nan)
        return ViewedRisk(np.empty(0), np.nan, gap, gap, f"{len(table)} bars, {LEAST_BARS} needed")
    from skfolio.exceptions import EquationToMatrixError, GroupNotFoundError, SolverError  # 1.8 s to import
    from skfolio.prior import EntropyPooling

    given = {
        "mean_views": list(mean_views) or None,
        "variance_views": list(variance_views) or None,
        "correlation_views": list(correlation_views) or None,
        "cvar_views": list(cvar_views) or None,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its solvers, on the way
            pooled = EntropyPooling(**given).fit(pd.DataFrame(table, columns=list(units)))
    except (EquationToMatrixError, GroupNotFoundError, SolverError, ValueError) as error:
        asked = "; ".join(view for views in given.values() for view in views or ())
        raise DataError(f"views must hold on these bars, got {asked!r}: {error} Soften or rewrite them.") from error
    likely = np.asarray(pooled.return_distribution_.sample_weight, dtype=np.float64)
    likely = np.maximum(likely, 0) / np.maximum(likely, 0).sum()
    positive = likely[likely > 0]
    effective = float(np.exp(-(positive * np.log(positive)).sum()))
    profit = table @ vector
    note = f"{effective:.0f} of {len(table)} bars carry this" if effective < LEAST_EFFECTIVE else ""
    return ViewedRisk(likely, effective, var_es(profit, confidence), var_es(profit, confidence, weights=likely), note)
