"""What a version says when it is asked to score a bar, and how long it took: asked alike wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlops.errors import BundleError


class Scoring(Protocol):
    """A bundle, as far as it is asked."""

    def score(self, values: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """Probabilities of shape (n,), or the error in their place."""

    probability: NDArray[np.float64] | None
    seconds: float
    error: Exception | None = None


def ask(model: Scoring, values: NDArray[np.float32], names: Sequence[str]) -> Answer:
    """Have a version score a matrix of shape (n, k); never raises."""
    began = time.perf_counter()
    try:
        probability = sound(model.score(values, names), len(values))
    except Exception as error:  # noqa: BLE001 - a model's own code may raise anything; who asked decides
        return Answer(None, time.perf_counter() - began, error)
    return Answer(probability, time.perf_counter() - began)


def sound(score: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The scores, if they are `n` probabilities; raises BundleError."""
    if score.shape != (n,) or not np.isfinite(score).all() or ((score < 0) | (score > 1)).any():
        raise BundleError(f"model must give {n} probabilities within 0 and 1, got {score!r}. Do not trade by it.")
    return score
