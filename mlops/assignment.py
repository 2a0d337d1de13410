"""Arm that trades a key: the same one for the life of a comparison."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError


def assign(keys: Sequence[str], *, salt: str, weights: Mapping[int, float], champion: int) -> NDArray[np.int64]:
    """The version that trades each key: a challenger for its share, the champion for the rest.

    A hash of salt and key decides, so that every process agrees without talking, a key stays with its arm, and another
    salt (another comparison) assigns anew. Other weights move some keys to other arms: remember assignments where a key
    must stay.

    Parameters
    ----------
    keys : sequence of str, shape (n,)
        Repeats are hashed once.
    salt : str
        Of the experiment.
    weights : mapping of version to share
        Of the challengers; their sum is at most 1.

    Returns
    -------
    int64 ndarray of shape (n,)

    Raises
    ------
    DataError
        The weights are no shares.

    Examples
    --------
    >>> assign(["AAPL", "MSFT", "XOM", "GE"], salt="volatility-1", weights={7: 0.3, 8: 0.2}, champion=3)
    array([8, 3, 7, 3])
    """
    challengers = sorted(version for version in weights if version != champion and weights[version] > 0)
    shares = [weights[version] for version in challengers]
    if not all(0 <= weight <= 1 for weight in weights.values()) or math.fsum(shares) > 1:
        raise DataError(f"weights must be shares with a sum of 1 at most, got {dict(weights)}. Give such as 0.05.")
    edges = [(1 - math.fsum(shares[i:])) * 2**64 for i in range(len(shares))]
    points, back = _points(keys, salt)
    arms = np.array([champion, *challengers], dtype=np.int64)
    return arms[np.array([bisect_right(edges, point) for point in points], dtype=np.int64)][back]


def _points(keys: Sequence[str], salt: str) -> tuple[list[int], NDArray[np.intp]]:
    """Where each different key falls between 0 and 2^64, and which of them each key is."""
    unique, back = np.unique(np.asarray(keys, dtype=np.str_), return_inverse=True)
    head = salt.encode() + b"\0"
    return [int.from_bytes(blake2b(head + str(key).encode(), digest_size=8).digest()) for key in unique], back
