"""Amounts of books past 64 bits: a text beside the columns holds them, whole, and their columns are 0.

Python's integers have no end, the databases' do. 10^15 coins in whole 1e-8 are past it; few rows are, so the columns
stay what they were, quick to read into arrays, and the rare large amount costs its own row only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

END = 2**63


def narrowed(columns: Mapping[str, list[Any]], names: Sequence[str], n: int) -> dict[str, list[Any]]:
    """The columns as they are stored, with `wide`: JSON of what does not fit, by name; empty where all of it does."""
    stored, wide = dict(columns), [dict[str, str]() for _ in range(n)]
    for name in names:
        values = columns[name]
        if n and np.asarray(values).dtype != np.int64:
            for row, value in enumerate(values):
                if not _fits(value):
                    wide[row][name] = str(value)
            stored[name] = [value if _fits(value) else 0 for value in values]
    return stored | {"wide": [orjson.dumps(row).decode() if row else "" for row in wide]}


def widened(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse, of arrays: a column with a large amount becomes one of Python's integers."""
    amounts = {name: values for name, values in columns.items() if name != "wide"}
    for row in np.flatnonzero(columns["wide"] != ""):
        for name, amount in orjson.loads(columns["wide"][row]).items():
            if name in amounts:
                amounts[name] = amounts[name].astype(object)
                amounts[name][row] = int(amount)
    return amounts


def entries(positions: Mapping[str, Sequence[Any]]) -> str:
    """Positions as JSON; what it cannot hold as a number is a text there."""
    plain = {
        unit: [x if isinstance(x, float) or _fits(x) else str(x) for x in held] for unit, held in positions.items()
    }
    return orjson.dumps(plain).decode()


def _fits(value: int) -> bool:
    return -END <= value < END
