"""A PostgreSQL that lives as long as a measurement, with its own defaults: every commit reaches the disk."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

SERVANTS = ("postgres", "nobody")  # PostgreSQL refuses to run as root


@contextmanager
def postgresql(name: str = "ledger") -> Iterator[str]:
    """URL of an empty database in a new cluster, which is thrown away afterwards."""
    config = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
    binaries = Path(config.stdout.strip())
    user = None if os.geteuid() else next(e.pw_name for e in pwd.getpwall() if e.pw_name in SERVANTS)
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # sockets want a short path
    if user:
        shutil.chown(folder, user)

    def call(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    try:
        call("initdb", "--username=ledger", "--auth=trust", "--encoding=UTF8", "--no-locale")
        call("pg_ctl", "-o", f"-c listen_addresses='' -k {folder}", "-l", str(folder / "log"), "-w", "start")
        try:
            with psycopg.connect(host=str(folder), user="ledger", dbname="postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            yield f"postgresql+psycopg://ledger@/{name}?host={folder}"
        finally:
            call("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
