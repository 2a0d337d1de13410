"""How versions do live, beside their cross-validation: in the ledger, on their training's run, in MLflow's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import structlog
from mlflow import MlflowException
from mlflow.entities import Metric

from jobs.context import Context
from mlops.io.ledger import BundleRow
from mlops.stats import hits
from registry_hooks import version_status

log = structlog.get_logger()
NUMBERS = ("accuracy", "gain", "bars")


def row(
    matured: pd.DataFrame, since: datetime, as_of: datetime, headline: str, gain: float = math.nan
) -> dict[str, Any]:
    """How a version did on its matured rows since it traded or was compared; what is not known yet is left out.

    Parameters
    ----------
    matured : DataFrame
        Columns `event_time`, `probability`, `label`, of this version alone.
    gain : float
        Log-loss a bar by which it was better than the champion on the same bars, nats.
    """
    about = {"since": since.isoformat(), "at": as_of.isoformat(), "headline": headline}
    if matured.empty:
        return about
    right = hits(matured["probability"].to_numpy(dtype=np.float64), matured["label"].to_numpy(dtype=np.float64))
    numbers = {"accuracy": float(right.mean()), "bars": int(matured["event_time"].nunique()), "gain": gain}
    return about | {name: value for name, value in numbers.items() if math.isfinite(value)}


def keep(
    context: Context,
    job: Literal["monitor", "compare"],
    model: str,
    rows: Mapping[int, dict[str, Any]],
    as_of: datetime,
) -> None:
    """Leave the rows of a look, by version, wherever a person looks for them."""
    kind = f"live_{job}"
    state = context.ledger.risk.state(kind, model, as_of=as_of)
    for version, known in rows.items():
        earlier = {} if state is None else state.body.get(str(version), {})
        bundle = context.ledger.registry.bundle(model, version)
        known["shown_in_models"] = earlier.get("shown_in_models", "")
        if bundle is not None and "accuracy" in known:
            known["shown_in_models"] = _log(context, bundle, known, as_of)
    version_status.keep(context.ledger, kind, model, rows, as_of)
    version_status.project(context.registry, model, as_of)


def _log(context: Context, bundle: BundleRow, known: Mapping[str, Any], as_of: datetime) -> str:
    """Add a point to the run of the training, and once a quarter one to the logged model; the last such quarter.

    MLflow's table of models shows the first point of a metric and dataset, so each quarter is a dataset of its own.
    """
    quarter = f"{as_of:%Y} Q{(as_of.month + 2) // 3}"
    numbers = {f"live.{name}": float(known[name]) for name in NUMBERS if name in known}
    model = ("", "", "")
    if quarter != known["shown_in_models"]:
        model = (bundle.model_id, f"live {quarter}", f"live-{quarter.replace(' ', '-')}")
    at = int(as_of.timestamp() * 1000)
    points = [
        Metric(name, value, at, at // 86_400_000, *(part or None for part in model)) for name, value in numbers.items()
    ]
    try:
        context.client.log_batch(bundle.run_id, metrics=points)
    except MlflowException as error:  # its training was deleted, say
        log.warning("live numbers not shown", model=bundle.model, version=bundle.version, error=str(error))
    return quarter
