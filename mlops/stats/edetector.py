"""Change detection without calibration: the threshold is the mean run length that was asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats.dependent import Floats, finite_series

DROPS = tuple(0.02 * i for i in range(1, 9))  # what may have been lost: 2 to 16 points, whichever it was


def sr_mixture(right: ArrayLike, *, accuracy: float, drops: tuple[float, ...] = DROPS) -> Floats:
    """Logarithm of the Shiryaev-Roberts mixture for a fall of accuracy, after each label; shape (n,).

    Alarm where it reaches `log(n0)`: then the mean number of labels to a false alarm is at least `n0`.

    Null: given the labels before, each is right with a chance of at least `accuracy` (not only of exactly that, and
    whatever else they depend on; labels that overlap break it). Error rate: mean run length >= the threshold, a theorem
    and not a calibration. Each of the `drops` has its own likelihood-ratio e-process started anew at every label, and
    the mean of them is an e-detector.

    Parameters
    ----------
    right : array_like of shape (n,)
        1 where the label was right, else 0, in order of time. NaN is refused.
    accuracy : float
        That must not be fallen below. Where it was learned, give its lower confidence bound: the guarantee then holds
        with that confidence.

    Raises
    ------
    DataError
        `accuracy` is no share, or no drop leaves a positive accuracy.

    References
    ----------
    Shin, Ramdas and Rinaldo (2023), E-detectors, New England Journal of Statistics in Data Science 2(2);
    Shiryaev (1963); Roberts (1966).

    Examples
    --------
    >>> import numpy as np
    >>> bool((sr_mixture(np.zeros(60), accuracy=0.6) >= np.log(10_000)).any())
    True
    """
    hits = finite_series(right, "right") > 0.5
    after = accuracy - np.array([d for d in drops if 0 < d < accuracy])
    if not 0 < accuracy < 1 or not after.size:
        raise DataError(f"accuracy must lie in (0, 1) above a drop, got {accuracy} and {drops}. Give a share.")
    mean = np.full(hits.size, -np.inf)
    for share in after:  # one at a time: the memory of one series
        step = np.where(hits, np.log(share / accuracy), np.log((1 - share) / (1 - accuracy)))
        total = step.cumsum()
        # R_t = sum over starts s <= t of the likelihood ratio of labels s .. t.
        mean = np.logaddexp(mean, total + np.logaddexp.accumulate(step - total))
    return np.asarray(mean - np.log(after.size))
