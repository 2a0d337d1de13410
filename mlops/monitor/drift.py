"""Have a feature's values moved? Judged against how far the reference strays from itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mlops.errors import DataError
from mlops.monitor.binned import Detector, Ranks, Sample
from mlops.monitor.detectors import DETECTORS
from mlops.monitor.panel import Floats, feature_names, flat, matrix
from mlops.monitor.reference import ReferenceSummary, key, summarise
from mlops.stats import benjamini_hochberg, block_p_value
from mlops.stats.divergence import PSI_BINS
from mlops.types import Finding, Level

# The mean of a Kolmogorov-Smirnov distance times the root of the rows is 0.87, of a chi-square by its freedom 1, of a
# Wasserstein distance in standard deviations 0.8 to 1.5.
HALF_OF_NOISE = 0.5
DRIFT_THRESHOLD = 0.05  # the user's default: false-discovery rate over everything that is tested at once


def feature_drift(
    reference: pd.DataFrame | ReferenceSummary,
    current: pd.DataFrame,
    *,
    threshold: float = DRIFT_THRESHOLD,
    detectors: Mapping[str, Callable[[], Detector]] = DETECTORS,
) -> tuple[Finding, ...]:
    """Every detector on every feature it is for, with the false-discovery rate of all of them held at `threshold`.

    Null: the current window is one more stretch of the reference's process. Error rate: where nothing moved, the
    chance of any WARN or ALERT in a whole check is at most `threshold` (measured in tests/calibration on features of
    autocorrelation 0 to 0.99); where something did, at most that share of what is called is false, on average.
    Assumes a reference that is stationary and at least ten windows long: else UNKNOWN.

    Parameters
    ----------
    reference : DataFrame or ReferenceSummary
        A panel: `event_time` and `unit` as columns or index levels, and one numeric column a feature; it may hold
        more features than `current`. Or what `summarise` made of one: then only `current` is sorted, and the null of
        this window's length is computed only if the summary does not hold it (`calibrated`).
    current : DataFrame
        A panel; what it has besides the keys is tested. Rows in any order; NaN is refused.
    detectors : mapping of str to what makes a detector
        `{"ks": partial(KS, limit=0.2)}` asks for one with a limit of one's own.

    Returns
    -------
    tuple of Finding
        By detector and feature (`subject`). `value` is the effect: the distance, `limit` from where it is worth an
        ALERT; significant but smaller is WARN. `n` is the number of bars in `current`. `params` hold `p`, `p_adjusted`
        (Benjamini-Hochberg over all of them), `usual` (the median distance of the reference's own stretches), `blocks`,
        `bars_needed` and the detector's fields; `p_iid`, where there is one, is the textbook's p-value for independent
        rows and decides nothing. UNKNOWN where the rows, or the reference's stretches, are too few.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.

    References
    ----------
    Benjamini and Hochberg (1995), JRSS B 57; under positive dependence Benjamini and Yekutieli (2001).

    Examples
    --------
    >>> import numpy as np
    >>> rng, days = np.random.default_rng(0), pd.date_range("2000-01-01", periods=2200, tz="UTC")
    >>> rows = pd.DataFrame({"event_time": days, "spread": rng.normal(0, 1, 2200)})
    >>> past = summarise(rows[:2000])
    >>> [str(f.level) for f in feature_drift(past, rows[2000:])]
    ['ok', 'ok', 'ok', 'ok']
    >>> [str(f.level) for f in feature_drift(past, rows[2000:].assign(spread=rng.normal(1, 1, 200)))]
    ['alert', 'alert', 'alert', 'alert']
    """
    frame = flat(current)
    names = feature_names(frame)
    window = matrix(frame, names, "current")
    window.sort(axis=1)
    bars = frame["event_time"].nunique()
    made = [detector() for detector in detectors.values()]
    past = reference if isinstance(reference, ReferenceSummary) else summarise(reference, names)
    at = _positions(past, names)
    past = past.calibrated(bars, [rule for rule in made if not _lack(rule, past, window.shape[1], bars)])
    groups = _groups(past, names, at, window, area=any(rule.by_area for rule in made))
    measured = [_measured(rule, past, group, bars) for rule in made for group in groups if _concerns(rule, group)]
    adjusted = benjamini_hochberg(np.concatenate([m.p for m in measured]) if measured else ())
    parts = np.split(adjusted, np.cumsum([m.p.size for m in measured])[:-1])
    return tuple(f for m, p in zip(measured, parts, strict=False) for f in m.findings(p, threshold))


def kept_summary(
    reference: pd.DataFrame, names: Sequence[str], *, window: int, window_bars: int = 1
) -> ReferenceSummary:
    """Summary kept with a model version: of `reference`, with the null of every detector for one window.

    That is `window` rows at the reference's rows a bar, or `window_bars` bars, whichever is more.

    Examples
    --------
    >>> days = pd.date_range("2000-01-01", periods=400, tz="UTC").repeat(5)
    >>> kept_summary(pd.DataFrame({"event_time": days, "spread": range(2000)}), ["spread"], window=100).lengths
    (20,)
    """
    summary = summarise(reference, names)
    return summary.calibrated(
        max(summary.window_bars(window), window_bars), [detector() for detector in DETECTORS.values()]
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """One detector on the features of one kind; `p` is NaN where nothing can be said, and `lack` says why."""

    rule: Detector
    subjects: tuple[str, ...]
    value: Floats
    p: Floats
    bars: int
    params: Mapping[str, Any]
    evidence: Mapping[str, Floats]
    lack: str = ""

    def findings(self, adjusted: Floats, threshold: float) -> Iterator[Finding]:
        name, limit, bars = self.rule.name, self.rule.limit, self.bars
        if self.lack:
            for subject in self.subjects:
                yield Finding(name, math.nan, limit, Level.UNKNOWN, bars, dict(self.params), subject, self.lack)
            return
        columns = {**self.evidence, "p": self.p, "p_adjusted": adjusted}
        rows = zip(self.subjects, self.value.tolist(), *(column.tolist() for column in columns.values()), strict=True)
        for subject, value, *row in rows:
            params = {**self.params, "threshold": threshold, **dict(zip(columns, row, strict=True))}
            far, p = value >= limit, params["p_adjusted"]
            level = (Level.ALERT if far else Level.WARN) if p <= threshold else Level.OK
            note = f"effect {value:.3f}, usual {params['usual']:.3f}, adjusted p {p:.2g}, {bars} bars"
            yield Finding(name, value, limit, level, bars, params, subject, note)


@dataclass(frozen=True, slots=True)
class _Group:
    """The features of one kind: where they are in the reference, both samples."""

    category: bool
    names: tuple[str, ...]
    at: Ranks | slice
    reference: Sample
    current: Sample


def _groups(
    past: ReferenceSummary, names: tuple[str, ...], at: Ranks, window: Floats, *, area: bool
) -> tuple[_Group, ...]:
    groups = []
    for kind in (False, True):
        which = np.flatnonzero(past.category[at] == kind)
        if which.size:
            place = at[which]
            everything = np.array_equal(place, np.arange(len(past.names)))  # then nothing is copied
            here: Ranks | slice = slice(None) if everything else place
            rows = window if which.size == len(names) else window[which]
            members = tuple(names[i] for i in which)
            current = past.window(here, rows, area=area and not kind)
            groups.append(_Group(kind, members, here, past.sample(here), current))
    return tuple(groups)


def _concerns(rule: Detector, group: _Group) -> bool:
    return rule.of_categories in (None, group.category)


def _measured(rule: Detector, past: ReferenceSummary, group: _Group, bars: int) -> _Measured:
    blocks = past.bars // bars if bars else 0
    params = {**asdict(rule), "blocks": blocks, "bars_needed": rule.min_blocks * bars, "reference_bars": past.bars}  # type: ignore[call-overload]
    lack = _lack(rule, past, group.current.rows, bars)
    if lack:
        nothing = np.full(len(group.names), np.nan)
        return _Measured(rule, group.names, nothing, nothing, bars, params, {}, lack)
    history = past.nulls[key(rule, bars)][group.at]
    distances = rule.distances(group.reference.binned, group.current.binned, category=group.category)
    one_square = rule.of_squares & past.binary[group.at]
    p = block_p_value(distances, history, blocks=blocks, resolution=_finest(rule, group), one_square=one_square)
    values = rule.values(group.reference, group.current, distances)
    evidence = {"usual": rule.reported(history[:, history.shape[1] // 2])}
    if (iid := rule.independent(values, group.reference, group.current)) is not None:
        evidence["p_iid"] = iid
    return _Measured(rule, group.names, values, p, bars, params, evidence)


def _finest(rule: Detector, group: _Group) -> Floats:
    """Distances under which nothing is told apart: half of how far independent rows stray from their own law.

    A feature that the bar itself fixes, as ranks of its units, strays less than any sample; then one missing unit would
    be the largest drift ever seen.
    """
    share, rows = group.reference.binned.share, group.current.rows
    if not rule.of_squares:
        return np.full(len(group.names), HALF_OF_NOISE / np.sqrt(rows))
    parts = np.count_nonzero(share, axis=-1) if group.category else np.full(len(group.names), PSI_BINS)
    return np.asarray(HALF_OF_NOISE**2 * np.maximum(parts - 1, 1) / rows)


def _lack(rule: Detector, past: ReferenceSummary, rows: int, bars: int) -> str:
    """Name what is missing for a statement; empty where nothing is."""
    if rows < rule.min_rows:
        return f"{rows} current rows, {rule.min_rows} needed"
    blocks, need = past.bars // bars, rule.min_blocks * bars
    if blocks < rule.min_blocks:
        return f"the reference has {blocks} stretches of {bars} bars, {rule.min_blocks} needed ({need} bars)"
    return ""


def _positions(past: ReferenceSummary, names: tuple[str, ...]) -> Ranks:
    """Where the features are in the reference."""
    place = {name: i for i, name in enumerate(past.names)}
    missing = [name for name in names if name not in place]
    if missing:
        got = list(past.names)
        raise DataError(f"reference must have the columns {missing}, got {got}. Store them with the rows.")
    return np.array([place[name] for name in names], dtype=np.intp)
