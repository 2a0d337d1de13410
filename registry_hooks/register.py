"""The one way into the registry: files are digested here, the digest is in the ledger, then they are uploaded.

Whoever made them: a learner of ours (`Script`), or a user, with any `save` that writes an MLflow model.
What MLflow serves afterwards counts only where it is the same. So whoever can write there, but not in the ledger, can
bring no code in: neither by other files, nor by a version that looks like the one of a job that died.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import structlog
from mlflow import MlflowClient, MlflowException
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, infer_signature

from mlops.alerts import ALERTS
from mlops.errors import BundleError, DataError
from mlops.io import artifact_store, logs
from mlops.io.ledger import BundleRow, Upload
from mlops.kinds import KINDS, STRATEGY
from mlops.types import ModelRef
from registry_hooks import bundle
from registry_hooks.aliases import Registry

log = structlog.get_logger()
LIBRARIES = ("mlflow", "numpy", "pandas")  # what any script needs to load
VERSIONS_TAG = "mlflow.modelVersions"  # by which MLflow's page of a logged model links to its versions


@dataclass(frozen=True, slots=True)
class Training:
    """What a version was made from. `start`, `end`: event times of its first and last row; `at`: the job's clock.

    Raises
    ------
    DataError
        `kind` is none of `KINDS`.
    """

    model: str
    start: datetime
    end: datetime
    horizon_bars: int
    data_digest: str
    at: datetime
    note: str = ""
    kind: str = STRATEGY

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}. Add it to mlops/kinds.py.")


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """A models-from-code script with the files that it loads, `meta.json` among them.

    `example`: a few rows of its features; `libraries`: what it imports beside `LIBRARIES`.
    """

    path: Path
    files: Path
    example: pd.DataFrame
    libraries: tuple[str, ...] = ()

    def save(self, path: Path, metadata: Model) -> None:
        """Write the bundle's files into `path`."""
        mlflow.pyfunc.save_model(
            path,
            mlflow_model=metadata,
            python_model=str(self.path),
            artifacts={file.stem: str(file) for file in sorted(self.files.iterdir())},
            signature=infer_signature(self.example, np.full(len(self.example), 0.5)),
            input_example=self.example,
            pip_requirements=[f"{name}=={installed(name)}" for name in sorted((*self.libraries, *LIBRARIES))],
        )


def upload(registry: Registry, training: Training, run_id: str, save: Callable[[Path, Model], None]) -> Upload:
    """Save a model here, note its digest, upload it. `save` writes the files into a folder, with the given metadata.

    Raises
    ------
    BundleError
        What was saved does not say what it is: nothing was uploaded.
    """
    client, name = registry.client, training.model
    experiment = client.get_run(run_id).info.experiment_id
    label = "-".join((name, *(f"{at:%Y%m}" for at in (training.start, training.end))))  # tells versions apart in tables
    logged = client.create_logged_model(experiment, label, run_id)
    artifact_store.check(client, logged.artifact_location, f"experiment {experiment}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        place, model_id = logged.artifact_location, logged.model_id
        save(path, Model(artifact_path=place, model_uuid=model_id, model_id=model_id, run_id=run_id))
        bundle.check(path)
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
    ref = _version(registry.client, noted)
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


def _version(client: MlflowClient, noted: Upload) -> ModelRef:
    """A new version of the registered model, which is made where there is none."""
    try:
        client.create_registered_model(noted.model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(noted.model, _source(noted), tags=logs.job_run(), model_id=noted.model_id)
    tags = client.get_logged_model(noted.model_id).tags
    versions = [*json.loads(tags.get(VERSIONS_TAG, "[]")), {"name": made.name, "version": int(made.version)}]
    client.set_logged_model_tags(noted.model_id, {VERSIONS_TAG: json.dumps(versions)})
    return ModelRef(noted.model, int(made.version))


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
        t.model, ref.version, noted.digest, noted.run_id, noted.model_id, t.start, t.end, t.horizon_bars, t.at, t.kind
    )
    registry.ledger.registry.add_bundle(row)
    # The status first: MLflow shows tags in the order in which they came.
    tags = {
        "status": "new",
        "train_start": t.start,
        "train_end": t.end,
        "horizon_bars": t.horizon_bars,
        "data_digest": t.data_digest,
    }
    for key, value in {**tags, "bundle_sha256": noted.digest, "note": t.note}.items():
        client.set_model_version_tag(ref.name, str(ref.version), key, str(value))
    client.update_model_version(ref.name, str(ref.version), t.note)
