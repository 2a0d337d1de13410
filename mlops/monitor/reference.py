"""What a drift check needs of the reference, computed once per model version and kept with it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.monitor.binned import CATEGORIES, Binned, Detector, Ranks, Sample
from mlops.monitor.panel import Floats, feature_names, flat, instants, matrix
from mlops.stats import areas, block_starts, block_sums, quantile_edges, ranks

BINS, MANY_BINS = 200, 1000  # resolution of the null; and where an exact distance is looked for first
MANY_ROWS = 100_000  # a window of a long reference is long, too: more bins save more look-ups than they cost
NULL = "null "  # how the nulls are named among the stored arrays


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSummary:
    """A reference panel, sorted and binned; with the nulls that were computed for windows of some lengths.

    A check reads and sorts only the current window. `values` (features, rows) stay in order of time, so that the null
    of a window of another length can be computed later; `ordered` are the same ascending, `bar_rows` (bars + 1,) the
    first row of each bar and the number of rows. `edges` (features, bins - 1) are quantiles, or the values of a
    category; `marked` the rows below each; `share` and `area` as `Binned`. `nulls` hold, by `key`, the distances of the
    reference's own blocks, shape (features, blocks), ascending. Write `to_bytes` wherever the model is kept.
    """

    names: tuple[str, ...]
    category: NDArray[np.bool_]
    values: Floats
    ordered: Floats
    bar_rows: Ranks
    edges: Floats
    marked: Ranks
    share: Floats
    area: Floats
    middle: Floats
    scale: Floats
    nulls: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(self.ordered.shape[1])

    @property
    def bars(self) -> int:
        return self.bar_rows.size - 1

    def window_bars(self, rows: int) -> int:
        """Bars that a window of so many rows holds, at the reference's rows a bar; 1 at least."""
        return max(1, -(-rows * self.bars // self.rows)) if self.rows else 1

    @property
    def lengths(self) -> tuple[int, ...]:
        """Window lengths (bars) of which a null is held."""
        return tuple(sorted({int(name.rsplit(" ", 1)[1]) for name in self.nulls}))

    @property
    def binary(self) -> NDArray[np.bool_]:
        """Which features are categories of two values."""
        return np.asarray(self.category & np.isfinite(self.edges[:, 3]) & np.isinf(self.edges[:, 4]))

    def sample(self, which: Ranks | slice) -> Sample:
        """The reference itself, of some of its features; the long arrays are not copied."""
        binned, place = Binned(self.share[which], self.area[which]), None if isinstance(which, slice) else which
        return Sample(self.ordered, self.marked[which], binned, self.rows, place)

    def window(self, which: Ranks | slice, ordered: Floats, *, area: bool) -> Sample:
        """A current window of those features, its rows ascending, through the reference's bins."""
        rows, marked = ordered.shape[1], ranks(ordered, self.edges[which])
        share = _shares(marked, rows)
        if not area:
            return Sample(ordered, marked, Binned(share, np.empty(0)), rows)
        middle, scale = self.middle[which][:, None], self.scale[which][:, None]
        edges = (self.edges[which] - middle) / scale
        return Sample(ordered, marked, Binned(share, _areas((ordered - middle) / scale, marked, edges)), rows)

    def null(self, detector: Detector, length: int) -> Floats | None:
        """Distances of the blocks of `length` bars from the rest, or None where they were not computed yet."""
        return self.nulls.get(key(detector, length))

    def calibrated(self, length: int, detectors: Iterable[Detector]) -> ReferenceSummary:
        """With the nulls of these detectors for windows of `length` bars; itself where it has them."""
        missing = [detector for detector in detectors if self.null(detector, length) is None]
        if not missing or not 0 < length < self.bars:
            return self
        starts = block_starts(self.bars, length)
        cuts = self.bar_rows[np.stack([starts, starts + length], axis=1)]
        nulls = {key(detector, length): np.zeros((len(self.names), starts.size)) for detector in missing}
        for i, category in enumerate(self.category.tolist()):
            block, rest = self._blocks(i, cuts)
            for detector in missing:
                if detector.of_categories in (None, category):
                    nulls[key(detector, length)][i] = np.sort(detector.distances(rest, block, category=category))
        return replace(self, nulls={**self.nulls, **nulls})

    def to_bytes(self) -> bytes:
        """All of it as an npz archive, without pickle."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("names", "nulls")}
        arrays |= {NULL + name: null for name, null in self.nulls.items()}
        file = io.BytesIO()
        np.savez(file, names=np.array(self.names, dtype=np.str_), **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes) -> ReferenceSummary:
        """What `to_bytes` wrote.

        Raises
        ------
        DataError
            The bytes are not such an archive.
        """
        try:
            with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
                arrays = dict(archive)
            names = tuple(str(name) for name in arrays.pop("names"))
            nulls = {name.removeprefix(NULL): arrays.pop(name) for name in list(arrays) if name.startswith(NULL)}
            return cls(names=names, nulls=nulls, **arrays)
        except (ValueError, OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
            got = f"{len(stored)} other bytes"
            raise DataError(f"stored must be what to_bytes wrote, got {got}. Summarise the reference again.") from error

    def _blocks(self, i: int, cuts: Ranks) -> tuple[Binned, Binned]:
        """Feature `i` in each of the blocks, and in the rest of the reference without it."""
        values, edges = self.values[i], self.edges[i]
        code, bins = edges.searchsorted(values, "right"), edges.size + 1
        rows = np.diff(cuts, axis=1).astype(np.float64)
        share = block_sums(None, code, cuts, bins=bins) / rows
        if self.category[i]:
            block = Binned(share, np.zeros_like(share))
        else:
            middle, scale = self.middle[i], self.scale[i]
            total = block_sums((values - middle) / scale, code, cuts, bins=bins) / rows
            block = Binned(share, areas(share, total, (edges - middle) / scale))
        left = self.rows - rows
        return block, Binned(self.share[i], self.area[i]).mixed(self.rows / left, block, -rows / left)


def summarise(reference: pd.DataFrame, names: Sequence[str] | None = None) -> ReferenceSummary:
    """Sort and bin a reference panel. Costs a sort of every feature: do it when the model is trained.

    A feature with at most 20 distinct values is taken as a category: its bins are these values and "never seen".

    Parameters
    ----------
    reference : DataFrame
        A panel: `event_time` and `unit` as columns or index levels, and one numeric column a feature. Rows in any
        order; NaN is refused.
    names : sequence of str, optional
        The features; everything but the keys when left out.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.
    """
    frame = flat(reference)
    chosen = feature_names(frame) if names is None else tuple(names)
    values = matrix(frame, chosen, "reference")
    bar, times = instants(frame)
    if (np.diff(bar) < 0).any():
        values = np.ascontiguousarray(values[:, np.argsort(bar, kind="stable")])
    ordered = np.sort(values, axis=1)
    bar_rows = np.concatenate([[0], np.bincount(bar, minlength=len(times)).cumsum()]).astype(np.intp)
    return _binned(chosen, values, ordered, bar_rows)


def key(detector: Detector, length: int) -> str:
    """Name of a null among those that a summary holds."""
    return f"{detector.law} {length}"


def _binned(names: tuple[str, ...], values: Floats, ordered: Floats, bar_rows: Ranks) -> ReferenceSummary:
    bins = BINS if ordered.shape[1] < MANY_ROWS else MANY_BINS
    distinct = [_distinct(row) for row in ordered]
    category = np.array([known is not None for known in distinct], dtype=np.bool_)
    edges = quantile_edges(ordered, bins) if ordered.shape[1] else np.full((len(names), bins - 1), np.inf)
    for i, known in enumerate(distinct):
        if known is not None:
            edges[i] = np.inf
            edges[i, : 2 * known.size] = np.stack([known, np.nextafter(known, np.inf)], axis=1).ravel()
    marked = ranks(ordered, edges)
    middle, scale = np.zeros(len(names)), np.ones(len(names))
    area = np.zeros((len(names), bins))
    for i in np.flatnonzero(~category).tolist():
        middle[i], scale[i] = ordered[i].mean(), max(float(ordered[i].std()), np.finfo(np.float64).tiny)
        z, at = (ordered[i] - middle[i]) / scale[i], (edges[i] - middle[i]) / scale[i]
        area[i] = _areas(z[None], marked[i : i + 1], at[None])[0]
    share = _shares(marked, ordered.shape[1])
    return ReferenceSummary(names, category, values, ordered, bar_rows, edges, marked, share, area, middle, scale)


def _distinct(ordered: Floats) -> Floats | None:
    """The distinct values of a category, None of a number."""
    new = np.flatnonzero(np.diff(ordered[: 50 * CATEGORIES])).size
    return None if new >= CATEGORIES else _all_distinct(ordered)


def _all_distinct(ordered: Floats) -> Floats | None:
    known = ordered[np.flatnonzero(np.diff(ordered, prepend=-np.inf))]
    return known if known.size <= CATEGORIES else None


def _shares(marked: Ranks, rows: int) -> Floats:
    """Share of the rows in each bin, from how many lie below its edges."""
    share = np.empty((*marked.shape[:-1], marked.shape[-1] + 1))
    share[..., :-1], share[..., -1] = marked, rows
    share[..., 1:] -= marked
    return share / max(rows, 1)


def _areas(ordered: Floats, marked: Ranks, edges: Floats) -> Floats:
    rows = ordered.shape[1]
    upto = np.concatenate([np.zeros((len(ordered), 1)), np.cumsum(ordered, axis=1)], axis=1)
    ends = np.pad(marked, ((0, 0), (1, 1)), constant_values=((0, 0), (0, rows)))
    total = np.diff(np.take_along_axis(upto, ends, axis=1), axis=1) / max(rows, 1)
    return areas(_shares(marked, rows), total, edges)
