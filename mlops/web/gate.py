"""Who comes in, and how much: keys and their scopes, sizes, depths, rates."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import HTTPException, Request
from pyrate_limiter import Duration, InMemoryBucket, Rate
from pyrate_limiter.abstracts import RateItem
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from mlops.errors import StorageError
from mlops.io.keys import ApiKey
from mlops.io.ledger import Ledger
from mlops.settings import ServiceSettings
from mlops.web.outline import Outline, outline

REMEMBERED_S = (
    5.0  # how long a key is taken as read; while the ledger is away it is: to revoke it, the ledger is needed
)
CALLERS = 10_000  # callers whose rate is remembered; past it the oldest are forgotten


@dataclass(frozen=True, slots=True)
class Seen:
    """A key as it was read, and until when that holds (monotonic seconds)."""

    key: ApiKey | None
    until: float


class Gate:
    """Lets requests in. One for an application; usable from several threads."""

    def __init__(self, ledger: Ledger, settings: ServiceSettings, clock: Callable[[], datetime]) -> None:
        self._ledger, self._settings, self._clock = ledger, settings, clock
        self._seen: dict[tuple[str, bytes], Seen] = {}
        self._buckets: dict[str, InMemoryBucket] = {}

    async def enter(self, request: Request, scope: str) -> ApiKey:
        """The caller's key.

        Raises
        ------
        HTTPException
            401 without a valid key, 403 without the scope, 429 too many requests.
        """
        address = request.client.host if request.client else ""
        return await self.admit(bearer(request.headers.get("authorization", "")), address, scope)

    async def admit(self, token: str, address: str, scope: str) -> ApiKey:
        """The key that a caller at an address shows; raises as `enter`."""
        if not token:
            self.paced(f"address:{address}", self._settings.rate)
            raise HTTPException(401, "request must carry an API key. Send `Authorization: Bearer <key>`.", BEARER)
        key = await self._key(token, self._ledger.key)
        if key is None:
            self.paced(f"address:{address}", self._settings.rate)
            raise HTTPException(401, "API key must be valid, got an unknown, expired or revoked one. Add one.", BEARER)
        self.paced(f"key:{key.id}", self._settings.rate)
        if scope not in key.scopes and "admin" not in key.scopes:
            raise HTTPException(403, f"API key {key.id} must have scope {scope}, got {' '.join(key.scopes)}.")
        return key

    async def holds(self, key_id: str, scope: str) -> bool:
        """Whether a key that was shown before is still good for a scope."""
        key = await self._key(key_id, self._ledger.key_of)
        return key is not None and (scope in key.scopes or "admin" in key.scopes)

    def asks(self, scope: str) -> Callable[[Request], Awaitable[ApiKey]]:
        """`enter` as a dependency of FastAPI: it comes before the parameters are looked at."""

        async def key(request: Request) -> ApiKey:
            return await self.enter(request, scope)

        return key

    async def body(self, request: Request) -> bytes:
        """The body, within the limits; past them it is read no further."""
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "body must not be encoded. Send it plain.")
        most, got = self._settings.max_body, bytearray()
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and len(declared) < 19 and int(declared) > most:
            raise HTTPException(413, f"body must be at most {most} bytes, got {declared}. Send less at once.")
        try:
            async for chunk in request.stream():
                got += chunk
                if len(got) > most:
                    raise HTTPException(413, f"body must be at most {most} bytes, got more. Send less at once.")
        except ClientDisconnect as error:
            raise HTTPException(400, "body must arrive whole, got a part of it. Send it again.") from error
        return bytes(got)

    def outlined(self, body: bytes, *, lines: bool = False) -> Outline:
        """The outline of a body (of one JSON text a line, where `lines`); for a worker's thread: it takes a while.

        Raises
        ------
        HTTPException
            422 too deep.
        """
        found, most = outline(body, lines=lines), self._settings.max_depth
        if found.depth > most:
            raise HTTPException(422, f"JSON must be nested at most {most} deep, got {found.depth}. Flatten it.")
        return found

    async def _key(self, token: str, read: Callable[[str, datetime], ApiKey | None]) -> ApiKey | None:
        # What proves itself by its secret and what a session vouches for are remembered apart: an id opens nothing.
        mark = (read.__name__, hashlib.sha256(token.encode(errors="replace")).digest())
        now = time.monotonic()
        seen = self._seen.get(mark)
        if seen is None or seen.until < now:
            try:
                found = await run_in_threadpool(read, token, self._clock())
            except (StorageError, SQLAlchemyError):
                found = seen.key if seen is not None else None
                if found is None or (found.expires_at is not None and found.expires_at <= self._clock()):
                    raise
            if len(self._seen) >= CALLERS:
                self._seen.clear()
            seen = self._seen[mark] = Seen(found, now + REMEMBERED_S)
        return seen.key

    def paced(self, caller: str, rate: int) -> None:
        """Count a request of a caller; raises HTTPException 429 where it is one too many in a minute."""
        if caller not in self._buckets and len(self._buckets) >= CALLERS:
            self._buckets.pop(next(iter(self._buckets)))
        bucket = self._buckets.setdefault(caller, InMemoryBucket([Rate(rate, Duration.MINUTE)]))
        now = int(time.monotonic() * 1000)
        bucket.leak(now)
        if not bucket.put(RateItem(caller, now)):
            wait = max(1, -(-_whole(bucket.waiting(RateItem(caller, now))) // 1000))
            raise HTTPException(429, f"at most {rate} requests a minute.", {"Retry-After": str(wait)})


BEARER = {"WWW-Authenticate": "Bearer"}
LATER = {"Retry-After": "5"}


def _whole(waiting: object) -> int:
    """What an in-memory bucket answers; its interface also allows for an awaitable."""
    return waiting if isinstance(waiting, int) else 1000


def bearer(header: str) -> str:
    """The token of `Bearer token`; empty where there is none."""
    scheme, _, rest = header.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""
