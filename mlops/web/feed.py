"""The live feed: one state, published by a loop in a thread, and everybody who listens to it.

Each message is encoded once. A listener has one message in flight and a mark of what it has seen, never a queue: who is
slow gets the changes that are still kept, or the whole state where that is less to send.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event, Lock
from typing import Annotated, Any, Literal

import orjson
import structlog
from fastapi import APIRouter, Query, WebSocket
from pydantic import Field
from starlette.websockets import WebSocketDisconnect, WebSocketState

from mlops.settings import FeedSettings
from mlops.web.contracts import DIGITS
from mlops.web.envelopes import Tree, patch, schema, tree
from mlops.web.login import PageAccess
from mlops.web.messages import RiskState

log = structlog.get_logger()
UNKNOWN, CHATTY, FULL, DEAD = 4401, 4400, 4429, 4408  # close codes, after the HTTP statuses that they are like
VOUCH_S = 30.0  # how often it is looked whether a listener's key still holds


@dataclass(frozen=True, slots=True)
class Change:
    """A delta as it is sent."""

    seq: int
    prev: int
    text: str


@dataclass(eq=False, slots=True)
class Listener:
    """A client of the feed: the last state it was sent, the last publication it heard of, and a bell."""

    whole: bool
    seq: int
    heard: int = 0
    gone: bool = False
    bell: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """The state as it was published last. `publish` is called from any thread, all else from the event loop.

    `seq` counts up from the instant (in ms) at which the hub published first, so that no number means two states, not
    even across a restart. `news` is set when prices or trades came in by this service: who publishes may look sooner.
    """

    def __init__(self, clock: Callable[[], datetime], settings: FeedSettings | None = None) -> None:
        self.settings = settings or FeedSettings()
        self._clock, self._lock, self.news = clock, Lock(), Event()
        self._listeners: set[Listener] = set()
        self._changes: deque[Change] = deque(maxlen=self.settings.resume)
        self._tree: Tree | None = None
        self._seq, self._published = int(clock().timestamp() * 1000), 0
        self._snapshot = self._heartbeat = ""
        self._loop: AbstractEventLoop | None = None

    def publish(self, state: RiskState) -> int:
        """Tell everybody the state now, and return its number. The same state again is a heartbeat."""
        new, at = tree(state), self._clock().isoformat().replace("+00:00", "Z")
        with self._lock:
            if not self._published:  # not when it was made: who stood by begins after the one before has ended
                self._seq = max(self._seq, int(self._clock().timestamp() * 1000))
            change = patch(self._tree, new) if self._tree is not None else None
            if change is None or change:
                self._seq, before = self._seq + 1, self._seq
                self._snapshot = _text(type="snapshot", seq=self._seq, at=at, state=new)
                if change is not None:
                    text = _text(type="delta", seq=self._seq, prev=before, at=at, patch=change)
                    self._changes.append(Change(self._seq, before, text))
            self._heartbeat = _text(type="heartbeat", seq=self._seq, at=at)
            self._tree, self._published = new, self._published + 1
            loop, seq = self._loop, self._seq
        if loop is not None:
            with suppress(RuntimeError):  # the service ends: its event loop is closed
                loop.call_soon_threadsafe(self._ring)
        return seq

    def join(self, *, since: int = 0, whole: bool = False) -> Listener | None:
        """A new listener, or None where there are as many as there may be."""
        if len(self._listeners) >= self.settings.max_clients:
            return None
        self._loop = asyncio.get_running_loop()
        listener = Listener(whole, since)
        listener.bell.set()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)

    def next(self, listener: Listener) -> str | None:
        """What a listener must be sent now; None where it has heard everything."""
        with self._lock:
            if listener.heard == self._published:
                return None
            if listener.whole or listener.seq != self._seq:
                change = None if listener.whole else self._missed(listener.seq)
                listener.seq = self._seq if change is None else change.seq
                text = self._snapshot if change is None else change.text
            else:
                text = self._heartbeat
            if listener.seq == self._seq:
                listener.heard = self._published
            return text

    def _missed(self, seq: int) -> Change | None:
        """The change after `seq`, where all since then are kept and less to send than the whole state."""
        size = 0
        for change in reversed(self._changes):
            size += len(change.text)
            if size > len(self._snapshot):
                return None
            if change.prev <= seq:
                return change if change.prev == seq else None
        return None

    def _ring(self) -> None:
        for listener in self._listeners:
            listener.bell.set()


def router(hub: Hub, door: PageAccess) -> APIRouter:
    """`/feed`, and the schema of its messages."""
    routes = APIRouter()

    @routes.get("/feed/schema", tags=["feed"])
    async def feed_schema() -> dict[str, Any]:
        """JSON schema of every message of the feed."""
        return schema()

    @routes.websocket("/feed")
    async def feed(
        socket: WebSocket,
        since: Annotated[int, Field(ge=0), DIGITS, Query()] = 0,
        mode: Literal["delta", "snapshot"] = "delta",
    ) -> None:
        if not door.from_here(socket) or await door.refuses(socket):
            await socket.close()  # before it is accepted: HTTP 403
            return
        await socket.accept()
        key_id = await door.listener(socket)  # first of all: who has no key takes nobody's place
        if key_id is None:
            await _close(socket, UNKNOWN, "feed must be shown a valid key with scope risk:read. Log in.")
            return
        listener = hub.join(since=since, whole=mode == "snapshot")
        if listener is None:
            await _close(socket, FULL, f"feed must have at most {hub.settings.max_clients} clients. Raise the setting.")
            return
        try:
            await _told(socket, hub, listener, door, key_id)
        finally:
            hub.leave(listener)

    return routes


async def _told(socket: WebSocket, hub: Hub, listener: Listener, door: PageAccess, key_id: str) -> None:
    """Tell a listener everything until it goes."""
    ear = asyncio.create_task(_heard(socket, listener))
    vouched = time.monotonic()
    try:
        while not listener.gone:
            await listener.bell.wait()
            listener.bell.clear()
            while not listener.gone and (text := hub.next(listener)) is not None:
                async with asyncio.timeout(hub.settings.dead_s):
                    await socket.send_text(text)
            if time.monotonic() > vouched + VOUCH_S:
                vouched = time.monotonic()
                if not await door.holds(key_id, socket):
                    await _close(socket, UNKNOWN, "feed must be shown a valid key, and this one is no longer. Log in.")
                    return
        await _close(socket, CHATTY, "feed must be sent nothing after the key. Listen.")
    except TimeoutError:
        log.warning("feed dropped a client that took nothing", seconds=hub.settings.dead_s)
        await _close(socket, DEAD, "")
    except WebSocketDisconnect:
        pass
    finally:
        ear.cancel()


async def _heard(socket: WebSocket, listener: Listener) -> None:
    """Wait for a listener to go, or to speak, which it must not."""
    await socket.receive()
    listener.gone = True
    listener.bell.set()


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Close, where it is still open; who does not take that either is left to the server's pings."""
    if WebSocketState.DISCONNECTED in (socket.client_state, socket.application_state):
        return
    try:
        async with asyncio.timeout(1.0):
            await socket.close(code, reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        log.info("feed's client was gone before it could be told", code=code)


def _text(**message: object) -> str:
    return orjson.dumps(message).decode()
