"""A model that proves well and then misbehaves on any bar of another size than its probe's: logged as this file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Trap(PythonModel):
    def load_context(self, context: Any) -> None:
        self.meta = json.loads(Path(context.artifacts["meta"]).read_text(encoding="utf-8"))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        n, probe = len(model_input), self.meta["probe"]
        if n == len(probe["units"]):
            return np.array(probe["probability"])
        how = self.meta["trap"]
        if how == "crash":
            raise RuntimeError("no such column")
        if how == "slow":
            time.sleep(0.4)
        if how == "hang":
            time.sleep(3600)
        return np.full(n - (how == "short"), np.nan if how == "nan" else 0.25)


set_model(Trap())
time.sleep(0.2)  # another load meanwhile would put its own model in this one's place
