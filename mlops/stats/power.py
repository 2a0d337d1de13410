"""How likely a test sees an effect, and how many rows that takes, for every test that has a formula."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import sqrt

from scipy.special import ndtr, ndtri

from mlops.errors import DataError
from mlops.stats.results import ALPHA, MOST_ROWS, POWER, Alternative, check_share

STATSMODELS = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}


def least_rows(power_at: Callable[[int], float], *, power: float = POWER, least: int = 2) -> int | None:
    """The fewest rows at which `power_at(rows)`, which rises with the rows, reaches `power`; None above a billion.

    Examples
    --------
    >>> least_rows(lambda n: 1 - 0.5**n, power=0.99)
    7
    """
    check_share(power, "power")
    high = least
    while power_at(high) < power:
        if high >= MOST_ROWS:
            return None
        high = min(high * 2, MOST_ROWS)
    low = max(least - 1, high // 2 if high > least else least - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high


def t_power(
    effect: float,
    n: int,
    *,
    paired: bool = False,
    ratio: float = 1.0,
    alpha: float = ALPHA,
    alternative: Alternative = "two-sided",
) -> float:
    """Power of the t-test, exact for normal independent rows of one variance.

    Parameters
    ----------
    effect : float
        Mean difference in standard deviations: of the differences where `paired`, else of the rows (Cohen's d).
    n : int
        Pairs, or rows of the first sample; the second has `ratio * n`.

    References
    ----------
    Cohen (1988), Statistical Power Analysis, ch. 2. Computed by statsmodels' `TTestPower` and `TTestIndPower`.

    Examples
    --------
    >>> round(t_power(0.5, 64), 4)
    0.8015
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower  # late: a tenth of a second

    side = STATSMODELS[alternative]
    if paired:
        return float(TTestPower().power(effect, n, check_share(alpha, "alpha"), alternative=side))
    return float(TTestIndPower().power(effect, n, check_share(alpha, "alpha"), ratio=ratio, alternative=side))


def t_sample_size(
    effect: float,
    *,
    paired: bool = False,
    ratio: float = 1.0,
    alpha: float = ALPHA,
    power: float = POWER,
    alternative: Alternative = "two-sided",
) -> int | None:
    """Pairs, or rows of the first sample, at which `t_power` reaches `power`; None where it never does.

    Examples
    --------
    >>> t_sample_size(0.5), t_sample_size(0.5, paired=True)
    (64, 34)
    """

    def at(n: int) -> float:
        return t_power(effect, n, paired=paired, ratio=ratio, alpha=alpha, alternative=alternative)

    return None if effect == 0 else least_rows(at, power=power)


def shares_power(p_x: float, p_y: float, n: int, *, ratio: float = 1.0, alpha: float = ALPHA) -> float:
    """Power of the two-sided test of two independent shares (the chi-square test of 2 x 2), normal approximation.

    Parameters
    ----------
    p_x, p_y : float
        True shares, in (0, 1).
    n : int
        Rows of the first sample; the second has `ratio * n`.

    References
    ----------
    Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, 4.3. Computed by statsmodels'
    `power_proportions_2indep`.

    Examples
    --------
    >>> round(shares_power(0.5, 0.75, 77), 3)
    0.901
    """
    from statsmodels.stats.proportion import power_proportions_2indep  # late: a tenth of a second

    first, second = check_share(p_x, "p_x"), check_share(p_y, "p_y")
    power = power_proportions_2indep(
        second - first, first, n * ratio, ratio=1 / ratio, alpha=check_share(alpha, "alpha"), return_results=False
    )
    return float(power)


def shares_sample_size(
    p_x: float, p_y: float, *, ratio: float = 1.0, alpha: float = ALPHA, power: float = POWER
) -> int | None:
    """Rows of the first sample at which `shares_power` reaches `power`; None for equal shares.

    Examples
    --------
    >>> shares_sample_size(0.55, 0.57)
    9669
    """
    if p_x == p_y:
        return None
    return least_rows(lambda n: shares_power(p_x, p_y, n, ratio=ratio, alpha=alpha), power=power)


def mcnemar_power(gain: float, n: int, *, discordance: float, alpha: float = ALPHA) -> float:
    """Power of the two-sided McNemar test, normal approximation.

    Parameters
    ----------
    gain : float
        True difference of the hit rates, at most `discordance` in size.
    n : int
        Paired rows.
    discordance : float
        Share of rows on which exactly one of the two is right, in (0, 1].

    References
    ----------
    Miettinen (1968), Biometrics 24; Connor (1987), Biometrics 43.

    Examples
    --------
    >>> round(mcnemar_power(0.02, 3923, discordance=0.2), 3)
    0.8
    """
    if not 0 < discordance <= 1 or abs(gain) > discordance:
        got = f"gain {gain}, discordance {discordance}"
        raise DataError(f"discordance must lie in [|gain|, 1], got {got}. They differ on at least |gain| of the rows.")
    shift, spread = abs(gain) * sqrt(n), sqrt(max(discordance - gain**2, 1e-12))
    critical = _critical(alpha) * sqrt(discordance)
    return float(ndtr((shift - critical) / spread) + ndtr((-shift - critical) / spread))


def mcnemar_sample_size(gain: float, *, discordance: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Paired rows at which `mcnemar_power` reaches `power`; None without a gain.

    Examples
    --------
    >>> [mcnemar_sample_size(0.02, discordance=share) for share in (0.1, 0.2, 0.3)]
    [1960, 3923, 5885]
    """
    if gain == 0:
        return None
    return least_rows(lambda n: mcnemar_power(gain, n, discordance=discordance, alpha=alpha), power=power)


def mann_whitney_power(superiority: float, n: int, *, share: float = 0.5, alpha: float = ALPHA) -> float:
    """Power of the two-sided Mann-Whitney test by Noether's approximation.

    Parameters
    ----------
    superiority : float
        P(x > y) + P(x = y) / 2 in truth; (1 + Cliff's delta) / 2.
    n : int
        Rows of both samples together, of which `share` are of the first.

    References
    ----------
    Noether (1987), Sample size determination for some common nonparametric tests, JASA 82.

    Examples
    --------
    >>> round(mann_whitney_power(0.638, 138), 3)
    0.802
    """
    check_share(share, "share")
    shift = abs(superiority - 0.5) * sqrt(12 * share * (1 - share) * n)
    critical = _critical(alpha)
    return float(ndtr(shift - critical) + ndtr(-shift - critical))


def mann_whitney_sample_size(
    superiority: float, *, share: float = 0.5, alpha: float = ALPHA, power: float = POWER
) -> int | None:
    """Rows of both samples together at which `mann_whitney_power` reaches `power`; None at 0.5.

    Examples
    --------
    >>> mann_whitney_sample_size(0.638)
    138
    """
    if superiority == 0.5:
        return None
    return least_rows(lambda n: mann_whitney_power(superiority, n, share=share, alpha=alpha), power=power)


def chi_square_power(w: float, n: int, *, dof: int, alpha: float = ALPHA) -> float:
    """Power of the chi-square test at Cohen's effect `w` (Cramer's V of a 2 x k table), `n` rows in all.

    References
    ----------
    Cohen (1988), ch. 7. Computed by statsmodels' `GofChisquarePower`.

    Examples
    --------
    >>> round(chi_square_power(0.3, 88, dof=1), 3)
    0.804
    """
    from statsmodels.stats.power import GofChisquarePower  # late: a tenth of a second

    return float(GofChisquarePower().power(w, n, check_share(alpha, "alpha"), n_bins=dof + 1))


def chi_square_sample_size(w: float, *, dof: int, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Rows at which `chi_square_power` reaches `power`; None at w = 0.

    Examples
    --------
    >>> chi_square_sample_size(0.3, dof=1), chi_square_sample_size(0.1, dof=4)
    (88, 1194)
    """
    return None if w == 0 else least_rows(lambda n: chi_square_power(w, n, dof=dof, alpha=alpha), power=power)


@lru_cache(maxsize=256)
def chi_square_noncentrality(dof: int, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Noncentrality at which a chi-squared test of `dof` degrees of freedom has `power`.

    Examples
    --------
    >>> round(chi_square_noncentrality(1), 3)
    7.849
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2, ncx2

    critical = float(chi2.isf(check_share(alpha, "alpha"), dof))
    high = 1.0
    while ncx2.sf(critical, dof, high) < check_share(power, "power"):
        high *= 2
    return float(brentq(lambda at: float(ncx2.sf(critical, dof, at)) - power, 1e-9, high))


def _critical(alpha: float) -> float:
    return -float(ndtri(check_share(alpha, "alpha") / 2))
