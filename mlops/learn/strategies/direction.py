"""Will the next bar close higher? On daily large caps hardly anybody knows: the platform must say so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlops.learn.strategy import Features, Strategy

Floats = NDArray[np.float64]


MOMENTUM = (5, 21, 63, 252)


def _own(r: Floats) -> Floats:
    """Last return, momentum in units of its own volatility, volatility, share of days up."""
    momentum = [r[..., -w:].sum(axis=-1) / (r[..., -w:].std(axis=-1) + 1e-6) for w in MOMENTUM]
    rest = [r[..., -21:].std(axis=-1), (r[..., -10:] > 0).mean(axis=-1)]
    return np.stack([r[..., -1], *momentum, *rest], axis=-1)


def _market(m: Floats) -> Floats:
    return np.asarray(m[..., -5:].mean(axis=-1)[..., None])


def _label(returns: Floats) -> Floats:
    after = np.append(returns[1:], np.nan)
    return np.where(np.isnan(after), np.nan, (after > 0).astype(np.float64))


DIRECTION = Strategy(
    name="direction",
    features=(
        Features(("return_1", *(f"momentum_{w}" for w in MOMENTUM), "volatility_21", "up_share_10"), 252, _own),
        Features(("market_abs_5",), 5, _market, "market"),
    ),
    label=_label,
    horizon=1,
    position=lambda p: np.sign(p - 0.5),
    cost_bps=5.0,
    label_past=0,
)
