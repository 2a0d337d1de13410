"""A ledger on SQLite and one on a real PostgreSQL, which starts for the tests and is thrown away after them."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psycopg
import pytest

from mlops.io.ledger import Ledger

DATABASES = itertools.count()
SERVANTS = ("postgres", "nobody")  # PostgreSQL refuses to run as root
T0 = datetime(2020, 1, 2, 21, tzinfo=UTC)
DAY = timedelta(days=1)


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
    folder, name = request.getfixturevalue("cluster"), f"ledger{next(DATABASES)}"
    with psycopg.connect(host=str(folder), user="ledger", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
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


@pytest.fixture
def make():
    """Builders of rows."""
    return SimpleNamespace(predictions=_predictions, outcomes=_outcomes, fills=_fills, at=_at)


def _at(day):
    return T0 + day * DAY


def _predictions(keys, *, model="volatility", role="champion", probability=0.5, delay=timedelta(0)):
    """One prediction a (version, unit, day)."""
    version, unit, day = zip(*keys, strict=True)
    event = pd.to_datetime([_at(d) for d in day])
    return pd.DataFrame(
        {
            "model": model,
            "version": list(version),
            "unit": list(unit),
            "event_time": event,
            "known_at": event + delay,
            "matures_at": event + 5 * DAY,
            "role": role,
            "probability": probability,
        }
    )


def _outcomes(keys, *, model="volatility", label=1.0, value=0.01, delay=5 * DAY):
    """One outcome a (unit, day)."""
    unit, day = zip(*keys, strict=True)
    event = pd.to_datetime([_at(d) for d in day])
    times = {"event_time": event, "known_at": event + delay}
    return pd.DataFrame({"model": model, "unit": list(unit), **times, "label": label, "value": value})


def _fills(rows, *, model="volatility", book="paper"):
    """One fill a (fill_id, unit, quantity, price, fee)."""
    frame = pd.DataFrame(rows, columns=["fill_id", "unit", "quantity", "price", "fee"])
    return frame.assign(model=model, version=1, book=book, event_time=pd.Timestamp(T0)).astype(
        {"quantity": np.float64, "price": np.float64, "fee": np.float64}
    )


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
