"""How far two independent shares lie apart: their difference and the odds ratio."""

from __future__ import annotations

from math import exp, inf, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats.results import ALPHA, Estimate, check_share, unknown_estimate

OddsKind = Literal["sample", "conditional"]


def odds_ratio(table: ArrayLike, *, kind: OddsKind = "sample", alpha: float = ALPHA) -> Estimate:
    """Odds of a hit in the first row over those in the second.

    Covers at `1 - alpha` for **independent** rows: never for two models scored on the same rows (`mcnemar`), nor for
    rows in time.

    Parameters
    ----------
    table : array_like of shape (2, 2)
        Rows: the two samples; columns: hits and misses. An empty row or column: unknown.
    kind : {"sample", "conditional"}
        "sample": the cross ratio with Woolf's logit interval; a zero anywhere adds one half to every cell of both
        (Haldane and Anscombe). "conditional": Fisher's maximum-likelihood ratio with its exact interval, which covers
        at least at `1 - alpha` in samples of any size.

    Raises
    ------
    DataError
        The table is not 2 x 2 or holds no whole counts, or `alpha` is no share.

    References
    ----------
    Woolf (1955), Annals of Human Genetics 19; Agresti (2013), 3.1 and 16.6. "conditional" is computed by
    `scipy.stats.contingency.odds_ratio`.

    Examples
    --------
    >>> odds_ratio([[30, 10], [20, 20]]).value
    3.0
    """
    from scipy.stats import norm
    from scipy.stats.contingency import odds_ratio as scipy_odds_ratio

    counts = np.asarray(table, dtype=np.float64)
    if counts.shape != (2, 2) or not np.isfinite(counts).all() or (counts < 0).any():
        raise DataError(f"table must be 2 x 2 counts of at least 0, got {counts.tolist()}. Pass hits and misses.")
    n, share = int(counts.sum()), check_share(alpha, "alpha")
    if not (counts.sum(axis=0).all() and counts.sum(axis=1).all()):
        return unknown_estimate("odds ratio", n, "a row or a column is empty")
    if kind == "conditional":
        fisher = scipy_odds_ratio(counts.astype(np.int64), kind="conditional")
        interval = fisher.confidence_interval(1 - share)
        return Estimate("odds ratio", float(fisher.statistic), float(interval.low), float(interval.high), n)
    zero = not counts.all()
    (a, b), (c, d) = (counts + 0.5 if zero else counts).tolist()
    ratio = a * d / (b * c)
    half = float(norm.isf(share / 2)) * sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    note = "a zero count: one half added to every cell" if zero else ""
    return Estimate("odds ratio", ratio, ratio * exp(-half), ratio * exp(half), n, note)


def risk_difference(hits_x: int, n_x: int, hits_y: int, n_y: int, *, alpha: float = ALPHA) -> Estimate:
    """Win rate of x minus win rate of y, for two **independent** samples; paired rows: `paired_difference`.

    Newcombe's hybrid score interval: it covers near `1 - alpha` in small samples and at extreme rates, and never leaves
    [-1, 1]. Trades that overlap in time or share a bar are not independent, and the interval is then too short: take
    the difference by bar into `dependent_t`.

    Parameters
    ----------
    hits_x, hits_y : int
        Wins, in [0, n].
    n_x, n_y : int
        Trades; none in a sample: unknown.

    Raises
    ------
    DataError
        More wins than trades, a negative count, or `alpha` is no share.

    References
    ----------
    Newcombe (1998), Interval estimation for the difference between independent proportions, Stat. Med. 17, method 10.
    Computed by statsmodels' `confint_proportions_2indep`.

    Examples
    --------
    >>> difference = risk_difference(56, 70, 48, 80)
    >>> round(difference.value, 2), round(difference.low, 4), round(difference.high, 4)
    (0.2, 0.0524, 0.3339)
    """
    from statsmodels.stats.proportion import confint_proportions_2indep  # late: a tenth of a second

    for hits, n in ((hits_x, n_x), (hits_y, n_y)):
        if not 0 <= hits <= n:
            raise DataError(f"wins must lie between 0 and the trades, got {hits} of {n}. Count both on the same rows.")
    if not min(n_x, n_y):
        return unknown_estimate("difference of shares", n_x + n_y, "a sample has no rows")
    low, high = confint_proportions_2indep(
        hits_x, n_x, hits_y, n_y, method="newcomb", compare="diff", alpha=check_share(alpha, "alpha")
    )
    return Estimate("difference of shares", hits_x / n_x - hits_y / n_y, float(low), float(high), n_x + n_y)


def paired_odds_ratio(only_x: int, only_y: int, *, alpha: float = ALPHA) -> Estimate:
    """Odds that the row on which two models differ goes to x: `only_x / only_y`, with the exact binomial interval.

    Infinite where y never won a differing row; no differing row: unknown. Assumes independent rows.

    References
    ----------
    Clopper and Pearson (1934) on the share of differing rows; Agresti (2013), 11.2.

    Examples
    --------
    >>> round(paired_odds_ratio(150, 86).value, 3)
    1.744
    """
    from statsmodels.stats.proportion import proportion_confint  # late: a tenth of a second

    n = only_x + only_y
    if n == 0:
        return unknown_estimate("paired odds ratio", 0, "no differing row")
    low, high = proportion_confint(only_x, n, alpha=check_share(alpha, "alpha"), method="beta")
    return Estimate("paired odds ratio", _odds(only_x / n), _odds(float(low)), _odds(float(high)), n)


def _odds(share: float) -> float:
    return inf if share == 1 else share / (1 - share)
