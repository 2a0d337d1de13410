"""The script of a simulated bundle: it loads, and that is all that a decision asks of it."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Coin(PythonModel):
    """A half, whatever the features."""

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Probabilities of shape (n,)."""
        return np.full(len(model_input), 0.5)


mlflow.models.set_model(Coin())
