"""Which arm trades a unit: the same one for the life of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from mlops.errors import DataError


def assign(units: Sequence[str], *, salt: str, split: float) -> NDArray[np.bool_]:
    """True where the champion trades the unit, False where the challenger does.

    A hash of salt and unit decides, so that every process agrees without talking, a unit stays with its arm, and
    another salt (another experiment) deals anew.

    Parameters
    ----------
    units : sequence of str, shape (n,)
        Repeats are hashed once.
    salt : str
        Of the experiment.
    split : float
        Share of units for the champion, in [0, 1].

    Raises
    ------
    DataError
        `split` is not a share.

    Examples
    --------
    >>> assign(["AAPL", "MSFT", "AAPL"], salt="volatility-2", split=1.0)
    array([ True,  True,  True])
    """
    if not 0 <= split <= 1:
        raise DataError(f"split must be in [0, 1], got {split}. Give the champion's share.")
    unique, back = np.unique(np.asarray(units, dtype=np.str_), return_inverse=True)
    key = salt.encode()
    points = [int.from_bytes(blake2b(key + b"\0" + str(unit).encode(), digest_size=8).digest()) for unit in unique]
    return np.asarray([point < split * 2**64 for point in points], dtype=np.bool_)[back]


def srm_p_value(n_champion: int, n_challenger: int, split: float) -> float:
    """Sample-ratio mismatch: could a fair dealing at `split` have given these counts?

    Null: each unit fell to the champion with chance `split`, on its own. Error rate: exact (binomial, two-sided).
    Count units, not rows: a unit is dealt once, and its rows follow it. 1.0 when nothing was dealt.

    References
    ----------
    Fabijan et al. (2019), Diagnosing sample ratio mismatch in online controlled experiments, KDD.

    Examples
    --------
    >>> srm_p_value(50, 50, 0.9) < 1e-6
    True
    """
    total = n_champion + n_challenger
    return float(binomtest(n_champion, total, split).pvalue) if total else 1.0
