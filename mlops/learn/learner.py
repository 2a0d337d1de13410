"""A learner, as one value: how rows become a model, and what a bundle needs to load that model again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlops.learn.calibration import Calibrator, Floats, calibrate


class Suggest(Protocol):
    """What a search space needs of an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


@dataclass(frozen=True, slots=True)
class Table:
    """Training rows: x float32 (n, k), y 0.0 or 1.0 (n,)."""

    x: NDArray[np.float32]
    y: Floats


class Fitted(Protocol):
    """What a learner made of a table."""

    def margins(self, x: NDArray[np.float32]) -> Floats:
        """Log-odds of label 1, shape (n,), of rows of shape (n, k)."""

    def files(self) -> Mapping[str, bytes]:
        """What the script loads: name in the bundle -> bytes. Never a pickle."""


@dataclass(frozen=True, slots=True)
class Learner:
    """One way to learn.

    Parameters
    ----------
    name : str
        In `LEARNERS`, and in the setting `train.learner`.
    space : callable
        Optuna trial -> parameters.
    fit : callable
        Table, parameters, seed -> what was fitted, the same for the same.
    script : str
        Models-from-code file that a bundle carries: in `models/`, or an absolute path.
    libraries : tuple of str
        What the script imports beside MLflow, NumPy and pandas.
    calibrate : callable, optional
        Out-of-fold margins and labels -> margins to probabilities, with its parameters as fields.
    """

    name: str
    space: Callable[[Suggest], dict[str, Any]]
    fit: Callable[[Table, Mapping[str, Any], int], Fitted]
    script: str
    libraries: tuple[str, ...]
    calibrate: Callable[[Floats, Floats], Calibrator] = calibrate
