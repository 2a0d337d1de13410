"""One trial: parameters in, out-of-fold margins and log-loss out. Pure and seeded, so it runs anywhere alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import lightgbm as lgb
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from mlops.learn.splits import Fold

Floats = NDArray[np.float64]
FIXED: Mapping[str, Any] = {
    "objective": "binary",
    "max_bin": 63,  # financial features carry no more; half the time of 255
    "bagging_freq": 1,
    "bagging_fraction": 0.7,
    "num_threads": 1,  # parallel work is split by fold, so that the numbers do not depend on the machine
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,
    "verbose": -1,
}
CLIP = 1e-6  # probabilities are kept this far from 0 and 1: one certain mistake must not decide a comparison


class Suggest(Protocol):
    """What we need of an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


@dataclass(frozen=True, slots=True)
class Table:
    """Training rows: x float32 (n, k), y 0.0 or 1.0 (n,)."""

    x: NDArray[np.float32]
    y: Floats


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Platt scaling: probability = 1 / (1 + exp(-(slope x margin + intercept)))."""

    slope: float
    intercept: float

    def __call__(self, margin: Floats) -> Floats:
        return np.clip(1 / (1 + np.exp(-(self.slope * margin + self.intercept))), CLIP, 1 - CLIP)


def space(trial: Suggest) -> dict[str, Any]:
    """The search space: small, shallow, strongly regularised trees, for signals that are weak."""
    return {
        "num_iterations": trial.suggest_int("num_iterations", 40, 200, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 15, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.1, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 50, 800, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
    }


def fit(table: Table, params: Mapping[str, Any], seed: int) -> lgb.Booster:
    """A booster on all rows of `table`. Same rows, parameters and seed: the same booster."""
    everything = {**FIXED, **params, "seed": seed}
    return lgb.train(everything, lgb.Dataset(table.x, table.y, params=everything))


def score_fold(table: Table, fold: Fold, params: Mapping[str, Any], seed: int) -> Floats:
    """Margins (log-odds) of the fold's test rows, from a booster that saw its training rows only."""
    booster = fit(Table(table.x[fold.train], table.y[fold.train]), params, seed)
    return np.asarray(booster.predict(table.x[fold.test], raw_score=True), dtype=np.float64)


def score_folds(table: Table, folds: Sequence[Fold], params: Mapping[str, Any], seed: int, n_jobs: int) -> list[Floats]:
    """`score_fold` on each fold through joblib: a cluster is a setting, the numbers are the same."""
    return list(Parallel(n_jobs=n_jobs)(delayed(score_fold)(table, fold, params, seed) for fold in folds))


def log_loss(margin: Floats, y: Floats) -> float:
    """Mean log-loss of margins, nats."""
    return float(np.logaddexp(0.0, np.where(y > 0, -margin, margin)).mean())


def calibrate(margin: Floats, y: Floats) -> Calibrator:
    """Platt's slope and intercept from out-of-fold margins."""
    model = LogisticRegression(C=1e6).fit(margin[:, None], y)
    return Calibrator(float(model.coef_[0, 0]), float(model.intercept_[0]))


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
