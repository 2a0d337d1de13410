"""Have a feature's values moved? Judged against how far the reference strays from itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from mlops.monitor.panel import Column, Floats, columns, feature_names, flat
from mlops.stats import bar_counts, block_p_value, block_shares, ks_distance, psi_shares, quantile_edges
from mlops.types import Finding, Level

DRIFT_THRESHOLD = 0.05  # the user's default: false-discovery rate over everything that is tested at once


@dataclass(frozen=True, slots=True)
class KS:
    """Kolmogorov-Smirnov distance of one feature between a reference panel and the current one.

    Null: the current window is one more stretch of the reference's process. Error rate: `alpha` (before control over
    features), also under autocorrelation and cross-sectional dependence, for the null distribution is that of the
    reference's own stretches of as many bars (`mlops.stats.block_p_value`). Assumes at least `min_blocks` such
    stretches. ALERT needs p <= alpha and a distance of at least `limit` (what is worth a look); significant but small
    is WARN.

    Examples
    --------
    >>> import numpy as np
    >>> rng, bar = np.random.default_rng(0), np.arange(1000)
    >>> reference = Column(rng.normal(0, 1, 1000), bar, 1000)
    >>> KS(min_rows=50)(reference, Column(rng.normal(2, 1, 50), bar[:50], 50)).level
    <Level.ALERT: 'alert'>
    """

    name: ClassVar[str] = "ks"
    alpha: float = DRIFT_THRESHOLD
    limit: float = 0.1
    bins: int = 100  # resolution of the null, not of the reported distance
    min_rows: int = 100
    min_blocks: int = 10

    def distances(self, p: Floats, q: Floats) -> Floats:
        """Largest gap of the cumulated shares along the last axis."""
        return np.asarray(np.abs((p - q).cumsum(axis=-1)).max(axis=-1))

    def value(self, reference: Column, current: Column, binned: float) -> float:
        """What is reported: the exact distance, free of bins."""
        return ks_distance(reference.ordered, current.values)

    def __call__(self, reference: Column, current: Column) -> Finding:
        return _measure(self, reference, current)


@dataclass(frozen=True, slots=True)
class PSI:
    """Population stability index of one feature; null, error rate and levels as `KS`.

    Examples
    --------
    >>> import numpy as np
    >>> rng, bar = np.random.default_rng(0), np.arange(1000)
    >>> reference = Column(rng.normal(0, 1, 1000), bar, 1000)
    >>> PSI(min_rows=50)(reference, Column(rng.normal(0, 1, 50), bar[:50], 50)).level
    <Level.OK: 'ok'>
    """

    name: ClassVar[str] = "psi"
    alpha: float = DRIFT_THRESHOLD
    limit: float = 0.1  # by custom: 0.1 is worth a look, 0.25 a shift (Siddiqi 2006)
    bins: int = 10
    min_rows: int = 100
    min_blocks: int = 10

    def distances(self, p: Floats, q: Floats) -> Floats:
        """PSI of the shares along the last axis, in nats."""
        return psi_shares(p, q)

    def value(self, reference: Column, current: Column, binned: float) -> float:
        """What is reported: the index is defined on bins."""
        return binned

    def __call__(self, reference: Column, current: Column) -> Finding:
        return _measure(self, reference, current)


DETECTORS: Mapping[str, type[KS] | type[PSI]] = {"ks": KS, "psi": PSI}


def feature_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    threshold: float = DRIFT_THRESHOLD,
    detectors: Mapping[str, type[KS] | type[PSI]] = DETECTORS,
) -> tuple[Finding, ...]:
    """Every detector on every feature, with the false-discovery rate of all ALERTs together held at `threshold`.

    Parameters
    ----------
    reference, current : DataFrame
        Panels: `event_time` and `unit` as columns or index levels, and one numeric column a feature. What `current`
        has besides the keys is tested; `reference` may hold more. Rows in any order; NaN is refused.

    Returns
    -------
    tuple of Finding
        One a detector and feature (`subject`); `value` is the distance, `n` the bars in `current`, and `params` hold
        `p`, `p_adjusted` (Benjamini-Hochberg over all of them), `blocks` and the detector's fields. UNKNOWN where the
        rows, or the reference's stretches as long as `current`, are too few.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.

    References
    ----------
    Benjamini and Hochberg (1995), JRSS B 57; under positive dependence Benjamini and Yekutieli (2001).
    """
    current, reference = flat(current), flat(reference)
    names = feature_names(current)
    past, now = columns(reference, names, "reference"), columns(current, names, "current")
    raw = [replace(detector()(past[f], now[f]), subject=f) for detector in detectors.values() for f in names]
    known = [i for i, finding in enumerate(raw) if finding.level is not Level.UNKNOWN]
    if known:
        adjusted = false_discovery_control([raw[i].params["p"] for i in known])
        for i, p in zip(known, adjusted, strict=True):
            raw[i] = _judge(raw[i], float(p), threshold)
    return tuple(raw)


def _measure(rule: KS | PSI, reference: Column, current: Column) -> Finding:
    blocks = reference.bars // current.bars if current.bars else 0
    parameters: dict[str, float] = {**asdict(rule), "blocks": blocks, "reference_bars": reference.bars}
    if current.values.size < rule.min_rows or blocks < rule.min_blocks:
        note = _lack(rule, current, blocks)
        return Finding(rule.name, 0.0, rule.limit, Level.UNKNOWN, current.bars, parameters, note=note)
    edges = quantile_edges(reference.ordered, rule.bins)
    counts = _counts(reference, edges)
    now = np.bincount(_codes(current, edges), minlength=edges.size + 1) / current.values.size
    past = rule.distances(*reversed(block_shares(counts, current.bars)))
    total = counts.sum(axis=0) / counts.sum()
    distance = float(rule.distances(total, now))
    p = block_p_value(distance, past, blocks=blocks, resolution=0.5 / current.values.size)
    parameters |= {"p": p, "usual": float(np.median(past))}
    value = rule.value(reference, current, distance)
    return _judge(Finding(rule.name, value, rule.limit, Level.OK, current.bars, parameters), p, rule.alpha)


def _judge(finding: Finding, p: float, threshold: float) -> Finding:
    far = finding.value >= finding.limit
    level = (Level.ALERT if far else Level.WARN) if p <= threshold else Level.OK
    note = f"distance {finding.value:.3f}, usual {finding.params['usual']:.3f}, adjusted p {p:.2g}, {finding.n} bars"
    return replace(finding, level=level, params={**finding.params, "p_adjusted": p}, note=note)


def _lack(rule: KS | PSI, current: Column, blocks: int) -> str:
    if current.values.size < rule.min_rows:
        return f"{current.values.size} current rows, {rule.min_rows} needed"
    need = rule.min_blocks * current.bars
    return f"the reference has {blocks} stretches of {current.bars} bars, {rule.min_blocks} needed ({need} bars)"


def _codes(column: Column, edges: Floats) -> NDArray[np.intp]:
    """Bin of each ordered value: as many lookups as edges, not as rows."""
    starts = np.searchsorted(column.ordered, edges, side="left")
    return np.repeat(np.arange(edges.size + 1), np.diff(starts, prepend=0, append=column.ordered.size))


def _counts(column: Column, edges: Floats) -> Floats:
    return bar_counts(column.ordered_bar, _codes(column, edges), bars=column.bars, bins=edges.size + 1)
