"""What accuracy would be, before labels arrive, if the concept still held.

Confidence-based performance estimation (CBPE): the mean of the calibrated chance to be right. It follows covariate
shift and is **blind to concept drift**: where x no longer means y, it goes on promising (an edge that turned over:
estimated 0.577, true 0.415). So it is never evidence of health, and its own error is tracked once labels mature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlops.errors import DataError
from mlops.monitor.accuracy import scored
from mlops.monitor.panel import Floats, flat, instants
from mlops.stats import by_bar, ewc_dof, ewc_error, hits, mean_shift
from mlops.types import Finding, Level

if TYPE_CHECKING:
    from sklearn.isotonic import IsotonicRegression

ALPHA = 0.05
MIN_BARS = 20
MIN_BASELINE_BARS = 100
LIMIT = 0.03  # points of accuracy that the estimate may lie under the reference before it is worth a look
BLIND = "if the concept still holds: blind to concept drift"


@dataclass(frozen=True, slots=True)
class Estimator:
    """Calibration fitted on the reference, and how far its estimates were from the truth there, bar by bar.

    `misses` are realised minus estimated accuracy of each bar, estimated by a calibration of the other half.
    """

    calibrator: IsotonicRegression
    misses: Floats
    accuracy: float

    def chances(self, probability: Floats) -> Floats:
        """Calibrated chance of each row to be right."""
        return _right(self.calibrator, probability)

    def error(self, bars: int) -> tuple[float, float]:
        """Standard error of the mean of `bars` bars, and its degrees of freedom.

        What labels scatter and what the reference does not know of its own calibration, by the long-run variance of
        its misses.
        """
        own = float(ewc_error(self.misses)) ** 2
        return float(np.sqrt(own * (1 + self.misses.size / bars))), float(ewc_dof(self.misses.size))


def fit_estimator(reference: pd.DataFrame) -> Estimator | None:
    """Isotonic calibration on honest (out-of-fold) rows; None under 100 bars.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.
    """
    scored(reference, "reference")
    bar, probability, label = _columns(reference)
    bars = int(bar.max()) + 1 if bar.size else 0
    if bars < MIN_BASELINE_BARS:
        return None
    return _estimator(bar.tobytes(), probability.tobytes(), label.tobytes())


def estimated_accuracy(reference: pd.DataFrame, current: pd.DataFrame, *, alpha: float = ALPHA) -> Finding:
    """Accuracy of `current` from its confidence alone, with an interval for what labels will say.

    Null (for the interval): the reference's calibration holds. Error rate: the interval misses the realised accuracy in
    `alpha` of windows while it does, under dependence, by the long-run variance of the reference's own misses. Blind
    to concept drift by construction; `params["blind_to"]` says so wherever the number is shown.

    Parameters
    ----------
    reference : DataFrame
        Columns `event_time`, `probability`, `label`: out-of-fold rows.
    current : DataFrame
        Columns `event_time`, `probability`; no label is read.

    Returns
    -------
    Finding
        `value` is the estimate, `limit` the reference's accuracy less 3 points: WARN, never ALERT, below it, where the
        interval `params["low"]`, `["high"]` lies under the reference's accuracy. UNKNOWN under 100 reference or 20
        current bars.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.

    References
    ----------
    Kivimäki, Białek, Kuberski and Nurminen (2025), Performance estimation in binary classification using calibrated
    confidence.
    """
    from scipy.stats import t as student

    if "probability" not in current.columns or not np.isfinite(current["probability"].to_numpy(dtype=np.float64)).all():
        raise DataError(f"current must have finite probabilities, got {list(current.columns)}. Drop those rows.")
    bar, probability, _ = _columns(current.assign(label=0.0))
    bars, estimator = int(bar.max()) + 1 if bar.size else 0, fit_estimator(reference)
    if estimator is None or bars < MIN_BARS:
        return _unknown("estimated_accuracy", reference, bars)
    value = float(by_bar(bar, estimator.chances(probability)).mean())
    error, dof = estimator.error(bars)
    width = float(student.isf(alpha / 2, dof)) * error
    low, high, limit = max(0.0, value - width), min(1.0, value + width), estimator.accuracy - LIMIT
    note = f"accuracy {value:.3f} ({low:.3f} to {high:.3f}) over {bars} bars without labels, {BLIND}"
    parameters = {"low": low, "high": high, "reference": estimator.accuracy, "blind_to": "concept drift"}
    level = Level.WARN if value < limit and high < estimator.accuracy else Level.OK
    return Finding("estimated_accuracy", value, limit, level, bars, parameters, note=note)


def estimate_error(reference: pd.DataFrame, matured: pd.DataFrame, *, alpha: float = ALPHA) -> Finding:
    """How wrong the estimate was on rows whose labels came: realised minus estimated accuracy.

    Null: the reference's misses. Error rate: `alpha`, one-sided (`mlops.stats.mean_shift`): a model that did worse than
    its confidence promised is concept drift, or a calibration that no longer holds; one that did better is no finding.
    ALERT from 3 points on, WARN if significant and less.

    Parameters
    ----------
    reference, matured : DataFrame
        Columns `event_time`, `probability`, `label`, rows in any order. NaN is refused.
    """
    from scipy.stats import t as student

    scored(matured, "matured")
    bar, probability, label = _columns(matured)
    bars, estimator = int(bar.max()) + 1 if bar.size else 0, fit_estimator(reference)
    if estimator is None or bars < MIN_BARS:
        return _unknown("estimate_error", reference, bars)
    chance = estimator.chances(probability)
    misses = by_bar(bar, hits(probability, label) - chance)
    shift, value = mean_shift(estimator.misses, misses), float(misses.mean())
    error, dof = estimator.error(bars)
    held = abs(value) <= float(student.isf(alpha / 2, dof)) * error
    realised, promised = (float(by_bar(bar, x).mean()) for x in (hits(probability, label), chance))
    words = "inside" if held else "outside"
    note = f"realised {realised:.3f}, estimated {promised:.3f}: {words} its interval over {bars} bars"
    level = Level.OK if shift.p_less > alpha else Level.ALERT if value <= -LIMIT else Level.WARN
    parameters = {"p": shift.p_less, "realised": realised, "estimated": promised, "held": held}
    return Finding("estimate_error", value, -LIMIT, level, bars, parameters, note=f"{note} (p {shift.p_less:.2g})")


@lru_cache(maxsize=8)  # two findings of a look, and every look at one version, want the same
def _estimator(bars: bytes, probabilities: bytes, labels: bytes) -> Estimator:
    bar = np.frombuffer(bars, dtype=np.intp)
    probability, label = (np.frombuffer(column, dtype=np.float64) for column in (probabilities, labels))
    right, chance, early = hits(probability, label), np.empty_like(probability), bar < (int(bar.max()) + 1) // 2
    for half in (early, ~early):
        chance[half] = _right(_fit(probability[~half], label[~half]), probability[half])
    return Estimator(_fit(probability, label), by_bar(bar, right - chance), float(by_bar(bar, right).mean()))


def _unknown(name: str, reference: pd.DataFrame, bars: int) -> Finding:
    past = flat(reference)["event_time"].nunique()
    note = f"{past} reference and {bars} current bars, {MIN_BASELINE_BARS} and {MIN_BARS} needed; {BLIND}"
    return Finding(name, math.nan, math.nan, Level.UNKNOWN, bars, {"blind_to": "concept drift"}, note=note)


def _columns(frame: pd.DataFrame) -> tuple[np.ndarray, Floats, Floats]:
    frame = flat(frame)
    bar, _ = instants(frame)
    probability, label = (frame[c].to_numpy(dtype=np.float64) for c in ("probability", "label"))
    return bar, probability, label


def _fit(probability: Floats, label: Floats) -> IsotonicRegression:
    from sklearn.isotonic import IsotonicRegression  # late: a third of a second

    return IsotonicRegression(out_of_bounds="clip").fit(probability, label)


def _right(calibrator: IsotonicRegression, probability: Floats) -> Floats:
    chance = np.asarray(calibrator.predict(probability), dtype=np.float64)
    return np.where(probability >= 0.5, chance, 1 - chance)
