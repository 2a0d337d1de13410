"""Where, when and how dearly is the model wrong?

What a search found proves nothing on the rows that it searched: segments and the leaves of a tree are chosen on the
first half of the time and tested on the second. Tests are on bars, with long-run errors, for rows of a bar move
together. A model that says 0.52 is wrong in 48 of 100, and it said so: segments are judged by errors over what its
confidence announced.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.monitor.accuracy import scored
from mlops.monitor.panel import Floats, flat, instants
from mlops.stats import block_p_value, by_bar, hits, holm, mean_shift, segment_shift
from mlops.types import Finding, Level

ALPHA = 0.05
MIN_BARS = 40  # half of them search, half of them test
MIN_ROWS = 30  # of a segment in each half
CANDIDATES = 8  # segments that the first half may send to the second
EXCESS = 0.05  # points of error over what was announced: less is not worth a look
DEPTH, LEAF_SHARE = 2, 0.05  # of the tree: a person can read four leaves
MIN_BLOCKS = 10  # stretches of the reference as long as the window, for the runs
STARTS_PER_BLOCK = 10  # closer stretches hardly differ
RISE = 0.03  # of the share of false positives or negatives
DEARER = 1.1  # times the usual move, on rows that were wrong
KINDS = 4  # families in `error_patterns`
CONFIDENCE = (0.5, 0.55, 0.6, 0.7, 1.0)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Mask = NDArray[np.bool_]


def error_patterns(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    features: tuple[str, ...] = (),
    horizon: int = 1,
    alpha: float = ALPHA,
) -> tuple[Finding, ...]:
    """Segments, confusion, runs and cost of errors, each at a quarter of `alpha`: one of them in a quiet look at most.

    Parameters
    ----------
    reference, current : DataFrame
        Columns `event_time`, `probability`, `label`, rows in any order; `current` may have `unit`, `value` (what a
        position of 1 earned) and the `features`. NaN is refused.
    features : tuple of str
        Columns of `current` to slice by.
    horizon : int
        Bars that a label spans: as many are left out between the searched and the tested half.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.
    """
    share = alpha / KINDS
    findings = [
        *error_segments(current, features=features, horizon=horizon, alpha=share),
        *confusion(reference, current, alpha=share),
        error_runs(reference, current, alpha=share),
    ]
    return (*findings, error_cost(current, alpha=share)) if "value" in current.columns else tuple(findings)


def error_segments(
    current: pd.DataFrame, *, features: tuple[str, ...] = (), horizon: int = 1, alpha: float = ALPHA
) -> tuple[Finding, ...]:
    """Units, weekdays, hours, levels of confidence, terciles of features and leaves of a shallow tree that err more.

    Null: errors over the announced ones are no more frequent in a segment than elsewhere. Error rate: `alpha` for any
    false segment: at most 8 segments and 4 leaves are chosen on the first half of the bars, tested one-sided on the
    second, and Holm counts all that were sent.

    Returns
    -------
    tuple of Finding
        `error_segment` for each that holds (`subject` names it; `value` is its excess in the tested half, ALERT from
        5 points on, else WARN), then `error_segments`: how many hold, `limit` how many were tested. UNKNOWN under 40
        bars.
    """
    table = _table(current, features)
    bars = len(table.times)
    if bars < MIN_BARS + horizon:
        note = f"{bars} bars, {MIN_BARS + horizon} needed"
        return (Finding("error_segments", math.nan, math.nan, Level.UNKNOWN, bars, note=note),)
    middle = bars // 2
    first, second = table.bar < middle, table.bar >= middle + horizon
    chosen = _chosen(table, first, second, features)
    tests = [segment_shift(table.surprise[second], mask[second], _renumbered(table.bar[second])) for _, mask in chosen]
    span = f"{str(table.times[middle + horizon])[:10]} to {str(table.times[-1])[:10]}"
    held = [
        _segment(name, table.wrong[mask & second], table.wrong[~mask & second], test.difference, p, span)
        for (name, mask), test, p in zip(chosen, tests, holm([t.p_greater for t in tests]).tolist(), strict=True)
        if p <= alpha
    ]
    worst = Level.OK if not held else Level.ALERT if any(f.level is Level.ALERT for f in held) else Level.WARN
    note = f"{len(held)} of {len(chosen)} segments chosen before {str(table.times[middle])[:10]} err more after it"
    count = Finding("error_segments", float(len(held)), float(len(chosen)), worst, bars, note=note)
    return (*held, count)


def confusion(reference: pd.DataFrame, current: pd.DataFrame, *, alpha: float = ALPHA) -> tuple[Finding, ...]:
    """Shares of false positives and of false negatives among all rows, against the reference's.

    Null: the reference's shares. Error rate: `alpha` for both (Holm), one-sided: fewer errors are no finding. ALERT
    from 3 points more on, WARN if significant and less.
    """
    past, now = _table(reference), _table(current)
    bars = (len(past.times), len(now.times))
    names = {"false_negatives": False, "false_positives": True}
    if min(bars) < MIN_BARS // 2:
        note = f"{bars[0]} reference and {bars[1]} current bars, {MIN_BARS // 2} needed"
        return tuple(Finding(name, math.nan, math.nan, Level.UNKNOWN, bars[1], note=note) for name in names)
    series = {n: [by_bar(t.bar, t.wrong * (t.positive == side)) for t in (past, now)] for n, side in names.items()}
    tests = {name: mean_shift(*pair) for name, pair in series.items()}
    adjusted = holm([test.p_greater for test in tests.values()]).tolist()
    findings = []
    for (name, (before, after)), p in zip(series.items(), adjusted, strict=True):
        usual = float(before.mean())
        note = f"{after.mean():.3f} of all rows, {usual:.3f} in validation (p {p:.2g})"
        level = _level(p <= alpha, float(after.mean()) >= usual + RISE)
        findings.append(Finding(name, float(after.mean()), usual + RISE, level, bars[1], {"p_holm": p}, note=note))
    return tuple(findings)


def error_runs(reference: pd.DataFrame, current: pd.DataFrame, *, alpha: float = ALPHA) -> Finding:
    """Longest run of bars that are worse than the reference's median bar.

    Null: `current` is one more stretch of the reference's process. Error rate: `alpha`, by the longest runs of the
    reference's own stretches (`mlops.stats.block_p_value`), which have its dependence. UNKNOWN under 20 current bars or
    10 such stretches.
    """
    past, now = _table(reference), _table(current)
    before, after = (by_bar(t.bar, t.wrong) for t in (past, now))
    blocks = before.size // after.size if after.size else 0
    if after.size < MIN_BARS // 2 or blocks < MIN_BLOCKS:
        need = f"{MIN_BARS // 2} current and {MIN_BLOCKS * max(after.size, MIN_BARS // 2)} reference bars needed"
        note = f"{before.size} reference and {after.size} current bars, {need}"
        return Finding("error_runs", math.nan, math.nan, Level.UNKNOWN, after.size, note=note)
    usual = float(np.median(before))
    starts = range(0, before.size - after.size + 1, max(1, after.size // STARTS_PER_BLOCK))
    lengths = _longest(np.stack([before[at : at + after.size] for at in starts]) > usual)[0].astype(np.float64)
    runs = _longest((after > usual)[None])
    longest, end = int(runs[0][0]), int(runs[1][0])
    p = block_p_value(float(longest), lengths, blocks=blocks, resolution=0.5)
    since = "" if not longest else f" from {str(now.times[end - longest + 1])[:10]} to {str(now.times[end])[:10]}"
    note = f"{longest} bars in a row were worse than the usual one{since}, {np.median(lengths):.0f} are usual"
    level = Level.ALERT if p <= alpha else Level.OK
    limit, parameters = float(lengths.max()), {"p": p, "blocks": blocks}
    return Finding("error_runs", float(longest), limit, level, after.size, parameters, note=f"{note} (p {p:.2g})")


def error_cost(current: pd.DataFrame, *, alpha: float = ALPHA) -> Finding:
    """Is the model wrong where it costs most? Mean size of `value` on wrong rows over that on all rows.

    Null: what a row was worth has nothing to do with being wrong on it. Error rate: `alpha`, one-sided, by
    `segment_shift`. ALERT from 1.1 on, WARN if significant and less.
    """
    table = _table(current)
    size = np.abs(flat(current)["value"].to_numpy(dtype=np.float64))
    bars, wrong = len(table.times), table.wrong > 0.5
    if bars < MIN_BARS // 2 or not 0 < wrong.sum() < wrong.size or not size.any():
        note = f"{bars} bars with {int(wrong.sum())} errors, {MIN_BARS // 2} bars with errors and hits needed"
        return Finding("error_cost", math.nan, DEARER, Level.UNKNOWN, bars, note=note)
    if not np.isfinite(size).all():
        raise DataError("current must have finite values, got NaN in value. Pass matured rows only.")
    shift = segment_shift(size, table.wrong, table.bar)
    value = float(size[wrong].mean() / size.mean())
    note = f"rows that were wrong moved {value:.2f} times as much as all rows (p {shift.p_greater:.2g})"
    level = _level(shift.p_greater <= alpha, value >= DEARER)
    return Finding("error_cost", value, DEARER, level, bars, {"p": shift.p_greater}, note=note)


@dataclass(frozen=True, slots=True)
class _Table:
    wrong: Floats
    surprise: Floats  # wrong, less the chance to be wrong that the model announced
    positive: Mask
    confidence: Floats
    bar: NDArray[np.intp]
    times: pd.DatetimeIndex
    units: NDArray[np.object_] | None
    features: Mapping[str, Floats]


def _table(frame: pd.DataFrame, features: tuple[str, ...] = ()) -> _Table:
    frame = flat(frame)
    scored(frame, "current")
    missing = [name for name in features if name not in frame.columns]
    if missing:
        raise DataError(f"current must have the columns {missing}, got {list(frame.columns)}. Join the features.")
    probability, label = (frame[c].to_numpy(dtype=np.float64) for c in ("probability", "label"))
    wrong, sure = 1 - hits(probability, label), np.maximum(probability, 1 - probability)
    bar, times = instants(frame)
    units = frame["unit"].to_numpy(dtype=object) if "unit" in frame.columns else None
    values = {name: frame[name].to_numpy(dtype=np.float64) for name in features}
    if not all(np.isfinite(column).all() for column in values.values()):
        raise DataError("current must have finite features, got NaN. Drop those rows.")
    return _Table(wrong, wrong - (1 - sure), probability >= 0.5, sure, bar, pd.DatetimeIndex(times), units, values)


def _segments(table: _Table, first: Mask) -> Iterator[tuple[str, Mask]]:
    """Every simple segment; terciles are those of the first half."""
    if table.units is not None:
        yield from ((f"unit {unit}", table.units == unit) for unit in sorted(set(table.units)))
    day, hour = (np.asarray(part)[table.bar] for part in (table.times.dayofweek, table.times.hour))
    yield from ((f"weekday {DAYS[d]}", day == d) for d in np.unique(day))
    yield from ((f"hour {h}", hour == h) for h in np.unique(hour))
    for low, high in pairwise(CONFIDENCE):
        inside = (table.confidence >= low) & ((table.confidence < high) | (high == CONFIDENCE[-1]))
        yield f"confidence {low:.2f} to {high:.2f}", inside
    for name, values in table.features.items():
        low, high = np.quantile(values[first], [1 / 3, 2 / 3])
        yield from ((f"{name} low", values <= low), (f"{name} high", values > high))
        yield f"{name} middle", (values > low) & (values <= high)


def _chosen(table: _Table, first: Mask, second: Mask, features: tuple[str, ...]) -> list[tuple[str, Mask]]:
    """The segments and leaves with the clearest excess in the first half, which have rows in both."""
    bar = _renumbered(table.bar[first])

    def clear(mask: Mask) -> float:
        inside = (int((mask & first).sum()), int((mask & second).sum()))
        outside = (int((~mask & first).sum()), int((~mask & second).sum()))
        if min(*inside, *outside) < MIN_ROWS:
            return -np.inf
        shift = segment_shift(table.surprise[first], mask[first], bar)
        return shift.difference / shift.error if shift.error else -np.inf

    simple = sorted(((clear(mask), name, mask) for name, mask in _segments(table, first)), key=lambda s: -s[0])
    leaves = [(clear(mask), name, mask) for name, mask in _leaves(table, first, features)]
    return [(name, mask) for score, name, mask in (*simple[:CANDIDATES], *leaves) if score > 0]


def _leaves(table: _Table, first: Mask, features: tuple[str, ...]) -> list[tuple[str, Mask]]:
    """Leaves of a tree of depth 2, grown on the surprises of the first half; each is a rule that a person can read."""
    from sklearn.tree import DecisionTreeRegressor  # late: a third of a second

    day, hour = (np.asarray(part)[table.bar].astype(np.float64) for part in (table.times.dayofweek, table.times.hour))
    names = (*features, "confidence", "weekday", "hour")
    x = np.column_stack([*table.features.values(), table.confidence, day, hour])
    least = max(MIN_ROWS, int(LEAF_SHARE * first.sum()))
    tree = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=least, random_state=0)
    tree.fit(x[first], table.surprise[first])
    inner, paths = tree.tree_, [(0, "", np.ones(len(x), dtype=bool))]
    leaves = []
    while paths:
        node, rule, mask = paths.pop()
        if inner.children_left[node] < 0:
            leaves.append((rule, mask))
            continue
        column, cut = int(inner.feature[node]), float(inner.threshold[node])
        below, joint = x[:, column].astype(np.float32) <= cut, " and " if rule else "rule: "
        paths.append((inner.children_left[node], f"{rule}{joint}{names[column]} at most {cut:.3g}", mask & below))
        paths.append((inner.children_right[node], f"{rule}{joint}{names[column]} over {cut:.3g}", mask & ~below))
    return leaves if len(leaves) > 1 else []


def _segment(name: str, inside: Floats, outside: Floats, excess: float, p: float, span: str) -> Finding:
    note = f"wrong in {inside.mean():.3f} of {inside.size} rows, {outside.mean():.3f} elsewhere, {span} (p {p:.2g})"
    subject = re.sub(r"[^\w\-. :/]", "_", name)  # what MLflow allows in the name of a metric
    level = _level(True, excess >= EXCESS)
    parameters = {"p_holm": p, "segment": name}
    return Finding("error_segment", excess, EXCESS, level, inside.size, parameters, subject=subject, note=note)


def _level(significant: bool, far: bool) -> Level:
    return (Level.ALERT if far else Level.WARN) if significant else Level.OK


def _renumbered(bar: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.asarray(bar - bar.min())


def _longest(bad: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Length and last position of the longest run of True along the last axis."""
    at = np.arange(bad.shape[1])
    run = at - np.maximum.accumulate(np.where(bad, -1, at), axis=1)
    return run.max(axis=1), run.argmax(axis=1)
