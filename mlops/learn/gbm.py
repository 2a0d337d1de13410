"""Gradient-boosted trees by LightGBM: small, shallow, strongly regularised, for signals that are weak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops.learn.calibration import Floats
from mlops.learn.learner import Learner, Suggest, Table

if TYPE_CHECKING:
    import lightgbm

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


@dataclass(frozen=True, slots=True)
class Booster:
    """A fitted booster."""

    booster: lightgbm.Booster

    def margins(self, x: NDArray[np.float32]) -> Floats:
        """Log-odds of label 1, shape (n,)."""
        return np.asarray(self.booster.predict(x, raw_score=True), dtype=np.float64)

    def files(self) -> Mapping[str, bytes]:
        """LightGBM's own text."""
        return {"booster.txt": self.booster.model_to_string().encode()}


def space(trial: Suggest) -> dict[str, Any]:
    """The search space."""
    return {
        "num_iterations": trial.suggest_int("num_iterations", 40, 200, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 15, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.1, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 50, 800, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
    }


def fit(table: Table, params: Mapping[str, Any], seed: int) -> Booster:
    """A booster on all rows of `table`. Same rows, parameters and seed: the same booster."""
    import lightgbm  # takes a second: processes that learn nothing do without it

    everything = {**FIXED, **params, "seed": seed}
    return Booster(lightgbm.train(everything, lightgbm.Dataset(table.x, table.y, params=everything)))


GBM = Learner("gbm", space, fit, script="gbm.py", libraries=("lightgbm",))
