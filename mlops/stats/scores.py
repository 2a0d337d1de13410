"""How good probabilities were, row by row and together."""

from __future__ import annotations

import numpy as np

from mlops.stats.dependent import Floats

CLIP = 1e-6  # a sure miss costs 13.8 nats, not infinity


def log_losses(probability: Floats, label: Floats) -> Floats:
    """Negative log-likelihood of each row, in nats, >= 0. Probabilities are clipped to [1e-6, 1 - 1e-6]."""
    p = np.clip(probability, CLIP, 1 - CLIP)
    return np.asarray(np.where(label > 0.5, -np.log(p), -np.log1p(-p)), dtype=np.float64)


def hits(probability: Floats, label: Floats) -> Floats:
    """1.0 where the likelier class came true; a probability of exactly one half predicts 1."""
    return np.asarray((probability >= 0.5) == (label > 0.5), dtype=np.float64)


def log_loss(probability: Floats, label: Floats) -> float:
    """Mean negative log-likelihood, in nats; lower is better. ln 2 = 0.693 is a coin."""
    return float(log_losses(probability, label).mean())


def accuracy(probability: Floats, label: Floats) -> float:
    """Share of rows whose likelier class came true, in [0, 1]."""
    return float(hits(probability, label).mean())


def brier(probability: Floats, label: Floats) -> float:
    """Mean squared error of the probability, in [0, 1]; lower is better. Brier (1950)."""
    return float(((probability - label) ** 2).mean())


def auc(probability: Floats, label: Floats) -> float:
    """Chance that a positive outranks a negative, ties half; NaN when one class is missing. Mann-Whitney (1947)."""
    from scipy.stats import rankdata

    positive = label > 0.5
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        return float("nan")
    return float((rankdata(probability)[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
