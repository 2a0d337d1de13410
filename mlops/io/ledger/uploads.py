"""Digest of each model's files, written down before they leave this machine: what MLflow serves is held against it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Column, Table, Text, select

from mlops.errors import DataError
from mlops.io.ledger.registry import added, every
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import metadata
from mlops.io.storage.utc_time import UtcTime

uploads = Table(
    "uploads",
    metadata,
    Column("model", Text, primary_key=True),
    Column("model_id", Text, primary_key=True),  # of MLflow's logged model
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes of all files
    Column("run_id", Text, nullable=False),
    Column("job_run", Text, nullable=False),  # empty: no scheduled job made it
    Column("uploaded_at", UtcTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Upload:
    """Files of one model as they were on this machine. `size` in bytes; `job_run` empty where a person trained."""

    model: str
    model_id: str
    digest: str
    size: int
    run_id: str
    job_run: str
    uploaded_at: datetime


class Uploads(Tables):
    """What was about to be uploaded, and by which job run."""

    def add(self, upload: Upload) -> None:
        """Remember it, on disk when this returns; saying the same again changes nothing.

        Raises
        ------
        DataError
            The model is known with other contents.
        """
        with self._writing() as connection:
            if added(connection, uploads, asdict(upload)):
                return
        known = self.get(upload.model, upload.model_id)
        if known != upload:
            raise DataError(f"upload {upload.model_id} must stay {known}, got {upload}. Train anew.")

    def get(self, model: str, model_id: str) -> Upload | None:
        """The upload of one logged model; None in ledgers older than uploads."""
        with self._reading() as connection:
            query = select(uploads).filter_by(model=model, model_id=model_id)
            return next(iter(every(connection, Upload, query)), None)

    def of_job_run(self, model: str, job_run: str) -> list[Upload]:
        """What the attempts of a job run uploaded, oldest first."""
        with self._reading() as connection:
            query = select(uploads).filter_by(model=model, job_run=job_run).order_by(uploads.c.uploaded_at)
            return every(connection, Upload, query)
