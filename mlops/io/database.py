"""Connections to the ledger's database, with the durability that each kind of row deserves.

SQLite: WAL; `synchronous=FULL` for what someone relies on, `NORMAL` for telemetry (a power cut may take its last
moments, never its integrity). Writers say BEGIN IMMEDIATE, so that they queue instead of failing half-way.
PostgreSQL: the same schema; `synchronous_commit=off` is the telemetry's counterpart of NORMAL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text

from mlops.errors import SettingsError
from mlops.io.schema import metadata

BUSY_TIMEOUT_MS = 20_000  # how long a writer queues behind another one
MIGRATIONS = Path(__file__).parents[1] / "migrations"
MIGRATION_LOCK = 0x6D6C6F7073  # "mlops": PostgreSQL's advisory lock around a migration


def connect(url: str, *, durable: bool) -> Engine:
    """An engine for `url`; `durable` says whether a commit waits for the disk."""
    address = make_url(url)
    if address.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingsError(f"ledger_url must be SQLite or PostgreSQL, got {address.drivername}. Use one of them.")
    if address.get_backend_name() == "sqlite":
        return _sqlite(url, durable)
    options = "" if durable else "-c synchronous_commit=off"
    return create_engine(address, connect_args={"options": options} if options else {}, pool_pre_ping=True)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: queued behind other writers from its first statement on."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


def migrate(engine: Engine) -> None:
    """Bring the schema to its head. Many processes may open a new ledger at once: one migrates, the others wait."""
    if engine.dialect.name == "sqlite":
        database = Path(str(engine.url.database))
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.migrate"), writing(engine) as connection:
            _upgrade(connection)
    else:
        with writing(engine) as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            _upgrade(connection)


def _sqlite(url: str, durable: bool) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("version_locations", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, script, fn=lambda rev, _: script._upgrade_revs("head", rev)) as environment:
        environment.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
        environment.run_migrations()
