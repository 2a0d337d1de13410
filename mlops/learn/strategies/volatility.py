"""Will the next week be wilder than usual? Volatility clusters, so this can be known to some degree.

Label: the mean absolute return of the next 5 bars exceeds its own trailing one-year median.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mlops.learn.strategy import Features, Strategy

Floats = NDArray[np.float64]
WEEK, YEAR = 5, 252


SPANS, MARKET_SPANS = (1, 3, 5, 10, 21, 63), (5, 21, 63)
TINY = 1e-6  # keeps a stuck price from dividing by zero


def _own(r: Floats) -> Floats:
    """How wild the last bars were beside the usual week of the year before, and the return of the last month."""
    moves = np.abs(r)
    usual = np.median(sliding_window_view(moves, WEEK, axis=-1).mean(axis=-1), axis=-1) + TINY
    spans = [moves[..., -w:].mean(axis=-1) / usual for w in SPANS]
    worst = moves[..., -21:].max(axis=-1) / usual
    down = -np.minimum(r[..., -10:], 0).mean(axis=-1) / usual
    return np.stack([*spans, worst, down, r[..., -21:].sum(axis=-1)], axis=-1)


def _market(m: Floats) -> Floats:
    """The market's last bars beside its year."""
    year = np.median(m, axis=-1) + TINY
    return np.stack([m[..., -w:].mean(axis=-1) / year for w in MARKET_SPANS], axis=-1)


def _label(returns: Floats) -> Floats:
    week = pd.Series(np.abs(returns)).rolling(WEEK).mean()
    coming, usual = week.shift(-WEEK), week.rolling(YEAR).median()
    known = coming.notna() & usual.notna()
    return np.asarray((coming > usual).astype(np.float64).where(known), dtype=np.float64)


VOLATILITY = Strategy(
    name="volatility",
    features=(
        Features(
            (*(f"abs_{w}_to_usual" for w in SPANS), "max_21_to_usual", "down_10_to_usual", "return_21"), YEAR, _own
        ),
        Features(tuple(f"market_abs_{w}_to_year" for w in MARKET_SPANS), YEAR, _market, "market"),
    ),
    label=_label,
    horizon=WEEK,
    # Long, and smaller where the week ahead looks wild: full at p = 0, a fifth at p = 1.
    position=lambda p: 1.0 - 0.8 * p,
    cost_bps=5.0,
    label_past=YEAR + WEEK - 1,
)
