"""Shocks by hand, in one and two dimensions: price, volatility, rate, correlation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.joint import checked_weights
from mlops.stats.results import check_share

Axis = Literal["price", "volatility", "rate", "correlation"]
AXES: Mapping[str, tuple[float, ...]] = {  # what is tried of each
    "price": (-0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2),  # relative, of all units (underlyings of options)
    "volatility": (-0.25, 0.0, 0.25, 0.5, 1.0),  # relative: 0.5 is half as much again
    "rate": (-0.02, -0.01, 0.0, 0.01, 0.02),  # absolute
    "correlation": (0.0, 0.25, 0.5, 0.75, 1.0),  # share of the way to 1
}
Revalue = Callable[[Mapping[str, float]], float]


def shock_table(
    revalue: Revalue, rows: str, columns: str | None = None, *, shocks: Mapping[str, Sequence[float]] = AXES
) -> pd.DataFrame:
    """What a book gains under each shock of `rows`, or of each pair of `rows` and `columns`.

    Parameters
    ----------
    revalue : callable
        Mapping of axis to shock -> profit (or any other number, such as a VaR). An axis that is not in the mapping
        is not shocked.
    rows, columns : str
        Axes; `columns` None for one dimension.

    Returns
    -------
    DataFrame
        Index the shocks of `rows`; columns those of `columns`, or one column `value`.

    Examples
    --------
    >>> shock_table(lambda s: 100 * s["price"], "price", shocks={"price": (-0.1, 0.1)})["value"].tolist()
    [-10.0, 10.0]
    """
    for axis in (rows, columns):
        if axis is not None and axis not in shocks:
            raise DataError(f"axis must be one of {', '.join(shocks)}, got {axis!r}. Give its shocks.")
    if columns is None:
        return pd.DataFrame(
            {"value": [revalue({rows: s}) for s in shocks[rows]]}, index=pd.Index(shocks[rows], name=rows)
        )
    table = [[revalue({rows: a, columns: b}) for b in shocks[columns]] for a in shocks[rows]]
    return pd.DataFrame(table, index=pd.Index(shocks[rows], name=rows), columns=pd.Index(shocks[columns], name=columns))


def shocked_correlation(correlation: ArrayLike, share: float, *, signs: ArrayLike | None = None) -> Floats:
    """A correlation matrix, moved by `share` of the way to where all units move as one.

    A mixture of two positive semidefinite matrices, so it is one, and its diagonal is 1.

    Parameters
    ----------
    correlation : array_like of shape (N, N)
    share : float
        0 leaves it, 1 makes all correlations 1.
    signs : array_like of shape (N,), optional
        Of the positions. With them the end is the book's own worst: longs fall together while shorts rise. Without,
        all move alike, which hedges a book of longs and shorts.

    Examples
    --------
    >>> shocked_correlation([[1.0, 0.2], [0.2, 1.0]], 0.5).tolist()
    [[1.0, 0.6], [0.6, 1.0]]
    """
    if not 0 <= share <= 1:
        raise DataError(f"share must lie from 0 to 1, got {share}. 0.5 is half the way to 1.")
    plain = np.asarray(correlation, dtype=np.float64)
    side = np.ones(len(plain)) if signs is None else np.where(np.asarray(signs) < 0, -1.0, 1.0)
    return np.asarray((1 - share) * plain + share * np.outer(side, side))


def shocked_var(
    covariance: ArrayLike,
    weights: ArrayLike,
    *,
    confidence: float = 0.99,
    dof: float = np.inf,
    worst: bool = False,
) -> Revalue:
    """VaR of a linear book as a function of a volatility and a correlation shock, for `shock_table`.

    Under a multivariate t with `dof` degrees of freedom (normal where infinite) and this covariance: a yardstick for
    how VaR moves, not the VaR of the page.

    Parameters
    ----------
    covariance : array_like of shape (N, N)
    weights : array_like of shape (N,)
    worst : bool
        Correlations move to the book's own worst (see `shocked_correlation`).

    Returns
    -------
    callable
        {"volatility": relative, "correlation": share of the way} -> VaR, a positive fraction of equity.

    Examples
    --------
    >>> var = shocked_var([[1e-4, 0.0], [0.0, 1e-4]], [0.5, 0.5])
    >>> round(var({}), 4), round(var({"correlation": 1.0, "volatility": 1.0}), 4)
    (0.0164, 0.0465)
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    vector = checked_weights(weights, len(matrix))
    if not dof > 2:
        raise DataError(f"dof must be above 2, got {dof}. There is no covariance below it.")
    share = 1 - check_share(confidence, "confidence")
    step = -ndtri(share) if np.isinf(dof) else -stdtrit(dof, share) * np.sqrt((dof - 2) / dof)
    scale = np.sqrt(np.diag(matrix))
    size = np.outer(scale, scale)
    plain = np.divide(matrix, size, out=np.eye(len(matrix)), where=size > 0)
    side = vector if worst else None

    def var(shocks: Mapping[str, float]) -> float:
        moved = shocked_correlation(plain, shocks.get("correlation", 0.0), signs=side) * size
        spread = np.sqrt(max(float(vector @ moved @ vector), 0.0)) * (1 + shocks.get("volatility", 0.0))
        return float(step * spread)

    return var
