"""What every test shares: an isolated set-up, quiet logs, and a ledger on SQLite and on a real PostgreSQL.

PostgreSQL starts for the tests that ask for it and is thrown away after them.
"""

import gc
import hashlib
import itertools
import os
import pwd
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import psycopg
import pytest
import structlog
from hypothesis import settings
from sqlalchemy import create_engine

from mlops.io import logs
from mlops.io.ledger import Ledger
from mlops.io.storage import database
from mlops.learn import leaks

settings.load_profile("ci")  # the same examples everywhere, and no deadline: a busy machine is no finding
collect_ignore = ["golden/former_set_up.py"]  # runs in the release before
FIRST = {"calibration", "faults", "e2e"}  # folders whose tests take long
DATABASES = itertools.count()
ACCOUNT = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
SERVANTS = ("postgres", "nobody")  # PostgreSQL refuses to run as root


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No test reads the settings, the tracking server or the run of whoever started pytest, or of the test before.

    What a test signs in to (`registry_hooks.account.sign_in` writes the environment of its process) ends with it.
    """
    for name in list(os.environ):
        if name.startswith(("MLOPS_", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT")):
            monkeypatch.delenv(name)
    account = {name: os.environ.get(name) for name in ACCOUNT}
    yield
    for name, value in account.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def _quiet_logs():
    _silence()
    yield
    logs.close()
    _silence()  # a thread that still waits for a server away prints into no doctest: those are not below this folder
    sys.modules.pop(
        "dbutils", None
    )  # MLflow's stand-in, left by two loads at once, is nothing that Hypothesis can read


def _silence():
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


@pytest.fixture(autouse=True)
def _copied_stores(tmp_path_factory):
    """From the first test after MLflow's stores were imported: an empty one is copied, not migrated anew (1 s of CPU)."""
    utils = sys.modules.get("mlflow.store.db.utils")
    if utils is None or isinstance(utils._initialize_tables, CopiedStore):
        return
    utils._initialize_tables = CopiedStore(utils._initialize_tables, tmp_path_factory.mktemp("store") / "mlflow.db")
    if stores := sys.modules.get("mlflow.store.model_registry.sqlalchemy_store"):
        stores._initialize_tables = utils._initialize_tables


@pytest.fixture(autouse=True, scope="session")
def _copied_ledgers(tmp_path_factory):
    """A new ledger on SQLite gets the tables of one that was migrated once, not each migration anew (35 ms of CPU)."""
    template = tmp_path_factory.mktemp("ledger") / "ledger.db"
    database.migrate = CopiedLedger(database.migrate, template)
    yield
    database.migrate = database.migrate.migrate


@pytest.fixture(autouse=True, scope="session")
def _remembered_audits():
    """A strategy that passed the leak audit on some bars is not audited on the same ones again (3 s of CPU each)."""
    leaks.audit = PassedAudits(leaks.audit)
    yield
    leaks.audit = leaks.audit.audit


@pytest.fixture(scope="session")
def often():
    """Repetitions of a test marked `long`: a fifth of the full number, and all of it in `make long`."""
    return lambda full: full if os.environ.get("LONG") else full // 5


class PassedAudits:
    """In place of the leak audit, a pure function: what it let pass it lets pass."""

    def __init__(self, audit):
        self.audit, self._passed = audit, set()

    def __call__(self, strategy, bars, rng, **options):
        rows = hashlib.sha256(pd.util.hash_pandas_object(bars).to_numpy()).digest()
        key = strategy, tuple(bars), rows, repr((rng.bit_generator.state, options))
        if key not in self._passed:
            self.audit(strategy, bars, rng, **options)
            self._passed.add(key)


class CopiedStore:
    """In place of MLflow's function that makes the tables of a store: SQLite's are copied from the first one."""

    def __init__(self, make, template):
        self._make, self._template = make, template

    def __call__(self, engine):
        if engine.dialect.name != "sqlite":
            return self._make(engine)
        if not self._template.exists():
            first = create_engine(f"sqlite:///{self._template}")
            self._make(first)
            first.dispose()
        with closing(sqlite3.connect(self._template)) as source, closing(engine.raw_connection()) as target:
            return source.backup(target.driver_connection)


class CopiedLedger:
    """In place of the ledger's function that migrates: what an empty file on SQLite gets is read from a template."""

    def __init__(self, migrate, template):
        self.migrate, self._template, self._script = migrate, template, []

    def __call__(self, connection, to="head"):
        empty = "SELECT count(*) = 0 FROM sqlite_master"
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite or to != "head" or not connection.exec_driver_sql(empty).scalar():
            self.migrate(connection, to)
            return
        if not self._script:
            self._script = self._statements()
        for statement in self._script:
            connection.exec_driver_sql(statement)

    def _statements(self):
        """What makes the tables, and the rows that migrations leave in them."""
        first = create_engine(f"sqlite:///{self._template}")
        with first.begin() as connection:
            self.migrate(connection)
        first.dispose()
        with closing(sqlite3.connect(self._template)) as source:
            return [line for line in source.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]


def pytest_collection_modifyitems(config, items):
    """Long files first, so that none is left over at the end; all in another order where SHUFFLE=seed asks for it."""
    if not os.environ.get("LONG"):
        rare = set(_rare(items))
        config.hook.pytest_deselected(items=list(rare))
        items[:] = [item for item in items if item not in rare]
    items.sort(key=lambda item: FIRST.isdisjoint(item.path.parts))
    if seed := os.environ.get("SHUFFLE"):
        rng, files = random.Random(seed), [list(tests) for _, tests in itertools.groupby(items, lambda item: item.path)]
        for tests in (files, *files):
            rng.shuffle(tests)
        items[:] = itertools.chain.from_iterable(files)


def _rare(items):
    """Tests for `make long` only: those marked so, and error rates in all worlds of a test but its first."""
    measured = set()
    for item in items:
        function = item.path, getattr(item, "originalname", item.name)
        if item.get_closest_marker("rare") or (function in measured and item.get_closest_marker("calibration")):
            yield item
        measured.add(function)


def pytest_collection_finish():
    """What was imported stays: the garbage collector need not walk over it, nor at every 700 objects (6 % of CPU)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def pytest_generate_tests(metafunc):
    if "url" in metafunc.fixturenames:
        metafunc.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def cluster():
    """Folder of the socket of a running PostgreSQL cluster."""
    binaries, user = _binaries(), _servant()
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # sockets want a short path
    if user:
        shutil.chown(folder, user)

    def call(program, *arguments):
        command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60)

    call("initdb", "--username=ledger", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
    options = f"-c listen_addresses='' -k {folder} -c fsync=off -c max_connections=50"
    call("pg_ctl", "-o", options, "-l", str(folder / "log"), "-w", "start")
    yield folder
    call("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture
def url(request, tmp_path):
    """Where an empty database is; each test that asks runs on both back ends."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'ledger.db'}"
    folder = request.getfixturevalue("cluster")
    like = request.getfixturevalue("migrated") if "ledger" in request.fixturenames else "template1"
    return _database(folder, f"ledger{next(DATABASES)}", like)


@pytest.fixture(scope="session")
def migrated(cluster):
    """Name of a database of the cluster that has the ledger's tables: others are copied from it."""
    with Ledger(_database(cluster, "migrated", "template1")):
        return "migrated"


def _database(folder, name, like):
    with psycopg.connect(host=str(folder), user="ledger", dbname="postgres", autocommit=True) as connection:
        copied = (
            " STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else ""
        )  # a log costs 8 times the CPU
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {like}{copied}")
    return f"postgresql+psycopg://ledger@/{name}?host={folder}"


@pytest.fixture
def ledger(url):
    with Ledger(url) as opened:
        yield opened


@pytest.fixture
def sqlite_ledger(tmp_path):
    """For what does not depend on the back end."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield opened


def _binaries():
    found = shutil.which("pg_config")
    if found is not None:
        folder = Path(subprocess.run([found, "--bindir"], capture_output=True, text=True, check=True).stdout.strip())
        if (folder / "initdb").exists():
            return folder
    why = "PostgreSQL's initdb was not found by pg_config; install the server to run the ledger's tests on it"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def _servant():
    """Whom to run it as, where we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in SERVANTS if name in known)
