"""The way into the registry: a model's files are digested here, the digest is in the ledger, then they are uploaded.

What MLflow serves afterwards counts only where it is the same. So whoever can write there, but not in the ledger, can
bring no code in: neither by other files, nor by a version that looks like the one of a job that died.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path

import mlflow
import structlog
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model

from mlops.alerts import ALERTS
from mlops.errors import BundleError
from mlops.io import artifact_store, logs
from mlops.io.ledger import BundleRow, Upload
from mlops.types import ModelRef
from registry_hooks import bundle
from registry_hooks.aliases import Registry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Training:
    """What a version was made from. `start`, `end`: event times of its first and last row; `at`: the job's clock."""

    model: str
    start: datetime
    end: datetime
    horizon_bars: int
    data_digest: str
    at: datetime
    note: str = ""


def upload(registry: Registry, training: Training, run_id: str, save: Callable[[Path, Model], None]) -> Upload:
    """Save a model here, note its digest, upload it. `save` writes the files into a folder, with the given metadata."""
    client, name = registry.client, training.model
    experiment = client.get_run(run_id).info.experiment_id
    label = "-".join((name, *(f"{at:%Y%m}" for at in (training.start, training.end))))  # tells versions apart in tables
    logged = client.create_logged_model(experiment, label, run_id)
    artifact_store.check(client, logged.artifact_location, f"experiment {experiment}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        place, model_id = logged.artifact_location, logged.model_id
        save(path, Model(artifact_path=place, model_uuid=model_id, model_id=model_id, run_id=run_id))
        made, job_run = bundle.digest(path), logs.job_run().get("job_run", "")
        noted = Upload(name, logged.model_id, made, bundle.size(path), run_id, job_run, training.at)
        registry.ledger.uploads.add(noted)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, "READY")
    return noted


def register(registry: Registry, noted: Upload, training: Training, check: Callable[[], None]) -> ModelRef:
    """Make a version of an upload; `check` refuses a registered model that others may write.

    Raises
    ------
    BundleError
        MLflow serves other files than were uploaded. The version is known to nobody but MLflow: it is never loaded.
    RegistryError
        Others may write there; as above.
    """
    with redirect_stderr(StringIO()):  # MLflow prints here what our log says already
        version = mlflow.register_model(_source(noted), noted.model, tags=logs.job_run())
    ref = ModelRef(noted.model, int(version.version))
    check()
    _prove(registry, ref, noted)
    _enter(registry, ref, noted, training)
    return ref


def resume(registry: Registry, training: Training) -> ModelRef | None:
    """Finish what an earlier attempt of this job run registered; None where it must be trained anew."""
    job_run = logs.job_run().get("job_run")
    for noted in reversed(registry.ledger.uploads.of_job_run(training.model, job_run) if job_run else []):
        versions = registry.client.search_model_versions(f"name = '{training.model}'")
        for number in sorted(int(version.version) for version in versions if version.source == _source(noted)):
            ref = ModelRef(training.model, number)
            try:
                _prove(registry, ref, noted)
            except BundleError as error:
                log.error("version of an earlier attempt left alone", model=str(ref), error=str(error))
                continue
            _enter(registry, ref, noted, training)
            registry.client.set_terminated(noted.run_id, end_time=int(training.at.timestamp() * 1000))
            return ref
    return None


def _source(noted: Upload) -> str:
    return f"models:/{noted.model_id}"


def _prove(registry: Registry, ref: ModelRef, noted: Upload) -> None:
    """Hold what MLflow serves against what was uploaded; a person is told where it differs."""
    try:
        path = bundle.fetch(registry.client, ref, registry.cache, model_id=noted.model_id, size=noted.size)
        bundle.verify(path, noted.digest)
    except BundleError as error:
        words = {"model": ref.name, "version": ref.version, "ref": ref, "why": error}
        registry.ledger.alerts.add(ALERTS["bundle_altered"].alert(noted.uploaded_at, words))
        rule = f"files of {ref} in MLflow must be as they were before the upload"
        raise BundleError(f"{rule}, got: {error} Find out who writes there, then train again.") from error


def _enter(registry: Registry, ref: ModelRef, noted: Upload, training: Training) -> None:
    """Put a version into the ledger, and what it is into its tags. Safe to repeat."""
    t, client = training, registry.client
    row = BundleRow(
        t.model, ref.version, noted.digest, noted.run_id, noted.model_id, t.start, t.end, t.horizon_bars, t.at
    )
    registry.ledger.registry.add_bundle(row)
    tags = {"train_start": t.start, "train_end": t.end, "horizon_bars": t.horizon_bars, "data_digest": t.data_digest}
    for key, value in {**tags, "bundle_sha256": noted.digest, "note": t.note}.items():
        client.set_model_version_tag(ref.name, str(ref.version), key, str(value))
    client.update_model_version(ref.name, str(ref.version), t.note)
