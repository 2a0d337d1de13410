"""The search of a study: Optuna's trials in a journal on disk, each a child run, both taken up again after a kill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from mlflow.entities import Metric, Param, RunTag
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from jobs.context import Context
from jobs.training.study import Study
from mlops.compute import SERIAL, Compute
from mlops.io import private_files, record
from mlops.learn import splits, tune
from mlops.learn.calibration import Floats

FIRST_RUNG = 2  # folds that are scored before a trial may be pruned


def search(context: Context, study: Study, journal: optuna.Study, run_id: str, as_of: datetime) -> dict[str, Any]:
    """The best parameters. Finished trials are kept; one that a kill cut short is done again."""
    s = context.settings.train
    for cut in journal.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        journal.tell(cut.number, state=TrialState.FAIL)
    done = journal.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    _mend_child_runs(context, run_id, done, as_of)
    for index in range(len(done), s.trials):
        # Reseeded by what is finished, so that a study suggests the same with or without an interruption.
        journal.sampler = optuna.samplers.TPESampler(seed=s.seed + 1000 * index, n_startup_trials=4)
        trial = journal.ask()
        params = study.learner.space(trial)
        value = score(study, trial, params, s.seed, context.compute)
        journal.tell(trial, value, state=TrialState.COMPLETE if value is not None else TrialState.PRUNED)
        _child_run(context, run_id, index, params, value, as_of)
    return dict(journal.best_params)


def score(
    study: Study, trial: optuna.Trial, params: Mapping[str, Any], seed: int, compute: Compute = SERIAL
) -> float | None:
    """Mean log-loss over the folds; None where the first ones were already hopeless."""
    first, rest = study.folds[:FIRST_RUNG], study.folds[FIRST_RUNG:]
    margins = tune.score_folds(study.learner, study.table, first, params, seed, compute)
    trial.report(_loss(study, first, margins), 0)
    if trial.should_prune():
        return None
    margins += tune.score_folds(study.learner, study.table, rest, params, seed, compute)
    return _loss(study, study.folds, margins)


def _loss(study: Study, folds: Sequence[splits.Fold], margins: Sequence[Floats]) -> float:
    tests = np.concatenate([fold.test for fold in folds])
    return tune.log_loss(np.concatenate(margins), study.table.y[tests])


@contextmanager
def open_study(context: Context, study: Study, as_of: datetime) -> Iterator[tuple[optuna.Study, str]]:
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
    tags = {"job": "train", "model": study.strategy.name, "as_of": as_of.isoformat(), "data_digest": study.digest}
    with _run(context, journal, study.strategy.name, as_of) as run_id:
        context.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        yield journal, run_id


@contextmanager
def _run(context: Context, journal: optuna.Study, model: str, as_of: datetime) -> Iterator[str]:
    """The run that an attempt before began, or a new one in the experiment of the model; finished after the block."""
    earlier = journal.user_attrs.get("run_id")
    if context.run_id is None and earlier is not None:
        yield str(earlier)
        context.client.set_terminated(earlier, end_time=int(as_of.timestamp() * 1000))
        return
    with record.run(context.client, f"train {as_of:%Y-%m-%d}", model, as_of, context.run_id) as run_id:
        journal.set_user_attr("run_id", run_id)
        yield run_id


def _mend_journal(path: Path) -> None:
    """Take away what a kill in the middle of a write left: half a line, and Optuna's lock.

    A study has one writer; with the lock in place it would wait for half a minute, and half a line it cannot read.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.exists() and not (written := path.read_bytes()).endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(written.rfind(b"\n") + 1)


def _mend_child_runs(context: Context, parent: str, done: Sequence[optuna.trial.FrozenTrial], as_of: datetime) -> None:
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
            _child_run(context, parent, index, trial.params, value, as_of)


def _child_run(
    context: Context, parent: str, index: int, params: Mapping[str, Any], value: float | None, as_of: datetime
) -> None:
    experiment, at = context.client.get_run(parent).info.experiment_id, int(as_of.timestamp() * 1000)
    tags = {"mlflow.parentRunId": parent, "job": "trial", "state": "pruned" if value is None else "complete"}
    child = context.client.create_run(experiment, at, tags=tags, run_name=f"trial {index}").info.run_id
    metrics = [] if value is None else [Metric("cv.log_loss_uncalibrated", value, at, index)]
    context.client.log_batch(child, metrics=metrics, params=[Param(k, str(v)) for k, v in params.items()])
    context.client.set_terminated(child, end_time=at)
