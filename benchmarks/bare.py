"""What rows cost without us: `COPY` into PostgreSQL and `executemany` into SQLite, and the CPU time of a database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil
from sqlalchemy import Connection, text

from mlops.io.ledger import Ledger
from mlops.io.storage.insert import Rows


class CpuClock:
    """CPU seconds of this process and, where the ledger is on PostgreSQL, of all the server's processes."""

    def __init__(self, ledger: Ledger) -> None:
        self._server: psutil.Process | None = None
        with ledger.reading() as connection:
            if connection.dialect.name == "postgresql":
                backend = connection.scalar(text("SELECT pg_backend_pid()"))
                self._server = psutil.Process(backend).parent()

    def read(self) -> float:
        """Seconds so far. Resolution: 0.01 s a process of the server."""
        total = time.process_time()
        if self._server is None:
            return total
        for process in (self._server, *self._server.children()):
            with suppress(psutil.NoSuchProcess):  # ended meanwhile: the server's own time counts it then
                spent = process.cpu_times()
                total += spent.user + spent.system
        spent = self._server.cpu_times()
        return total + float(spent.children_user + spent.children_system)


def insert(ledger: Ledger, lots: Sequence[Rows]) -> None:
    """Checked rows into the ledger's own table with its indexes, a commit a lot: no checks, no key looked at."""
    for rows in lots:
        with ledger.writing(durable=rows.durable) as connection:
            values = zip(*rows.columns.values(), strict=True)
            _insert(connection, rows.table.name, list(rows.columns), list(values))


def _insert(connection: Connection, table: str, names: list[str], values: list[tuple[Any, ...]]) -> None:
    cursor: Any = connection.connection.cursor()
    columns = ", ".join(names)
    if connection.dialect.name == "sqlite":
        cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))})", values)
        return
    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)
