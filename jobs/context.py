"""What every job needs, opened once: settings, MLflow, ledger, and how its evidence is logged."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from jobs.cli import terminal
from mlops import settings as settings_module
from mlops.compute import Compute
from mlops.errors import DataError, SettingsError
from mlops.io import logs, private_files
from mlops.io.ledger import Ledger
from mlops.io.storage.disk import Disk
from mlops.kinds import STRATEGY
from mlops.settings import Settings
from mlops.types import Decision, ModelRef, Report
from registry_hooks import account

# What needs MLflow is imported where it is used: its import takes two seconds, and most commands never ask it.
if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlops.io.record import Evidence
    from registry_hooks.aliases import Registry
    from registry_hooks.apply import Act
    from registry_hooks.bundle import Bundle

log = structlog.get_logger()
# MLflow's own client asks eight times and waits two minutes each time: a person at 3 a.m. waits no longer than this.
PATIENCE_S = 8
A_JOB = (30, 2)  # seconds, retries: what nobody waits for outlives a restart of MLflow
AT_ONCE = {"serve": (PATIENCE_S, 0), "promote": (PATIENCE_S, 0)}
TIMEOUT, RETRIES = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@dataclass(frozen=True, slots=True)
class Store:
    """Settings and ledger: what a command needs that asks MLflow nothing."""

    settings: Settings
    ledger: Ledger

    def known(self, model: str) -> None:
        """Refuse a model that nobody trained here: a typo makes no run and no experiment.

        Raises
        ------
        DataError
            The ledger knows none of that name.
        """
        models = self.ledger.registry.models()
        if model not in models:
            names = ", ".join(models) or "none yet: train one"
            rule = f"model must be one that was trained here ({names}), got {model!r}"
            raise DataError(
                f"{rule}. Check the name, and that MLOPS_STATE names the set-up: this is {self.settings.state}."
            )


@dataclass(frozen=True, slots=True)
class Context:
    """What a job of one process needs, opened. `run_id` is the MLflow run that launched it, if any."""

    settings: Settings
    registry: Registry
    run_id: str | None = None

    bundles: dict[ModelRef, Bundle] = field(default_factory=dict)
    outcomes: list[tuple[str, str]] = field(default_factory=list)  # job, and what a person reads at its end

    @property
    def client(self) -> MlflowClient:
        return self.registry.client

    @property
    def ledger(self) -> Ledger:
        return self.registry.ledger

    @property
    def compute(self) -> Compute:
        return Compute(self.settings.compute.workers)

    def act(self, actor: str, at: datetime, evidence_run: str = "") -> Act:
        from registry_hooks.apply import Act

        return Act(actor, at, evidence_run, self.settings.experiment.split)

    def bundle(self, ref: ModelRef) -> Bundle:
        """The verified bundle of a version, loaded once a process: it never changes."""
        from registry_hooks import apply

        key = ModelRef(ref.name, ref.version)
        if key not in self.bundles:
            self.bundles[key] = apply.prove_loadable(self.registry, key)
        return self.bundles[key]

    def conclude(
        self,
        job: str,
        report: Report,
        decision: Decision,
        *,
        then: Callable[[str], None] = lambda run: None,
        **evidence: Any,
    ) -> Decision:
        """Log the evidence, then act on the decision with that evidence linked; `then` gets the run at the end.

        The run is finished once the decision is carried out; it failed where that failed.
        """
        from mlops.io import record
        from registry_hooks import apply

        logged = record.Evidence(job, report, decision, **evidence)
        with record.look(self.client, logged, self.run_id) as run:
            apply.apply(decision, self.registry, self.act(f"jobs.{job}", report.as_of, run))
        self.tell(logged, run)
        then(run)
        return decision

    def emit(self, evidence: Evidence) -> str:
        """Log evidence that nothing follows from; the run that has it."""
        from mlops.io import record

        run = record.emit(self.client, evidence, self.run_id)
        self.tell(evidence, run)
        return run

    def tell(self, evidence: Evidence, run: str) -> None:
        """Note the verdict, its reason and the link for whoever started the job."""
        from mlops.io import mlflow_views, record

        decision, model = evidence.decision, evidence.report.model.name
        experiment = record.experiment_id(self.client, model)  # known by now: what was decided waits for no answer
        place = mlflow_views.of_run(experiment, run, str(self.client.tracking_uri))
        verdict = f"{decision.verdict.value.upper()}: {decision.reason}"
        self.outcomes.append((evidence.job, f"{model}, {evidence.name}\n{verdict}\n{place}\n"))

    def kind(self, model: str) -> str:
        """What a registered model is for: a name in `KINDS`, where this release knows it."""
        return self.ledger.registry.kinds().get(model, STRATEGY)

    def known(self, model: str) -> None:
        """Refuse a model that nobody trained here (`Store.known`)."""
        Store(self.settings, self.ledger).known(model)


@contextmanager
def store(settings: Settings | None = None) -> Iterator[Store]:
    """Open the ledger by the settings given, or by those of this process."""
    settings = settings or settings_module.read()
    storage = settings.storage
    disk = Disk(settings.state, ballast_mib=storage.ballast_mib, min_free_mib=storage.min_free_mib)
    with Ledger(settings.ledger, disk) as ledger:
        ledger.telemetry.most_books = (settings.service.max_books, settings.service.max_books_all)
        yield Store(settings, ledger)


@contextmanager
def opened(settings: Settings | None = None) -> Iterator[Context]:
    """Open a context by the settings given, or by those of this process.

    In the latter case `MLFLOW_TRACKING_URI`, which `mlflow run` sets, wins over the setting. It does not win over
    settings that a caller hands in: MLflow itself leaves the last server of this process in that variable.
    """
    import mlflow

    from registry_hooks.aliases import Registry

    if settings is None:
        settings = settings_module.read()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or settings.tracking_uri
    else:
        uri = settings.tracking_uri
    if uri == settings.tracking_uri:
        account.sign_in(settings)
    mlflow.set_tracking_uri(uri)
    # MLflow narrates every step; ours are in the structured log.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with store(settings) as here:
        client, bundles = mlflow.MlflowClient(uri, registry_uri=uri), settings.state / "bundles"
        registry = Registry(client, here.ledger, bundles, settings.experiment.common_units)
        yield Context(settings, registry, os.environ.get("MLFLOW_RUN_ID"))


def wait_at_most(seconds: int = PATIENCE_S, retries: int = 0) -> None:
    """Bound every wait of this process on MLflow, unless its environment says otherwise."""
    os.environ.setdefault(TIMEOUT, str(seconds))
    os.environ.setdefault(RETRIES, str(retries))


def moment(text: str, name: str = "as_of") -> datetime:
    """`now`, or an ISO instant with its offset.

    Raises
    ------
    DataError
        No instant, or one without an offset: a job must not guess its time zone.
    """
    if text == "now":
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(
            f"{name} must be `now` or an ISO instant, got {text!r}. Write 2008-01-04T22:00+00:00."
        ) from error
    if at.tzinfo is None:
        raise DataError(f"{name} must carry its offset, got {text!r}. Append +00:00 for UTC.")
    return at.astimezone(UTC)


def settings_for(process: str) -> Settings:
    """The settings of this process; where they cannot be read it ends, and says so in one line."""
    private_files.umask()  # every process of ours begins here
    try:
        return settings_module.read()
    except SettingsError as error:
        sys.exit(f"{process} failed: {error}")


def run(job: str, body: Callable[[Context], object], model: str | None = None) -> None:
    """A job's edge: one correlation id, logs, and the only broad `except`: log it, say it, exit 1.

    Its trace is in the log; `--debug` prints it too. `model`: a job that looks at this one; it must be known.
    """
    progress = nullcontext() if job == "serve" else terminal.working(f"{job} {model or ''}".strip())
    logs.configure(settings_for(job).state / "logs" / f"{job}.jsonl")
    with logs.bind(correlation_id=uuid.uuid4().hex, job=job):
        try:
            wait_at_most(*AT_ONCE.get(job, A_JOB))
            with opened() as context:
                if model is not None:
                    context.known(model)
                with progress:
                    body(context)
                texts = [text for about, text in context.outcomes if about == job]  # not those of a replay
                nothing = [f"{job} of {model}: nothing was decided, and nothing was logged.\n"] if model else []
                sys.stdout.writelines(texts or nothing)
        except Exception as error:
            log.exception("job failed")
            terminal.tell(error, f"{job} failed")
            sys.exit(1)
