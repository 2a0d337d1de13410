"""The far tail: a generalised Pareto law beyond a threshold, what it says of rare losses, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from mlops.risk.measures import Floats, check_confidence, finite
from mlops.stats import Estimate

TAIL = 0.10  # share of the losses that the law is fitted to (McNeil and Frey 2000, section 2.2)
LEAST_BEYOND = 20  # exceedances under which the shape is not known to one figure
LOW, HIGH = -0.5, 0.95  # shapes: below the maximum is no estimate (Smith 1985), at 1 the mean is infinite
GRID, ROUNDS = 10, 3  # points a round of the search; each narrows it fourfold, a parabola does the rest
NEAR = 1e-7
SHAPES = 59  # shapes at which a profile is looked up, 0.025 apart
HALVINGS = 20
MONTH = 20  # bars
WIDEST = 1000.0  # an interval's end beyond this many times the estimate is infinity by another name
CLUSTERED = 0.01  # p-value of independence below which intervals are not to be believed
STABLE = (0.05, 0.075, 0.10, 0.125, 0.15)  # thresholds at which the answer is looked at again


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
    clustered: float  # p-value of "days beyond the threshold do not come together"
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


def extreme_loss(pnl: ArrayLike, confidence: float = 0.999, *, alpha: float = 0.1, tail: float = TAIL) -> Extreme:
    """VaR and ES too far out to count, with profile-likelihood intervals at `1 - alpha`.

    Assumes that losses beyond the threshold are independent and Pareto. So give it what a model has filtered
    (`returns[-len(scale):] * scale` of `Fitted.scenarios`: today's tail); in plain returns wild days come together,
    which `clustered` shows and the notes say, and intervals are then far too narrow. Where `stability` moves with the
    threshold, the law does not fit. How often intervals hold the truth is measured in docs/var.md.

    Parameters
    ----------
    pnl : array_like of shape (n,)
        Profits as a fraction of equity, in order of time. NaN is refused. Under 20 exceedances (200 bars at a tenth):
        unknown.

    Raises
    ------
    DataError
        A value is not finite, or the confidence is no share.

    References
    ----------
    McNeil, Frey and Embrechts (2015), Quantitative Risk Management, section 5.2; Coles (2001), An Introduction to
    Statistical Modeling of Extreme Values, section 4.3.3 (profiles).

    Examples
    --------
    >>> r = np.random.default_rng(0).standard_t(4, 5000) * 0.01
    >>> found = extreme_loss(r)
    >>> bool(found.var.low < 0.0717 < found.var.high)
    True
    """
    losses, share = -finite(pnl, "pnl"), 1.0 - check_confidence(confidence)
    threshold, beyond, weight = exceedances(losses, tail) if losses.size > 1 else (nan, np.empty(0), 0.0)
    fit = pareto(beyond)
    if beyond.size < LEAST_BEYOND or share >= weight or fit is None:
        return _unknown(losses.size, threshold, beyond.size, tail)
    point = _tail_losses(losses, share, tail)
    profile = _Profile(beyond, share / weight, float(chi2.ppf(1.0 - alpha, 1)) / 2.0, fit)
    together = _clustered(losses > threshold)
    note = "wild days come together: filter first, the interval is too narrow" if together < CLUSTERED else ""
    names = (f"VaR {confidence:g}", f"ES {confidence:g}")
    ends = [profile.interval(float(point[i]) - threshold, i) for i in range(2)]
    var, es = (
        Estimate(names[i], float(point[i]), threshold + ends[i][0], threshold + ends[i][1], losses.size, note)
        for i in range(2)
    )
    low, high = profile.shapes()
    xi = Estimate("tail shape", float(point[2]), low, high, losses.size, note)
    stability = tuple((cut, *_tail_losses(losses, share, cut)[[2, 0]].tolist()) for cut in STABLE if share < cut)
    return Extreme(var, es, xi, hill(losses, tail), threshold, beyond.size, together, stability)


class _Profile:
    """Where the likelihood of the excesses stays within `cut` of its maximum."""

    def __init__(self, beyond: Floats, ratio: float, cut: float, fit: ParetoFit) -> None:
        self.beyond, self.ratio = beyond, ratio
        self.xi = np.linspace(LOW, HIGH, SHAPES)
        self.xi[np.abs(self.xi) < NEAR] = NEAR
        self.level = float(_log_likelihood(np.array([fit.xi]), np.array([fit.scale]), beyond)[0]) - cut

    def interval(self, excess: float, measure: int) -> tuple[float, float]:
        """Lowest and highest VaR (measure 0) or ES (1), over the threshold."""
        low, high = 0.0, excess
        while self._best(2.0 * high, measure) > self.level and high < WIDEST * excess:
            high *= 2.0
        return self._edge(excess, low, measure), self._edge(excess, 2.0 * high, measure)

    def shapes(self) -> tuple[float, float]:
        scales = float(self.beyond.mean()) * np.geomspace(0.1, 5.0, 4 * SHAPES)
        best = [float(_log_likelihood(np.full(scales.size, xi), scales, self.beyond).max()) for xi in self.xi]
        held = self.xi[np.array(best) >= self.level]
        return float(held.min()), float(held.max())

    def _best(self, excess: float, measure: int) -> float:
        out = (self.ratio**-self.xi - 1.0) / self.xi
        scale = excess / out if measure == 0 else excess * (1.0 - self.xi) / (out + 1.0)
        return float(_log_likelihood(self.xi, scale, self.beyond).max())

    def _edge(self, inside: float, outside: float, measure: int) -> float:
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2.0
            if self._best(middle, measure) >= self.level:
                inside = middle
            else:
                outside = middle
        return inside


def _clustered(far: NDArray[np.bool_]) -> float:
    """p-value of "as many in each month as chance would have it": the dispersion of counts in blocks of 20 bars."""
    blocks = far.size // MONTH
    counts, rate = far[: blocks * MONTH].reshape(blocks, MONTH).sum(axis=1), far.mean()
    spread = float(((counts - MONTH * rate) ** 2).sum() / (MONTH * rate * (1.0 - rate)))
    return float(chi2.sf(spread, blocks - 1))


def _log_likelihood(xi: Floats, scale: Floats, beyond: Floats) -> Floats:
    inner = 1.0 + np.outer(xi / scale, beyond)
    with np.errstate(invalid="ignore", divide="ignore"):
        likelihood = -beyond.size * np.log(scale) - (1.0 / xi + 1.0) * np.log(inner).sum(axis=1)
    return np.where((inner > 0).all(axis=1) & (scale > 0), likelihood, -np.inf)


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
    return Extreme(var, es, xi, nan, threshold, beyond, nan, ())
