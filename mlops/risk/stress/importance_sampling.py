"""VaR and ES at the end of a short horizon with far fewer points than paths: Sobol points, and importance sampling.

The first coordinate is turned into the direction in which the book loses most, the others are the principal components
of what is left, and over time the mean comes first: a Sobol sequence then spends its best coordinates where they
count. Importance sampling moves the first coordinate, given the bar's mixing variable, to where the loss is about the
VaR, the mixing variables to where they are on average beyond it, and weighs each point by its likelihood ratio.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import idct
from scipy.special import ndtri, stdtrit
from scipy.stats import qmc

from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.joint import JointLaw, checked_weights, standardised
from mlops.risk.stress.montecarlo import Walker
from mlops.risk.stress.weighted_tail import weighted_tail
from mlops.stats.results import Estimate, unknown_estimate

Method = Literal["importance", "sobol", "plain"]
POINTS = 10_240
SCRAMBLES = 20  # independent ones of the Sobol sequence: their spread is the error
SOBOL_DIMENSIONS = 512  # coordinates beyond are pseudo-random; they carry next to nothing
PILOT = 2048  # points that find where the VaR is about
BOUNDED = 2.0**-31  # half a step of a Sobol point: 0 has no normal quantile


def tail_loss(
    law: JointLaw,
    weights: ArrayLike,
    *,
    confidence: float = 0.99,
    horizon: int = 1,
    method: Method = "importance",
    points: int = POINTS,
    seed: int = 7,
) -> tuple[Estimate, Estimate]:
    """VaR and ES of the book's loss at the horizon, with 95 % intervals of the simulation's error.

    Parameters
    ----------
    law : JointLaw
        Not known: both numbers are unknown.
    weights : array_like of shape (N,)
        Value over equity, signed.
    horizon : int
        In bars; quantities stay as they are. Made for 1 to about 20: further out, mixing and volatility paths decide,
        and the gain over `simulate` is small (docs/stress.md).
    method : {"importance", "sobol", "plain"}
        "importance" is on Sobol points, too. "plain" is pseudo-random, to compare with.
    points : int
        Rounded to twenty scrambles of a power of two.

    References
    ----------
    Glasserman, Heidelberger and Shahabuddin (2002), Mathematical Finance 12 (heavy tails); Imai and Tan (2006), Journal
    of Computational Finance 10 (the first direction); Owen (1998), scrambled nets.

    Examples
    --------
    >>> from mlops.risk.stress.joint import elliptical
    >>> var, es = tail_loss(elliptical([[1e-4, 5e-5], [5e-5, 1e-4]]), [0.5, 0.5])
    >>> round(var.value, 4), round(es.value, 4)
    (0.0201, 0.0231)
    """
    vector = checked_weights(weights, law.units)
    if method not in ("importance", "sobol", "plain"):
        raise DataError(f"method must be importance, sobol or plain, got {method!r}. Take importance.")
    if not law.known:
        return unknown_estimate("var", law.n, law.note), unknown_estimate("es", law.n, law.note)
    root, steepness = turned_root(law, vector)
    walker = Walker.of(law, vector, root)
    if method == "plain" or steepness == 0:
        loss, _, _ = _points(walker, horizon, points, np.random.default_rng([seed, 1]), 0)
        return weighted_tail(loss, confidence, groups=points)
    size = 2 ** max(5, round(np.log2(points / SCRAMBLES)))
    reach, lift = (0.0, 0.0)
    if method == "importance":
        pilot, _, mean_mix = _points(walker, horizon, PILOT, np.random.default_rng([seed, 2]), SOBOL_DIMENSIONS)
        var = float(np.quantile(pilot, confidence))
        reach, lift = max(var, 0.0) / steepness, float(mean_mix[pilot >= var].mean())
    streams = (np.random.default_rng([seed, 3, i]) for i in range(SCRAMBLES))
    parts = [_points(walker, horizon, size, rng, SOBOL_DIMENSIONS, reach, lift) for rng in streams]
    loss, ratio = (np.concatenate([part[i] for part in parts]) for i in range(2))
    return weighted_tail(loss, confidence, groups=SCRAMBLES, weights=ratio)


def turned_root(law: JointLaw, weights: Floats) -> tuple[Floats, float]:
    """A root of the correlation whose first column is the book's worst direction, and the profit a step along it.

    How fast a unit falls is taken between its middle and its 1 % tail, on the side where its position loses.
    """
    far = float(stdtrit(law.dof.value, 0.01))
    side = np.where(weights >= 0, far, -far)
    slope = (standardised(law, side) - standardised(law, np.zeros(law.units))) / side
    force = weights * law.volatility * slope
    plain = np.linalg.cholesky(law.correlation)
    steepness = float(np.linalg.norm(plain.T @ force))
    if steepness == 0:
        return np.asarray(plain, dtype=np.float64), 0.0
    first = np.asarray(plain @ (plain.T @ force / steepness), dtype=np.float64)
    left, size = np.linalg.svd(law.correlation - np.outer(first, first), hermitian=True)[:2]
    rest = left * np.sqrt(np.maximum(size, 0))
    return np.asarray(np.column_stack([first, rest[:, : law.units - 1]]), dtype=np.float64), steepness


def _points(
    walker: Walker,
    horizon: int,
    size: int,
    rng: np.random.Generator,
    sobol: int,
    reach: float = 0.0,
    lift: float = 0.0,
) -> tuple[Floats, Floats, Floats]:
    """Losses, likelihood ratios and mean mixing coordinates of `size` points; memory is one bar's."""
    units = walker.root.shape[0]
    net = _net(min(horizon * (units + 1), sobol), size, rng) if sobol else np.empty((0, size))
    take = _Coordinates(net, size, rng)
    total, mixes, others = take(1), take(horizon), take(horizon - 1)
    along = idct(np.vstack([total, others]), axis=0, norm="ortho")  # over time, the mean first
    mixes = mixes + lift
    scales = walker.scales(np.ascontiguousarray(mixes, dtype=np.float32))
    shift = -reach * scales / (scales.astype(np.float64) ** 2).sum(axis=0)
    along = along + shift
    ratio = np.exp((shift**2 / 2 - shift * along + lift**2 / 2 - lift * mixes).sum(axis=0))
    h, price = walker.start(size)
    equity = np.empty((1, size), dtype=np.float32)
    for bar in range(horizon):
        normal = np.vstack([along[bar], take(units - 1)]).astype(np.float32)
        walker.move(walker.root @ normal, scales[bar : bar + 1], h, price, equity)
    return 1 - equity[0].astype(np.float64), np.asarray(ratio), np.asarray(mixes.mean(axis=0))


def _net(dimensions: int, size: int, rng: np.random.Generator) -> Floats:
    points = qmc.Sobol(dimensions, scramble=True, rng=rng).random(size)
    return np.asarray(ndtri(np.clip(points, BOUNDED, 1 - BOUNDED)).T)


class _Coordinates:
    """Rows of standard normals: those of the net first, in order of importance, then pseudo-random ones."""

    def __init__(self, net: Floats, size: int, rng: np.random.Generator) -> None:
        self._net, self._size, self._rng, self._used = net, size, rng, 0

    def __call__(self, rows: int) -> Floats:
        known = self._net[self._used : self._used + rows]
        self._used += known.shape[0]
        return np.vstack([known, self._rng.standard_normal((rows - known.shape[0], self._size))])
