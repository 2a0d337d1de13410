"""Margins of a learner as probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CLIP = 1e-6  # probabilities are kept this far from 0 and 1: one certain mistake must not decide a comparison


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Platt scaling: probability = 1 / (1 + exp(-(slope x margin + intercept)))."""

    slope: float
    intercept: float

    def __call__(self, margin: Floats) -> Floats:
        return np.clip(1 / (1 + np.exp(-(self.slope * margin + self.intercept))), CLIP, 1 - CLIP)


def calibrate(margin: Floats, y: Floats) -> Calibrator:
    """Platt's slope and intercept from out-of-fold margins of shape (n,) and labels of 0.0 or 1.0."""
    from sklearn.linear_model import LogisticRegression  # takes a second: whoever fits nothing does without it

    model = LogisticRegression(C=1e6).fit(margin[:, None], y)
    return Calibrator(float(model.coef_[0, 0]), float(model.intercept_[0]))
