"""Several challengers watched at once: which of them are proven, at one chance of ever proving any falsely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops.errors import DataError
from mlops.stats.multiplicity import holm
from mlops.stats.results import ALPHA
from mlops.stats.sequential import MIN_ROWS, OBRIEN_FLEMING_LIKE, SequentialResult, sequential_test


def sequential_holm(
    family: Sequence[ArrayLike],
    *,
    horizon: int,
    look_every: int,
    alpha: float = ALPHA,
    tried: int | None = None,
    power: float = OBRIEN_FLEMING_LIKE,
    min_n: int = MIN_ROWS,
) -> tuple[SequentialResult, ...]:
    """`sequential_test` of each challenger at the level that Holm grants it; `crossed` are the proven ones.

    Nulls: mean <= 0, one for each series. Error rate: the chance that **any** true null ever crosses, at any look, is
    at most `alpha`, whatever the challengers have in common. All are tested at alpha / m; each one proven leaves its
    share to the rest, who are then held against the boundary of the larger share from their first look on. That is the
    closure of Bonferroni tests whose boundaries were all fixed beforehand, so a later grant may use an earlier look.

    Parameters
    ----------
    family : sequence of array_like of shape (n_i,)
        One value a bar and challenger, as `sequential_test` takes it. The lengths may differ.
    tried : int, optional
        m: how many challengers the comparison has or had, the dropped ones included; by default those given.

    Raises
    ------
    DataError
        `tried` is smaller than the family, or what `sequential_test` refuses.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6; Ye, Li, Liu and Yao (2013), A group sequential Holm procedure
    with multiple primary endpoints, Statistics in Medicine 32(7).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> gains = [rng.normal(mean, 1, 250) for mean in (0.5, 0.0, 0.4)]
    >>> [found.crossed for found in sequential_holm(gains, horizon=250, look_every=5)]
    [True, False, True]
    """
    members = len(family) if tried is None else tried
    if members < len(family):
        raise DataError(f"tried must be at least {len(family)}, got {members}. Count every challenger.")
    proven = -1
    results: tuple[SequentialResult, ...] = ()
    while proven != (now := sum(result.crossed for result in results)):
        proven = now
        level = alpha / max(members - proven, 1)
        results = tuple(
            result
            if result.crossed
            else sequential_test(x, horizon=horizon, look_every=look_every, alpha=level, power=power, min_n=min_n)
            for x, result in zip(family, results or (_UNTESTED,) * len(family), strict=True)
        )
    return results


def e_holm(e: ArrayLike, *, alpha: float = ALPHA, tried: int | None = None) -> NDArray[np.bool_]:
    """Which of several challengers e-values prove, at every moment: Holm on `min(1, 1 / e)`.

    Error rate: with e-processes (`confidence_sequence`, `bounded_confidence_sequence`) the chance that any true null is
    **ever** among the proven is at most `alpha`, whatever they have in common and whenever somebody looks. For
    promoting one; `e_bh` proves more, but promises only that few of the proven are false.

    Parameters
    ----------
    e : array_like of shape (challengers,)
        Each >= 0 (infinity allowed), or NaN for one that is not yet tested: it counts, and is never proven.
    tried : int, optional
        As `sequential_holm`.

    Raises
    ------
    DataError
        `e` is no vector of values >= 0 or NaN, or `tried` is smaller than it.

    Examples
    --------
    >>> e_holm([70.0, 45.0, 19.0]).tolist(), e_holm([50.0, 45.0, 19.0]).tolist()
    ([True, True, False], [False, False, False])
    """
    values = np.asarray(e, dtype=np.float64)
    if values.ndim != 1 or (values < 0).any():
        raise DataError(f"e must be a vector of values >= 0 or NaN, got {values.tolist()}. Pass one a challenger.")
    members = values.size if tried is None else tried
    if members < values.size:
        raise DataError(f"tried must be at least {values.size}, got {members}. Count every challenger.")
    with np.errstate(divide="ignore"):
        p = np.minimum(1.0, np.nan_to_num(1 / values, nan=1.0))
    adjusted = holm(np.concatenate([p, np.ones(members - values.size)]))[: values.size]
    return np.asarray(adjusted <= alpha)


_UNTESTED = SequentialResult(0, 0, 0.0, 1.0, 0.0, False, None, None, False)
