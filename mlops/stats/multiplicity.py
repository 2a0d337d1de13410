"""Many tests at once: which of them still count. Unknown (NaN) tests stay unknown and are not counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops.errors import DataError
from mlops.stats.dependent import Floats
from mlops.stats.results import ALPHA, check_share


def holm(p: ArrayLike) -> Floats:
    """p-values adjusted by Holm: reject those <= alpha, and the chance of **any** false rejection is at most alpha.

    Holds under any dependence between the tests. For several challengers, of which one may be promoted.

    Parameters
    ----------
    p : array_like of shape (tests,)
        Each in [0, 1], or NaN for a test that could not be made.

    Returns
    -------
    ndarray of shape (tests,)
        In [0, 1], never under `p`; NaN where `p` is.

    Raises
    ------
    DataError
        `p` is no vector of values in [0, 1] or NaN.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6.

    Examples
    --------
    >>> [round(float(p), 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    return _adjusted(p, _holm)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """p-values adjusted by Benjamini and Hochberg: of those <= alpha a share of at most alpha is false, on average.

    Holds for independent or positively dependent tests. For looking where to look (features, segments), not for
    promoting. Parameters, result and errors as `holm`.

    References
    ----------
    Benjamini and Hochberg (1995), JRSS B 57; Benjamini and Yekutieli (2001), Annals of Statistics 29.
    Computed by `scipy.stats.false_discovery_control`.

    Examples
    --------
    >>> [round(float(p), 3) for p in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    from scipy.stats import false_discovery_control

    return _adjusted(p, false_discovery_control)


def e_bh(e: ArrayLike, *, alpha: float = ALPHA) -> NDArray[np.bool_]:
    """Which nulls e-values reject at a false-discovery rate of `alpha`, under **any** dependence and any stopping time.

    An e-value is a non-negative number whose mean is at most 1 under its null: 20 is as strong as 0.05, whenever the
    data were looked at. The k largest are rejected where the k-th is at least `tests / (alpha k)`.

    Parameters
    ----------
    e : array_like of shape (tests,)
        Each >= 0 (infinity allowed), or NaN for a test that could not be made, which is never rejected.

    Raises
    ------
    DataError
        `e` is no vector of values >= 0 or NaN, or `alpha` is no share.

    References
    ----------
    Wang and Ramdas (2022), False discovery rate control with e-values, JRSS B 84(3).

    Examples
    --------
    >>> e_bh([100.0, 50.0, 1.0, 0.3]).tolist()
    [True, True, False, False]
    """
    values = _vector(e, "e", np.inf)
    known = ~np.isnan(values)
    ordered = np.sort(values[known])[::-1]
    bars = ordered.size / (check_share(alpha, "alpha") * np.arange(1, ordered.size + 1))
    reached = np.flatnonzero(ordered >= bars)
    threshold = ordered[reached[-1]] if reached.size else np.inf
    return np.asarray(known & (values >= threshold) & bool(reached.size))


def e_from_p(p: ArrayLike, *, kappa: float = 0.5) -> Floats:
    """e-values from p-values, `kappa p^(kappa - 1)`: valid, and weaker than the p-values they come from.

    Infinite at p = 0, NaN where `p` is.

    References
    ----------
    Vovk and Wang (2021), E-values: calibration, combination and applications, Annals of Statistics 49(3).

    Examples
    --------
    >>> e_from_p([0.0025]).tolist()
    [10.0]
    """
    values = _vector(p, "p", 1.0)
    with np.errstate(divide="ignore"):
        return np.asarray(check_share(kappa, "kappa") * values ** (kappa - 1))


def _adjusted(p: ArrayLike, method: Callable[[Floats], Floats]) -> Floats:
    values = _vector(p, "p", 1.0)
    known = ~np.isnan(values)
    adjusted = np.full(values.size, np.nan)
    if known.any():
        adjusted[known] = method(values[known])
    return adjusted


def _holm(p: Floats) -> Floats:
    # statsmodels' multipletests says the same, but collects garbage at each call: 130 ms in a process of our size.
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _vector(values: ArrayLike, name: str, most: float) -> Floats:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise DataError(f"{name} must have one dimension, got {vector.ndim}. Pass one value a test.")
    if (vector < 0).any() or (vector > most).any():
        raise DataError(f"{name} must lie in [0, {most:g}], got {vector.tolist()}. Pass them as the tests gave them.")
    return vector
