"""How the ledger's database is opened, migrated and written to: SQLite by default, PostgreSQL by URL.

Two grades of durability. What someone relies on (transitions, alerts, inbox, job runs, fills) is on disk when the call
returns: SQLite `synchronous=FULL`, PostgreSQL's own default. Telemetry (predictions, outcomes) survives the death of
the process, but not always a loss of power: `NORMAL`, and `synchronous_commit=off`.
"""

from __future__ import annotations

import importlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import tenacity
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from mlops.errors import CorruptionError, SettingsError
from mlops.io import private_files
from mlops.io.storage.disk import Disk, LedgerFull, translated

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

BUSY_MS = 30_000  # how long a SQLite writer waits for another; four busy writers were measured to wait up to 4.5 s
CACHE_KIB = 65_536  # SQLite page cache a connection
PAGE_BYTES = 16_384  # rows with features in the key's tree want pages of at least twenty rows (SQLite, "Without Rowid")
MIGRATIONS = Path(__file__).parents[2] / "migrations"
DRIVERS = ("sqlite+pysqlite", "postgresql+psycopg")


class Database:
    """A migrated database, usable from several threads. Close it, or use it as a context manager.

    Parameters
    ----------
    url : str
        `sqlite:///path/to/file` (its folder is made) or `postgresql+psycopg://user@host/name`.
    disk : Disk, optional
        Where it lies, with its ballast; the file's own folder without one when not given.

    Raises
    ------
    SettingsError
        Another kind of URL, SQLite in memory, or a database written by a newer version of this product.
    """

    def __init__(self, url: str, disk: Disk | None = None) -> None:
        place = _checked(url)
        self.engine = _engine(place)
        self._disk = disk or Disk(_folder(place))
        self._durable = self.engine.execution_options(synchronous="FULL")
        self._telemetry = self.engine.execution_options(synchronous="NORMAL")
        self._turn = threading.RLock()  # SQLite has one writer; threads queue here fairly instead of polling the file
        try:
            try:
                self._open()
            except LedgerFull:  # even the index of the journal needs room: that of the ballast, which is thrown out now
                self._open()
        except BaseException:
            self.engine.dispose()
            raise

    def _open(self) -> None:
        if self.engine.dialect.name == "sqlite":
            with self._translated():
                _write_ahead(self.engine)
        with self.writing(lock="migrate") as connection:
            migrate(connection)

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it is, with its password: for another process of ours, never for a log."""
        return self.engine.url.render_as_string(hide_password=False)

    def degraded(self) -> str:
        """State what is wrong with the ledger's disk; empty when all is well. Looks at most once a second."""
        return self._disk.degraded()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One view of the data: what others commit meanwhile is not seen (SQLite)."""
        with self._translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True, lock: str = "") -> Iterator[Connection]:
        """One transaction that commits at its end. SQLite: alone. PostgreSQL: alone among those of the same `lock`.

        Raises
        ------
        StorageError
            The database cannot take it: its disk is full (`DiskFull`), it is away (`LedgerAway`), or it is damaged
            (`CorruptionError`).
        """
        if not durable and (full := self._disk.refuses()):
            raise LedgerFull(f"disk of the ledger must have room, got: {full}. Free some space; nothing was stored.")
        engine = self._durable if durable else self._telemetry
        if self.engine.dialect.name == "sqlite":
            with self._turn, self._translated(), engine.begin() as connection:
                yield connection
            return
        with self._translated(), engine.begin() as connection:
            if not durable:
                connection.execute(text("SET LOCAL synchronous_commit TO OFF"))
            if lock:
                connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"ledger:{lock}"))))
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the driver in our words."""
        try:
            yield
        except UnicodeDecodeError as error:  # the driver's, of a message about a damaged file
            raise CorruptionError(f"ledger must be readable, got {error}. Restore the last backup.") from error
        except (sqlite3.Error, DBAPIError) as error:
            ours = translated(error, self._disk)
            if ours is error:
                raise
            raise ours from error


class Tables:
    """Tables of one kind, in a database that others read and write, too."""

    def __init__(self, database: Database) -> None:
        self._reading, self._writing, self._engine = database.reading, database.writing, database.engine


def migrate(connection: Connection, to: str = "head") -> None:
    """Bring the schema to the newest migration (or `to` another one), within the transaction of `connection`.

    Raises
    ------
    SettingsError
        The database is at a revision that this version does not know.
    """
    if to == "head" and _is_newest(connection):
        return
    from alembic.runtime.environment import EnvironmentContext
    from alembic.util import CommandError

    config, script = revisions()

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs(to, revision)

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        try:
            environment.run_migrations()
        except CommandError as error:
            raise SettingsError(
                f"ledger must be of this version or older, got another ({error}). Install the version that wrote it."
            ) from error


def _is_newest(connection: Connection) -> bool:
    """Whether there is nothing to migrate; told without Alembic, whose import costs more than opening a ledger."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    versions = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    return versions == [max(path.stem for path in MIGRATIONS.glob("r*.py"))[1:5]]


def revisions() -> tuple[Config, ScriptDirectory]:
    """Alembic's view of the migrations: every file lies in one folder and no alembic.ini is needed."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config, folder = Config(), str(MIGRATIONS).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("version_locations", folder)
    config.set_main_option("path_separator", "newline")
    return config, ScriptDirectory.from_config(config)


def _checked(url: str) -> URL:
    try:
        place = make_url(url)
        driver = f"{place.get_backend_name()}+{place.get_driver_name()}"
    except (ArgumentError, ImportError) as error:
        raise SettingsError(f"ledger URL must be an SQLAlchemy URL, got {url!r}. Use sqlite:///file.") from error
    if driver not in DRIVERS:
        raise SettingsError(f"ledger URL must start with {' or '.join(DRIVERS)}, got {driver}. Change the driver.")
    if driver.startswith("sqlite") and (place.database or ":memory:") == ":memory:":
        raise SettingsError("ledger URL must name a file, got SQLite in memory. Use sqlite:///path/to/file.")
    return place


def _folder(place: URL) -> Path | None:
    if place.get_backend_name() != "sqlite":
        return None
    return Path(str(place.database)).expanduser().absolute().parent


def _engine(place: URL) -> Engine:
    if place.get_backend_name() == "postgresql":
        # A connection knows only of the arrays that were told before it.
        importlib.import_module("mlops.io.storage.pg_arrays")
        engine = create_engine(place, pool_pre_ping=True)
        event.listen(engine, "connect", _without_jit)
        return engine
    private_files.file(Path(str(place.database)).expanduser())  # SQLite gives its journal the same mode
    engine = create_engine(place, connect_args={"timeout": BUSY_MS / 1000})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _without_jit(raw: Any, _: object) -> None:
    """Have PostgreSQL interpret plans: ours take milliseconds, and compiling one takes up to seconds."""
    raw.execute("SET jit = off")
    raw.commit()


def _prepare(raw: sqlite3.Connection, _: object) -> None:
    raw.isolation_level = None  # the driver opens no transactions of its own: `_begin` does
    for pragma in (f"page_size={PAGE_BYTES}", "foreign_keys=ON", f"cache_size=-{CACHE_KIB}", "synchronous=FULL"):
        raw.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    raw: Any = connection.connection.driver_connection
    grade = connection.get_execution_options().get("synchronous")
    if grade is None:
        raw.execute("BEGIN")
        return
    raw.execute(f"PRAGMA synchronous={grade}")
    raw.execute("BEGIN IMMEDIATE")  # a writer that starts as a reader may fail at its first write


def _busy(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, OperationalError) else error
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@tenacity.retry(
    retry=tenacity.retry_if_exception(_busy),
    wait=tenacity.wait_random(0.005, 0.05),
    stop=tenacity.stop_after_delay(BUSY_MS / 1000),
    reraise=True,
)
def _write_ahead(engine: Engine) -> None:
    """Put the file into WAL mode; while another process does the same, SQLite refuses without waiting: try again."""
    raw: Any = engine.raw_connection()
    try:
        if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            raw.execute("PRAGMA journal_mode=WAL")
    finally:
        raw.close()
