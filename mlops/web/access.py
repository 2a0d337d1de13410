"""Access to the API: keys and their scopes, sizes, depths, rates, and how long a body may take to come."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import HTTPException, Request
from pyrate_limiter import Duration, InMemoryBucket, Rate
from pyrate_limiter.abstracts import RateItem
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect, HTTPConnection

from mlops.errors import StorageError
from mlops.io.ledger import Ledger
from mlops.io.ledger.api_keys import ApiKey
from mlops.settings import ServiceSettings
from mlops.web.json_outline import Outline, outline
from mlops.web.lanes import Lanes

REMEMBERED_S = (
    5.0  # how long a key is taken as read; while the ledger is away it is: to revoke it, the ledger is needed
)
MAX_HELD = 256 * 2**20  # bytes of all bodies that are held at once
ARRIVE_S = 30.0  # for a body to arrive whole
MARK = "connection"  # in the state of a scope: its `mlops.web.sockets.Mark`
CALLERS = 10_000  # callers whose rate is remembered; past it the oldest are forgotten


@dataclass(frozen=True, slots=True)
class CachedKey:
    """A key as it was read, and until when that holds (monotonic seconds)."""

    key: ApiKey | None
    until: float


class Gate:
    """Lets requests in. One for an application; usable from several threads."""

    def __init__(
        self, ledger: Ledger, settings: ServiceSettings, clock: Callable[[], datetime], lanes: Lanes | None = None
    ) -> None:
        self._ledger, self._settings, self._clock = ledger, settings, clock
        self._lanes, self._held = lanes or Lanes(), 0
        self._seen: dict[tuple[str, bytes], CachedKey] = {}
        self._buckets: dict[str, InMemoryBucket] = {}

    async def enter(self, request: Request, scope: str) -> ApiKey:
        """The caller's key.

        Raises
        ------
        HTTPException
            401 without a valid key, 403 without the scope, 429 too many requests.
        """
        return await self.admit(bearer(request.headers.get("authorization", "")), request, scope)

    async def admit(self, token: str, connection: HTTPConnection, scope: str) -> ApiKey:
        """The key that a caller shows; raises as `enter`."""
        address = network(connection.client.host) if connection.client else ""
        if not token:
            self.paced(f"address:{address}", self._settings.rate)
            raise HTTPException(401, "request must carry an API key. Send `Authorization: Bearer <key>`.", BEARER)
        key = await self._key(token, self._ledger.api_keys.of_token)
        if key is None:
            self.paced(f"address:{address}", self._settings.rate)
            raise HTTPException(401, "API key must be valid, got an unknown, expired or revoked one. Add one.", BEARER)
        self.paced(f"key:{key.id}", self._settings.rate)
        if scope not in key.scopes and "admin" not in key.scopes:
            raise HTTPException(403, f"API key {key.id} must have scope {scope}, got {' '.join(key.scopes)}.")
        known(connection)
        return key

    async def holds(self, key_id: str, scope: str, connection: HTTPConnection) -> bool:
        """Whether a key that was shown before is still good for a scope."""
        key = await self._key(key_id, self._ledger.api_keys.get)
        good = key is not None and (scope in key.scopes or "admin" in key.scopes)
        if good:
            known(connection)
        return good

    def asks(self, scope: str) -> Callable[[Request], Awaitable[ApiKey]]:
        """`enter` as a dependency of FastAPI: it comes before the parameters are looked at."""

        async def key(request: Request) -> ApiKey:
            return await self.enter(request, scope)

        return key

    @asynccontextmanager
    async def body(self, request: Request, most: int | None = None) -> AsyncIterator[bytes]:
        """The body, within the limits; past them it is read no further. What all hold at once is limited, too.

        Raises
        ------
        HTTPException
            400 it did not arrive whole, 408 it took too long, 413 too large, 415 encoded, 503 too much is held already.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "body must not be encoded. Send it plain.")
        most = most or self._settings.max_body
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and len(declared) < 19 and int(declared) > most:
            raise HTTPException(413, f"body must be at most {most} bytes, got {declared}. Send less at once.")
        got = bytearray()
        try:
            await self._read(request, got, most)
            yield bytes(got)
        finally:
            self._held -= len(got)

    async def _read(self, request: Request, got: bytearray, most: int) -> None:
        try:
            async with asyncio.timeout(ARRIVE_S):
                async for chunk in request.stream():
                    got += chunk
                    self._held += len(chunk)
                    if len(got) > most:
                        raise HTTPException(413, f"body must be at most {most} bytes, got more. Send less at once.")
                    if self._held > MAX_HELD:
                        raise HTTPException(503, "service must have room for the body, got many at once.", LATER)
        except TimeoutError as error:
            raise HTTPException(408, f"body must arrive within {ARRIVE_S:.0f} s, got a part. Send it again.") from error
        except ClientDisconnect as error:
            raise HTTPException(400, "body must arrive whole, got a part of it. Send it again.") from error

    def outlined(self, body: bytes, *, lines: bool = False) -> Outline:
        """The outline of a body (of one JSON text a line, where `lines`); for a worker's thread: it takes a while.

        Raises
        ------
        HTTPException
            422 too deep.
        """
        body_outline, most = outline(body, lines=lines), self._settings.max_depth
        if body_outline.depth > most:
            raise HTTPException(422, f"JSON must be nested at most {most} deep, got {body_outline.depth}. Flatten it.")
        return body_outline

    async def _key(self, token: str, read: Callable[[str, datetime], ApiKey | None]) -> ApiKey | None:
        # What proves itself by its secret and what a session vouches for are remembered apart: an id opens nothing.
        mark = (read.__name__, hashlib.sha256(token.encode(errors="replace")).digest())
        now = time.monotonic()
        entry = self._seen.get(mark)
        if entry is None or entry.until < now:
            try:
                key = await self._lanes.keys.run(read, token, self._clock())
            except (StorageError, SQLAlchemyError):
                key = entry.key if entry is not None else None
                if key is None or (key.expires_at is not None and key.expires_at <= self._clock()):
                    raise
            if len(self._seen) >= CALLERS:
                self._seen.clear()
            entry = self._seen[mark] = CachedKey(key, now + REMEMBERED_S)
        return entry.key

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


def network(address: str) -> str:
    """What counts as one address: an IPv6 host has a whole /64 to call from."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address


def known(connection: HTTPConnection) -> None:
    """Tell the server that who is on this connection has a key: it does not count among strangers any more."""
    mark = connection.scope.get("state", {}).get(MARK)
    if mark is not None:
        mark.known()


BEARER = {"WWW-Authenticate": "Bearer"}
LATER = {"Retry-After": "5"}


def _whole(waiting: object) -> int:
    """What an in-memory bucket answers; its interface also allows for an awaitable."""
    return waiting if isinstance(waiting, int) else 1000


def bearer(header: str) -> str:
    """The token of `Bearer token`; empty where there is none."""
    scheme, _, rest = header.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""
