"""How the app is run: uvicorn and its two protocols, with a shutdown that lets live responses finish."""

import asyncio
import signal
import socket
from functools import partial
from typing import cast

import uvicorn
from fastapi import FastAPI

from app.outbox import Outbox
from app.relay.registry import Registry
from app.server.http import HttpProtocol
from app.server.socket import PING_SECONDS, SocketProtocol
from app.settings import ServerSettings

# Time to end and commit the responses that did not finish within the budget.
_ENDING_SECONDS = 5.0
_TICK_SECONDS = 0.1
_BACKLOG = 4096
_KEEP_ALIVE_SECONDS = 75
_KEEP_ALIVE_PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class GatewayServer(uvicorn.Server):
    """A uvicorn server whose shutdown first drains the registry: admission closes, streams finish or are ended."""

    def __init__(self, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, and from then on read the settings again at SIGHUP."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.config.loaded_app.state.services.reload)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while the sockets are still open, then let uvicorn close them."""
        app = self.config.loaded_app
        registry: Registry = app.state.services.registry
        drained = registry.spawn(registry.drain(self._drain_seconds, _ENDING_SECONDS))
        # A second interrupt means now: uvicorn sets force_exit, and what was announced is committed already.
        while not self.force_exit and not drained.done():
            await asyncio.wait({drained}, timeout=_TICK_SECONDS)
        await super().shutdown(sockets)
        if not self.force_exit:
            # uvicorn raises the signal again once it is done: a clean stop would end with the status of a kill.
            self._captured_signals.clear()


def configuration(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """How uvicorn is to serve this app."""
    seconds = settings.write_timeout_seconds
    return uvicorn.Config(
        app,
        loop="uvloop",
        # One for all connections of the process. uvicorn calls it as it would its own.
        http=cast("type[HttpProtocol]", partial(HttpProtocol, outbox=Outbox(), write_timeout_seconds=seconds)),
        ws=cast("type[SocketProtocol]", partial(SocketProtocol, write_timeout_seconds=seconds)),
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(_ENDING_SECONDS),
    )


def serve(app: FastAPI, settings: ServerSettings, listener: socket.socket) -> None:
    """Serve in this process until a signal ends it."""
    GatewayServer(configuration(app, settings), settings.drain_seconds).run(sockets=[listener])


def listen(settings: ServerSettings) -> socket.socket:
    """Bind the listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay (40 ms an answer) off only where it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The server ends the connection of a client that reads nothing; the kernel does where it has all of an answer.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.write_timeout_seconds * 1000))
    # A client whose machine is gone says nothing, and nothing else would show it while an upstream thinks.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE_PROBES.items():
        if hasattr(socket, option):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    listener.bind((settings.host, settings.port))
    listener.set_inheritable(True)
    return listener
