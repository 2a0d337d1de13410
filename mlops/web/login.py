"""Login of the pages: a person logs in with an API key and gets a session; a program shows the key itself.

The session is a signed cookie with the key's id and the time; the key itself is in no cookie, no address and no log.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import orjson
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from itsdangerous import BadSignature, TimestampSigner
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect

from mlops.settings import Settings
from mlops.web.access import Gate, bearer, network
from mlops.web.shell import drawn

COOKIE, SCOPE = "mlops_session", "risk:read"
TRIES = 10  # logins a minute from one address
SAY_KEY_S = 5.0  # how long a feed waits for the key as its first message
MAX_KEY = 256  # characters of what may be a key
MAX_FORM = 4096  # bytes of a login form
FIELDS = 4  # of a login form, at most


class PageAccess:
    """Lets people and programs look. One for an application."""

    def __init__(self, gate: Gate, settings: Settings, clock: Callable[[], datetime]) -> None:
        own = settings.service.webhook_secret.get_secret_value()  # `make up` makes one; it outlives a restart
        self._signer = _Signer(own or secrets.token_urlsafe(), clock)
        self._gate, self._origins = gate, settings.feed.origins
        self.lasts_s = int(settings.feed.session_hours * 3600)

    def session(self, key_id: str) -> str:
        """A cookie for who has shown a key."""
        return self._signer.sign(key_id).decode()

    async def visitor(self, connection: HTTPConnection) -> str | None:
        """The id of the key that a session was opened with; None without one that holds."""
        try:
            key_id = self._signer.unsign(connection.cookies.get(COOKIE, ""), max_age=self.lasts_s).decode()
        except BadSignature:
            return None
        return key_id if await self._gate.holds(key_id, SCOPE, connection) else None

    async def holds(self, key_id: str, connection: HTTPConnection) -> bool:
        """Whether a key that was shown is still good."""
        return await self._gate.holds(key_id, SCOPE, connection)

    async def shown(self, token: str, connection: HTTPConnection) -> str | None:
        """The id of a key, where it opens the pages.

        Raises
        ------
        HTTPException
            429 too many requests.
        """
        try:
            return (await self._gate.admit(token[:MAX_KEY], connection, SCOPE)).id
        except HTTPException as error:
            if error.status_code == 429:
                raise
            return None

    async def refuses(self, socket: WebSocket) -> bool:
        """Whether a feed shows a key in its header that opens nothing: that needs no answer but no."""
        token = bearer(socket.headers.get("authorization", ""))
        try:
            return bool(token) and await self.shown(token, socket) is None
        except HTTPException:
            return True

    async def listener(self, socket: WebSocket) -> str | None:
        """The id of the key of a feed that is open: by header, session, or the first message `{"key": "..."}`."""
        try:
            token = bearer(socket.headers.get("authorization", ""))
            if token:
                return await self.shown(token, socket)
            if COOKIE in socket.cookies:
                return await self.visitor(socket)
            async with asyncio.timeout(SAY_KEY_S):
                message = orjson.loads(await socket.receive_text())
            return await self.shown(str(message["key"]), socket)
        except (TimeoutError, WebSocketDisconnect, HTTPException, orjson.JSONDecodeError, KeyError, TypeError):
            return None

    def from_here(self, connection: HTTPConnection) -> bool:
        """Whether what a browser says of the page that asks is ours, or one that a setting allows."""
        origin = connection.headers.get("origin")
        return (
            origin is None or origin in self._origins or urlsplit(origin).netloc == connection.headers.get("host", "")
        )

    def tried(self, request: Request) -> None:
        """Count a login; raises HTTPException 429."""
        self._gate.paced(f"login:{network(request.client.host) if request.client else ''}", TRIES)

    async def form(self, request: Request) -> str:
        """The key of a login form."""
        async with self._gate.body(request, MAX_FORM) as body:
            text = body.decode(errors="replace")
        try:
            return parse_qs(text, max_num_fields=FIELDS).get("key", [""])[0].strip()
        except ValueError:  # more fields than the form has
            return ""


class _Signer(TimestampSigner):
    """Signs with our clock, for this purpose only."""

    def __init__(self, secret: str, clock: Callable[[], datetime]) -> None:
        super().__init__(secret, salt="mlops.web.session", digest_method=hashlib.sha256)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock().timestamp())


def router(door: PageAccess) -> APIRouter:
    """Log in, log out."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/login")
    async def login() -> Response:
        return drawn("login.html")

    @routes.post("/login")
    async def enter(request: Request) -> Response:
        if not door.from_here(request):
            raise HTTPException(403, "login must come from this service's own page. Open /login.")
        door.tried(request)
        key_id = await door.shown(await door.form(request), request)
        if key_id is None:
            why = "key must be valid and have the scope risk:read. Check it, or ask for one."
            return drawn("login.html", status=401, why=why)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, door.session(key_id), door.lasts_s, httponly=True, samesite="lax", secure=_safe(request)
        )
        return answer

    @routes.post("/logout")
    async def leave(request: Request) -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=_safe(request))
        return answer

    return routes


def _safe(request: Request) -> bool:
    """Whether the browser came by https, as far as we or the proxy before us know."""
    return request.url.scheme == "https"
