"""The far tail: a generalised Pareto law beyond a threshold, what it says of rare losses, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nan

import numpy as np
from numpy.typing import ArrayLike

from mlops.risk.measures import Floats, check_confidence, finite
from mlops.stats import Estimate, block_length, stationary_indices

TAIL = 0.10  # share of the losses that the law is fitted to (McNeil and Frey 2000, section 2.2)
LEAST_BEYOND = 20  # exceedances under which the shape is not known to one figure
LOW, HIGH = -0.5, 0.95  # shapes: below the maximum is no estimate (Smith 1985), at 1 the mean is infinite
GRID, ROUNDS = 10, 3  # points a round of the search; each narrows it fourfold, a parabola does the rest
NEAR = 1e-7
PATHS = 500
STABLE = (0.05, 0.075, 0.10, 0.125, 0.15)  # thresholds at which the answer is looked at again
CELLS = 4_000_000  # losses drawn at once


@dataclass(frozen=True, slots=True)
class ParetoFit:
    """Shape `xi` (0.25: four moments, as a t with 4 degrees of freedom) and scale of `n` exceedances."""

    xi: float
    scale: float
    n: int

    def losses(self, threshold: float, share: Floats) -> tuple[Floats, Floats]:
        """VaR and ES where `share` (in (0, 1]) of the exceedances lie beyond."""
        if abs(self.xi) < 1e-9:
            var = threshold - self.scale * np.log(share)
        else:
            var = threshold + self.scale / self.xi * (share**-self.xi - 1.0)
        return var, (var + self.scale - self.xi * threshold) / (1.0 - self.xi)


@dataclass(frozen=True, slots=True)
class Extreme:
    """What a rare loss is. Estimates are NaN with a note where the tail is too short."""

    var: Estimate
    es: Estimate
    xi: Estimate
    hill: float  # the shape by Hill's estimator, which assumes a heavy tail; far from `xi`: trust neither
    threshold: float
    beyond: int
    stability: tuple[tuple[float, float, float], ...]  # (share beyond the threshold, xi, VaR)


def pareto(excesses: Floats) -> ParetoFit | None:
    """Maximum likelihood of a generalised Pareto law; None where fewer than two of the excesses differ.

    By its profile: given `tau = xi / scale` the shape is `mean(log(1 + tau x))`, so the search has one dimension.
    Equal to `scipy.stats.genpareto.fit(x, floc=0)` to 1e-3 at a fiftieth of its time.

    Parameters
    ----------
    excesses : ndarray of shape (n,)
        Losses less the threshold, > 0.

    References
    ----------
    Davison (1984); Grimshaw (1993), Technometrics 35.

    Examples
    --------
    >>> import numpy as np
    >>> fit = pareto(np.random.default_rng(0).pareto(4.0, 100_000))
    >>> round(fit.xi, 2), round(fit.scale, 2)
    (0.26, 0.25)
    """
    if excesses.size < 2 or not np.ptp(excesses):
        return None
    unit = float(excesses.mean())
    x = excesses / unit
    least = -1.0 / float(x.max())
    low, high = log(-least * 1e-3), log(1e3)
    for _ in range(ROUNDS):
        at = np.linspace(low, high, GRID)
        score = _profile(least + np.exp(at), x)[0]
        best = min(max(int(score.argmin()), 1), GRID - 2)
        low, high = at[best - 1], at[best + 1]
    here = at[best] + (at[1] - at[0]) * _vertex(*score[best - 1 : best + 2])
    tau = least + np.exp(np.array([here, at[score.argmin()]]))
    score, xi = _profile(tau, x)
    last = int(score.argmin())
    return ParetoFit(float(xi[last]), float(xi[last] / tau[last]) * unit, x.size)


def _profile(tau: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Minus the mean log-likelihood (but for a constant) and the shape, for each tau."""
    tau = np.where(np.abs(tau) < NEAR, NEAR, tau)  # at 0 it is the exponential law, 0 / 0
    xi = np.log(1.0 + np.outer(tau, x)).mean(axis=1)  # log1p is ten times slower and 1e-16 is far off here
    return np.where((xi < LOW) | (xi > HIGH), np.inf, np.log(xi / tau) + xi), xi


def _vertex(before: float, here: float, after: float) -> float:
    """Where a parabola through three points is lowest, in steps from the middle; 0 where it has no such place."""
    bend = before - 2.0 * here + after
    return float(0.5 * (before - after) / bend) if 0 < bend < np.inf else 0.0


def exceedances(losses: Floats, tail: float = TAIL) -> tuple[float, Floats, float]:
    """Threshold, the excesses over it (> 0) and their share of the losses, at most `tail` of them.

    Examples
    --------
    >>> import numpy as np
    >>> threshold, beyond, share = exceedances(np.arange(20.0), 0.1)
    >>> threshold, sorted(beyond.tolist()), share
    (17.0, [1.0, 2.0], 0.1)
    """
    k = max(1, int(tail * losses.size + 1e-9))
    top = np.partition(losses, losses.size - k - 1)[losses.size - k - 1 :]
    beyond = top[1:] - top[0]
    beyond = beyond[beyond > 0]
    return float(top[0]), beyond, beyond.size / losses.size


def hill(losses: Floats, tail: float = TAIL) -> float:
    """Hill's estimate of the shape from the worst `tail` of the losses; NaN where the threshold is no loss.

    References
    ----------
    Hill (1975), A simple general approach to inference about the tail of a distribution, Annals of Statistics 3.
    """
    threshold, beyond, _ = exceedances(losses, tail)
    return float(np.log1p(beyond / threshold).mean()) if threshold > 0 and beyond.size else nan


def extreme_loss(
    pnl: ArrayLike,
    confidence: float = 0.999,
    *,
    rng: np.random.Generator,
    alpha: float = 0.1,
    tail: float = TAIL,
    paths: int = PATHS,
) -> Extreme:
    """VaR and ES too far out to count, with intervals at `1 - alpha` from a block bootstrap.

    Each drawn series (stationary bootstrap; block length of the squares, for wild days come together) gets its own
    threshold and fit. Assumes that the tail's law is that of the past and Pareto beyond the threshold; where
    `stability` moves with the threshold it is not. How often intervals hold the truth is measured in docs/var.md.

    Parameters
    ----------
    pnl : array_like of shape (n,)
        Profits as a fraction of equity, in order of time. NaN is refused. Under 20 exceedances (200 bars at a tenth):
        unknown. Filtered scenarios (`Fitted.scenarios`) give today's tail, plain returns the long-run one.

    Raises
    ------
    DataError
        A value is not finite, or the confidence lies inside of the tail.

    References
    ----------
    McNeil, Frey and Embrechts (2015), Quantitative Risk Management, section 5.2.
    """
    losses, share = -finite(pnl, "pnl"), 1.0 - check_confidence(confidence)
    threshold, beyond, weight = exceedances(losses, tail) if losses.size > 1 else (nan, np.empty(0), 0.0)
    if beyond.size < LEAST_BEYOND or share >= weight or not np.ptp(beyond):
        return _unknown(losses.size, threshold, beyond.size, tail)
    point = _tail_losses(losses, share, tail)
    block = block_length(losses**2)
    size = max(1, CELLS // losses.size)
    drawn = []
    for start in range(0, paths, size):
        rows = stationary_indices(losses.size, length=losses.size, paths=min(size, paths - start), block=block, rng=rng)
        drawn += [_tail_losses(one, share, tail) for one in losses[rows]]
    low, high = np.nanquantile(np.array(drawn), [alpha / 2, 1 - alpha / 2], axis=0)
    names = (f"VaR {confidence:g}", f"ES {confidence:g}", "tail shape")
    var, es, xi = (
        Estimate(name, float(point[i]), float(low[i]), float(high[i]), losses.size) for i, name in enumerate(names)
    )
    stability = tuple((one, *_tail_losses(losses, share, one)[[2, 0]].tolist()) for one in STABLE if share < one)
    return Extreme(var, es, xi, hill(losses, tail), threshold, beyond.size, stability)


def _tail_losses(losses: Floats, share: float, tail: float) -> Floats:
    """VaR, ES and shape; NaN where no law can be fitted."""
    threshold, beyond, weight = exceedances(losses, tail)
    fit = pareto(beyond)
    if fit is None or share >= weight:
        return np.full(3, nan)
    var, es = fit.losses(threshold, np.array([share / weight]))
    return np.array([var[0], es[0], fit.xi])


def _unknown(n: int, threshold: float, beyond: int, tail: float) -> Extreme:
    note = f"{beyond} different losses beyond the threshold, {LEAST_BEYOND} needed ({round(LEAST_BEYOND / tail)} bars)"
    var, es, xi = (Estimate(name, nan, nan, nan, n, note) for name in ("VaR", "ES", "tail shape"))
    return Extreme(var, es, xi, nan, threshold, beyond, ())
