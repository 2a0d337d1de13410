"""How far luck alone moves a book: equity curves with bands, drawn for all arms together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlops.experiment.arm import Arm, Floats
from mlops.stats import block_length, stationary_indices

LEVEL = 0.9
PATHS = 1000
LEAST_BARS = 20  # under it nothing is drawn: neither the block length nor the tails mean anything


@dataclass(frozen=True, slots=True)
class Band:
    """A curve, and the pointwise band of what bars like these would have made in another order and number."""

    curve: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class EquityBands:
    """`equity` of each version from 1 on; `relative`: that of each challenger over the champion's. Empty if too short.

    `block`: mean length of the blocks in bars. All of shape (bars,), over `times`.
    """

    times: pd.Index
    equity: Mapping[int, Band]
    relative: Mapping[int, Band]
    block: float


def equity_bands(
    champion: Arm, challengers: Mapping[int, Arm], *, rng: np.random.Generator, level: float = LEVEL, paths: int = PATHS
) -> EquityBands:
    """Equity curves of the arms on the bars that all have, with pointwise bands by the paired stationary bootstrap.

    Blocks of bars are drawn, the same for every arm, so that `relative` keeps what the arms share out of its band. A
    band holds the curve of another run of the same market at one bar with a chance of about `level`, not at all bars
    together; it knows no market but this one. It is a picture: no gate reads it.

    References
    ----------
    Politis and Romano (1994), JASA 89.
    """
    arms = {champion.version: champion, **challengers}
    returns = pd.concat({version: arm.returns() for version, arm in arms.items()}, axis=1, join="inner")
    n = len(returns)
    if n < LEAST_BARS:
        return EquityBands(returns.index, {}, {}, float("nan"))
    growth = np.log1p(returns.to_numpy(dtype=np.float64)).T
    gains = [growth[i] - growth[0] for i in range(1, len(growth))]
    block = block_length(*growth, *gains)
    drawn = np.cumsum(growth[:, stationary_indices(n, length=n, paths=paths, block=block, rng=rng)], axis=-1)
    path = np.cumsum(growth, axis=-1)
    versions = list(arms)
    equity = {version: _band(path[i], drawn[i], level) for i, version in enumerate(versions)}
    relative = {
        version: _band(path[i] - path[0], drawn[i] - drawn[0], level) for i, version in enumerate(versions) if i
    }
    return EquityBands(returns.index, equity, relative, block)


def _band(path: Floats, drawn: Floats, level: float) -> Band:
    low, high = np.exp(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0))
    return Band(np.exp(path), low, high)
