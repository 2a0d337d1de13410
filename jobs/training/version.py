"""The version that a study ends in: calibrated, scored on the bars held out, fitted on all rows, as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.bars import made_for
from jobs.context import Context
from jobs.training.study import REFERENCE_BARS, REFERENCE_ROWS, Study
from mlops.compute import Compute
from mlops.learn import features, splits, tune
from mlops.learn.calibration import Calibrator
from mlops.learn.learner import Fitted
from mlops.monitor import kept_summary, newest_bars
from registry_hooks import bundle

PROBE_UNITS = 3
Scored = tuple[np.ndarray, np.ndarray]  # margins, and which rows of the study these are


def out_of_fold(
    study: Study, folds: Sequence[splits.Fold], params: Mapping[str, Any], seed: int, compute: Compute
) -> Scored:
    """Margins of the folds' tests, and which rows these are."""
    if not folds:
        return np.empty(0), np.empty(0, dtype=np.intp)
    margins = tune.score_folds(study.learner, study.table, folds, params, seed, compute)
    return np.concatenate(margins), np.concatenate([fold.test for fold in folds])


def build(
    context: Context, study: Study, params: Mapping[str, Any], searched: Scored, folder: Path
) -> dict[str, float]:
    """Calibrate on the search's folds, score the bars held out, fit on all rows; write the bundle's files; metrics.

    What ships is fitted on all rows, as each step of the block that is held out was on all rows before it: with the
    same parameters and the same calibrator. So the block measures how the version was made, on bars that nothing of it
    was chosen by, with a little less history than it has.
    """
    seed, y = context.settings.train.seed, study.table.y
    margin, tests = searched
    calibrator = study.learner.calibrate(margin, y[tests])
    ahead, block = out_of_fold(study, study.held_out, params, seed, context.compute)
    fitted = study.learner.fit(study.table, params, seed)
    for name, content in fitted.files().items():
        (folder / name).write_bytes(content)
    probability = calibrator(np.concatenate([margin, ahead]))
    _write_reference(context, study, np.concatenate([tests, block]), probability, folder)
    probe, expected = _probe(study, fitted, calibrator)
    probe.to_parquet(folder / "probe.parquet", index=False)
    meta = _meta(study, params, calibrator, seed) | {"probe": expected}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, default=str), encoding="utf-8")
    base = float(y[study.folds[0].train].mean())
    known = {"held_out": (calibrator(ahead), y[block])} if len(block) else {}
    named = {"cv": (calibrator(margin), y[tests]), **known}
    return {f"{name}.{k}": v for name, pair in named.items() for k, v in tune.metrics(*pair, base).items()}


def _write_reference(context: Context, study: Study, rows: np.ndarray, probability: np.ndarray, folder: Path) -> None:
    """The rows that live ones are held against, with their out-of-fold predictions, and their summary."""
    scored = study.rows.iloc[rows].assign(probability=probability)
    reference = newest_bars(scored.drop(columns=["value", "known_at"]), rows=REFERENCE_ROWS, bars=REFERENCE_BARS)
    reference.to_parquet(folder / "reference.parquet", index=False)
    m, names = context.settings.monitor, study.strategy.feature_names
    summary = kept_summary(reference, names, window=m.window, window_bars=m.window_bars)
    (folder / "summary.npz").write_bytes(summary.to_bytes())


def _probe(study: Study, fitted: Fitted, calibrator: Calibrator) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A few symbols' newest bars, and what the last of them gives."""
    units = sorted(study.bars["symbol"].unique())[:PROBE_UNITS]
    probe = study.bars[study.bars["symbol"].isin(units)][["event_time", "symbol", "close"]].reset_index(drop=True)
    ready, values = features.last_row(study.strategy, probe)
    probability = calibrator(fitted.margins(values)) if len(values) else np.empty(0)
    return probe, {"units": list(ready), "features": values.tolist(), "probability": probability.tolist()}


def _meta(study: Study, params: Mapping[str, Any], calibrator: Calibrator, seed: int) -> dict[str, Any]:
    start, end = study.window
    return {
        "format": bundle.FORMAT,
        "strategy": study.strategy.name,
        "features": list(study.strategy.feature_names),
        "horizon_bars": study.strategy.horizon,
        **made_for(study.rows),
        "train_start": start.isoformat(),
        "train_end": end.isoformat(),
        "data_digest": study.digest,
        "base_rate": float(study.table.y.mean()),
        "params": dict(params),
        "seed": seed,
        "calibrator": asdict(calibrator),
        "held_out": {"from": _first_held_out(study), "bars_needed": study.bars_needed},
    }


def _first_held_out(study: Study) -> str | None:
    """The first bar that nothing was chosen by; None where history was too short to hold any out."""
    if not study.held_out:
        return None
    return str(study.rows["event_time"].iloc[study.held_out[0].test[0]].isoformat())
