"""Instants in the ledger: BIGINT microseconds since 1970-01-01 UTC, exact, sortable, and quick to read anywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, TypeDecorator
from sqlalchemy.exc import DontWrapMixin

from mlops.errors import DataError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class InstantError(DataError, DontWrapMixin):
    """An instant without its time zone: nobody knows when it was."""


class UtcTime(TypeDecorator[datetime]):
    """An aware instant, stored as microseconds since the epoch."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise InstantError(f"an instant must carry its time zone, got {value!r}. Use datetime(..., tzinfo=UTC).")
        return int((value - EPOCH) // MICROSECOND)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + value * MICROSECOND
