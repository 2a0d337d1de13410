"""A 64-bit checksum of a row, so that what a disk or a memory cell changed is an error and never data.

A multilinear hash modulo 2^64: every value has a 64-bit image (the bits of a number, blake2b of a text), is multiplied
by the odd constant of its column, and the products are added up. An odd multiplier is invertible, so a change of one
column, such as a flipped bit, is found with certainty; changes of several go unnoticed with odds of about 2^-64.
(Lemire and Kaser, "Strongly universal string hashing is fast", 2014; the fold keeps sign bits from cancelling out.)
It guards against accidents, not against people: who can write the ledger can write a checksum too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mlops.io.storage.utc_time import EPOCH, MICROSECOND

if TYPE_CHECKING:
    pass

SEED = b"ledger row 1"  # of the constants; another seed makes every stored checksum wrong
KEYED = blake2b(digest_size=8, key=SEED)
BLOCK = 8192  # rows at once: all columns of a block stay in the processor's cache
FOLD = np.uint64(32)
CACHED_TEXTS = 65_536
MANY_TEXTS = 4_096  # different ones in a column: no names
LONG_TEXT = 256  # characters; longer ones are no names: they do not come again
ADDED_TO_RECORDS: Mapping[tuple[str, str], Any] = {("bundles", "kind"): "strategy"}  # as below, of single rows
ADDED: Mapping[str, Any] = {"multiplier": 1.0, "wide": ""}  # columns younger than rows: what old ones have adds nothing
Values = Sequence[Any] | NDArray[Any] | str
Sums = NDArray[np.uint64]


def checksums(table: str, columns: Mapping[str, Values], n: int) -> Sums:
    """The checksum of each of n rows of a table.

    Parameters
    ----------
    columns : mapping of str to n values
        Floats, integers (both 64 bits) or texts, in any order; one str stands for the same text in every row.

    Returns
    -------
    uint64 ndarray of shape (n,)
    """
    total = np.full(n, _odd(table), dtype=np.uint64)
    prepared = [(np.uint64(_odd(name)), _added(name, values)) for name, values in columns.items()]
    with np.errstate(over="ignore"):
        for start in range(0, n, BLOCK):
            rows = slice(start, start + BLOCK)
            for odd, image in prepared:
                part = image[rows] if image.ndim else image
                total[rows] += (part ^ (part >> FOLD)) * odd
    return total


def matrix_sums(values: NDArray[np.float32]) -> Sums:
    """The sum over each row of a float32 matrix of shape (n, k), bit by bit: NaN and -0.0 are told apart."""
    n, k = values.shape
    words, odds, total = values.view(np.uint32), _odds(k), np.zeros(n, dtype=np.uint64)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        total[rows] = words[rows].astype(np.uint64) @ odds
    return total


def stored(sums: Sums) -> list[int]:
    """Sums as both databases hold them: a signed BIGINT."""
    whole: list[int] = sums.view(np.int64).tolist()
    return whole


def record_sum(table: str, row: Mapping[str, Any]) -> int:
    """The checksum of a single row of any kinds of values, as stored."""
    old = {name for name, value in row.items() if ADDED_TO_RECORDS.get((table, name), ...) == value}
    plain = {name: _plain(value) for name, value in row.items() if name not in old}
    body = orjson.dumps([table, plain], option=orjson.OPT_SORT_KEYS)
    return int.from_bytes(blake2b(body, digest_size=8, key=SEED).digest(), "little", signed=True)


@lru_cache(CACHED_TEXTS)
def text_image(text: str) -> int:
    """64 bits that stand for a text."""
    return int.from_bytes(_digest(text), "little")


def _digest(text: str) -> bytes:
    keyed = KEYED.copy()  # a quarter of the time of a new one
    keyed.update(text.encode())
    return keyed.digest()


def _plain(value: Any) -> Any:
    return (value - EPOCH) // MICROSECOND if isinstance(value, datetime) else value


def _added(name: str, values: Values) -> Sums:
    """The images of a column; nothing at the value that rows got which are older than it."""
    images = _image(values)
    return images if name not in ADDED else np.where(np.asarray(values) == ADDED[name], np.uint64(0), images)


def _image(values: Values) -> Sums:
    """Image of each value that is multiplied: one a row, or one for all rows."""
    import pandas as pd

    if isinstance(values, str):
        return np.array(text_image(values), dtype=np.uint64)
    column = np.asarray(values)
    if column.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # a flipped bit may make a signalling NaN
            return (column.astype(np.float64, copy=False) + 0.0).view(np.uint64)  # SQLite keeps no sign of a zero
    if column.dtype.kind in "iu":
        return column.astype(np.int64, copy=False).view(np.uint64)
    codes, unique = pd.factorize(column.astype(object, copy=False))
    if len(unique) > MANY_TEXTS:  # ids: they do not come again, and would push the names out of the cache
        return np.frombuffer(b"".join(map(_digest, unique)), dtype="<u8").astype(np.uint64)[codes]
    images = [text_image(text) if len(text) <= LONG_TEXT else text_image.__wrapped__(text) for text in unique]
    return np.array(images, dtype=np.uint64)[codes]


@lru_cache
def _odd(name: str) -> int:
    """The multiplier of a column."""
    return text_image(f"multiplier {name}") | 1


@lru_cache
def _odds(k: int) -> Sums:
    return np.array([_odd(f"feature {i}") for i in range(k)], dtype=np.uint64)
