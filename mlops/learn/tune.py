"""One trial: parameters in, out-of-fold margins and log-loss out. Pure and seeded, so it runs anywhere alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops.compute import SERIAL, Compute
from mlops.learn.calibration import Floats
from mlops.learn.learner import Learner, Table
from mlops.learn.splits import Fold


def score_fold(fold: Fold, learner: Learner, table: Table, params: Mapping[str, Any], seed: int) -> Floats:
    """Margins (log-odds) of the fold's test rows, from a model that saw its training rows only."""
    fitted = learner.fit(Table(table.x[fold.train], table.y[fold.train]), params, seed)
    return fitted.margins(table.x[fold.test])


def score_folds(
    learner: Learner,
    table: Table,
    folds: Sequence[Fold],
    params: Mapping[str, Any],
    seed: int,
    compute: Compute = SERIAL,
) -> list[Floats]:
    """`score_fold` of each fold."""
    return compute.map(score_fold, folds, shared=(learner, table, params, seed))


def log_loss(margin: Floats, y: Floats) -> float:
    """Mean log-loss of margins, nats."""
    return float(np.logaddexp(0.0, np.where(y > 0, -margin, margin)).mean())


def metrics(probability: Floats, y: Floats, base: float) -> dict[str, float]:
    """Scores of out-of-fold rows, and the log-loss (nats) of the constant forecast `base`.

    No AUC where all labels are the same.
    """
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    scores = {
        "log_loss": log_loss(y, probability, labels=[0.0, 1.0]),
        "base_log_loss": log_loss(y, np.full(len(y), base), labels=[0.0, 1.0]),
        "accuracy": ((probability > 0.5) == (y > 0.5)).mean(),
        "brier": brier_score_loss(y, probability, pos_label=1.0),
        "n": len(y),
    }
    if len(np.unique(y)) == 2:
        scores["auc"] = roc_auc_score(y, probability)
    return {name: float(value) for name, value in scores.items()}
