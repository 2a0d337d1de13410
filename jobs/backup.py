"""`trader-mlops backup` and `restore`: everything that a set-up keeps, taken while it runs, checked before it is put back.

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
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import orjson
import pyarrow as pa
import typer
from rich.console import Console
from sqlalchemy import URL, create_engine, inspect, make_url, text

from jobs.up import present
from mlops import settings as settings_room
from mlops.errors import CorruptionError, SettingsError, StorageError
from mlops.settings import Settings

app = typer.Typer()
console = Console()
FORMAT = 1
MANIFEST = "manifest.json"
DUMP = "ledger.pgdump"
LEFT_OUT = ("bundles", "logs", "run", "ballast")
NOT_KEPT = ("-wal", "-shm", "-journal", ".part", ".lock", ".turns")  # endings of names
SQLITE = b"SQLite format 3\x00"  # SQLite, "Database File Format", 1.3
TRIES = 10  # a transition takes well under a second
MARKS = {  # what must not change between the snapshots of ledger and MLflow
    "promotions": "SELECT model, seq, state FROM promotions ORDER BY 1, 2",
    "bundles": "SELECT model, version FROM bundles ORDER BY 1, 2",
    "archives": "SELECT path FROM archives ORDER BY 1",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file of a backup."""

    sha256: str
    size: int
    mode: int


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
        _copied(settings, stage)
        manifest = _manifest(settings, stage, at)
        (stage / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        _put(stage, to)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return manifest


def restore(settings: Settings, source: Path, at: datetime, *, force: bool = False) -> dict[str, Any]:
    """Put a backup into the state folder; its manifest. Nothing is touched before every checksum was right.

    Parameters
    ----------
    force : bool
        Replace what is there. A state folder is put aside, not deleted; a PostgreSQL ledger is overwritten.

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
        manifest = verified(stage, source)
        _load_ledger(settings, stage, manifest, force=force)
        if taken:
            state.rename(state.with_name(f"{state.name}.before-{at:%Y%m%dT%H%M%S}"))
        shutil.rmtree(state, ignore_errors=True)  # at most what no backup holds either
        stage.rename(state)
    for name in (MANIFEST, DUMP):
        (state / name).unlink(missing_ok=True)
    return manifest


def verified(folder: Path, source: Path) -> dict[str, Any]:
    """The manifest of an unpacked backup whose files are all as they were written.

    Raises
    ------
    CorruptionError
        One is not.
    """
    try:
        manifest: dict[str, Any] = orjson.loads((folder / MANIFEST).read_bytes())
        files = {name: File(**said) for name, said in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptionError(f"{source} must be a backup with a readable {MANIFEST}, got {error}.") from error
    if manifest["format"] != FORMAT:
        raise SettingsError(f"format of {source} must be {FORMAT}, got {manifest['format']}. Use its own release.")
    have = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST}
    for name, said in files.items():
        found = _sha256(folder / name) if name in have else "no such file"
        if found != said.sha256:
            rule = f"file {name} of {source} must have sha256 {said.sha256}"
            raise CorruptionError(f"{rule}, got {found}. Nothing was changed; take another backup.")
    if more := sorted(have - files.keys()):
        raise CorruptionError(f"{source} must hold what its manifest names, got also {', '.join(more)}.")
    for name, said in files.items():
        (folder / name).chmod(said.mode)
    return manifest


@app.command("backup")
def back_up(
    to: Annotated[Path, typer.Argument(help="A new folder, or a new file that ends in .tar.zst or .tar.gz.")],
) -> None:
    """Copy everything that the set-up keeps, secrets too, while it runs."""
    manifest = backup(settings_room.read(), to, datetime.now(UTC))
    size = sum(file["size"] for file in manifest["files"].values())
    console.print(f"{len(manifest['files'])} files, {size / 2**20:.1f} MiB, are in {to}. It holds secrets: keep it safe.")


@app.command("restore")
def put_back(
    source: Annotated[Path, typer.Argument(help="What `backup` made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what is there; the old folder is put aside.")] = False,
) -> None:
    """Check a backup to the last byte, then put it into the state folder (MLOPS_STATE)."""
    settings = settings_room.read()
    manifest = restore(settings, source, datetime.now(UTC), force=force)
    console.print(
        f"{settings.state} is as it was at {manifest['made_at']}. `make up` starts it.", soft_wrap=True, highlight=False
    )


def _copied(settings: Settings, stage: Path) -> None:
    state = settings.state.absolute()
    for _ in range(TRIES):
        for old in stage.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        _copy_tree(state / "spool", stage / "spool")
        before = _mark(settings)
        _copy_ledger(settings, stage)
        _copy_databases(state, stage)
        if before != _mark(settings):
            continue
        _copy_tree(state, stage)
        if all((stage / "archive" / row[0]).exists() for row in before.get("archives", ())):
            return
    raise StorageError(f"registry must rest while it is copied, got a change at each of {TRIES} tries. Try later.")


def _mark(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """What the ledger says of transitions, bundles and archived hours. Read without migrating anything."""
    place = make_url(settings.ledger)
    if place.get_backend_name() == "sqlite" and not Path(str(place.database)).exists():
        return {}
    engine = create_engine(place)
    try:
        with engine.connect() as connection:
            known = inspect(connection).get_table_names()
            return {
                table: [tuple(row) for row in connection.execute(text(query))]
                for table, query in MARKS.items()
                if table in known
            }
    finally:
        engine.dispose()


def _copy_ledger(settings: Settings, stage: Path) -> None:
    place = make_url(settings.ledger)
    if place.get_backend_name() == "postgresql":
        name, secret = _libpq(place)
        _call("pg_dump", ["--format=custom", "--no-owner", f"--file={stage / DUMP}", f"--dbname={name}"], secret)
        (stage / DUMP).chmod(0o600)
        return
    file, state = Path(str(place.database)).absolute(), settings.state.absolute()
    if not file.is_relative_to(state):
        raise SettingsError(f"ledger must lie in the state folder {state}, got {file}. Copy it by `sqlite3 .backup`.")
    if file.exists():
        _copy_database(file, stage / file.relative_to(state))


def _copy_databases(state: Path, stage: Path) -> None:
    for file in _files(state):
        target = stage / file.relative_to(state)
        if _kept(file.relative_to(state)) and not target.exists() and _is_database(file):
            _copy_database(file, target)


def _copy_database(file: Path, to: Path) -> None:
    """SQLite's online backup: one moment of the database, whoever writes to it meanwhile."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=60)) as source, closing(sqlite3.connect(to)) as target:
        try:
            source.backup(target)
            said = target.execute("PRAGMA quick_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            said = str(error)
    if said != "ok":
        raise CorruptionError(f"{file} must be sound to be backed up, got: {said}. Restore an earlier backup.")
    to.chmod(0o600)


def _copy_tree(folder: Path, to: Path) -> None:
    """Every file that is kept and not there yet. What vanishes meanwhile was not needed any more."""
    for file in _files(folder):
        name = file.relative_to(folder)
        target = to / name
        if not _kept(name) or target.exists() or _is_database(file):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy2(file, target)


def _kept(name: Path) -> bool:
    return name.parts[0] not in LEFT_OUT and not any(part.endswith(NOT_KEPT) for part in name.parts)


def _is_database(file: Path) -> bool:
    with suppress(FileNotFoundError), file.open("rb") as opened:
        return opened.read(len(SQLITE)) == SQLITE
    return False


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if path.is_file() and not path.is_symlink():
                yield path


def _manifest(settings: Settings, stage: Path, at: datetime) -> dict[str, Any]:
    files = {
        path.relative_to(stage).as_posix(): asdict(File(_sha256(path), path.stat().st_size, path.stat().st_mode & 0o777))
        for path in sorted(_files(stage))
    }
    versions = {name: version(name) for name in ("mlflow", "sqlalchemy", "pandas", "lightgbm")}
    made = {"format": FORMAT, "made_at": at.astimezone(UTC).isoformat(), "state": str(settings.state.absolute())}
    return {**made, "ledger": make_url(settings.ledger).get_backend_name(), "versions": versions, "files": files}


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
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:  # it holds secrets
            with pa.CompressedOutputStream(file, kind) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
                tar.add(stage, arcname=".")
        with part.open("rb") as file:
            os.fsync(file.fileno())
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
            shutil.copytree(source, stage, dirs_exist_ok=True)
        else:
            _unpack(source, stage)
        stage.chmod(0o700)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _unpack(source: Path, to: Path) -> None:
    kind = _compression(source)
    if not kind:
        raise SettingsError(f"backup must be a folder, .tar.zst or .tar.gz, got {source.name}. Is it a backup?")
    name = "the archive"
    try:
        with pa.CompressedInputStream(pa.OSFile(str(source)), kind) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = str(PurePosixPath(member.name))
                tar.extract(member, to, filter="data")  # nothing outside `to`, no links out of it, no devices
    except (OSError, tarfile.TarError, EOFError) as error:
        rule = f"{source} must be readable"
        raise CorruptionError(f"{rule}, got {error} at or after {name}. Nothing was changed.") from error


def _load_ledger(settings: Settings, stage: Path, manifest: Mapping[str, Any], *, force: bool) -> None:
    """Bring a PostgreSQL ledger back. One of SQLite is a file among the others."""
    place = make_url(settings.ledger)
    if place.get_backend_name() != manifest["ledger"]:
        rule = f"MLOPS_LEDGER_URL must name a {manifest['ledger']} database, as the backup has one"
        raise SettingsError(f"{rule}, got {place.get_backend_name()}. Set it.")
    if manifest["ledger"] != "postgresql":
        return
    if _mark(settings) and not force:
        raise SettingsError("ledger's database must be empty, got one with a ledger. Choose another, or pass --force.")
    name, secret = _libpq(place)
    clean = ["--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error"]
    _call("pg_restore", [*clean, f"--dbname={name}", str(stage / DUMP)], secret)


def _libpq(place: URL) -> tuple[str, dict[str, str]]:
    """The database as PostgreSQL's own programs name it, and its password, which must not be seen among processes."""
    bare = URL.create("postgresql", place.username, None, place.host, place.port, place.database, place.query)
    return bare.render_as_string(), {"PGPASSWORD": place.password} if place.password else {}


def _call(program: str, arguments: list[str], secret: Mapping[str, str]) -> None:
    found = shutil.which(program)
    if found is None:
        remedy = "Install PostgreSQL's client programs, or copy that database by your own means and the rest as it is"
        raise SettingsError(f"{program} must be on PATH for a ledger on PostgreSQL, got none. {remedy}.")
    done = subprocess.run([found, *arguments], env={**os.environ, **secret}, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise StorageError(f"{program} must succeed, got status {done.returncode}: {done.stderr.strip()[-1000:]}")
