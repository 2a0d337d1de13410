"""Rows that broke their contract: kept aside with the reason, where a person can see them, each of them once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from mlops.io.ledger.registry import every
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import rejections

MAX_BODY, MAX_REASON = 10_000, 500  # characters kept of a row and of why it was refused


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row as it came, and why it was refused."""

    kind: str
    source: str
    reason: str
    body: str
    received_at: datetime


class Rejections(Tables):
    """The shelf of refused rows."""

    def add(self, kind: str, source: str, rows: Sequence[tuple[str, str]], at: datetime) -> int:
        """Keep (row, reason) pairs; how many were new."""
        plain = [_row(kind, source, *pair, at) for pair in rows]
        with self._writing() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            insert = dialect.insert(rejections).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
            return connection.execute(insert, plain).rowcount if plain else 0

    def drop(self, before: datetime) -> int:
        """Retention: forget rows that were refused before; how many."""
        with self._writing() as connection:
            return connection.execute(delete(rejections).where(rejections.c.received_at < before)).rowcount

    def newest(self, kind: str | None = None, limit: int = 100) -> list[Rejection]:
        """The newest, newest first."""
        query = select(rejections).order_by(rejections.c.received_at.desc(), rejections.c.id.desc()).limit(limit)
        if kind is not None:
            query = query.where(rejections.c.kind == kind)
        with self._reading() as connection:
            return every(connection, Rejection, query)


def _row(kind: str, source: str, body: str, reason: str, at: datetime) -> dict[str, object]:
    plain, why = (_plain(text)[:most] for text, most in ((body, MAX_BODY), (reason, MAX_REASON)))
    digest = hashlib.sha256(body.encode(errors="backslashreplace")).hexdigest()
    return {"kind": kind, "source": source, "reason": why, "body": plain, "digest": digest, "received_at": at}


def _plain(text: str) -> str:
    """What both databases can keep: no half surrogate pairs, no zero."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
