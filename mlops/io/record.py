"""Evidence out: what a job found becomes a run of MLflow that a person can read, compare and link to.

All looks at one thing (a champion's reign, a comparison, a year of all books) are steps of one run, its *series*: a
line over time for each of a dozen metrics, and the newest verdict in its name. A look that acts, or that a person
launched, has a run of its own as well, nested under the series. Whatever nobody would plot is in files: `<job>.json`
and `findings.csv` are of the newest look, `looks/` has those of every look.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import mlflow
import structlog
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag

from mlops.io import artifact_store, logs, mlflow_views
from mlops.types import Decision, Finding, Level, ModelRef, Report, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # a service that draws nothing starts without matplotlib

log = structlog.get_logger()
BOOKS = ModelRef("risk", 0)  # the MLflow experiment of what is about all books
ACTS = (Verdict.RETRAIN, Verdict.ADVANCE, Verdict.WITHDRAW, Verdict.PROMOTE, Verdict.ROLLBACK)
PLOTTED = 12  # metrics of a run: more hide the ones that somebody plots
NOTE, PARENT = "mlflow.note.content", "mlflow.parentRunId"
LAUNCHER = ("mlflow.project.", "mlflow.source.", "mlflow.user")  # tags that say what launched a run, and from where
COLUMNS = ("name", "subject", "value", "limit", "level", "n", "note")


@dataclass(frozen=True, slots=True)
class Series:
    """The run that all looks at one thing are steps of.

    Parameters
    ----------
    name : str
        What is looked at, `compare v2 → v3`; the newest headline follows it in the run's name.
    since : datetime
        Its first day: the step of a look is the number of whole days since.
    tags : mapping of str to str
        What the run is found by, `job` and `model` among them.
    """

    name: str
    since: datetime
    tags: Mapping[str, str]

    def step(self, as_of: datetime) -> int:
        """Days since the series began."""
        return (as_of - self.since) // timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a job found, as MLflow will keep it.

    Parameters
    ----------
    numbers : mapping of str to float
        Numbers beside those of the findings, for the files.
    plotted : mapping of str to float, optional
        The metrics, at most `PLOTTED`; by default the first numbers of the findings.
    headline : str
        The verdict in a few words, for the run's name.
    series : Series, optional
        What the look is a step of; without one it is a run of its own.
    beside : bool
        It is no step of the series, but a run of its own beneath it.
    """

    job: str
    report: Report
    decision: Decision
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)  # name of a text artifact -> what is in it
    plotted: Mapping[str, float] | None = None
    headline: str = ""
    series: Series | None = None
    beside: bool = False

    @property
    def name(self) -> str:
        """Name of its run: what was looked at, and the verdict."""
        verdict, version = self.decision.verdict.value, self.report.model.version
        if self.series is not None and not self.beside:
            return f"{self.series.name}: {self.headline or verdict}"
        return f"{self.job} {self.headline}" if self.headline else f"{self.job} v{version}: {verdict}"

    @property
    def metrics(self) -> dict[str, float]:
        """Plotted numbers; one that is not known is left out, for MLflow would show it as 0."""
        plotted = measured(self.report.findings) if self.plotted is None else self.plotted
        return dict(islice(((k, float(v)) for k, v in plotted.items() if math.isfinite(v)), PLOTTED))


@lru_cache(maxsize=256)
def experiment_id(client: MlflowClient, model: str) -> str:
    """The MLflow experiment that holds all runs of `model`; made at first use, safe when two make it at once.

    It never changes, so it is asked for once a client. One that somebody else made may keep its files elsewhere: it is
    refused. One without a description gets ours.
    """
    experiment = client.get_experiment_by_name(model)
    if experiment is None:
        try:
            client.create_experiment(model, tags={"mlflow.experimentKind": "custom_model_development"})
        except mlflow.MlflowException:
            if client.get_experiment_by_name(model) is None:  # nobody else made it meanwhile
                raise
        experiment = client.get_experiment_by_name(model)
    assert experiment is not None
    artifact_store.check(client, experiment.artifact_location, f"experiment {model}")
    number = str(experiment.experiment_id)
    if NOTE not in experiment.tags:
        client.set_experiment_tag(number, NOTE, mlflow_views.of_experiment(number, model, books=model == BOOKS.name))
    return number


@contextmanager
def look(client: MlflowClient, evidence: Evidence, launched: str | None = None) -> Iterator[str]:
    """Write a look, and give the run that has its evidence: finished after the block, failed where that raises.

    It is a step of its series. It is a run of its own where it acts, was `launched` by a person, or has no series. What
    a person launched and does not act is no step: the schedule's looks are evenly apart.
    """
    model, at = evidence.report.model.name, evidence.report.as_of
    acts = evidence.decision.verdict in ACTS
    with ExitStack() as stack:
        parent = None if evidence.series is None else _series_run(client, evidence.series)
        run_id = None if parent is None else str(parent.info.run_id)
        if parent is not None:
            stack.enter_context(_ending(client, parent.info.run_id, at))
            if not evidence.beside and (acts or launched is None):
                _add_step(client, parent, evidence)
        if run_id is None or evidence.beside or acts or launched is not None:
            run_id = stack.enter_context(run(client, evidence.name, model, at, launched, run_id))
            write(client, run_id, evidence)
        _say(evidence)
        yield run_id


def emit(client: MlflowClient, evidence: Evidence, launched: str | None = None) -> str:
    """Write a look that nothing follows from, and return the run that has its evidence."""
    with look(client, evidence, launched) as run_id:
        return run_id


def write(client: MlflowClient, run_id: str, evidence: Evidence) -> None:
    """Put evidence into a run of its own."""
    at = _ms(evidence.report.as_of)
    metrics = [Metric(key, value, at, 0) for key, value in evidence.metrics.items()]
    client.log_batch(run_id, metrics=metrics, tags=_tags(evidence))
    _files(client, run_id, evidence)


def link(client: MlflowClient, model: str, run_id: str) -> str:
    """Where a browser shows a run of `model`."""
    experiment = client.get_experiment_by_name(model)
    if experiment is None:
        return run_id
    return mlflow_views.of_run(str(experiment.experiment_id), run_id, str(client.tracking_uri))


def set_aside(client: MlflowClient, model: str, job_run: str) -> None:
    """Mark what an earlier attempt of a job run left: unfinished runs are closed, finished ones do not count any more.

    The tag `superseded` on a finished run says that a later attempt of the same job run made the evidence that counts.
    A series counts on: the later attempt does the same step again.
    """
    if not model:
        return
    for left in client.search_runs([experiment_id(client, model)], f"tags.job_run = '{job_run}'"):
        if left.info.status == "RUNNING":
            client.set_terminated(left.info.run_id, "KILLED")
        elif "series" not in left.data.tags and left.data.tags.get("job") != "live":  # `live` is of an older release
            client.set_tag(left.info.run_id, "superseded", "true")


def close_left(client: MlflowClient, running: set[str]) -> int:
    """Close runs that scheduled jobs left open, except those of the job runs in `running`; how many were closed."""
    experiments, closed = [e.experiment_id for e in client.search_experiments()], 0
    for left in client.search_runs(experiments, "attributes.status = 'RUNNING' and tags.job_run LIKE '%@%'"):
        if left.data.tags["job_run"] not in running:
            client.set_terminated(left.info.run_id, "KILLED")
            closed += 1
    return closed


def measured(findings: Iterable[Finding]) -> dict[str, float]:
    """The numbers of findings: one that nothing stands behind (unknown, of no rows) is none."""
    return {_key(f): f.value for f in findings if math.isfinite(f.value) and (f.n or f.level is not Level.UNKNOWN)}


@contextmanager
def run(
    client: MlflowClient, name: str, model: str, at: datetime, launched: str | None, parent: str | None = None
) -> Iterator[str]:
    """A run of its own in the experiment of `model`: finished after the block, failed where that raises.

    `launched` is the run that `mlflow run` made. One in that experiment is taken, and ended by its launcher; one
    elsewhere is told where the evidence is.
    """
    experiment = experiment_id(client, model)
    tags = {**logs.job_run(), **({PARENT: parent} if parent else {})}
    if launched is not None:
        origin = client.get_run(launched)
        if origin.info.experiment_id == experiment:
            client.update_run(launched, name=name)
            client.log_batch(launched, tags=[RunTag(k, v) for k, v in tags.items()])
            yield launched
            return
        tags |= {key: value for key, value in origin.data.tags.items() if key.startswith(LAUNCHER)}
    run_id = str(client.create_run(experiment, _ms(at), tags=tags, run_name=name).info.run_id)
    if launched is not None:
        place = f"[{model}: {name}]({mlflow_views.of_run(experiment, run_id)})"
        client.update_run(launched, name=f"{name} (in experiment {model})")
        client.log_batch(launched, tags=[RunTag(NOTE, f"The evidence is in {place}.")])
    with _ending(client, run_id, at):
        yield run_id


@contextmanager
def _ending(client: MlflowClient, run_id: str, at: datetime) -> Iterator[None]:
    """Finish a run after the block; it failed where that raises."""
    try:
        yield
    except BaseException:
        with suppress(mlflow.MlflowException):
            client.set_terminated(run_id, "FAILED", end_time=_ms(at))
        raise
    client.set_terminated(run_id, end_time=_ms(at))


def _series_run(client: MlflowClient, series: Series) -> Run:
    """The run of a series; of two that were made at once the older one."""
    experiment = experiment_id(client, series.tags["model"])
    query = " and ".join(f"tags.{key} = '{value}'" for key, value in series.tags.items())
    runs = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
    if runs:
        return runs[0]
    tags = {"series": series.name, **series.tags, **logs.job_run()}
    return client.create_run(experiment, _ms(series.since), tags=tags, run_name=series.name)


def _add_step(client: MlflowClient, parent: Run, evidence: Evidence) -> None:
    """Add a look to its series; one that was added before adds no second point, and an older one renames nothing."""
    series, at, run_id = evidence.series, evidence.report.as_of, parent.info.run_id
    assert series is not None  # who calls it has one
    points = [Metric(key, value, _ms(at), series.step(at)) for key, value in evidence.metrics.items()]
    if points and any(old.step == points[0].step for old in client.get_metric_history(run_id, points[0].key)):
        points = []
    newest = parent.data.tags.get("as_of", "") <= at.isoformat()
    client.log_batch(
        run_id, metrics=points, tags=_tags(evidence, {"series": series.name, **series.tags}) if newest else []
    )
    if newest:
        client.update_run(run_id, name=evidence.name)
        _files(client, run_id, evidence)
    _tables(client, run_id, evidence, f"looks/{at:%Y-%m-%d}", f"looks/{at:%Y-%m-%d}")


def _files(client: MlflowClient, run_id: str, evidence: Evidence) -> None:
    """All that belongs to the newest look."""
    _tables(client, run_id, evidence, evidence.job, "findings")
    for name, figure in evidence.figures.items():
        client.log_figure(run_id, figure, f"{name}.png")
    for name, text in evidence.pages.items():
        client.log_text(run_id, text, name)


def _tables(client: MlflowClient, run_id: str, evidence: Evidence, document: str, table: str) -> None:
    """Everything that was found, for programs as JSON and for people as a table."""
    client.log_dict(run_id, _document(evidence), f"{document}.json")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(f, name) for name in COLUMNS] for f in evidence.report.findings)
    writer.writerows([name, "", value, "", "", "", ""] for name, value in evidence.numbers.items())
    client.log_text(run_id, text.getvalue(), f"{table}.csv")


def _say(evidence: Evidence) -> None:
    """Tell the log."""
    report, decision = evidence.report, evidence.decision
    for finding in report.findings:
        log.info("finding", job=evidence.job, model=str(report.model), **_row(finding))
    log.info("decision", job=evidence.job, model=str(decision.model), verdict=decision.verdict, reason=decision.reason)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _row(finding: Finding) -> dict[str, Any]:
    row = {field.name: getattr(finding, field.name) for field in fields(finding)}
    filled = {k: v for k, v in row.items() if v not in ("", {}, None)}
    return {**filled, "finding_level": filled.pop("level").value}  # a log line has a level of its own


def _key(finding: Finding) -> str:
    return f"{finding.name}.{finding.subject}" if finding.subject else finding.name


def _tags(evidence: Evidence, series: Mapping[str, str] | None = None) -> list[RunTag]:
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
        **({"acts": "true"} if decision.verdict in ACTS and series is None else {}),
        NOTE: f"**{decision.verdict.value.upper()}** — {decision.reason}",
        **evidence.tags,
        **(series or {}),
    }
    return [RunTag(k, v) for k, v in tags.items()]


def _document(evidence: Evidence) -> dict[str, Any]:
    report, decision = evidence.report, evidence.decision
    return {
        "model": str(report.model),
        "as_of": report.as_of.isoformat(),
        "verdict": decision.verdict.value,
        "reason": decision.reason,
        "findings": [{**_row(f), "value": _finite(f.value), "limit": _finite(f.limit)} for f in report.findings],
        "numbers": {name: _finite(value) for name, value in evidence.numbers.items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
