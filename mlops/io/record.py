"""Evidence out: a report becomes an MLflow run, a number becomes a metric that is tied to its model.

A metric logged with the model's id and a dataset shows in MLflow's Models table, beside the same metric of any other
version: that is what makes champion and challenger comparable there. Each arm of a comparison has one long *live* run
to which every look adds a point, so that the compare view draws both over time, on the same bars.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import mlflow
import structlog
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from mlops.io import artifact_store, logs
from mlops.types import Decision, Finding, Level, ModelRef, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # a service that draws nothing starts without matplotlib

log = structlog.get_logger()
BOOKS = ModelRef("risk", 0)  # the MLflow experiment of what is about all books
PARAMS, METRICS = 100, 1000  # MLflow takes no more in one batch


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a job found, as MLflow will keep it."""

    job: str
    report: Report
    decision: Decision
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)  # metrics beside those of the findings
    pages: Mapping[str, str] = field(default_factory=dict)  # name of a text artifact -> what is in it


@lru_cache(maxsize=256)
def experiment_id(client: MlflowClient, model: str) -> str:
    """The MLflow experiment that holds all runs of `model`; made at first use, safe when two make it at once.

    It never changes, so it is asked for once a client. One that somebody else made may keep its files elsewhere: it is
    refused.
    """
    experiment = client.get_experiment_by_name(model)
    if experiment is None:
        try:
            return str(client.create_experiment(model, tags={"mlflow.experimentKind": "custom_model_development"}))
        except mlflow.MlflowException:
            experiment = client.get_experiment_by_name(model)  # somebody else made it meanwhile
            if experiment is None:
                raise
    artifact_store.check(client, experiment.artifact_location, f"experiment {model}")
    return str(experiment.experiment_id)


@contextmanager
def run(client: MlflowClient, job: str, model: str, at: datetime, launched: str | None) -> Iterator[str]:
    """The run of a job: finished after the block, failed where that raises. `launched`: one that its launcher ends."""
    if launched is not None:  # whoever launched it ends it
        yield launched
        return
    begun = _begin(client, job, model, at)
    try:
        yield begun
    except BaseException:
        with suppress(mlflow.MlflowException):
            client.set_terminated(begun, "FAILED", end_time=_ms(at))
        raise
    client.set_terminated(begun, end_time=_ms(at))


def _begin(client: MlflowClient, job: str, model: str, at: datetime) -> str:
    experiment, name = experiment_id(client, model), f"{job} {at:%Y-%m-%d}"
    return str(client.create_run(experiment, _ms(at), tags=logs.job_run(), run_name=name).info.run_id)


def emit(client: MlflowClient, evidence: Evidence, run_id: str | None = None) -> str:
    """Write one job's evidence as a run and return its id; `run_id` continues the run that launched the job."""
    report, decision = evidence.report, evidence.decision
    at = _ms(report.as_of)
    run = run_id or _begin(client, evidence.job, report.model.name, report.as_of)
    client.log_batch(run, tags=_tags(evidence))
    metrics, params = _metrics(report.findings, at), _params(evidence)
    metrics += [Metric(k, v, at, 0) for k, v in evidence.numbers.items() if math.isfinite(v)]
    for start in range(0, len(metrics), METRICS):
        client.log_batch(run, metrics=metrics[start : start + METRICS])
    for start in range(0, len(params), PARAMS):
        client.log_batch(run, params=params[start : start + PARAMS])
    client.log_dict(run, _document(report, decision), f"{evidence.job}.json")
    for name, figure in evidence.figures.items():
        client.log_figure(run, figure, f"{name}.png")
    for name, text in evidence.pages.items():
        client.log_text(run, text, name)
    if run_id is None:
        client.set_terminated(run, end_time=at)
    for finding in report.findings:
        log.info("finding", job=evidence.job, model=str(report.model), **_row(finding))
    log.info("decision", job=evidence.job, model=str(decision.model), verdict=decision.verdict, reason=decision.reason)
    return str(run)


def link(client: MlflowClient, model: str, run_id: str, uri: str) -> str:
    """Where a browser shows a run of `model`."""
    experiment = client.get_experiment_by_name(model)
    return run_id if experiment is None else f"{uri}/#/experiments/{experiment.experiment_id}/runs/{run_id}"


def set_aside(client: MlflowClient, model: str, job_run: str) -> None:
    """Mark what an earlier attempt of a job run left: unfinished runs are closed, finished ones do not count any more.

    The tag `superseded` on a finished run says that a later attempt of the same job run made the evidence that counts.
    """
    if not model:
        return
    for run in client.search_runs([experiment_id(client, model)], f"tags.job_run = '{job_run}'"):
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "KILLED")
        elif run.data.tags.get("job") != "live":
            client.set_tag(run.info.run_id, "superseded", "true")


def close_left(client: MlflowClient, running: set[str]) -> int:
    """Close runs that scheduled jobs left open, except those of the job runs in `running`; how many were closed."""
    experiments, closed = [e.experiment_id for e in client.search_experiments()], 0
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING' and tags.job_run LIKE '%@%'"):
        if run.data.tags["job_run"] not in running:
            client.set_terminated(run.info.run_id, "KILLED")
            closed += 1
    return closed


@dataclass(frozen=True, slots=True)
class LiveRun:
    """The long run of one arm of one comparison: a point a look, on the same bars as the other arm's.

    `model_id` is the logged model that its metrics are tied to, as the ledger knows it.
    """

    client: MlflowClient
    arm: ModelRef
    model_id: str
    trial: int
    since: datetime

    def log(self, metrics: Mapping[str, float], as_of: datetime) -> str:
        """Add one point to each metric, tied to the arm's model. NaN is left out: MLflow would show it as 0."""
        run, at, model = self._open(as_of), _ms(as_of), self.model_id
        dataset, digest = f"live since {self.since:%Y-%m-%d}", f"comparison-{self.trial}"
        step = int((as_of - self.since).total_seconds()) // 86400
        rows = [Metric(k, v, at, step, model, dataset, digest) for k, v in metrics.items() if math.isfinite(v)]
        self.client.log_batch(run, metrics=rows)
        self.client.set_terminated(run, end_time=at)
        return run

    def _open(self, as_of: datetime) -> str:
        experiment = experiment_id(self.client, self.arm.name)
        query = f"tags.job = 'live' and tags.trial = '{self.trial}' and tags.version = '{self.arm.version}'"
        if runs := self.client.search_runs([experiment], query, max_results=1):
            return str(runs[0].info.run_id)
        version, role = str(self.arm.version), str(self.arm.alias)
        tags = {"job": "live", "model": self.arm.name, "version": version, "role": role, "trial": str(self.trial)}
        tags |= logs.job_run()
        name = f"{role} v{version} since {self.since:%Y-%m-%d}"
        return str(self.client.create_run(experiment, _ms(as_of), tags=tags, run_name=name).info.run_id)


def point(
    client: MlflowClient, name: str, tags: Mapping[str, str], metrics: Mapping[str, float], as_of: datetime
) -> str:
    """Add a point to each metric of the one long run with these tags (`model` among them); the run's id."""
    experiment, at = experiment_id(client, tags["model"]), _ms(as_of)
    query = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    runs = client.search_runs([experiment], query, max_results=1)
    run = runs[0] if runs else client.create_run(experiment, at, tags=dict(tags), run_name=name)
    rows = [Metric(key, value, at, at // 86_400_000) for key, value in metrics.items() if math.isfinite(value)]
    client.log_batch(run.info.run_id, metrics=rows)
    if not runs:
        client.set_terminated(run.info.run_id, end_time=at)
    return str(run.info.run_id)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _row(finding: Finding) -> dict[str, Any]:
    row = {field.name: getattr(finding, field.name) for field in fields(finding)}
    stated = {k: v for k, v in row.items() if v not in ("", {}, None)}
    return {**stated, "finding_level": stated.pop("level").value}  # a log line has a level of its own


def _key(finding: Finding) -> str:
    return f"{finding.name}.{finding.subject}" if finding.subject else finding.name


def measured(findings: Iterable[Finding]) -> dict[str, float]:
    """The metrics of findings: a number that nothing stands behind (unknown, of no rows) is none; its `n` says 0."""
    return {_key(f): f.value for f in findings if math.isfinite(f.value) and (f.n or f.level is not Level.UNKNOWN)}


def _metrics(findings: tuple[Finding, ...], at: int) -> list[Metric]:
    rows = [Metric(name, value, at, 0) for name, value in measured(findings).items()]
    return rows + [Metric(f"{_key(f)}.n", f.n, at, 0) for f in findings]


def _params(evidence: Evidence) -> list[Param]:
    params = {f"{f.name}.{k}": str(v)[:500] for f in evidence.report.findings for k, v in f.params.items()}
    return [Param(k, v) for k, v in params.items()]


def _tags(evidence: Evidence) -> list[RunTag]:
    model, decision = evidence.report.model, evidence.decision
    tags = {
        "job": evidence.job,
        "model": model.name,
        "version": str(model.version),
        "as_of": evidence.report.as_of.isoformat(),
        "verdict": decision.verdict.value,
        "reason": decision.reason,
        "correlation_id": logs.correlation_id(),
        **logs.job_run(),
        "mlflow.note.content": f"**{decision.verdict.value.upper()}** — {decision.reason}",
        **evidence.tags,
    }
    return [RunTag(k, v) for k, v in tags.items()]


def _document(report: Report, decision: Decision) -> dict[str, Any]:
    return {
        "model": str(report.model),
        "as_of": report.as_of.isoformat(),
        "verdict": decision.verdict.value,
        "reason": decision.reason,
        "findings": [{**_row(f), "value": _finite(f.value), "limit": _finite(f.limit)} for f in report.findings],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
