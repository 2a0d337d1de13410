"""Are exceedances as rare, as scattered and as deep as a VaR and an ES say? Tests with exact or simulated p-values.

The textbook p-values are limits for many exceedances, and a year at 99 % holds two or three. These need no limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy
from scipy.stats import binom

from mlops.risk.measures import Floats, Losses

LAGS = 4  # Engle and Manganelli (2004), section 6
PATHS = 999  # p-values in steps of a thousandth
TIE = 1e-9  # statistics closer than this are one
SHAPE = 0.25  # of the tail that Z2's null draws from: a t with 4 degrees of freedom, as daily returns have
CELLS = 4_000_000  # hits drawn at once
RIDGE = 1e-9  # keeps a regressor without a hit from being singular

Hits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Check:
    """A statistic and the chance of one at least as far under its null."""

    statistic: float
    p_value: float


def kupiec(hits: Hits, share: float) -> Check:
    """Proportion of failures: are there as many exceedances as there should be?

    Null: hits are independent, each with chance `share` (1 - confidence). p-value: exact, the binomial chance of all
    counts whose likelihood ratio is at least as large. Two-sided: too few count against a model as well.

    References
    ----------
    Kupiec (1995), J. Derivatives 3.

    Examples
    --------
    >>> import numpy as np
    >>> round(kupiec(np.arange(250) < 7, 0.01).p_value, 3)
    0.014
    """
    counts = np.arange(hits.size + 1)
    ratios = _unconditional(counts, hits.size, share)
    ratio = ratios[int(hits.sum())]
    return Check(float(ratio), _chance(binom.pmf(counts, hits.size, share), ratios >= ratio - TIE))


def independence(hits: Hits) -> Check:
    """Does an exceedance follow on an exceedance as often as on a quiet bar?

    Null: hits are exchangeable, whatever their chance. p-value: exact, from the law of the number of runs given the
    number of hits. Sees dependence from one bar to the next only; `dynamic_quantile` looks further.

    References
    ----------
    Christoffersen (1998), International Economic Review 39; Wald and Wolfowitz (1940) for the runs.

    Examples
    --------
    >>> import numpy as np
    >>> alone, together = np.zeros((2, 250), dtype=bool)
    >>> alone[::50], together[:5] = True, True
    >>> round(independence(alone).p_value, 2), independence(together).p_value < 1e-6
    (1.0, True)
    """
    n, k = hits.size, int(hits.sum())
    if k in (0, n):
        return Check(0.0, 1.0)
    runs = np.arange(1, min(k, n - k + 1) + 1)
    ratios, count = _runs_ratio(runs, k, n), _runs(hits)
    now = ratios[count - 1]
    return Check(float(now), _chance(_runs_chance(runs, k, n), ratios >= now - TIE))


def conditional_coverage(hits: Hits, share: float) -> Check:
    """Both at once: as many as there should be, and independent from one bar to the next.

    Null: independent hits, each with chance `share`. p-value: exact, over all counts and runs of hits.

    References
    ----------
    Christoffersen (1998), International Economic Review 39.
    """
    n, k = hits.size, int(hits.sum())
    ratio = float(_unconditional(np.array(k), n, share)) + independence(hits).statistic
    low, high = int(binom.ppf(TIE, n, share)), int(binom.isf(TIE, n, share)) + 1
    chance = 0.0
    for count in range(low, min(high, n) + 1):
        head = float(_unconditional(np.array(count), n, share))
        runs = np.arange(1, min(count, n - count + 1) + 1)
        if count in (0, n):
            chance += float(binom.pmf(count, n, share)) * (head >= ratio - TIE)
            continue
        far = _chance(_runs_chance(runs, count, n), head + _runs_ratio(runs, count, n) >= ratio - TIE)
        chance += float(binom.pmf(count, n, share)) * far
    return Check(ratio, min(1.0, chance))


def dynamic_quantile(hits: Hits, var: Floats, share: float, *, rng: np.random.Generator, paths: int = PATHS) -> Check:
    """Can exceedances be foretold from the last four, or from the VaR itself?

    Null: independent hits, each with chance `share`, whatever the VaR. p-value: simulated from that null on the very
    VaR given, so it needs no limit.

    Parameters
    ----------
    var : ndarray of shape (n,)
        The forecast of each bar; only its shape counts, not its level.

    References
    ----------
    Engle and Manganelli (2004), CAViaR, JBES 22; the out-of-sample form, section 6. Dufour (2006), J. Econometrics 133,
    for simulated p-values.
    """
    if hits.size <= 2 * LAGS:
        return Check(np.nan, np.nan)
    spread = float(var.std())
    level = (var - var.mean()) / (spread if spread > 0 else 1.0)
    statistic = float(_projected(hits[None, :], level, share)[0])
    size = max(1, CELLS // hits.size)
    drawn = np.concatenate(
        [
            _projected(rng.random((min(size, paths - start), hits.size)) < share, level, share)
            for start in range(0, paths, size)
        ]
    )
    return Check(statistic, float((1 + (drawn >= statistic - TIE).sum()) / (1 + paths)))


def shortfall(
    returns: Floats, losses: Losses, share: float, *, rng: np.random.Generator, paths: int = 10 * PATHS
) -> Check:
    """Z2 of Acerbi and Szekely: are exceedances together as frequent and deep as the ES says? Below 0 it is too low.

    Null: independent exceedances with chance `share` and mean loss ES. p-value: simulated, one-sided (too low an ES).
    Assumes that what lies beyond the VaR is Pareto with shape 0.25 and the forecast's own mean, for the test is given
    VaR and ES only; a wilder tail than that errs more often.

    References
    ----------
    Acerbi and Szekely (2014), Backtesting expected shortfall, Risk 27, test 2.
    """
    hit = returns < -losses.var
    z2 = 1.0 + float((returns[hit] / losses.es[hit]).sum()) / (share * returns.size)
    many = rng.binomial(returns.size, share, paths)
    path, day = np.repeat(np.arange(paths), many), rng.integers(returns.size, size=int(many.sum()))
    beyond = (1.0 - SHAPE) / SHAPE * (rng.random(day.size) ** -SHAPE - 1.0)  # mean one
    ratio = (losses.var / losses.es)[day]
    depth = np.bincount(path, weights=ratio + (1.0 - ratio) * beyond, minlength=paths)
    drawn = 1.0 - depth / (share * returns.size)
    return Check(z2, float((1 + (drawn <= z2 + TIE).sum()) / (1 + paths)))


def _unconditional(count: NDArray[np.intp], n: int, share: float) -> Floats:
    rate = count / n
    null = xlogy(count, share) + xlogy(n - count, 1.0 - share)
    return np.asarray(-2.0 * (null - xlogy(count, rate) - xlogy(n - count, 1.0 - rate)))


def _runs(hits: Hits) -> int:
    return int(hits[0]) + int((hits[1:] & ~hits[:-1]).sum())


def _runs_ratio(runs: NDArray[np.intp], k: int, n: int) -> Floats:
    """Christoffersen's likelihood ratio, as if the series closed to a ring: then runs and hits say everything."""
    after_hit, after_quiet = (k - runs) / k, runs / (n - k)
    free = xlogy(k - runs, after_hit) + xlogy(runs, 1 - after_hit)
    free += xlogy(runs, after_quiet) + xlogy(n - k - runs, 1 - after_quiet)
    return np.asarray(2.0 * (free - xlogy(k, k / n) - xlogy(n - k, 1 - k / n)))


def _runs_chance(runs: NDArray[np.intp], k: int, n: int) -> Floats:
    return np.asarray(np.exp(_choose(k - 1, runs - 1) + _choose(n - k + 1, runs) - _choose(n, np.array(k))))


def _choose(n: int, k: NDArray[np.intp]) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _chance(chances: Floats, far: NDArray[np.bool_]) -> float:
    return min(1.0, float(chances[far].sum()))


def _projected(hits: Hits, level: Floats, share: float) -> Floats:
    """The DQ statistic of each row of hits: what the regressors explain of them, in units of their variance."""
    h = hits.astype(np.float32)
    columns = [np.ones_like(h[:, LAGS:]), *(h[:, LAGS - j : -j] for j in range(1, LAGS + 1))]
    target, level32 = h[:, LAGS:] - np.float32(share), level[LAGS:].astype(np.float32)
    columns.append(np.broadcast_to(level32, target.shape))
    gram = np.empty((len(h), len(columns), len(columns)))
    for i, column in enumerate(columns):
        for j, earlier in enumerate(columns[: i + 1]):
            gram[:, i, j] = gram[:, j, i] = np.einsum("pt,pt->p", column, earlier)
    gram += RIDGE * target.shape[1] * np.eye(len(columns))
    right = np.stack([np.einsum("pt,pt->p", regressor, target) for regressor in columns], axis=1)
    solved = np.linalg.solve(gram, right[:, :, None])[:, :, 0]
    return np.asarray((solved * right).sum(axis=1) / (share * (1.0 - share)))
