"""Intervals for effects whose statistic has a noncentral law: which noncentralities would give what was seen."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq
from scipy.stats import nct, ncx2


def noncentral_t(statistic: float, dof: float, alpha: float) -> tuple[float, float]:
    """Noncentralities between which a t `statistic` with `dof` degrees of freedom is unsurprising at `alpha`.

    Steiger and Fouladi (1997); Cumming and Finch (2001), Educational and Psychological Measurement 61(4).
    """

    def above(noncentrality: float) -> float:
        return float(nct.sf(statistic, dof, noncentrality))

    return _root(above, alpha / 2, statistic), _root(above, 1 - alpha / 2, statistic)


def noncentral_chi2(statistic: float, dof: float, alpha: float) -> tuple[float, float]:
    """Noncentralities between which a chi-squared `statistic` is unsurprising at `alpha`; 0 where all are too high."""

    def above(noncentrality: float) -> float:
        return float(ncx2.sf(statistic, dof, max(noncentrality, 1e-12)))

    low = 0.0 if above(0.0) >= alpha / 2 else _root(above, alpha / 2, statistic)
    return low, 0.0 if above(0.0) >= 1 - alpha / 2 else _root(above, 1 - alpha / 2, statistic)


def _root(rising: Callable[[float], float], level: float, start: float) -> float:
    """Where a rising function takes `level`, sought outwards from `start`."""
    reach = 1.0
    while rising(start - reach) > level:
        reach *= 2
    while rising(start + reach) < level:
        reach *= 2
    return float(brentq(lambda at: rising(at) - level, start - reach, start + reach, xtol=1e-10))
