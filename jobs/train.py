"""Train a challenger: Optuna over purged walk-forward folds, one immutable bundle, a new version in the registry.

Load: features and labels that were known at `as_of`, audited for leaks. Compute: trials, each a child run; the study is
a journal on disk that survives a kill at any point and goes on where it stopped. Log: the bundle with its metrics, tied
to the model and the dataset. Act: nominate it as challenger, when asked by the calendar or by the monitor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import structlog
import typer
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

import models
from jobs.bars import bars_of
from jobs.cli.terminal import start_job
from jobs.context import Context, moment, run
from jobs.doctor import mlflow_writers
from jobs.training.search import open_study, search
from jobs.training.study import Study, prepare
from jobs.training.version import build, out_of_fold
from mlops.errors import LeakError
from mlops.learn import Strategy, plausible, strategy_of
from mlops.learn.plausible import Suspicion
from mlops.types import Decision, ModelRef
from registry_hooks import aliases, apply, register
from registry_hooks.register import Script, Training

log = structlog.get_logger()
SCRIPTS = Path(models.__file__).parent
RECENT = timedelta(days=3 * 365)


def fresh(context: Context, strategy: Strategy, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """A challenger from all that is known."""
    return _challenge(context, strategy, bars, as_of, None, "all history known by then")


def recent(context: Context, strategy: Strategy, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """A challenger from the last three years only."""
    return _challenge(context, strategy, bars, as_of, as_of - RECENT, "the last three years only")


def _challenge(
    context: Context, strategy: Strategy, bars: pd.DataFrame, as_of: datetime, start: datetime | None, note: str
) -> list[Decision]:
    if aliases.champion(context.registry, strategy.name) is None:
        return []
    ref = train(context, strategy, bars, as_of=as_of, start=start, note=note)
    apply.enlist(context.registry, ref, context.act("jobs.train", as_of))
    return []


def train(
    context: Context, strategy: Strategy, bars: pd.DataFrame, *, as_of: datetime, start: datetime | None, note: str = ""
) -> ModelRef:
    """Train one version of `strategy.name` on what was known at `as_of` and register it.

    Same rows, same settings: the same model, also when the process was killed in between.

    Parameters
    ----------
    bars : frame with BAR_COLUMNS
    start : datetime, optional
        Bars before it are not learned from (they still warm the features up).

    Raises
    ------
    DataError
        Too few labelled bars.
    LeakError
        A feature or a label changes with the future, or a score is too good to be true.
    RegistryError
        Other accounts of MLflow may write there.
    """
    mlflow_writers.check(context, datetime.now(UTC))
    s = context.settings.train
    study = prepare(s, strategy, bars[bars.known_at <= as_of], start)
    training = Training(strategy.name, *study.window, strategy.horizon, study.digest, as_of, note)
    if (ref := register.resume(context.registry, training)) is not None:  # registered by an attempt that died after it
        return ref
    with open_study(context, study, as_of) as (journal, run_id):
        _refuse(context, study, run_id, as_of, plausible.foresight(study.rows, strategy.feature_names))
        params = search(context, study, journal, run_id, as_of)
        searched = out_of_fold(study, study.folds, params, s.seed, context.compute)
        names, rng = strategy.feature_names, np.random.default_rng(s.seed)
        suspicion = plausible.too_good(
            study.learner, study.table, study.folds, searched[0], names, s.max_auc, rng, params
        )
        _refuse(context, study, run_id, as_of, suspicion)
        with tempfile.TemporaryDirectory() as folder:
            metrics = build(context, study, params, searched, Path(folder))
            return _register(context, study, training, params, metrics, Path(folder), run_id)


def _refuse(context: Context, study: Study, run_id: str, as_of: datetime, suspicion: Suspicion | None) -> None:
    """Fail the run, with the evidence, where a score is too good to be true and no person trusts it.

    Raises
    ------
    LeakError
        So that nothing is registered.
    """
    if suspicion is None:
        return
    name, at = study.strategy.name, int(as_of.timestamp() * 1000)
    metrics = [Metric(f"too_good.{key}", value, at, 0) for key, value in suspicion.evidence.items()]
    context.client.log_batch(run_id, metrics=metrics, tags=[RunTag("too_good", str(suspicion))])
    if name in context.settings.train.trusted:
        log.warning("too good to be true, and trusted by a person", model=name, why=str(suspicion))
        return
    if context.run_id is None:
        context.client.set_terminated(run_id, "FAILED", end_time=at)
    remedy = f"Does it know the future? Mend it; if you know why it is so good, put {name!r} into train.trusted."
    raise LeakError(f"{name}: {suspicion}. {remedy}")


def _register(
    context: Context,
    study: Study,
    training: Training,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    folder: Path,
    run_id: str,
) -> ModelRef:
    """Log the bundle and its evidence, and make it a version."""
    name, as_of, (start, end), client = study.strategy.name, training.at, study.window, context.client
    example = study.rows[list(study.strategy.feature_names)].head(2)
    script = Script(SCRIPTS / study.learner.script, folder, example, study.learner.libraries)
    upload = register.upload(context.registry, training, run_id, script.save)
    title = f"{name} {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    dataset = Dataset(**from_pandas(study.rows.head(1000), name=title, digest=study.digest[:16]).to_dict())
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    at, day = int(as_of.timestamp() * 1000), int(as_of.timestamp()) // 86400  # the step is the day, as in live runs
    rows = [Metric(k, v, at, day, upload.model_id, dataset.name, dataset.digest) for k, v in metrics.items()]
    told = {**params, "train_start": start.isoformat(), "train_end": end.isoformat()}
    client.log_batch(run_id, metrics=rows, params=[Param(key, str(value)) for key, value in told.items()])
    ref = register.register(
        context.registry, upload, training, lambda: mlflow_writers.check(context, datetime.now(UTC))
    )
    log.info("trained", model=name, version=ref.version, note=training.note, **metrics)
    return ref


def main(
    model: str = "volatility",
    source: Annotated[str, typer.Option(help="sp500, index:sp500, index:nasdaq, or a CSV or Parquet file.")] = "sp500",
    start: Annotated[str, typer.Option(help="First bar to learn from, or `all`.")] = "all",
    as_of: Annotated[str, typer.Option(help="What was known then; `now`, or an ISO instant.")] = "now",
    note: str = "",
) -> None:
    def body(context: Context) -> None:
        at = moment(as_of)
        first = None if start == "all" else moment(start)
        strategy = strategy_of(model)
        ref = train(context, strategy, bars_of(context, source, at), as_of=at, start=first, note=note)
        if aliases.champion(context.registry, model) is not None:
            apply.enlist(context.registry, ref, context.act("jobs.train", at))
        place = f"{context.client.tracking_uri}/#/models/{ref.name}/versions/{ref.version}"
        context.outcomes.append(("train", f"{ref} is registered{f': {note}' if note else ''}\n{place}\n"))

    run("train", body)


if __name__ == "__main__":
    start_job(main)
