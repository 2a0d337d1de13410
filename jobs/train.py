"""Train a challenger: Optuna over purged walk-forward folds, one immutable bundle, a new version in the registry.

Load: features and labels that were known at `as_of`, audited for leaks. Compute: trials, each a child run; the study is
a journal on disk that survives a kill at any point and goes on where it stopped. Log: the bundle with its metrics, tied
to the model and the dataset. Act: nominate it as challenger, when asked by the calendar or by the monitor.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import mlflow
import numpy as np
import optuna
import pandas as pd
import structlog
import typer
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Metric, Param, RunTag
from mlflow.models import Model, infer_signature
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from jobs.bars import bars_of, made_for
from jobs.cli.terminal import start_job
from jobs.context import Context, moment, run
from jobs.doctor import mlflow_writers
from jobs.training.study import REFERENCE_BARS, REFERENCE_ROWS, Study, prepare
from mlops.errors import DataError, LeakError
from mlops.io import logs, private_files, record
from mlops.learn import STRATEGIES, Strategy, features, plausible, splits, tune
from mlops.learn.plausible import Suspicion
from mlops.monitor import kept_summary, newest_bars
from mlops.settings import TrainSettings
from mlops.types import Decision, ModelRef
from registry_hooks import aliases, apply, bundle, register
from registry_hooks.register import Training

log = structlog.get_logger()
SCRIPT = Path(__file__).parents[1] / "models" / "gbm.py"
PROBE_UNITS = 3
FIRST_RUNG = 2  # folds that are scored before a trial may be pruned
LIBRARIES = ("lightgbm", "mlflow", "numpy", "pandas")  # all that a bundle needs to load
RECENT = timedelta(days=3 * 365)


def fresh(context: Context, model: str, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """A challenger from all that is known."""
    return _challenge(context, model, bars, as_of, None, "all history known by then")


def recent(context: Context, model: str, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """A challenger from the last three years only."""
    return _challenge(context, model, bars, as_of, as_of - RECENT, "the last three years only")


def _challenge(
    context: Context, model: str, bars: pd.DataFrame, as_of: datetime, start: datetime | None, note: str
) -> list[Decision]:
    if aliases.champion(context.registry, model) is None:
        return []
    ref = train(context, STRATEGIES[model], bars, as_of=as_of, start=start, note=note)
    apply.enlist(context.registry, ref, context.act("jobs.train", as_of))
    return []


def train(
    context: Context, strategy: Strategy, bars: pd.DataFrame, *, as_of: datetime, start: datetime | None, note: str = ""
) -> ModelRef:
    """Train one version of `strategy.name` on what was known at `as_of` and register it.

    Same rows, same settings: the same booster, also when the process was killed in between.

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
    study = prepare(context.settings.train, strategy, bars[bars.known_at <= as_of], start)
    training = Training(strategy.name, *study.window, strategy.horizon, study.digest, as_of, note)
    if (ref := register.resume(context.registry, training)) is not None:  # registered by an attempt that died after it
        return ref
    with _parent_run(context, study, as_of) as (journal, run_id):
        _refuse(context, study, run_id, as_of, plausible.foresight(study.rows, strategy.feature_names))
        params = search(context, study, journal, run_id, as_of)
        searched = _out_of_fold(study, study.folds, params, context.settings.train)
        _refuse(context, study, run_id, as_of, _too_good(study, searched[0], params, context.settings.train))
        with tempfile.TemporaryDirectory() as folder:
            metrics = build(context, study, params, searched, Path(folder))
            return _register(context, study, training, params, metrics, Path(folder), run_id)


def search(context: Context, study: Study, journal: optuna.Study, run_id: str, as_of: datetime) -> dict[str, Any]:
    """The best parameters. Finished trials are kept; one that a kill cut short is done again."""
    s = context.settings.train
    for trial in journal.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        journal.tell(trial.number, state=TrialState.FAIL)
    done = journal.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    _mend_child_runs(context, study, run_id, done, as_of)
    for index in range(len(done), s.trials):
        # Reseeded by what is finished, so that a study suggests the same with or without an interruption.
        journal.sampler = optuna.samplers.TPESampler(seed=s.seed + 1000 * index, n_startup_trials=4)
        asked = journal.ask()
        params = tune.space(asked)
        value = _score(study, asked, params, s.seed, s.n_jobs)
        journal.tell(asked, value, state=TrialState.COMPLETE if value is not None else TrialState.PRUNED)
        _child_run(context, study, run_id, index, params, value, as_of)
    return dict(journal.best_params)


def _score(study: Study, trial: optuna.Trial, params: Mapping[str, Any], seed: int, n_jobs: int) -> float | None:
    """Mean log-loss over the folds; None where the first ones were already hopeless."""
    first, rest = study.folds[:FIRST_RUNG], study.folds[FIRST_RUNG:]
    margins = tune.score_folds(study.table, first, params, seed, n_jobs)
    trial.report(_loss(study, first, margins), 0)
    if trial.should_prune():
        return None
    margins += tune.score_folds(study.table, rest, params, seed, n_jobs)
    return _loss(study, study.folds, margins)


def _loss(study: Study, folds: Sequence[splits.Fold], margins: Sequence[np.ndarray]) -> float:
    tests = np.concatenate([fold.test for fold in folds])
    return tune.log_loss(np.concatenate(margins), study.table.y[tests])


def _too_good(study: Study, margin: np.ndarray, params: Mapping[str, Any], s: TrainSettings) -> Suspicion | None:
    names, rng = study.strategy.feature_names, np.random.default_rng(s.seed)
    return plausible.too_good(study.table, study.folds, margin, names, s.max_auc, rng, params)


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


def build(
    context: Context, study: Study, params: Mapping[str, Any], searched: tuple[np.ndarray, np.ndarray], folder: Path
) -> dict[str, float]:
    """Calibrate on the search's folds, score the bars held out, fit on all rows; write the bundle's files; metrics.

    What ships is fitted on all rows, as each step of the block that is held out was on all rows before it: with the
    same parameters and the same calibrator. So the block measures how the version was made, on bars that nothing of it
    was chosen by, with a little less history than it has.
    """
    s = context.settings.train
    margin, tests = searched
    calibrator = tune.calibrate(margin, study.table.y[tests])
    ahead, block = _out_of_fold(study, study.held_out, params, s)
    booster = tune.fit(study.table, params, s.seed)
    booster.save_model(folder / "booster.txt")
    probability = calibrator(np.concatenate([margin, ahead]))
    scored = study.rows.iloc[np.concatenate([tests, block])].assign(probability=probability)
    reference = newest_bars(scored.drop(columns=["value", "known_at"]), rows=REFERENCE_ROWS, bars=REFERENCE_BARS)
    reference.to_parquet(folder / "reference.parquet", index=False)
    m = context.settings.monitor
    names = study.strategy.feature_names
    summary = kept_summary(reference, names, window=m.window, window_bars=m.window_bars)
    (folder / "summary.npz").write_bytes(summary.to_bytes())
    probe, expected = _probe(study, booster, calibrator)
    probe.to_parquet(folder / "probe.parquet", index=False)
    meta = _meta(study, params, calibrator, s.seed) | {"probe": expected}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, default=str), encoding="utf-8")
    y, base = study.table.y, float(study.table.y[study.folds[0].train].mean())
    known = {"held_out": (calibrator(ahead), y[block])} if len(block) else {}
    named = {"cv": (calibrator(margin), y[tests]), **known}
    return {f"{name}.{k}": v for name, pair in named.items() for k, v in tune.metrics(*pair, base).items()}


def _out_of_fold(
    study: Study, folds: Sequence[splits.Fold], params: Mapping[str, Any], s: TrainSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Margins of the folds' tests, and which rows these are."""
    if not folds:
        return np.empty(0), np.empty(0, dtype=np.intp)
    margins = tune.score_folds(study.table, folds, params, s.seed, s.n_jobs)
    return np.concatenate(margins), np.concatenate([fold.test for fold in folds])


def _probe(study: Study, booster: Any, calibrator: tune.Calibrator) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A few symbols' newest bars, and what the last of them gives."""
    units = sorted(study.bars["symbol"].unique())[:PROBE_UNITS]
    probe = study.bars[study.bars["symbol"].isin(units)][["event_time", "symbol", "close"]].reset_index(drop=True)
    ready, values = features.last_row(study.strategy, probe)
    probability = calibrator(np.asarray(booster.predict(values, raw_score=True))) if len(values) else np.empty(0)
    return probe, {"units": list(ready), "features": values.tolist(), "probability": probability.tolist()}


def _meta(study: Study, params: Mapping[str, Any], calibrator: tune.Calibrator, seed: int) -> dict[str, Any]:
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
    name, as_of, (start, end) = study.strategy.name, training.at, study.window
    with mlflow.start_run(run_id=run_id):
        upload = register.upload(
            context.registry, training, run_id, lambda path, meta: _save(study, folder, path, meta)
        )
        dataset = from_pandas(
            study.rows.head(1000), name=f"{name} {start:%Y-%m-%d} to {end:%Y-%m-%d}", digest=study.digest[:16]
        )
        mlflow.log_input(dataset, context="training")
        mlflow.log_params({**params, "train_start": start.isoformat(), "train_end": end.isoformat()})
        at, day = int(as_of.timestamp() * 1000), int(as_of.timestamp()) // 86400  # the step is the day, as in live runs
        rows = [Metric(k, v, at, day, upload.model_id, dataset.name, dataset.digest) for k, v in metrics.items()]
        context.client.log_batch(run_id, metrics=rows)
    ref = register.register(
        context.registry, upload, training, lambda: mlflow_writers.check(context, datetime.now(UTC))
    )
    log.info("trained", model=name, version=ref.version, note=training.note, **metrics)
    return ref


def _save(study: Study, folder: Path, path: Path, metadata: Model) -> None:
    """Write the bundle's files into `path`."""
    example = study.rows[list(study.strategy.feature_names)].head(2)
    mlflow.pyfunc.save_model(
        path,
        mlflow_model=metadata,
        python_model=str(SCRIPT),
        artifacts={f.stem: str(f) for f in sorted(folder.iterdir())},
        signature=infer_signature(example, np.array([0.5, 0.5])),
        input_example=example,
        pip_requirements=[f"{library}=={_version(library)}" for library in LIBRARIES],
    )


def _version(library: str) -> str:
    from importlib.metadata import version

    return version(library)


@contextmanager
def _parent_run(context: Context, study: Study, as_of: datetime) -> Iterator[tuple[optuna.Study, str]]:
    """The study's journal and the run that its trials hang under; both are taken up again after a kill."""
    name = f"{study.strategy.name}-{study.digest[:24]}"
    path = context.settings.state / "studies" / f"{name}.jsonl"
    private_files.file(path)
    _mend_journal(path)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(path)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    journal = optuna.create_study(
        storage=storage, study_name=name, load_if_exists=True, direction="minimize", pruner=pruner
    )
    run_id = context.run_id or journal.user_attrs.get("run_id") or _create_run(context, study.strategy.name, as_of)
    journal.set_user_attr("run_id", run_id)
    tags = {"job": "train", "model": study.strategy.name, "as_of": as_of.isoformat(), "data_digest": study.digest}
    context.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
    yield journal, str(run_id)
    if context.run_id is None:
        context.client.set_terminated(run_id, end_time=int(as_of.timestamp() * 1000))


def _mend_journal(path: Path) -> None:
    """Take away what a kill in the middle of a write left: half a line, and Optuna's lock.

    A study has one writer; with the lock in place it would wait for half a minute, and half a line it cannot read.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.exists() and not (written := path.read_bytes()).endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(written.rfind(b"\n") + 1)


def _create_run(context: Context, model: str, as_of: datetime) -> str:
    at = int(as_of.timestamp() * 1000)
    experiment = record.experiment_id(context.client, model)
    name = f"train {as_of:%Y-%m-%d}"
    return str(context.client.create_run(experiment, at, tags=logs.job_run(), run_name=name).info.run_id)


def _mend_child_runs(
    context: Context, study: Study, parent: str, done: Sequence[optuna.trial.FrozenTrial], as_of: datetime
) -> None:
    """Write the runs of finished trials that a kill left unwritten or half written."""
    if not done:
        return
    experiment, whole = context.client.get_run(parent).info.experiment_id, set()
    for child in context.client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'", max_results=10_000):
        if child.info.status == "FINISHED":
            whole.add(child.info.run_name)
        else:
            context.client.delete_run(child.info.run_id)
    for index, trial in enumerate(done):
        if f"trial {index}" not in whole:
            value = trial.value if trial.state == TrialState.COMPLETE else None
            _child_run(context, study, parent, index, trial.params, value, as_of)


def _child_run(
    context: Context,
    study: Study,
    parent: str,
    index: int,
    params: Mapping[str, Any],
    value: float | None,
    as_of: datetime,
) -> None:
    experiment, at = context.client.get_run(parent).info.experiment_id, int(as_of.timestamp() * 1000)
    tags = {"mlflow.parentRunId": parent, "job": "trial", "state": "pruned" if value is None else "complete"}
    child = context.client.create_run(experiment, at, tags=tags, run_name=f"trial {index}").info.run_id
    metrics = [] if value is None else [Metric("cv.log_loss_uncalibrated", value, at, index)]
    context.client.log_batch(child, metrics=metrics, params=[Param(k, str(v)) for k, v in params.items()])
    context.client.set_terminated(child, end_time=at)


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
        if model not in STRATEGIES:
            raise DataError(f"model must be a strategy ({', '.join(STRATEGIES)}), got {model!r}. Check the name.")
        ref = train(context, STRATEGIES[model], bars_of(context, source, at), as_of=at, start=first, note=note)
        if aliases.champion(context.registry, model) is not None:
            apply.enlist(context.registry, ref, context.act("jobs.train", at))

    run("train", body)


if __name__ == "__main__":
    start_job(main)
