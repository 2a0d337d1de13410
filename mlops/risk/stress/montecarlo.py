"""Paths of a book by simulation: what its value and its deepest fall may be, each with its standard error.

Paths come in blocks. A block is a function of (seed, its number) alone, so that the numbers are the same whatever
`compute` is, and memory is bounded whatever the number of paths. Each path has a mirror image (antithetic).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, ndtr

from mlops.compute import SERIAL, Compute
from mlops.errors import DataError
from mlops.risk.measures import Floats
from mlops.risk.stress.joint import JointLaw, checked_weights
from mlops.risk.stress.marginal import CELLS, from_coordinates
from mlops.risk.stress.path_kernel import Singles, look_up, walk
from mlops.risk.stress.weighted_tail import weighted_tail
from mlops.stats.results import Estimate, unknown_estimate

PATHS = 10_000  # the user's default
HALF = 256  # pairs of a path and its mirror image in a block
NORMALS = 2**18  # cells of a chunk of bars: 1 MiB of single precision, which a core's cache holds
SHOWN = 1024  # paths whose whole course is kept for the fan
SEEDED = 0xC0FFEE  # keeps these streams apart from others of the same seed


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What `simulate` found.

    Attributes
    ----------
    profit : ndarray of shape (paths,)
        Of the whole horizon, as a fraction of equity; path 2i + 1 is the mirror image of path 2i.
    drawdown : ndarray of shape (paths,)
        Deepest fall from a running peak (the start counts), as a positive share of the peak; above 1 where the book
        lost more than all.
    courses : ndarray of shape (min(paths, SHOWN), bars)
        Value over equity after each bar, of the first paths.
    """

    profit: Floats
    drawdown: Floats
    courses: Floats
    horizon: int
    law: JointLaw

    def var(self, confidence: float = 0.99) -> Estimate:
        """Value at risk at the horizon, a positive loss as a fraction of equity."""
        return self._tail(confidence)[0]

    def es(self, confidence: float = 0.99) -> Estimate:
        """Expected shortfall at the horizon."""
        return self._tail(confidence)[1]

    def expected_drawdown(self) -> Estimate:
        """Mean of the deepest fall within the horizon."""
        if not self.drawdown.size:
            return unknown_estimate("expected_drawdown", self.law.n, self.law.note)
        pairs = self.drawdown.reshape(-1, 2).mean(axis=1)
        value, error = float(pairs.mean()), float(pairs.std(ddof=1) / np.sqrt(pairs.size))
        return Estimate("expected_drawdown", value, value - 1.96 * error, value + 1.96 * error, self.drawdown.size)

    def drawdown_at(self, confidence: float = 0.95) -> Estimate:
        """Deepest fall that is not exceeded with this confidence."""
        if not self.drawdown.size:
            return unknown_estimate("drawdown", self.law.n, self.law.note)
        return weighted_tail(self.drawdown, confidence, groups=self.drawdown.size // 2, name="drawdown")[0]

    def _tail(self, confidence: float) -> tuple[Estimate, Estimate]:
        if not self.profit.size:
            return tuple(unknown_estimate(name, self.law.n, self.law.note) for name in ("var", "es"))  # type: ignore[return-value]
        return weighted_tail(-self.profit, confidence, groups=self.profit.size // 2)


def simulate(
    law: JointLaw,
    weights: ArrayLike,
    *,
    horizon: int = 252,
    paths: int = PATHS,
    seed: int = 7,
    compute: Compute = SERIAL,
) -> Simulation:
    """Let a book run along `paths` courses of the market; quantities stay as they are, cash earns nothing.

    Parameters
    ----------
    law : JointLaw
        As `fit_joint` gives it. Of one that is not `known` nothing is simulated, and every number is unknown.
    weights : array_like of shape (N,)
        Value over equity, signed; 1 less their sum is cash.
    horizon : int
        In bars.
    paths : int
        Rounded up to whole blocks of 512.
    compute : Compute
        Where blocks run: in threads, for the inner loop holds no lock. The numbers do not depend on it.

    Raises
    ------
    DataError
        Weights are not N finite numbers, or horizon or paths not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from mlops.risk.stress.joint import fit_joint
    >>> law = fit_joint(0.01 * np.random.default_rng(0).standard_normal((500, 3)))
    >>> found = simulate(law, [0.5, 0.3, 0.2], horizon=10, paths=512)
    >>> found.profit.size, 0 < found.var().value < found.es().value
    (512, True)
    """
    for name, given in (("horizon", horizon), ("paths", paths)):
        if given < 1:
            raise DataError(f"{name} must be at least 1, got {given}. Give a count of {name}.")
    vector = checked_weights(weights, law.units)
    if not law.known:
        return Simulation(np.empty(0), np.empty(0), np.empty((0, horizon)), horizon, law)
    blocks = -(-paths // (2 * HALF))
    with_courses = -(-SHOWN // (2 * HALF))
    walker = Walker.of(law, vector)
    parts = compute.map(walker.block, range(blocks), shared=(seed, horizon, with_courses), threads=True)
    ends, falls, courses = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return Simulation(ends, falls, courses[:SHOWN], horizon, law)


@dataclass(frozen=True, slots=True, eq=False)
class Walker:
    """A law and a book in single precision, ready for the inner loop."""

    root: Singles
    variance: Singles
    levels: Singles
    steps: Singles
    book: tuple[Singles, Singles, Singles, Singles]
    cash: np.float32
    mixing: tuple[Singles, Singles] | None

    @classmethod
    def of(cls, law: JointLaw, weights: Floats, root: Floats | None = None) -> Walker:
        """`root @ root.T` is the correlation; by default its Cholesky root."""
        single = [np.ascontiguousarray(a, dtype=np.float32) for a in (weights, law.omega, law.alpha, law.beta)]
        levels, steps = _table(law.table)
        return cls(
            np.linalg.cholesky(law.correlation).astype(np.float32) if root is None else root.astype(np.float32),
            (law.volatility**2).astype(np.float32),
            levels,
            steps,
            (single[0], single[1], single[2], single[3]),
            np.float32(1 - weights.sum()),
            None if np.isinf(law.dof.value) else _table(mixing_table(law.dof.value)),
        )

    def block(self, number: int, seed: int, horizon: int, with_courses: int) -> tuple[Floats, Floats, Floats]:
        """Profit, drawdown and (of the first `with_courses` blocks) the courses of block `number`."""
        equity = np.empty((horizon, 2 * HALF), dtype=np.float32)
        done = 0
        h, price = self.start(2 * HALF)
        for normal, mix in _draws(seed, number, self.root.shape[0], horizon):
            bars = mix.shape[0]
            self.move(self.root @ normal, self.scales(mix), h, price, equity[done : done + bars])
            done += bars
        # Pairs side by side: whoever wants independent things takes the means of two neighbours.
        curve = equity.reshape(horizon, 2, HALF).transpose(0, 2, 1).reshape(horizon, -1)
        peak = np.maximum(np.maximum.accumulate(curve, axis=0), np.float32(1))
        fall = 1 - (curve / peak).min(axis=0)
        parts = curve[-1] - 1, np.maximum(fall, 0), curve.T if number < with_courses else np.empty((0, horizon))
        return tuple(np.array(part, dtype=np.float64) for part in parts)  # type: ignore[return-value]

    def start(self, paths: int) -> tuple[Singles, Singles]:
        """Today's variance and price on each path."""
        h = np.repeat(self.variance[:, None], paths, axis=1)
        return h, np.ones_like(h)

    def scales(self, mix: Singles) -> Singles:
        """sqrt(dof / chi2) out of standard normals, by its quantiles."""
        if self.mixing is None:
            return np.ones_like(mix)
        levels, steps = self.mixing
        return np.asarray(look_up(mix.ravel(), levels[0], steps[0])).reshape(mix.shape)

    def move(self, normals: Singles, scales: Singles, h: Singles, price: Singles, equity: Singles) -> None:
        """Take one step of `walk`; `equity` is filled."""
        equity[:] = self.cash
        walk(normals, scales, h, price, equity, (self.levels, self.steps), self.book)


def mixing_table(dof: float) -> Floats:
    """sqrt(dof / chi2) over the compressed standard normal, rising with it; shape (1, cells)."""
    normal = np.clip(from_coordinates(np.linspace(-1, 1, CELLS + 1)), -7.0, 7.0)
    return np.asarray(np.sqrt(dof / chdtri(dof, ndtr(normal))))[None]


def _table(levels: Floats) -> tuple[Singles, Singles]:
    steps = np.diff(levels, axis=1, append=levels[:, -1:])
    return np.ascontiguousarray(levels, dtype=np.float32), np.ascontiguousarray(steps, dtype=np.float32)


def _draws(seed: int, number: int, units: int, horizon: int) -> Iterator[tuple[Singles, NDArray[np.float32]]]:
    """Standard normals of a block, chunk by chunk of bars: (units, bars x HALF) and (bars, HALF)."""
    import torch  # 1.6 s and 200 MB that only who simulates shall pay; its normals cost half of numpy's

    stream = torch.Generator()
    stream.manual_seed(
        int(np.random.SeedSequence([SEEDED, seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    )
    chunk = max(1, NORMALS // (2 * HALF * units))
    for first in range(0, horizon, chunk):
        bars = min(chunk, horizon - first)
        drawn = torch.empty((units + 1) * bars * HALF, dtype=torch.float32).normal_(generator=stream).numpy()
        yield drawn[bars * HALF :].reshape(units, -1), drawn[: bars * HALF].reshape(bars, HALF)
