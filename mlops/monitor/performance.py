"""How good the matured predictions were, and whether they beat knowing nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from mlops.monitor.accuracy import scored
from mlops.monitor.panel import Floats, flat, instants
from mlops.stats import accuracy, auc, brier, by_bar, constant_forecast, ewc_test, log_loss, log_losses
from mlops.types import Finding, Level

CONFIDENCE_THRESHOLD = 0.55  # the user's default: a prediction under it is a weak one
MIN_BARS = 20  # nu = 3: fewer bars say nothing about skill
ALPHA = 0.05

LIMITS = {"auc": 0.5}  # what no skill scores; else the constant forecast's own score
METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "accuracy": accuracy,
    "auc": auc,
    "base_rate": lambda probability, label: float(label.mean()),
    "brier": brier,
    "log_loss": log_loss,
    "mean_confidence": lambda probability, label: float(np.maximum(probability, 1 - probability).mean()),
}


def performance(
    current: pd.DataFrame,
    *,
    confidence_threshold: float = CONFIDENCE_THRESHOLD,
    base_rate: float | None = None,
    alpha: float = ALPHA,
) -> tuple[Finding, ...]:
    """Metrics of matured predictions, and `skill`: do they beat a constant forecast?

    Parameters
    ----------
    current : DataFrame
        Columns `event_time`, `probability`, `label` (0 or 1), rows in any order. NaN is refused.
    base_rate : float, optional
        The constant forecast to beat: the share of ones in the training labels, known before `current`. Without it
        each bar is forecast by the share of ones in the bars before it.

    Returns
    -------
    tuple of Finding
        `n` (rows), the `METRICS`, `share_confident` (rows at or over `confidence_threshold`) and `skill`, whose
        `value` is the mean log-loss gained a bar, in nats. Limits are what the constant forecast scores. Metrics are
        measured and not tested: they accuse nobody, and are OK on whichever side of their limit. Every level is UNKNOWN
        under 20 bars; `Finding.n` counts bars. What no row stands behind is NaN.

    Notes
    -----
    `skill`. Nulls: no better, and no worse than the constant. Error rates: 5 % and `alpha` a look, EWC t-test on
    per-bar means (bars, not rows, for units of one bar move together). OK: proven better; ALERT: proven worse, which is
    the only accusation; UNKNOWN: neither.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.
    """
    current = flat(current)
    scored(current, "current")
    probability, label = (current[c].to_numpy(dtype=np.float64) for c in ("probability", "label"))
    bar, _ = instants(current)
    base = constant_forecast(bar, label, base_rate)
    gains = by_bar(bar, log_losses(base, label) - log_losses(probability, label))
    sure = np.maximum(probability, 1 - probability) >= confidence_threshold
    confident = float(sure.mean()) if len(label) else math.nan
    findings = [Finding("n", float(len(label)), float(MIN_BARS), _enough(gains.size), gains.size, note="matured rows")]
    for name, metric in METRICS.items():
        value = metric(probability, label) if len(label) else math.nan
        limit = LIMITS.get(name, metric(base, label) if len(label) else math.nan)
        findings.append(_graded(name, value, limit, gains.size))
    findings.append(Finding("share_confident", confident, 0.0, _enough(gains.size), gains.size))
    return (*findings, _skill(gains, alpha))


def _skill(gains: Floats, alpha: float) -> Finding:
    if gains.size < MIN_BARS:
        return Finding("skill", math.nan, 0.0, Level.UNKNOWN, gains.size, note=f"{gains.size} bars, {MIN_BARS} needed")
    test = ewc_test(gains)
    worse = 1 - test.p_greater <= alpha
    level = Level.OK if test.p_greater <= ALPHA else Level.ALERT if worse else Level.UNKNOWN
    words = {Level.OK: "beats", Level.ALERT: "loses to", Level.UNKNOWN: "is not proven to beat"}[level]
    note = f"the model {words} the constant forecast (p {test.p_greater:.2g}, {test.n} bars)"
    return Finding("skill", test.mean, 0.0, level, test.n, {"p": test.p_greater, "dof": test.dof}, note=note)


def _enough(bars: int) -> Level:
    return Level.UNKNOWN if bars < MIN_BARS else Level.OK


def _graded(name: str, value: float, limit: float, bars: int) -> Finding:
    if not math.isfinite(value):
        note = "one class only" if bars else "no matured rows"  # of one class there is no AUC
        return Finding(name, value, limit, Level.UNKNOWN, bars, note=note)
    return Finding(name, value, limit, _enough(bars), bars)
