"""The smallest model that is a model, logged as this file: what the campaigns promote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Constant(PythonModel):
    """Does not know."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """One half for every row."""
        return np.full(len(model_input), 0.5)


set_model(Constant())
