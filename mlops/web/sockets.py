"""Connections: how many, from where, whether they showed a key, and how long they may take over a request.

uvicorn has a time-out for an idle connection and none for a head that never ends, a reader that takes nothing, or many
connections of one address. Whoever shows no key is a stranger. There is always room for one more: the oldest stranger
makes it, so that no number of idle sockets shuts the door on those who have a key.
"""

from __future__ import annotations

import time
from asyncio import TimerHandle, Transport
from collections import defaultdict
from typing import Any, cast

import structlog
import uvicorn
from h11 import Request
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from mlops.web.access import MARK, network

log = structlog.get_logger()
HEAD_S = 10.0  # for the head of a request to arrive
STALL_S = 20.0  # for who takes nothing of an answer
STRANGERS = 64  # connections of one address without a key
GRACE_S = 1.0  # a younger stranger is about to show its key
TELL_S = 60.0  # between two log lines about connections that were refused


class Mark:
    """A connection."""

    def __init__(self, sockets: Sockets, transport: Transport, place: str) -> None:
        self._sockets, self.transport, self.place, self.since = sockets, transport, place, time.monotonic()

    def known(self) -> None:
        """A key was shown on it."""
        self._sockets.forget(self)


class Sockets:
    """All connections of a server. Used from its event loop only.

    Parameters
    ----------
    most : int
        Connections at once, with a key and without.
    trusted : sequence of str
        Addresses of proxies: they bring many people, so their strangers are not counted.
    """

    def __init__(self, most: int, trusted: tuple[str, ...] = ()) -> None:
        self._most, self._trusted, self._told_at = most, trusted, -TELL_S
        self._open: set[Mark] = set()
        self._strangers: dict[str, dict[Mark, None]] = defaultdict(dict)  # by address, oldest first

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, transport: Transport, address: str) -> Mark:
        """Take a connection; who is one too many is cut off: the oldest stranger, else this one."""
        mark = Mark(self, transport, network(address))
        strangers = self._strangers[mark.place]
        strangers[mark] = None
        self._open.add(mark)
        while address not in self._trusted and len(strangers) > STRANGERS:
            oldest = next(iter(strangers))
            if oldest.since > mark.since - GRACE_S:
                break
            self._cut(oldest)
        if len(self._open) > self._most:
            self._cut(min((next(iter(some)) for some in self._strangers.values() if some), key=lambda m: m.since))
        return mark

    def forget(self, mark: Mark) -> None:
        """It is no stranger."""
        strangers = self._strangers.get(mark.place, {})
        strangers.pop(mark, None)
        if not strangers:
            self._strangers.pop(mark.place, None)

    def closed(self, mark: Mark) -> None:
        """It is gone."""
        self.forget(mark)
        self._open.discard(mark)

    def _cut(self, mark: Mark) -> None:
        if time.monotonic() > self._told_at + TELL_S:
            self._told_at = time.monotonic()
            log.warning("connections cut off to make room", open=len(self._open), address=mark.place)
        self.closed(mark)
        mark.transport.abort()


class Counted(uvicorn.Config):
    """uvicorn's configuration, with the connections of its server."""

    sockets: Sockets


class Http(H11Protocol):
    """HTTP whose heads arrive in time and whose answers are taken."""

    config: Counted
    _mark: Mark
    _head: TimerHandle | None = None
    _stall: TimerHandle | None = None
    _upgraded = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._mark = self.config.sockets.opened(transport, self.client[0] if self.client else "")
        self.app_state = {**self.app_state, MARK: self._mark}
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._over()
        self.config.sockets.closed(self._mark)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def handle_websocket_upgrade(self, event: Request) -> None:
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    def _wait_for_head(self) -> None:
        """Run the time for a head while none is complete; what comes after an answer is the next one's."""
        waits = not self._upgraded and (self.cycle is None or self.cycle.response_complete)
        if not waits:
            self._over()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.abort)

    def _over(self) -> None:
        for timer in (self._head, self._stall):
            if timer is not None:
                timer.cancel()
        self._head = self._stall = None


class WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that tells when it is gone."""

    config: Counted

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.config.sockets.closed(cast(Any, self.app_state)[MARK])
