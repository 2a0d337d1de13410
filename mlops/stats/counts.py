"""Do shares differ? Counts of categories (chi-square) and of paired hits (McNemar)."""

from __future__ import annotations

from math import nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats.dependent import Floats, aligned_pair, finite_series
from mlops.stats.intervals import noncentral_chi2
from mlops.stats.power import chi_square_noncentrality, mcnemar_sample_size
from mlops.stats.results import ALPHA, MOST_ROWS, Estimate, HypothesisTest, check_share, unknown_test

McNemarMethod = Literal["mid-p", "exact", "asymptotic", "corrected"]
CRAMER = "Cramer's V"
DIFFERENCE = "difference of shares"
LEAST_EXPECTED = 5.0  # Cochran (1954): under it the chi-squared approximation is no longer trusted


def chi_square(x: ArrayLike, y: ArrayLike, *, alpha: float = ALPHA) -> HypothesisTest:
    """Pearson's chi-square test that two samples of categories have one law; see `chi_square_table`.

    Parameters
    ----------
    x, y : array_like of shape (n,), (m,)
        The category of each row, as a number. NaN is refused.

    Examples
    --------
    >>> round(chi_square([0] * 30 + [1] * 10, [0] * 20 + [1] * 20).p_value, 4)
    0.0209
    """
    first, second = finite_series(x, "x"), finite_series(y, "y")
    categories, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    counts = [np.bincount(part, minlength=categories.size) for part in np.split(codes, [first.size])]
    return chi_square_table(np.array(counts), alpha=alpha)


def chi_square_table(table: ArrayLike, *, correction: bool = False, alpha: float = ALPHA) -> HypothesisTest:
    """Pearson's chi-square test of a 2 x k table.

    Null: both rows have the same shares. Error rate: near `alpha` while every expected count is at least 5 (the note
    says when not). Assumes that the counted rows are **independent**: bars in time, several symbols of one bar and
    overlapping labels are not, and the test then finds differences that are not there; count one row a bar, well apart,
    or compare by bar with `dependent_t`. The same rows scored by two models belong into `mcnemar`.

    Parameters
    ----------
    table : array_like of shape (2, k)
        Counts, >= 0. Empty columns are dropped; an empty row or fewer than two columns: unknown.
    correction : bool
        Yates's continuity correction for k = 2: errs to the safe side.

    Returns
    -------
    HypothesisTest
        `statistic` is chi-squared with k - 1 degrees of freedom, `effect` Cramer's V in [0, 1] with the interval of the
        noncentral chi-squared law (never corrected), `n` the total.

    Raises
    ------
    DataError
        The table is not 2 x k, or a count is negative or not finite.

    References
    ----------
    Pearson (1900), Phil. Mag. 50; Agresti (2013), Categorical Data Analysis, 3.2. Computed by
    `scipy.stats.chi2_contingency`.

    Examples
    --------
    >>> round(chi_square_table([[762, 327, 468], [484, 239, 477]]).statistic, 2)
    30.07
    """
    from scipy.stats import chi2_contingency

    counts = _counts(table, columns=None)
    counts = counts[:, counts.sum(axis=0) > 0]
    n = int(counts.sum())
    if counts.shape[1] < 2 or (counts.sum(axis=1) == 0).any():
        return unknown_test("chi-square", CRAMER, n, "two rows and two categories with counts are needed")
    test = chi2_contingency(counts, correction=correction)
    plain = float(chi2_contingency(counts, correction=False).statistic)
    dof = int(test.dof)
    low, high = noncentral_chi2(plain, dof, check_share(alpha, "alpha"))
    effect = Estimate(CRAMER, sqrt(plain / n), min(sqrt(low / n), 1.0), min(sqrt(high / n), 1.0), n)
    excess = plain - dof  # the statistic's mean under the null is dof: what is left is the effect's
    needed = n * chi_square_noncentrality(dof, alpha=alpha) / excess if excess > 0 else nan
    least = float(test.expected_freq.min())
    note = f"a category has an expected count of {least:.1f}: p is rough under 5" if least < LEAST_EXPECTED else ""
    rows = int(np.ceil(needed)) if needed < MOST_ROWS else None
    return HypothesisTest("chi-square", float(test.statistic), float(test.pvalue), effect, n, rows, note)


def mcnemar(x: ArrayLike, y: ArrayLike, *, method: McNemarMethod = "mid-p", alpha: float = ALPHA) -> HypothesisTest:
    """McNemar's test that two models hit equally often on the same rows; see `mcnemar_table`.

    Parameters
    ----------
    x, y : array_like of shape (n,)
        1 where the model was right, else 0, in pairs. NaN and other values are refused.

    Examples
    --------
    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0], method="exact").p_value
    0.0625
    """
    first, second = aligned_pair(x, y)
    if not np.isin(np.concatenate([first, second]), (0.0, 1.0)).all():
        raise DataError("x and y must be 0 or 1, got other values. Pass hits, not probabilities.")
    table = [[(first * second).sum(), (first * (1 - second)).sum()]]
    table.append([((1 - first) * second).sum(), ((1 - first) * (1 - second)).sum()])
    return mcnemar_table(table, method=method, alpha=alpha)


def mcnemar_table(table: ArrayLike, *, method: McNemarMethod = "mid-p", alpha: float = ALPHA) -> HypothesisTest:
    """McNemar's test of paired hits and misses.

    Null: a row on which the two differ favours either with chance one half. Error rate: at most `alpha` for "exact"
    (often half of it), near `alpha` for "mid-p", the default, and for "asymptotic" from some ten differing rows on;
    "corrected" is the asymptotic form with Edwards's continuity correction, as careful as "exact". Assumes
    **independent** rows: with several symbols a bar or overlapping labels the differing rows come in clumps and the
    test lies; take the mean difference of hits by bar into `dependent_t` there.

    Parameters
    ----------
    table : array_like of shape (2, 2)
        Rows: x hit, x missed; columns: y hit, y missed. No differing row: p is 1; no row at all: unknown.

    Returns
    -------
    HypothesisTest
        `statistic`: chi-squared with 1 degree of freedom for "asymptotic" and "corrected", else the number of rows
        that only x hit. `effect`: hit rate of x minus that of y, with Bonett and Price's interval. `n` pairs.

    Raises
    ------
    DataError
        The table is not 2 x 2, or a count is negative or not finite.

    References
    ----------
    McNemar (1947), Psychometrika 12; Fagerland, Lydersen and Laake (2013), BMC Med. Res. Methodol. 13:91 (mid-p);
    Bonett and Price (2012), J. Educ. Behav. Stat. 37(4).

    Examples
    --------
    >>> round(mcnemar_table([[794, 150], [86, 570]], method="asymptotic").statistic, 3)
    17.356
    """
    counts = _counts(table, columns=2)
    n, b, c = int(counts.sum()), int(counts[0, 1]), int(counts[1, 0])
    if n == 0:
        return unknown_test("McNemar", DIFFERENCE, n, "no pairs")
    effect = paired_difference(b, c, n, alpha=alpha)
    if b + c == 0:
        note = "the two never differ: no evidence of a difference"
        return HypothesisTest("McNemar", 0.0, 1.0, effect, n, note=note)
    statistic, p = _mcnemar_p(b, c, method)
    needed = mcnemar_sample_size(abs(b - c) / n, discordance=(b + c) / n, alpha=alpha) if b != c else None
    return HypothesisTest(f"McNemar {method}", statistic, p, effect, n, needed)


def paired_difference(only_x: int, only_y: int, n: int, *, alpha: float = ALPHA) -> Estimate:
    """Hit rate of x minus that of y over `n` paired rows, of which `only_x` and `only_y` were hit by one alone.

    Interval: Bonett and Price (2012), which adds one row to either count; assumes independent rows.

    Examples
    --------
    >>> paired_difference(86, 150, 1600).value
    -0.04
    """
    from scipy.stats import norm

    p_x, p_y = (only_x + 1) / (n + 2), (only_y + 1) / (n + 2)
    half = float(norm.isf(check_share(alpha, "alpha") / 2)) * sqrt((p_x + p_y - (p_x - p_y) ** 2) / (n + 2))
    middle = p_x - p_y
    value = (only_x - only_y) / n
    return Estimate(DIFFERENCE, value, max(middle - half, -1.0), min(middle + half, 1.0), n)


def _mcnemar_p(b: int, c: int, method: McNemarMethod) -> tuple[float, float]:
    from scipy.stats import binom, chi2

    if method in ("exact", "mid-p"):
        tail = 2 * float(binom.cdf(min(b, c), b + c, 0.5))
        point = float(binom.pmf(min(b, c), b + c, 0.5))
        # b = c: the tails of "exact" overlap in the middle point, of which the mid-p takes half from either.
        return float(b), min(1.0, tail - (point if method == "mid-p" else 0.0))
    shift = 1.0 if method == "corrected" else 0.0
    statistic = max(abs(b - c) - shift, 0.0) ** 2 / (b + c)
    return statistic, float(chi2.sf(statistic, 1))


def _counts(table: ArrayLike, *, columns: int | None) -> Floats:
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != 2 or (columns is not None and counts.shape[1] != columns):
        raise DataError(f"table must have the shape (2, {columns or 'k'}), got {counts.shape}. Pass counts.")
    if not np.isfinite(counts).all() or (counts < 0).any() or (counts != np.floor(counts)).any():
        raise DataError(f"table must hold whole counts of at least 0, got {counts.tolist()}. Pass counts, not shares.")
    return counts
