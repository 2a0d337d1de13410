"""uvicorn as it runs here: parser, loop and bounds by name, connections counted, and listening sockets handed in."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable

import structlog
import uvicorn
from fastapi import FastAPI

from mlops.settings import ServiceSettings
from mlops.web.sockets import Counted, Http, Sockets, WebSocket

log = structlog.get_logger()
RESERVE = 256  # handles for files, the database and MLflow
END_S = 5  # for answers under way when the service ends


class Config(Counted):
    """What the service is run with. Named, for uvicorn takes what it finds: limits are tested with these."""

    def __init__(self, app: FastAPI, settings: ServiceSettings) -> None:
        self.sockets = Sockets(_handles(settings.max_connections), settings.trusted_proxies)
        super().__init__(
            app,
            host=settings.host,
            port=settings.port,
            loop="asyncio",
            http=Http,
            ws=WebSocket,
            log_level="warning",
            access_log=False,
            proxy_headers=bool(settings.trusted_proxies),  # else anybody says with a header where he comes from
            forwarded_allow_ips=[*settings.trusted_proxies],
            ws_per_message_deflate=False,  # of the feed: it would be packed anew for each client
            ws_max_size=4096,  # a client says its key and nothing else
            ws_ping_interval=10,
            ws_ping_timeout=10,
            timeout_graceful_shutdown=END_S,
        )


class Server(uvicorn.Server):
    """A server that can take over another listening socket while it runs."""

    def __init__(self, config: Config, begun: Callable[[], None], ended: Callable[[], None]) -> None:
        super().__init__(config)
        self._begun, self._ended = begun, ended

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then call `begun`."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._begun()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, call `ended`, then wait for what is under way."""
        for server in self.servers:
            server.close()
        self._ended()
        await super().shutdown(sockets)

    def take_over(self, listening: socket.socket) -> None:
        """Accept from a socket that others listen on, too; from any thread, returns once it does."""
        asyncio.run_coroutine_threadsafe(self._accept(listening), self._loop).result()

    async def _accept(self, listening: socket.socket) -> None:
        config = self.config

        def protocol() -> asyncio.Protocol:
            state = {"config": config, "server_state": self.server_state, "app_state": self.lifespan.state}
            return config.http_protocol_class(**state)

        self.servers.append(await self._loop.create_server(protocol, sock=listening, backlog=config.backlog))


def _handles(wanted: int) -> int:
    """How many connections there can be: the system's limit on handles is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + RESERVE if hard == resource.RLIM_INFINITY else min(wanted + RESERVE, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    room = wanted if soft == resource.RLIM_INFINITY else max(min(wanted, soft - RESERVE), 1)
    if room < wanted:
        log.warning("fewer connections than set: the system allows few handles", wanted=wanted, room=room, hard=hard)
    return room
