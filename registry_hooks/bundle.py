"""A bundle: one immutable model version, with everything that its predictions depend on.

booster, calibrator, feature names, training window, reference sample with its summary, and a probe travel together as
one MLflow model. Its digest is in the ledger from the day that it was made; it is checked before any of its code runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from numpy.typing import NDArray

from mlops.errors import BundleError
from mlops.io import private_files
from mlops.types import ModelRef
from registry_hooks.download import download

FORMAT = 1
ARTIFACTS = ("meta.json", "probe.parquet", "reference.parquet")  # in every bundle
KEYS = {"format", "features", "horizon_bars", "base_rate", "probe"}  # in every meta.json
LOADING = threading.Lock()  # MLflow hands a model from its script over in a global: two loads at once could swap models
ADDED_ON_DOWNLOAD = {"registered_model_meta"}  # MLflow writes the registered name there; all else is the bundle
FEATURE_TOLERANCE = 1e-5  # relative; float32 sums may differ in the last bits between processors
SCORE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Bundle:
    """A verified, loaded bundle."""

    path: Path
    digest: str
    meta: dict[str, Any]
    model: Any = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of the model."""
        return tuple(self.meta["features"])

    def score(self, values: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float64]:
        """P(label = 1) of each row; `names` says what the columns of `values` (n, k) are."""
        if missing := [name for name in self.names if name not in names]:
            raise BundleError(f"features must include all of the bundle's, got none of {missing}. Compute them.")
        return np.asarray(self.model.predict(pd.DataFrame(values, columns=list(names))), dtype=np.float64)

    def reference(self) -> pd.DataFrame:
        """Rows of the training's out-of-fold predictions: event_time, unit, features, label, probability."""
        return pd.read_parquet(self.path / "artifacts" / "reference.parquet")

    def held_out(self) -> pd.DataFrame:
        """Rows of the reference that nothing of the version was chosen or fitted by: what live scores are held against.

        None where history was too short to hold bars out. All rows of a bundle from before bars were held out: they are
        what search and calibration were fitted on, and say a little more than is true.
        """
        rows, known = self.reference(), self.meta.get("held_out")
        if known is None:
            return rows
        begin = pd.Timestamp.max.tz_localize("UTC") if known["from"] is None else pd.Timestamp(known["from"])
        return rows[rows["event_time"] >= begin].reset_index(drop=True)

    def summary(self) -> bytes | None:
        """The reference as the monitor needs it, computed at training; None in bundles older than that."""
        stored = self.path / "artifacts" / "summary.npz"
        return stored.read_bytes() if stored.exists() else None

    def prove(
        self,
        features: Callable[[pd.DataFrame], tuple[Sequence[str], NDArray[np.float32]]] | None,
        names: Sequence[str],
    ) -> None:
        """Hold the caller's feature code and this machine's scores against what training saw on the probe bars.

        `features` None: there is no such code here; the bundle's own features are scored, and only scores are held.

        Raises
        ------
        BundleError
            Units, features or probabilities differ.
        """
        expected = self.meta["probe"]
        if missing := [name for name in self.names if name not in names]:
            raise BundleError(f"features must include all of the bundle's, got none of {missing}. Compute them.")
        if features is None:
            _agree(self.score(np.array(expected["features"], dtype=np.float32), self.names), expected["probability"])
            return
        units, values = features(pd.read_parquet(self.path / "artifacts" / "probe.parquet"))
        if list(units) != expected["units"]:
            raise BundleError(
                f"probe must give units {expected['units']}, got {list(units)}. Compare the feature code."
            )
        score = self.score(values, names)
        given = values[:, [list(names).index(name) for name in self.names]]
        apart = ~np.isclose(given, np.array(expected["features"], dtype=np.float32), rtol=FEATURE_TOLERANCE, atol=1e-7)
        if apart.any():
            name = self.names[int(np.nonzero(apart)[1][0])]
            raise BundleError(
                f"feature {name} must be what training saw on the probe, got another value. Deploy its commit."
            )
        _agree(score, expected["probability"])


def digest(path: Path) -> str:
    """sha256 over the names and bytes of all files of a bundle, in order of their names.

    Raises
    ------
    BundleError
        A link is among them: what it leads to may change.
    """
    total = hashlib.sha256()
    for file in _files(path):
        name = file.relative_to(path).as_posix().encode()
        with file.open("rb") as content:
            total.update(len(name).to_bytes(4) + name + hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()


def size(path: Path) -> int:
    """Bytes of all files of a bundle."""
    return sum(file.stat().st_size for file in _files(path))


def fetch(client: MlflowClient, ref: ModelRef, cache: Path, *, model_id: str = "", size: int | None = None) -> Path:
    """The bundle's folder in the cache, downloaded at first use (whole, or not at all); see `download`.

    MLflow's own `load_model("models:/...")` would leave a temporary folder behind at every call.

    Raises
    ------
    BundleError
        MLflow does not answer, its store does not have the files any more, or somebody added to them.
    """
    place = cache / ref.name / str(ref.version)
    if place.exists():
        return place
    private_files.folder(place.parent)
    part = Path(tempfile.mkdtemp(prefix=f".{ref.version}-", dir=place.parent))
    try:
        got = download(client, ref, part, model_id=model_id, size=size)
        private_files.close_to_others(got)
        with suppress(OSError):  # another process was first: its copy is as good
            os.rename(got, place)
    except (mlflow.MlflowException, OSError) as error:
        raise BundleError(
            f"bundle of {ref} must be in MLflow's store, got {type(error).__name__}: {error}. Is the server up?"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


def verify(path: Path, expected_digest: str) -> None:
    """Refuse files that are not those that were registered.

    Raises
    ------
    BundleError
        They are others. The copy is put aside, in place of an earlier one that was.
    """
    for bytecode in path.rglob("__pycache__"):  # left by an earlier load; code that no digest covers must not run
        shutil.rmtree(bytecode)
    try:
        actual = digest(path)
    except BundleError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise BundleError(f"digest of {path} must be {expected_digest}, got none: {error}") from error
    if actual == expected_digest:
        return
    for earlier in path.parent.glob(f"{path.name}.refused-*"):
        shutil.rmtree(earlier, ignore_errors=True)
    aside = path.with_name(f"{path.name}.refused-{actual[:12]}")
    with suppress(OSError):  # put aside already, by another process
        os.rename(path, aside)
    shutil.rmtree(path, ignore_errors=True)
    raise BundleError(f"digest of {path} must be {expected_digest}, got {actual}. The copy is kept at {aside}.")


def meta(path: Path) -> dict[str, Any]:
    """What a bundle says of itself; verify it first."""
    described: dict[str, Any] = json.loads((path / "artifacts" / "meta.json").read_text(encoding="utf-8"))
    return described


def check(path: Path) -> None:
    """Refuse an MLflow model that lacks what bots and jobs read of every bundle, before anybody relies on it.

    Raises
    ------
    BundleError
        A file is missing, or `meta.json` lacks a key.
    """
    if missing := [name for name in ARTIFACTS if not (path / "artifacts" / name).exists()]:
        raise BundleError(f"bundle must have {', '.join(ARTIFACTS)}, got none of {missing}. Save them as artifacts.")
    if lacking := sorted(KEYS - meta(path).keys()):
        raise BundleError(f"meta.json must have {', '.join(sorted(KEYS))}, got none of {lacking}. Add them.")


def load(path: Path, expected_digest: str) -> Bundle:
    """Verify, then load. Nothing of the bundle runs before its digest is right.

    Raises
    ------
    BundleError
        The files are not those that were registered, or they cannot be loaded. A wrong copy is put aside.
    """
    verify(path, expected_digest)
    known = meta(path)
    if known["format"] != FORMAT:
        raise BundleError(
            f"format of {path} must be {FORMAT}, got {known['format']}. Load it with the release that made it."
        )
    try:
        with LOADING:
            model = mlflow.pyfunc.load_model(str(path))
    except (mlflow.MlflowException, ImportError, OSError, ValueError) as error:
        raise BundleError(
            f"bundle at {path} must load, got {type(error).__name__}: {error}. Train it again."
        ) from error
    return Bundle(path, expected_digest, known, model)


def _files(path: Path) -> list[Path]:
    entries = sorted(path.rglob("*"))
    if links := [entry for entry in entries if entry.is_symlink()]:
        raise BundleError(f"bundle must hold files only, got the link {links[0]}. Train it again.")
    added = {path / name for name in ADDED_ON_DOWNLOAD}
    return [entry for entry in entries if entry.is_file() and entry not in added]


def _agree(score: NDArray[np.float64], expected: Sequence[float]) -> None:
    if not np.allclose(score, expected, atol=SCORE_TOLERANCE):
        raise BundleError("probe must score as in training, got other probabilities. Compare library versions.")
