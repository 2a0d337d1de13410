"""Gradient-boosted trees with calibrated probabilities, for any strategy: the script that a bundle carries.

MLflow logs this file as it is and runs it where the bundle is loaded, so it imports nothing of ours. A bundle holds the
booster as LightGBM's text, and everything else that a prediction depends on in meta.json. Nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm as lgb
import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

CLIP = 1e-6  # as in training


class GradientBoosting(PythonModel):
    """Feature rows in, P(label = 1) out."""

    def load_context(self, context: PythonModelContext) -> None:
        self.meta: dict[str, Any] = json.loads(Path(context.artifacts["meta"]).read_text(encoding="utf-8"))
        try:
            self.booster = lgb.Booster(model_file=context.artifacts["booster"])
        except lgb.basic.LightGBMError as error:
            raise ValueError(f"booster must be LightGBM's text, got: {error}. Train it again.") from error

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Probabilities of shape (n,). Columns are taken by name; a missing one, NaN or infinity is refused."""
        names = self.meta["features"]
        if missing := [name for name in names if name not in model_input]:
            raise ValueError(f"input must have every feature, got none of {missing}. Compute them.")
        x = model_input[names].to_numpy(dtype=np.float32)
        if not np.isfinite(x).all():
            row, column = (int(i[0]) for i in np.nonzero(~np.isfinite(x)))
            raise ValueError(f"{names[column]} must be finite, got {x[row, column]} in row {row}. Leave the row out.")
        margin = np.asarray(self.booster.predict(x, raw_score=True, num_threads=1))
        slope, intercept = self.meta["calibrator"]["slope"], self.meta["calibrator"]["intercept"]
        return np.asarray(np.clip(1 / (1 + np.exp(-(slope * margin + intercept))), CLIP, 1 - CLIP))


mlflow.models.set_model(GradientBoosting())
