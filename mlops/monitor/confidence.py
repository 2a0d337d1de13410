"""How sure is the model, is it as right as it is sure, and is it still what its validation said?

Each test compares bars of the current window with bars of the model's own out-of-fold reference. Bars depend on each
other and rows of one bar move together, so means of bars are compared with long-run errors (`mlops.stats.mean_shift`),
never rows with a plain t-test. Directional: to be surer or better than before is no finding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.monitor.accuracy import scored
from mlops.monitor.panel import Floats, flat, instants
from mlops.stats import block_p_value, by_bar, hits, holm, log_losses, mean_shift, mean_slope
from mlops.types import Finding, Level

CONFIDENCE_THRESHOLD = 0.55  # the user's default: a prediction under it is a weak one
ALPHA = 0.05
MIN_BARS = 20  # nu = 3: fewer bars say nothing of a mean
MIN_BLOCKS = 10  # stretches of the reference as long as the window: fewer do not say how far an ECE strays by itself
BINS = 10  # of equal counts
DRAWS = 100  # of labels, for the noise floor
ECE_LIMIT = 0.02  # over its noise floor: less is not worth a look
AGES = 4  # parts of a model's life in its decay curve
LOSS_LIMIT = 0.02  # nats, as mlops.monitor.accuracy.RISE


@dataclass(frozen=True, slots=True)
class _Rule:
    """One quantity of a bar: what it is, how much of a change for the worse is worth a look, which way is worse."""

    score: Callable[[Floats, Floats], Floats]
    limit: float
    worse: int  # +1: higher is worse


def _entropy(p: Floats, _: Floats) -> Floats:
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-(q * np.log(q) + (1 - q) * np.log1p(-q)))


DECAY: Mapping[str, _Rule] = {
    "decay_accuracy": _Rule(hits, 0.02, -1),
    "decay_brier": _Rule(lambda p, y: np.asarray((p - y) ** 2), 0.01, 1),
    "decay_log_loss": _Rule(log_losses, LOSS_LIMIT, 1),
}


def confidence(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    threshold: float = CONFIDENCE_THRESHOLD,
    alpha: float = ALPHA,
) -> tuple[Finding, ...]:
    """Mean confidence, entropy and share of weak predictions against the reference's. Needs no label.

    Null: the bars of `current` have the reference's mean. Error rate: `alpha` a look for all three together (Holm).
    ALERT is significant and worth a look, WARN significant and small. It says that the model doubts more, not that it
    is wrong more: what decides is on labels.

    Parameters
    ----------
    reference, current : DataFrame
        Columns `event_time` and `probability`, rows in any order. NaN is refused.
    threshold : float
        A prediction whose likelier class has less than it is a weak one.

    Returns
    -------
    tuple of Finding
        `confidence_mean`, `confidence_entropy` (nats) and `confidence_weak`; `value` is the current mean, `limit` what
        is worth a look, `params["p_holm"]` the test. UNKNOWN under 20 bars in either.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.
    """
    table: Mapping[str, _Rule] = {
        "confidence_mean": _Rule(lambda p, _: np.maximum(p, 1 - p), 0.02, -1),
        "confidence_entropy": _Rule(_entropy, 0.02, 1),
        "confidence_weak": _Rule(lambda p, _: (np.maximum(p, 1 - p) < threshold).astype(np.float64), 0.1, 1),
    }
    return _all(table, _free(reference, "reference"), _free(current, "current"), alpha)


def decay(reference: pd.DataFrame, current: pd.DataFrame, *, alpha: float = ALPHA) -> tuple[Finding, ...]:
    """Accuracy, Brier score and log-loss on matured rows against the model's own validation.

    Null, error rate, levels and result as `confidence`: `decay_accuracy`, `decay_brier`, `decay_log_loss`.

    Parameters
    ----------
    reference, current : DataFrame
        Columns `event_time`, `probability`, `label`, rows in any order. NaN is refused.
    """
    scored(reference, "reference")
    scored(current, "current")
    return _all(DECAY, _labelled(reference), _labelled(current), alpha)


def ageing(matured: pd.DataFrame, *, alpha: float = ALPHA) -> Finding:
    """Does the log-loss grow with the model's age? The slope over every matured bar since training, in nats a year.

    Null: no trend. Error rate: `alpha`, by a long-run error of the slope. ALERT where the growth over the life so far
    is significant and at least 0.02 nats; `params["curve"]` has the mean of each quarter of that life. A market that
    turned wilder ages a model too.
    """
    scored(matured, "matured")
    rows = _labelled(matured)
    loss = by_bar(rows.bar, log_losses(rows.probability, rows.label))
    if loss.size < 2 * MIN_BARS:
        note = f"{loss.size} bars, {2 * MIN_BARS} needed"
        return Finding("ageing", math.nan, math.nan, Level.UNKNOWN, loss.size, note=note)
    years = (rows.times - rows.times[0]) / pd.Timedelta(days=365.25)
    slope = mean_slope(loss, np.asarray(years, dtype=np.float64))
    grown = slope.difference * float(years[-1])
    level = _level(slope.p_greater <= alpha, grown >= LOSS_LIMIT)
    curve = [round(float(part.mean()), 4) for part in np.array_split(loss, AGES)]
    note = f"log-loss by quarter of its life {curve}, {slope.difference:+.3f} a year (p {slope.p_greater:.2g})"
    parameters = {"p": slope.p_greater, "curve": curve, "since": str(rows.times[0])}
    limit = LOSS_LIMIT / max(float(years[-1]), 1e-9)
    return Finding("ageing", slope.difference, limit, level, loss.size, parameters, note=note)


def calibration(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    alpha: float = ALPHA,
    rng: np.random.Generator,
) -> tuple[Finding, ...]:
    """Are the probabilities what happens? ECE with its noise floor, bias, and the Brier score in its parts.

    `calibration_ece`: null: the window is one more stretch of the reference's process; error rate `alpha`, by the ECE
    of the reference's own stretches of as many bars. An ECE is never 0 on finite rows: `params["noise_floor"]` is what
    a perfectly calibrated model would show if rows were independent, `["usual"]` what the reference's stretches show.
    `calibration_bias`: label minus probability, null: the reference's mean; `alpha` by `mean_shift`, two-sided. Holm
    over both. `brier_reliability`, `brier_resolution`, `brier_uncertainty` (Murphy 1973, the first two freed of their
    bias by Ferro and Fricker 2012) are shown, not tested.

    Parameters
    ----------
    reference, current : DataFrame
        As `decay`.
    rng : Generator
        Draws the labels of the noise floor.

    References
    ----------
    Naeini, Cooper and Hauskrecht (2015), AAAI (ECE); Ferro and Fricker (2012), QJRMS 138.
    """
    scored(reference, "reference")
    scored(current, "current")
    past, now = _labelled(reference), _labelled(current)
    pair = (_ece(past, now, rng), _bias(past, now))
    return (*_holm(pair, alpha), *_murphy(past, now))


def reliability(frame: pd.DataFrame, *, bins: int = BINS) -> pd.DataFrame:
    """The reliability curve: per bin of equal count, mean `probability`, share of `label` and `n`."""
    scored(frame, "frame")
    rows = _labelled(frame)
    p, y, n = _binned(rows.probability, rows.label, bins)
    return pd.DataFrame({"probability": p / n, "label": y / n, "n": n.astype(int)})


@dataclass(frozen=True, slots=True)
class _Rows:
    probability: Floats
    label: Floats
    bar: NDArray[np.intp]
    times: pd.Index


def _labelled(frame: pd.DataFrame) -> _Rows:
    frame = flat(frame)
    bar, times = instants(frame)
    probability, label = (frame[c].to_numpy(dtype=np.float64) for c in ("probability", "label"))
    return _Rows(probability, label, bar, times)


def _free(frame: pd.DataFrame, argument: str) -> _Rows:
    frame = flat(frame)
    missing = [name for name in ("event_time", "probability") if name not in frame.columns]
    if missing:
        raise DataError(f"{argument} must have the columns {missing}, got {list(frame.columns)}. Pass predictions.")
    probability = frame["probability"].to_numpy(dtype=np.float64)
    if not np.isfinite(probability).all():
        raise DataError(f"{argument} must have finite probabilities, got NaN. Drop those rows.")
    bar, times = instants(frame)
    return _Rows(probability, np.zeros_like(probability), bar, times)


def _all(table: Mapping[str, _Rule], past: _Rows, now: _Rows, alpha: float) -> tuple[Finding, ...]:
    return _holm([_compared(name, rule, past, now) for name, rule in table.items()], alpha)


def _compared(name: str, rule: _Rule, past: _Rows, now: _Rows) -> Finding:
    bars = (len(past.times), len(now.times))
    if min(bars) < MIN_BARS:
        note = f"{bars[0]} reference and {bars[1]} current bars, {MIN_BARS} needed"
        return Finding(name, math.nan, math.nan, Level.UNKNOWN, bars[1], note=note)
    before, after = (by_bar(rows.bar, rule.score(rows.probability, rows.label)) for rows in (past, now))
    shift = mean_shift(before, after)
    p = shift.p_greater if rule.worse > 0 else shift.p_less
    limit = float(before.mean()) + rule.worse * rule.limit
    far = rule.worse * (float(after.mean()) - limit) >= 0
    note = f"{after.mean():.3f} over {bars[1]} bars since {str(now.times[0])[:10]}, {before.mean():.3f} in validation"
    parameters = {"p": p, "far": far, "reference": float(before.mean()), "error": shift.error}
    return Finding(name, float(after.mean()), limit, Level.OK, bars[1], parameters, note=note)


def _holm(findings: tuple[Finding, ...] | list[Finding], alpha: float) -> tuple[Finding, ...]:
    """Levels of a family of tests: ALERT if significant and far, WARN if only significant."""
    adjusted = holm([f.params.get("p", np.nan) for f in findings])
    judged = []
    for finding, p in zip(findings, adjusted.tolist(), strict=True):
        if finding.level is Level.UNKNOWN:
            judged.append(finding)
            continue
        parameters: dict[str, Any] = {**finding.params, "p_holm": p}
        level = _level(p <= alpha, bool(parameters.pop("far")))
        judged.append(replace(finding, level=level, params=parameters, note=f"{finding.note} (p {p:.2g})"))
    return tuple(judged)


def _level(significant: bool, far: bool) -> Level:
    return (Level.ALERT if far else Level.WARN) if significant else Level.OK


def _binned(probability: Floats, label: Floats, bins: int) -> tuple[Floats, Floats, Floats]:
    """Sums of probability and label, and rows, of bins of equal count; bins differ by one row at most."""
    order = np.argsort(probability, kind="stable")
    starts = np.unique(np.linspace(0, probability.size, min(bins, probability.size) + 1).astype(int)[:-1])
    p = np.add.reduceat(probability[order], starts)
    y = np.add.reduceat(label[order], starts)
    return p, y, np.diff(starts, append=probability.size).astype(np.float64)


def _gap(probability: Floats, label: Floats) -> float:
    p, y, _ = _binned(probability, label, BINS)
    return float(np.abs(p - y).sum() / probability.size)


def _ece(past: _Rows, now: _Rows, rng: np.random.Generator) -> Finding:
    bars = len(now.times)
    blocks = len(past.times) // bars if bars else 0
    if bars < MIN_BARS or blocks < MIN_BLOCKS:
        need = f"{MIN_BLOCKS} stretches of {max(bars, MIN_BARS)} bars ({MIN_BLOCKS * max(bars, MIN_BARS)}) needed"
        note = f"{len(past.times)} reference and {bars} current bars; {need}"
        return Finding("calibration_ece", math.nan, math.nan, Level.UNKNOWN, bars, note=note)
    value = _gap(now.probability, now.label)
    draws = [(rng.random(now.label.size) < now.probability).astype(np.float64) for _ in range(DRAWS)]
    floor = float(np.mean([_gap(now.probability, y) for y in draws]))
    starts = np.arange(0, len(past.times) - bars + 1, max(1, bars // 3))
    order = np.argsort(past.bar, kind="stable")
    ends = np.searchsorted(past.bar[order], np.stack([starts, starts + bars]))
    stretches = [order[a:b] for a, b in ends.T]
    history = np.array([_gap(past.probability[rows], past.label[rows]) for rows in stretches])
    p = block_p_value(value, history, blocks=blocks, resolution=0.5 / now.label.size)
    usual = float(np.median(history))
    limit = usual + ECE_LIMIT
    note = f"ECE {value:.3f}, noise floor {floor:.3f}, usual in {bars} bars {usual:.3f}"
    parameters = {"p": p, "far": value >= limit, "noise_floor": floor, "usual": usual, "blocks": blocks}
    return Finding("calibration_ece", value, limit, Level.OK, bars, parameters, note=note)


def _bias(past: _Rows, now: _Rows) -> Finding:
    bars = (len(past.times), len(now.times))
    if min(bars) < MIN_BARS:
        note = f"{bars[0]} reference and {bars[1]} current bars, {MIN_BARS} needed"
        return Finding("calibration_bias", math.nan, math.nan, Level.UNKNOWN, bars[1], note=note)
    before, after = (by_bar(rows.bar, rows.label - rows.probability) for rows in (past, now))
    shift = mean_shift(before, after)
    value = float(after.mean())
    words = "too low" if value > 0 else "too high"
    note = f"probabilities are {abs(value):.3f} {words} on average, {abs(float(before.mean())):.3f} off in validation"
    parameters = {"p": shift.p_both, "far": abs(shift.difference) >= ECE_LIMIT, "reference": float(before.mean())}
    return Finding("calibration_bias", value, ECE_LIMIT, Level.OK, bars[1], parameters, note=note)


def _murphy(past: _Rows, now: _Rows) -> tuple[Finding, ...]:
    bars = len(now.times)
    names = ("brier_reliability", "brier_resolution", "brier_uncertainty")
    if bars < MIN_BARS or not past.label.size:
        note = f"{bars} bars, {MIN_BARS} needed"
        return tuple(Finding(name, math.nan, math.nan, Level.UNKNOWN, bars, note=note) for name in names)
    before, after = (_parts(rows.probability, rows.label) for rows in (past, now))
    return tuple(
        Finding(name, value, usual, Level.OK, bars, note=f"{value:.4f}, {usual:.4f} in validation")
        for name, value, usual in zip(names, after, before, strict=True)
    )


def _parts(probability: Floats, label: Floats) -> tuple[float, float, float]:
    """Reliability (lower is better), resolution (higher is better) and uncertainty.

    The Brier score is first - second + third, up to what the probabilities vary within a bin.
    """
    p, y, n = _binned(probability, label, BINS)
    rate, share = float(label.mean()), y / n
    inner = float((share * (1 - share) * n / np.maximum(n - 1, 1)).sum() / label.size)
    outer = rate * (1 - rate) / max(label.size - 1, 1)
    reliability_ = float((n * ((p - y) / n) ** 2).sum() / label.size) - inner
    resolution = float((n * (share - rate) ** 2).sum() / label.size) - inner + outer
    return reliability_, resolution, rate * (1 - rate) + outer
