"""The machine: Python and its packages, variables, the state folder and its disk. Pure where it can be."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from pydantic import BaseModel
from sqlalchemy import make_url

from jobs.doctor import Problem, Setup
from mlops.io import private_files
from mlops.settings import FORMER_WORKERS, Settings
from mlops.types import Level

PINS = Path(__file__).parents[2] / "constraints.txt"
PYTHON = (3, 11)
# What does not work with another version, and what breaks then; other differences are only told of.
VITAL = {
    "mlflow": "bundles, webhooks and their settings are of this one",
    "pandas": "pandas 3 changes dtypes that bundles rely on",
    "sqlalchemy": "the ledger's SQL is written for it",
}
REMOTE = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "sshfs", "vboxsf", "davfs", "s3fs", "gcsfuse")
SHOWN = 5  # differences that are listed
WAL = 2  # SQLite, "Database File Format", 1.3: read and write version


def python(setup: Setup) -> Iterator[Problem]:
    """Python is 3.11."""
    yield from wrong_python(sys.version_info[:2])


def packages(setup: Setup) -> Iterator[Problem]:
    """Packages are those that were tested together."""
    if PINS.exists():
        yield from wrong_packages(pins(PINS.read_text(encoding="utf-8")), installed)


def variables(setup: Setup) -> Iterator[Problem]:
    """Variables mean what they seem to."""
    yield from wrong_variables(setup.settings, setup.environment)


def folder(setup: Setup) -> Iterator[Problem]:
    """The state folder can be written to and lies on a disk of this machine."""
    state = setup.settings.state.absolute()
    place = next(path for path in (state, *state.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Problem(f"state folder {state} cannot be written to", f"chown or chmod it, or set MLOPS_STATE ({place})")
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    yield from wrong_disk(place.resolve(), mounts)


def room(setup: Setup) -> Iterator[Problem]:
    """There is room on the disk."""
    state, least = setup.settings.state.absolute(), setup.settings.storage.min_free_mib
    place = next(path for path in (state, *state.parents) if path.exists())
    free = shutil.disk_usage(place).free // 2**20
    if free < least:
        remedy = "Delete something else, lower retention_days and run `trader-mlops prune`, or take a larger disk"
        yield Problem(f"disk of {state} has {free} MiB free, less than storage.min_free_mib = {least}", remedy)


def secrets(setup: Setup) -> Iterator[Problem]:
    """Secrets are their owner's alone."""
    for path, mode in private_files.open_to_others(setup.settings.state / "secrets"):
        yield Problem(f"secret {path} can be read by others (mode {mode:o})", f"chmod go= {path}, then rotate it")


def modes(setup: Setup) -> Iterator[Problem]:
    """All that the set-up keeps is its owner's alone: every file was looked at."""
    state, place = setup.settings.state.absolute(), make_url(setup.settings.ledger)
    places = [state]
    if place.get_backend_name() == "sqlite" and not (file := Path(str(place.database)).absolute()).is_relative_to(
        state
    ):
        places += [file.with_name(file.name + ending) for ending in ("", "-wal", "-shm")]
    if open_ones := [pair for each in places for pair in private_files.open_to_others(each)]:
        path, mode = open_ones[0]
        text = f"others have rights to {len(open_ones)} files and folders, such as {path} (mode {mode:o})"
        yield Problem(text, f"`make down up` closes what lies in {state}; elsewhere: chmod go= {path}")


def journals(setup: Setup) -> Iterator[Problem]:
    """SQLite files are in WAL mode: readers and the writer do not wait for each other."""
    place = make_url(setup.settings.ledger)
    files = [setup.settings.state / "mlflow.db"]
    if place.get_backend_name() == "sqlite":
        files.append(Path(str(place.database)))
    if not any(path.exists() for path in files):
        yield Problem("not looked at: there is no SQLite file yet", "`make up` makes them", Level.UNKNOWN)
    for path in files:
        if path.exists() and (mode := path.read_bytes()[18:20]) and set(mode) != {WAL}:
            remedy = f"Stop the set-up, then: sqlite3 {path} 'PRAGMA journal_mode=WAL' (`make up` does it too)"
            yield Problem(f"{path} is not in WAL mode: writers block readers", remedy, Level.WARN)


def wrong_python(running: tuple[int, ...]) -> Iterator[Problem]:
    if running[:2] != PYTHON:
        wanted, got = (".".join(map(str, pair[:2])) for pair in (PYTHON, running))
        yield Problem(f"Python is {got}, not {wanted}", f"make install PYTHON=/path/to/python{wanted}")


def wrong_packages(pinned: Mapping[str, str], have: Mapping[str, str]) -> Iterator[Problem]:
    """Vital packages of another version or missing, one problem each; the others together.

    Parameters
    ----------
    pinned, have : mapping of package to version
        A build of a pinned version (`2.13.0+cpu`) is that version, as it is to pip.
    """
    from mlops.learn.learners import libraries  # pulls pandas in

    vital = VITAL | dict.fromkeys(libraries(), "it loads the models")
    have = {name: have[name].partition("+")[0] for name in pinned if name in have}
    names = [name for name in pinned if have.get(name) != pinned[name]]
    others = [name for name in names if name not in vital and name in have]
    for name in names:
        if name in vital:
            got = have.get(name, "none")
            yield Problem(f"{name} is {got}, tested was {pinned[name]}: {vital[name]}", "rm -rf .venv; make install")
    if others:
        listed = ", ".join(f"{name} {have[name]} (tested: {pinned[name]})" for name in others[:SHOWN])
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        yield Problem(f"packages are not those that were tested: {listed}{more}", "make install", Level.WARN)


def wrong_variables(settings: Settings, environment: Mapping[str, str]) -> Iterator[Problem]:
    """Variables that are ignored, or that say something else than the settings."""
    for name in sorted(environment):
        if name.startswith("_MLFLOW_WEBHOOK_"):
            yield Problem(f"variable {name} is ignored by MLflow", f"Write it without the underscore: {name[1:]}")
        elif name.startswith("MLOPS_") and not _known(name):
            remedy = "Correct it; sections are joined by two underscores: MLOPS_SERVICE__PORT"
            yield Problem(f"variable {name} is no setting of ours and is ignored", remedy)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        value = environment.get(name)
        if value and value.rstrip("/") != settings.tracking_uri.rstrip("/"):
            text = f"{name}={value} differs from the setting tracking_uri={settings.tracking_uri}"
            yield Problem(text, f"Unset {name}, or set MLOPS_TRACKING_URI to the same")


def wrong_disk(place: Path, mounts: Mapping[str, str]) -> Iterator[Problem]:
    """A network file system under `place`.

    Parameters
    ----------
    mounts : mapping of mount point to kind of file system
    """
    under = [mount for mount in mounts if place.is_relative_to(mount)]
    kind = mounts[max(under, key=len)] if under else ""
    if any(remote in kind for remote in REMOTE):
        text = f"{place} lies on a network file system ({kind}): SQLite's WAL and our locks are not safe there"
        yield Problem(text, "Set MLOPS_STATE to a folder on a local disk, or MLOPS_LEDGER_URL to a PostgreSQL")


def pins(text: str) -> dict[str, str]:
    """Package -> version of a constraints file."""
    return {_plain(name): pin for name, pin in re.findall(r"^([\w.-]+)==([\w.+!-]+)", text, re.MULTILINE)}


class _Installed(Mapping[str, str]):
    """Versions of what is installed here, looked up when asked for."""

    def __getitem__(self, name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        raise TypeError("packages are looked up by name only")

    def __len__(self) -> int:
        return 0


installed = _Installed()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _known(variable: str) -> bool:
    parts: Sequence[str] = variable.removeprefix("MLOPS_").lower().split("__")
    kind: type[BaseModel] | None = Settings
    if tuple(parts) == FORMER_WORKERS:
        return True
    for part in parts:
        if kind is None or part not in kind.model_fields:
            return False
        inner = kind.model_fields[part].annotation
        kind = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return True
