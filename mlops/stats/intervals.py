"""Intervals for effects whose statistic has a noncentral law: which noncentralities would give what was seen."""

from __future__ import annotations

from scipy.special import chndtrinc, nctdtrinc


def noncentral_t(statistic: float, dof: float, alpha: float) -> tuple[float, float]:
    """Noncentralities between which a t `statistic` with `dof` degrees of freedom is unsurprising at `alpha`.

    Good to five digits. Steiger and Fouladi (1997); Cumming and Finch (2001), Educational and Psychological Measurement
    61(4).

    Examples
    --------
    >>> [round(end, 3) for end in noncentral_t(0.0, 10, 0.05)]
    [-1.96, 1.96]
    """
    return float(nctdtrinc(dof, 1 - alpha / 2, statistic)), float(nctdtrinc(dof, alpha / 2, statistic))


def noncentral_chi2(statistic: float, dof: float, alpha: float) -> tuple[float, float]:
    """Noncentralities between which a chi-squared `statistic` is unsurprising at `alpha`; 0 where all are too high.

    Examples
    --------
    >>> [round(end, 2) for end in noncentral_chi2(30.07, 2, 0.05)]
    [11.62, 54.24]
    """
    low = float(chndtrinc(statistic, dof, 1 - alpha / 2)) if statistic > 0 else 0.0
    # A statistic under its mean would give a high end of nearly 0, as if the effect were known to be none.
    return low, float(chndtrinc(max(statistic, dof), dof, alpha / 2))
