"""A strategy, as one value: what it sees, what it predicts, what a probability is worth, what trading costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Source = Literal["unit", "market"]


@dataclass(frozen=True, slots=True)
class Features:
    """A few features that share their work: `compute` maps windows of shape (..., window) to (..., len(names)).

    `source` is the unit's own simple returns, or the market's mean absolute return. Change what a feature computes and
    its name must change: a bundle knows its features by name.
    """

    names: tuple[str, ...]
    window: int
    compute: Callable[[Floats], Floats]
    source: Source = "unit"


@dataclass(frozen=True, slots=True)
class Strategy:
    """One prediction problem and its paper book.

    Parameters
    ----------
    name : str
        Also the model's name in the registry.
    features : tuple of Features
    label : callable
        Simple returns of one unit, shape (n,), r[t] known at the close of bar t -> labels of shape (n,): 0.0, 1.0, or
        NaN where the future (or the past that it needs) is missing. The label at t may use r[t + 1 : t + 1 + horizon]
        and the `label_past` returns up to r[t].
    horizon : int
        Bars after which the label is known.
    label_past : int, optional
        Returns up to t that the label at t may use; None: all. A bar that was revised long afterwards holds up the
        labels that are made of it, which then are those of so many bars, or all that come after it.
    position : callable
        Probabilities -> target weight of a unit, -1 to 1, before it is shared among the units.
    cost_bps : float
        Basis points of the traded value.
    """

    name: str
    features: tuple[Features, ...]
    label: Callable[[Floats], Floats]
    horizon: int
    position: Callable[[Floats], Floats]
    cost_bps: float = 5.0
    label_past: int | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(name for features in self.features for name in features.names)

    @property
    def lookback(self) -> int:
        """Returns of history that a row of features needs."""
        return max(f.window for f in self.features)
