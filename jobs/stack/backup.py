"""`trader-mlops backup` and `restore`: all that a set-up keeps, copied while it runs, checked before it is put back.

What refers to something is copied before what it refers to, so that nothing in a backup points to what is not in it:

1. the spool: what leaves it goes to the ledger, so it is in one of them or in both (rows are idempotent);
2. the ledger, by SQLite's online backup (or `pg_dump`);
3. MLflow's database, likewise: every version that the ledger knows is in it. If a champion moved meanwhile, 2 and 3 are
   done again, so that log and aliases are of the same moment;
4. all other files, among them MLflow's artifacts: they never change, and were there before the version that names them.

Left out is what is fetched again (`bundles`) or says nothing elsewhere (`logs`, `run`, locks).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import orjson
import pyarrow as pa
import typer
from pydantic import BaseModel
from sqlalchemy import make_url

from jobs.cli.terminal import console, working
from jobs.stack import postgres_dump
from jobs.stack.live_copy import DUMP, LEFT_OUT, copy_all, files, mark
from jobs.stack.safe_tar import copy_folder, untar
from jobs.stack.up import present
from mlops import settings as settings_room
from mlops.errors import CorruptionError, SettingsError
from mlops.settings import Settings

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a backup."""

    sha256: str
    size: int
    mode: int


class Manifest(BaseModel):
    """What a manifest must say to be one."""

    format: int
    made_at: str
    ledger: str
    files: dict[str, File]


def backup(settings: Settings, to: Path, at: datetime) -> dict[str, Any]:
    """Copy the set-up to a new folder, or to a new file `….tar.zst` or `….tar.gz`; its manifest.

    Raises
    ------
    SettingsError
        The place is taken or of another kind, or the ledger lies where this cannot copy it.
    StorageError
        Champions moved all the time, or a database is damaged.
    """
    if to.exists():
        raise SettingsError(f"backup must go to a new place, got {to}, which is there. Choose another name.")
    _compression(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))  # for its owner alone
    try:
        copy_all(settings, stage)
        manifest = _manifest(settings, stage, at)
        (stage / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        manifest["fingerprint"] = fingerprint_of(stage)
        _put(stage, to)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return manifest


def restore(
    settings: Settings, source: Path, at: datetime, *, force: bool = False, fingerprint: str = ""
) -> dict[str, Any]:
    """Put a backup into the state folder; its manifest. Nothing is touched before every checksum was right.

    Parameters
    ----------
    force : bool
        Replace what is there. A state folder is put aside, not deleted; a PostgreSQL ledger is overwritten.
    fingerprint : str
        What `backup` said of it; without it a backup that somebody else made whole is restored too.

    Raises
    ------
    SettingsError
        The set-up runs, or there is something in the place without `force`.
    CorruptionError
        A file of the backup is missing, altered or too many; the message names it.
    """
    state = settings.state.absolute()
    if present(state).running:
        raise SettingsError(f"set-up in {state} must be down, got one that is up. `make down` first.")
    taken = state.exists() and any(path.name not in LEFT_OUT for path in state.iterdir())
    if taken and not force:
        raise SettingsError(f"state folder must be empty, got files in {state}. Choose another, or pass --force.")
    state.parent.mkdir(parents=True, exist_ok=True)
    with _opened(source, state.parent) as stage:
        manifest = verified(stage, source, fingerprint)
        _load_ledger(settings, stage, manifest, force=force)
        if taken:
            state.rename(state.with_name(f"{state.name}.before-{at:%Y%m%dT%H%M%S}"))
        shutil.rmtree(state, ignore_errors=True)  # at most what no backup holds either
        stage.rename(state)
    for name in (MANIFEST, DUMP):
        (state / name).unlink(missing_ok=True)
    return manifest


def fingerprint_of(folder: Path) -> str:
    """Digest of a manifest, and so of all that it names."""
    return _sha256(folder / MANIFEST)


def verified(folder: Path, source: Path, fingerprint: str = "") -> dict[str, Any]:
    """The manifest of an unpacked backup whose files are all as they were written.

    Raises
    ------
    CorruptionError
        One is not.
    """
    try:
        manifest: dict[str, Any] = orjson.loads((folder / MANIFEST).read_bytes())
        named = Manifest.model_validate(manifest).files
    except (OSError, ValueError) as error:  # among them JSON's, and pydantic's
        raise CorruptionError(f"{source} must be a backup with a readable {MANIFEST}, got {error}.") from error
    if fingerprint and (got := fingerprint_of(folder)) != fingerprint.strip().lower():
        rule = f"{source} must have the fingerprint {fingerprint[:64]}"
        raise CorruptionError(f"{rule}, got {got}. It is another backup, or was made anew: nothing was changed.")
    if manifest["format"] != FORMAT:
        raise SettingsError(f"format of {source} must be {FORMAT}, got {manifest['format']}. Use its own release.")
    have = {path.relative_to(folder).as_posix() for path in files(folder)} - {MANIFEST}
    if alien := sorted(name for name in named if name.partition("/")[0] in LEFT_OUT):
        raise CorruptionError(f"{source} must hold what a backup does, got {alien[0]}. Nothing was changed.")
    for name, entry in named.items():
        digest = _sha256(folder / name) if name in have else "no such file"
        if digest != entry.sha256:
            rule = f"file {name} of {source} must have sha256 {entry.sha256}"
            raise CorruptionError(f"{rule}, got {digest}. Nothing was changed; take another backup.")
    if more := sorted(have - named.keys()):
        raise CorruptionError(f"{source} must hold what its manifest names, got also {', '.join(more)}.")
    for name, entry in named.items():
        (folder / name).chmod(entry.mode & 0o700)  # whatever it says: for its owner alone
    return manifest


def back_up(
    to: Annotated[Path, typer.Argument(help="A new folder, or a new file that ends in .tar.zst or .tar.gz.")],
) -> None:
    """Copy everything that the set-up keeps, secrets too, while it runs."""
    with working(f"copying to {to}"):
        manifest = backup(settings_room.read(), to, datetime.now(UTC))
    size = sum(file["size"] for file in manifest["files"].values())
    console.print(
        f"{len(manifest['files'])} files, {size / 2**20:.1f} MiB, are in {to}. It holds secrets: keep it safe."
    )
    console.print(
        f"Fingerprint {manifest['fingerprint']}: keep it elsewhere, for `restore --fingerprint`.",
        soft_wrap=True,
        highlight=False,
    )


def put_back(
    source: Annotated[Path, typer.Argument(help="What `backup` made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what is there; the old folder is put aside.")] = False,
    fingerprint: Annotated[str, typer.Option(help="What `backup` said of it: it must be just that one.")] = "",
) -> None:
    """Check a backup to the last byte, then put it into the state folder (MLOPS_STATE)."""
    settings = settings_room.read()
    with working(f"checking and restoring {source}"):
        manifest = restore(settings, source, datetime.now(UTC), force=force, fingerprint=fingerprint)
    if not fingerprint:
        console.print(
            "Whole, but not proven to be yours: whoever can make a backup can make one that passes. See --fingerprint.",
            soft_wrap=True,
        )
    console.print(
        f"{settings.state} is as it was at {manifest['made_at']}. `make up` starts it.", soft_wrap=True, highlight=False
    )


def _manifest(settings: Settings, stage: Path, at: datetime) -> dict[str, Any]:
    sums = {
        path.relative_to(stage).as_posix(): asdict(
            File(_sha256(path), path.stat().st_size, path.stat().st_mode & 0o777)
        )
        for path in sorted(files(stage))
    }
    from mlops.learn.learners import libraries  # pulls pandas in

    versions = {name: version(name) for name in ("mlflow", "sqlalchemy", "pandas", *libraries())}
    made = {"format": FORMAT, "made_at": at.astimezone(UTC).isoformat(), "state": str(settings.state.absolute())}
    return {**made, "ledger": make_url(settings.ledger).get_backend_name(), "versions": versions, "files": sums}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compression(place: Path) -> str:
    """`zstd`, `gzip` or, for a folder, nothing."""
    kinds = {".tar.zst": "zstd", ".tar.gz": "gzip", ".tgz": "gzip"}
    for ending, kind in kinds.items():
        if place.name.endswith(ending):
            return kind
    if ".tar" in place.suffixes:
        raise SettingsError(f"backup must end in {', '.join(kinds)} or be a folder, got {place.name}. Rename it.")
    return ""


def _put(stage: Path, to: Path) -> None:
    kind = _compression(to)
    if not kind:
        os.sync()
        stage.rename(to)
        return
    part = to.with_name(f".{to.name}.part")
    try:
        with (
            open(part, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,  # it holds secrets
            pa.CompressedOutputStream(file, kind) as stream,
            tarfile.open(fileobj=stream, mode="w|") as tar,
        ):
            tar.add(stage, arcname=".")
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.rename(to)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _opened(source: Path, beside: Path) -> Iterator[Path]:
    """A copy of the backup's files, in a folder on the disk where they shall go."""
    if not source.exists():
        raise SettingsError(f"backup must exist, got {source}. Look for it.")
    stage = Path(tempfile.mkdtemp(prefix=".restoring-", dir=beside))
    try:
        if source.is_dir():
            copy_folder(source, stage)
        elif kind := _compression(source):
            untar(source, kind, stage, shutil.disk_usage(stage).free)
        else:
            rule = "backup must be a folder, .tar.zst or .tar.gz"
            raise SettingsError(f"{rule}, got {source.name}. Is it a backup?")
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _load_ledger(settings: Settings, stage: Path, manifest: Mapping[str, Any], *, force: bool) -> None:
    """Bring a PostgreSQL ledger back. One of SQLite is a file among the others."""
    place = make_url(settings.ledger)
    if place.get_backend_name() != manifest["ledger"]:
        rule = f"MLOPS_LEDGER_URL must name a {manifest['ledger']} database, as the backup has one"
        raise SettingsError(f"{rule}, got {place.get_backend_name()}. Set it.")
    if manifest["ledger"] != "postgresql":
        return
    if mark(settings) and not force:
        raise SettingsError("ledger's database must be empty, got one with a ledger. Choose another, or pass --force.")
    postgres_dump.load(place, stage / DUMP)
