"""Laws of the residuals: what a filtered bar may lose, in standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from mlops.risk.measures import Floats, Losses, sample_losses, tail_weights
from mlops.risk.var.evt import TAIL, ParetoFit, exceedances, pareto

WINDOW = 2000  # residuals: 20 beyond the 99 % VaR; of filtered ones a long memory is no harm
LEAST = 100  # residuals: one beyond the 99 % VaR
LEAST_TAIL = 250  # 25 exceedances at a tenth


@dataclass(frozen=True, slots=True)
class Empirical:
    """The residuals themselves, equally likely."""

    window: int = WINDOW
    least: int = LEAST

    def losses(self, residuals: Floats, confidences: Sequence[float], shape: tuple[float, ...]) -> Losses:
        """VaR and ES in standard deviations: residuals of shape (m, n) -> (m, confidences)."""
        return sample_losses(residuals, confidences)

    def fit(self, residuals: Floats, shape: tuple[float, ...]) -> tuple[float, ...]:
        """Parameters for `losses`; `shape` is what the filter fitted."""
        return ()

    def chances(self, n: int) -> Floats:
        """How likely each of n residuals is, the newest last."""
        return np.full(n, 1.0 / n)


@dataclass(frozen=True, slots=True)
class Aged:
    """The residuals, newer ones likelier (Boudoukh, Richardson and Whitelaw 1998)."""

    decay: float = 0.98  # their slower one
    window: int = 500
    least: int = LEAST

    def losses(self, residuals: Floats, confidences: Sequence[float], shape: tuple[float, ...]) -> Losses:
        """VaR and ES in standard deviations: residuals of shape (m, n) -> (m, confidences)."""
        losses = Losses(*np.empty((2, len(residuals), len(confidences))))
        chances = self.chances(residuals.shape[1])
        for i, row in enumerate(residuals):
            for j, confidence in enumerate(confidences):
                rows, part = tail_weights(row, confidence, weights=chances)
                losses.var[i, j], losses.es[i, j] = -row[rows[-1]], -(part @ row[rows])
        return losses

    def fit(self, residuals: Floats, shape: tuple[float, ...]) -> tuple[float, ...]:
        """Parameters for `losses`; `shape` is what the filter fitted."""
        return ()

    def chances(self, n: int) -> Floats:
        """How likely each of n residuals is, the newest last."""
        weights = self.decay ** np.arange(n, dtype=np.float64)[::-1]
        return np.asarray(weights / weights.sum())


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A normal law; with the mean and spread of the window's residuals where `estimated`, else the standard one."""

    estimated: bool = False
    window: int = 500
    least: int = 30

    def losses(self, residuals: Floats, confidences: Sequence[float], shape: tuple[float, ...]) -> Losses:
        """VaR and ES in standard deviations: residuals of shape (m, n) -> (m, confidences)."""
        share = 1.0 - np.asarray(confidences)
        var, es = -norm.ppf(share), norm.pdf(norm.ppf(share)) / share
        mean, spread = np.zeros((len(residuals), 1)), np.ones((len(residuals), 1))
        if self.estimated:
            mean, spread = residuals.mean(axis=1, keepdims=True), residuals.std(axis=1, ddof=1, keepdims=True)
        return Losses(spread * var - mean, spread * es - mean)

    def fit(self, residuals: Floats, shape: tuple[float, ...]) -> tuple[float, ...]:
        """Parameters for `losses`; `shape` is what the filter fitted."""
        return ()

    def chances(self, n: int) -> Floats:
        """How likely each of n residuals is, the newest last."""
        return np.full(n, 1.0 / n)


@dataclass(frozen=True, slots=True)
class Student:
    """The t or skewed t that the filter fitted, of variance one (Hansen 1994)."""

    window: int = WINDOW
    least: int = LEAST

    def losses(self, residuals: Floats, confidences: Sequence[float], shape: tuple[float, ...]) -> Losses:
        """VaR and ES in standard deviations: residuals of shape (m, n) -> (m, confidences)."""
        var, es = _student_losses(tuple(confidences), shape)
        return Losses(np.tile(var, (len(residuals), 1)), np.tile(es, (len(residuals), 1)))

    def fit(self, residuals: Floats, shape: tuple[float, ...]) -> tuple[float, ...]:
        """Parameters for `losses`; `shape` is what the filter fitted."""
        return shape

    def chances(self, n: int) -> Floats:
        """How likely each of n residuals is, the newest last."""
        return np.full(n, 1.0 / n)


@dataclass(frozen=True, slots=True)
class Pareto:
    """A generalised Pareto tail on the residuals (peaks over threshold; McNeil and Frey 2000).

    Shape and relative scale are fitted; the threshold and the mean excess are those of the residuals given, whose tail
    it thus follows from bar to bar. Inside of the threshold, and where there is no tail to fit, the residuals speak.
    """

    window: int = WINDOW
    tail: float = TAIL
    least: int = LEAST_TAIL

    def losses(self, residuals: Floats, confidences: Sequence[float], shape: tuple[float, ...]) -> Losses:
        """VaR and ES in standard deviations: residuals of shape (m, n) -> (m, confidences)."""
        losses = Losses(*np.empty((2, len(residuals), len(confidences))))
        share = 1.0 - np.asarray(confidences)
        for i, row in enumerate(residuals):
            threshold, beyond, weight = exceedances(-row, self.tail)
            deep = (share < weight) & bool(shape)
            if not deep.all():
                plain = sample_losses(row[None, :], confidences)
                losses.var[i], losses.es[i] = plain.var[0], plain.es[0]
            if deep.any():
                fit = ParetoFit(shape[0], shape[1] * float(beyond.mean()), beyond.size)
                losses.var[i, deep], losses.es[i, deep] = fit.losses(threshold, share[deep] / weight)
        return losses

    def fit(self, residuals: Floats, shape: tuple[float, ...]) -> tuple[float, ...]:
        """Shape, and scale over the mean excess: neither has a unit. Empty where there is no tail to fit."""
        _, beyond, _ = exceedances(-residuals, self.tail)
        tail_fit = pareto(beyond)
        return () if tail_fit is None else (tail_fit.xi, tail_fit.scale / float(beyond.mean()))

    def chances(self, n: int) -> Floats:
        """How likely each of n residuals is, the newest last."""
        return np.full(n, 1.0 / n)


Law = Empirical | Aged | Gaussian | Student | Pareto


@lru_cache(maxsize=64)  # asked each second of the same parameters
def _student_losses(confidences: tuple[float, ...], shape: tuple[float, ...]) -> tuple[Floats, Floats]:
    share = 1.0 - np.asarray(confidences)
    return _student(share, *shape) if len(shape) == 1 else _skewed(share, shape)


def _student(share: Floats, nu: float) -> tuple[Floats, Floats]:
    scale, edge = np.sqrt((nu - 2) / nu), student.ppf(share, nu)
    return -edge * scale, student.pdf(edge, nu) / share * (nu + edge**2) / (nu - 1) * scale


def _skewed(share: Floats, shape: tuple[float, ...]) -> tuple[Floats, Floats]:
    from arch.univariate import SkewStudent

    law = SkewStudent()
    edge = np.asarray(law.ppf(share, shape))
    return -edge, -np.array([law.partial_moment(1, quantile, shape) for quantile in edge]) / share
