"""What a simulated market does: labels, forecasts of models of a stated skill, returns of their books.

A label asks whether the sum of the next `horizon` innovations of a unit is positive, so labels overlap as real ones do;
units share a factor. A model sees that sum through noise, of which versions share a part, and says the probability that
follows: forecasts are calibrated until the model falls. Nothing here knows of the platform.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr

Floats = NDArray[np.float64]
REFERENCE_ROWS, REFERENCE_BARS = 20_000, 1_000  # as jobs.train keeps
CLIP = 1e-6  # as models.gbm


@dataclass(frozen=True, slots=True)
class Law:
    """The law of a world.

    Parameters
    ----------
    units, horizon : int
        Symbols, and bars that a label spans.
    skill : float
        Accuracy of every version that is not `bad`.
    gain : float
        Points of accuracy by which versions from the second on are better than the first.
    fall, fall_at : float, int
        Points of accuracy that versions trained before bar `fall_at` lose there.
    pnl : {"related", "unrelated"}
        Whether a book earns by what the label asks.
    volatility : float
        Standard deviation of a book's returns, a fraction of equity a bar.
    shared, alike : float
        Correlation of two versions' noise, and of their books where P&L is unrelated.
    factor : float
        Share of variance that units have in common.
    bad : float
        Points of accuracy that every version from the second on has less than its record says.
    rare : bool
        Labels are rare and come in clusters; the versions' forecasts are constants that are equally far off.
    """

    units: int = 20
    horizon: int = 5
    skill: float = 0.61
    gain: float = 0.0
    fall: float = 0.0
    fall_at: int = 10**9
    pnl: str = "unrelated"
    volatility: float = 0.01
    shared: float = 0.8
    alike: float = 0.9
    factor: float = 0.3
    bad: float = 0.0
    rare: bool = False

    def promised(self, version: int) -> float:
        """Accuracy that a version's forecasts announce, which is that of its record."""
        return self.skill if version == 1 else self.skill + self.gain

    def real(self, version: int, trained_at: int, bars: NDArray[np.intp]) -> Floats:
        """Accuracy of a version at each of `bars`."""
        accuracy = self.promised(version) - (self.bad if version > 1 else 0.0)
        fell = (bars >= self.fall_at) & (trained_at < self.fall_at)
        return np.where(fell, accuracy - self.fall, accuracy)


CALM, CLUSTER, EVENT = 1 / 40, 1 / 5, 0.5  # chance a bar that a cluster begins, that it ends, of a label within it
FEATURES = ("f0", "f1", "f2", "f3", "f4", "f5")
MEMORY = 0.8  # of a feature, a bar


class World:
    """One draw of a law over `bars` bars.

    Everything is drawn from `seed`: what a version forecasts does not depend on when it is asked.
    """

    def __init__(self, law: Law, bars: int, seed: int) -> None:
        self.law, self.bars, self._seed = law, bars, seed
        rng = self._rng(0)
        self.innovations = _panel(rng, bars + law.horizon, law.units, law.factor)
        self._hidden = _summed(self.innovations[1:], law.horizon)[:bars]
        self._noise = _summed(_panel(rng, bars + law.horizon, law.units, law.factor)[1:], law.horizon)[:bars]
        self._market = rng.standard_normal(bars)
        self._labels = _clusters(rng, bars, law.units) if law.rare else (self._hidden > 0).astype(np.float64)

    @property
    def labels(self) -> Floats:
        """Shape (bars, units): what will have come true `horizon` bars later."""
        return self._labels

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Shape (bars, units, features), stationary and unrelated to skill."""
        return features(self._rng(1), self.bars, self.law.units)

    def forecasts(self, version: int, trained_at: int = -1) -> Floats:
        """Probabilities of a version, shape (bars, units)."""
        law, rng = self.law, self._rng(10 + version)
        own = _summed(_panel(rng, self.bars + law.horizon, law.units, law.factor)[1:], law.horizon)[: self.bars]
        noise = np.sqrt(law.shared) * self._noise + np.sqrt(1 - law.shared) * own
        if law.rare:
            return _off(version, noise)
        return announced(
            self._hidden, noise, law.promised(version), law.real(version, trained_at, np.arange(self.bars))[:, None]
        )

    def returns(self, version: int, forecasts: Floats) -> Floats:
        """Simple returns of a version's book, shape (bars,); the first is 0."""
        law, rng = self.law, self._rng(1000 + version)
        noise = np.sqrt(law.alike) * self._market + np.sqrt(1 - law.alike) * rng.standard_normal(self.bars)
        earned = noise
        if law.pnl == "related":
            held = ((2 * forecasts[:-1] - 1) * self.innovations[1 : self.bars]).mean(axis=1)
            earned = np.concatenate([[0.0], held / _usual(held)])
        out = law.volatility * earned
        out[0] = 0.0
        return np.asarray(np.maximum(out, -0.9))

    def record(self, version: int, number: int) -> Reference:
        """Out-of-fold rows of a version: a stretch of the past of its own, as accurate as it is promised to be."""
        law = self.law
        past = replace(law, fall=0.0, bad=0.0)
        bars = max(REFERENCE_BARS, REFERENCE_ROWS // law.units)
        world = World(past, bars, self._seed * 7919 + 104_729 * (number + 1))
        probability = world.forecasts(version)
        return Reference(world.labels, probability, features(world._rng(1), bars, law.units))

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stream])


@dataclass(frozen=True, slots=True)
class Reference:
    """Labels and forecasts of shape (bars, units), features of shape (bars, units, features)."""

    labels: Floats
    forecasts: Floats
    features: NDArray[np.float32]


def announced(hidden: Floats, noise: Floats, promised: float, real: Floats | float) -> Floats:
    """Calibrated probabilities of a model that is right with chance `promised`, while it is right with `real`.

    For a signal that correlates c with a normal quantity the sign is right with chance 1/2 + arcsin(c)/pi.
    """
    c, said = np.sin(np.pi * (np.asarray(real) - 0.5)), float(np.sin(np.pi * (promised - 0.5)))
    signal = c * hidden + np.sqrt(1 - c**2) * noise
    return np.asarray(np.clip(ndtr(said * signal / np.sqrt(1 - said**2)), CLIP, 1 - CLIP))


def features(rng: np.random.Generator, bars: int, units: int) -> NDArray[np.float32]:
    """AR(1) features of variance 1, half of it common to the units; shape (bars, units, features)."""
    shape = (bars, len(FEATURES), units)
    steps = np.sqrt(0.5) * rng.standard_normal((*shape[:2], 1)) + np.sqrt(0.5) * rng.standard_normal(shape)
    steps[1:] *= np.sqrt(1 - MEMORY**2)
    return np.ascontiguousarray(lfilter([1.0], [1.0, -MEMORY], steps, axis=0).swapaxes(1, 2), dtype=np.float32)


def _panel(rng: np.random.Generator, bars: int, units: int, factor: float) -> Floats:
    common = rng.standard_normal((bars, 1))
    steps: Floats = np.sqrt(factor) * common + np.sqrt(1 - factor) * rng.standard_normal((bars, units))
    return steps


def _summed(steps: Floats, horizon: int) -> Floats:
    """Sums of `horizon` consecutive rows, of variance 1."""
    total = np.concatenate([np.zeros((1, steps.shape[1])), steps.cumsum(axis=0)])
    return np.asarray((total[horizon:] - total[:-horizon]) / np.sqrt(horizon))


def _clusters(rng: np.random.Generator, bars: int, units: int) -> Floats:
    """Labels that are 0 but within clusters, which hit all units at once."""
    draws, state, inside = rng.random(bars), np.empty(bars, dtype=bool), bool(rng.random() < rare_share() / EVENT)
    for i, draw in enumerate(draws.tolist()):
        state[i] = inside
        inside = draw >= CLUSTER if inside else draw < CALM
    return (state[:, None] & (rng.random((bars, units)) < EVENT)).astype(np.float64)


def rare_share() -> float:
    """Share of ones among rare labels."""
    return EVENT * CALM / (CALM + CLUSTER)


HIGH, LOW = 1.6, 0.5657  # times the true share: forecasts of the same expected log-loss


def _off(version: int, noise: Floats) -> Floats:
    share = rare_share() * (HIGH if version % 2 else LOW)
    odds = share / (1 - share) * np.exp(0.05 * noise)
    return np.clip(odds / (1 + odds), CLIP, 1 - CLIP)


def _usual(x: Floats) -> float:
    return float(max(x.std(), 1e-12))
