"""An hour of a table as Arrow columns that any reader understands: timestamps, lists of floats, feature names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, Table

from mlops.io.storage.insert import QUOTE_COLUMNS, feature_sums
from mlops.io.storage.row_counts import HOUR_US, SCOPES
from mlops.io.storage.validation import TIMES
from mlops.io.storage.windows import UNSUMMED, Arrays, Span, feature_names, held, matrix, verify, window
from mlops.types import FILL_COLUMNS, OUTCOME_COLUMNS, PREDICTION_COLUMNS, SCORING_COLUMNS

COPIED: Mapping[str, tuple[str, ...]] = {
    "predictions": PREDICTION_COLUMNS,
    "outcomes": OUTCOME_COLUMNS,
    "quotes": QUOTE_COLUMNS,
    "scorings": SCORING_COLUMNS,
    "fills": FILL_COLUMNS,
}
KEYS: Mapping[str, list[str]] = {  # what makes a row the same row
    "predictions": ["model", "event_time", "version", "unit"],
    "outcomes": ["model", "event_time", "unit"],
    "quotes": ["unit", "event_time"],
    "scorings": ["model", "event_time", "version", "batch", "failed"],
    "fills": ["fill_id"],
}
SCORED = ("feature_set_id", "features", "correlation_id", "features_checksum")


def copied(
    connection: Connection, table: Table, start: int, leads: Iterable[str], *, end: int | None = None
) -> pa.Table:
    """Rows from `start` to `end` (microseconds; an hour when not given) with one of `leads` (models, or units).

    Raises
    ------
    CorruptionError
        A row is not what was written, or rows are missing.
    """
    return pa.concat_tables([_copy(connection, table, lead, start, end or start + HOUR_US) for lead in sorted(leads)])


def _copy(connection: Connection, table: Table, lead: str, start: int, end: int) -> pa.Table:
    first = SCOPES[table.name][0]
    names = [name for name in COPIED[table.name] if name != first]
    order = [name for name in KEYS[table.name] if name != first]
    scored = SCORED if table.name == "predictions" else ()
    read = window(connection, Span(table, {first: lead}, start, end), [*names, *scored], order)
    plain = {first: lead, **{name: read[name] for name in names}}
    sums = verify(table.name, plain, read["checksum"], order)
    columns = {first: pa.array([lead] * len(sums), pa.string()), **{name: _column(name, read[name]) for name in names}}
    columns = {name: columns[name] for name in COPIED[table.name]}
    if scored:
        columns |= _features(connection, read, sums, order)
    return pa.table(columns | {"checksum": _checksums(read["checksum"])})


def _features(connection: Connection, read: Arrays, sums: NDArray[np.uint64], key: list[str]) -> dict[str, pa.Array]:
    """The features of rows that need not have the same ones, and their names."""
    sets = read["feature_set_id"]
    named = {number: feature_names(connection, number) for number in np.unique(sets).tolist()}
    widths = np.array([len(named[number][0]) for number in sets.tolist()], dtype=np.int64)
    ends = np.cumsum(widths)
    flat = matrix(read["features"], 1, int(widths.sum()))[0]
    total = sums.copy()
    for number, (names, text) in named.items():
        rows = np.flatnonzero(sets == number)
        values = flat[(ends[rows] - len(names))[:, None] + np.arange(len(names))]
        total[rows] += feature_sums(values, text)
    held("predictions", read, total, read["features_checksum"], key)
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return {
        "feature_names": pa.array([named[number][1] for number in sets.tolist()], pa.string()),
        "features": pa.ListArray.from_arrays(offsets, pa.array(flat, pa.float32())),
        "correlation_id": pa.array(read["correlation_id"], pa.string()),
        "features_checksum": _checksums(read["features_checksum"]),
    }


def _column(name: str, values: NDArray[Any]) -> pa.Array:
    if name in TIMES:
        return pa.array(values, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return pa.array(values, pa.string()) if values.dtype == object else pa.array(values)


def _checksums(stored: NDArray[np.int64]) -> pa.Array:
    return pa.array(stored, pa.int64(), mask=stored == UNSUMMED)
