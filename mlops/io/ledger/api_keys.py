"""API keys: who may write. Only a digest of the secret half is kept; the whole key is shown once, when it is made.

A plain SHA-256 is enough here: the secret has 256 random bits, so there is nothing to guess and no password to protect
from guessing; a slow hash would only make every request slow.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, select, update

from mlops.errors import DataError
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import api_keys
from mlops.types import RESERVED, reserved

SCOPES = ("predictions:write", "outcomes:write", "fills:write", "quotes:write", "score", "risk:read", "hooks", "admin")
SECRET_BYTES, ID_BYTES = 32, 6
SHAPE = re.compile(r"[A-Za-z0-9_-]{8}\.[A-Za-z0-9_-]{43}")  # id.secret, both URL-safe base64
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    id: str
    label: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class ApiKeys(Tables):
    """API keys."""

    def add(self, label: str, scopes: Sequence[str], at: datetime, expires_at: datetime | None = None) -> str:
        """Make a key and return it whole, `<id>.<secret>`: it can never be read again.

        Raises
        ------
        DataError
            A label that is not plain, or a scope that does not exist.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise DataError(f"scopes must be of {', '.join(SCOPES)}, got {unknown or 'none'}. Name at least one.")
        if LABEL.fullmatch(label) is None:
            raise DataError(f"label must be letters, digits, `_`, `.` or `-`, at most 64, got {label!r}. Rename it.")
        if reserved(label):  # it names the book of a bot of freqtrade
            raise DataError(f"label must not begin with {' or '.join(RESERVED)}, got {label!r}. Rename it.")
        name = secrets.token_urlsafe(ID_BYTES).replace("-", "_")  # a command line takes a leading "-" for an option
        secret = secrets.token_urlsafe(SECRET_BYTES)
        row = {"id": name, "label": label, "digest": _digest(secret), "scopes": " ".join(dict.fromkeys(scopes))}
        with self._writing() as connection:
            connection.execute(api_keys.insert().values(**row, created_at=at, expires_at=expires_at))
        return f"{name}.{secret}"

    def of_token(self, token: str, at: datetime) -> ApiKey | None:
        """The key that a caller shows; None where it is unknown, malformed, revoked or expired."""
        if SHAPE.fullmatch(token) is None:
            return None
        name, _, secret = token.partition(".")
        with self._reading() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == name)).mappings().one_or_none()
        if row is None or not hmac.compare_digest(row["digest"], _digest(secret)):
            return None
        return _valid(_key(row), at)

    def get(self, key_id: str, at: datetime) -> ApiKey | None:
        """The key of an id, for who has shown it whole before; None where it is unknown, revoked or expired."""
        with self._reading() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).mappings().one_or_none()
        return None if row is None else _valid(_key(row), at)

    def all(self) -> list[ApiKey]:
        """All keys that were ever made, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).mappings()
            return [_key(row) for row in rows]

    def revoke(self, key_id: str, at: datetime) -> None:
        """Take a key away. The first time stays.

        Raises
        ------
        DataError
            There is no such key.
        """
        c = api_keys.c
        with self._writing() as connection:
            if connection.scalar(select(c.id).where(c.id == key_id)) is None:
                raise DataError(
                    f"key must exist to be revoked, got {key_id!r}. List them with `trader-mlops key list`."
                )
            connection.execute(update(api_keys).where(c.id == key_id, c.revoked_at.is_(None)).values(revoked_at=at))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _valid(key: ApiKey, at: datetime) -> ApiKey | None:
    expired = key.expires_at is not None and key.expires_at <= at
    return None if expired or key.revoked_at is not None else key


def _key(row: RowMapping) -> ApiKey:
    scopes = tuple(row["scopes"].split())
    return ApiKey(row["id"], row["label"], scopes, row["created_at"], row["expires_at"], row["revoked_at"])
