"""Files of a bundle, from MLflow's store: looked at before anything is downloaded, for others may write there."""

from __future__ import annotations

import posixpath
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import FileInfo

from mlops.errors import BundleError
from mlops.io import artifact_store
from mlops.types import ModelRef

MOST_BYTES = 4 * 2**30  # of a bundle whose size is not known: it is older than `uploads`
MOST_FILES = 1000


def download(client: MlflowClient, ref: ModelRef, folder: Path, *, model_id: str, size: int | None) -> Path:
    """Download all files into `folder`; where they lie now.

    Parameters
    ----------
    model_id : str
        The logged model that the ledger knows; what a version says of its source can be planted.
    size : int, optional
        Bytes of all files; None where the ledger does not know.

    Raises
    ------
    BundleError
        There is more than was uploaded, or a name that is no name of a file.
    RegistryError
        The files lie outside of MLflow's own store.
    """
    if model_id:
        source = client.get_logged_model(model_id).artifact_location
    else:  # registered by a release that did not note it
        source = client.get_model_version_download_uri(ref.name, str(ref.version))
    artifact_store.check(client, source, str(ref))
    _measure(client, source, ref, MOST_BYTES if size is None else size)
    # Where the model lies under dst_path depends on the store; the answer says it.
    return Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=client.tracking_uri))


def _measure(client: MlflowClient, source: str, ref: ModelRef, most: int) -> None:
    total = files = 0
    folders = [source]
    while folders:
        folder = folders.pop()
        for entry in mlflow.artifacts.list_artifacts(artifact_uri=folder, tracking_uri=client.tracking_uri):
            files, total = files + 1, total + _size(entry, ref)
            if entry.is_dir:
                folders.append(f"{folder.rstrip('/')}/{_name(entry, ref)}")
            if files > MOST_FILES or total > most:
                rule = f"files of {ref} must be at most {MOST_FILES} with {most} bytes together"
                raise BundleError(f"{rule}, got {files} with {total} so far. Somebody added to them: train it again.")


def _size(entry: FileInfo, ref: ModelRef) -> int:
    _name(entry, ref)
    if entry.is_dir:
        return 0
    if entry.file_size is None:
        raise BundleError(
            f"file {entry.path!r} of {ref} must have a size, got none. Keep models in a store that tells."
        )
    return int(entry.file_size)


def _name(entry: FileInfo, ref: ModelRef) -> str:
    name = posixpath.basename(entry.path)
    if name in ("", ".", "..") or "\\" in name or not name.isprintable():
        raise BundleError(
            f"file of {ref} must have a plain name, got {entry.path!r}. Somebody added it: train it again."
        )
    return name
