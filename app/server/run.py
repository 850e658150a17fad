"""How the app is run: uvicorn and its two protocols, opened while it listens, ended so that no call is refused."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from app.api.gateway import Gateway
from app.api.services import Services
from app.memory_limit import Allocator
from app.observability import logging
from app.outbox import Outbox
from app.server.descriptors import ConnectionLimit
from app.server.http import HttpProtocol
from app.server.listener import turn_away
from app.server.socket import PING_SECONDS, SocketProtocol
from app.server.turns import Turns
from app.settings import ServerSettings

# Time to end and commit the responses that did not finish within the budget.
ENDING_SECONDS = 5.0
_TICK_SECONDS = 0.1
# Time that a start takes before probes get an answer; a migration may take longer.
_OPENING_SECONDS = 10.0
# Time for connections that the kernel has made, or is making, when it takes no more.
_ACCEPTING_SECONDS = 0.3
# Time that requests have to arrive on connections that are there when no more are taken.
_ARRIVING_SECONDS = 5.0
# After a second signal: time to close what can be closed, and until the process ends whatever it is doing.
_CLOSING_SECONDS = 0.5
_FORCED_SECONDS = 1.0
# Of which the log has this for what was said.
_SAYING_SECONDS = 0.25
_BACKLOG = 4096
_KEEP_ALIVE_SECONDS = 75


class GatewayServer(uvicorn.Server):
    """A uvicorn server that also listens while its app cannot be opened yet, and whose end refuses nobody.

    `open_` makes the app serve calls; while that takes time, probes are answered. What it raises ends the server, and
    is `failure` then. At the first signal readiness falls, after the grace no connection is taken any more, each
    request that came gets its answer, then admission closes and live runs have their budget. A second signal ends it at
    once. A worker's signals come from its parent and from who stops them all, so there only SIGINT is a second one.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        settings: ServerSettings,
        open_: Callable[[], Awaitable[None]],
        *,
        is_worker: bool,
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._open = open_
        self._is_worker = is_worker
        self.failure: BaseException | None = None

    @property
    def _services(self) -> Services:
        services: Services = self.config.loaded_app.state.services
        return services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or end now."""
        if self.should_exit and (sig == signal.SIGINT or not self._is_worker):
            self.force_exit = True
            # Whatever holds up the loop: what was announced is committed already.
            timer = threading.Timer(_FORCED_SECONDS - _SAYING_SECONDS, _end_now)
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the app, and listen: once it serves, or as soon as it is known that this takes time.

        Not before: a proxy that asks nobody for readiness goes elsewhere while it is refused. From then on the settings
        are read again at SIGHUP.
        """
        opening = self._services.registry.spawn(self._open_app())
        await self._await_opening(opening)
        if self.should_exit and not (opening.done() and self.failure is None):
            self._captured_signals.clear()
            return
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._services.reload)

    async def _await_opening(self, opening: asyncio.Task[None]) -> None:
        loop, readiness = asyncio.get_running_loop(), self._services.readiness
        until = loop.time() + _OPENING_SECONDS
        while not (self.should_exit or readiness.is_waiting or opening.done()) and loop.time() < until:
            await asyncio.wait({opening}, timeout=_TICK_SECONDS)

    async def _open_app(self) -> None:
        try:
            await self._open()
        except Exception as error:  # noqa: BLE001 - whoever runs the server is to hear of it
            self.failure = error
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have proxies go elsewhere, answer what has arrived, drain, and close."""
        services, loop = self._services, asyncio.get_running_loop()
        if services.readiness.obstacle is None:
            services.readiness.leaves()
            if self._captured_signals[:1] != [signal.SIGINT]:
                await self._serve_on(self._settings.shutdown_grace_seconds)
            if not self._is_worker:
                for listener in sockets or ():
                    turn_away(listener)
            await self._serve_on(_ACCEPTING_SECONDS)
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        ends_at = loop.time() + self._settings.drain_seconds
        await self._see_off(min(ends_at, loop.time() + _ARRIVING_SECONDS))
        drain = services.registry.drain(max(0.0, ends_at - loop.time()), ENDING_SECONDS)
        drained = services.registry.spawn(drain)
        while not (self.force_exit or drained.done()):
            await self._tick()
        if self.force_exit:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_SECONDS):
                    await self.lifespan.shutdown()
            return
        await super().shutdown(sockets)
        if not self.force_exit:
            # uvicorn raises the signal again once it is done: a clean stop would end with the status of a kill.
            self._captured_signals.clear()

    async def _serve_on(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until and not self.force_exit:
            await self._tick()

    async def _see_off(self, until: float) -> None:
        """Let every request that is on its way come to its answer, and close each connection behind that."""
        loop = asyncio.get_running_loop()
        while not self.force_exit:
            # uvicorn has its own protocols in mind.
            connections = cast("set[Any]", self.server_state.connections)
            coming = [each for each in connections if isinstance(each, HttpProtocol) and not each.take_leave()]
            if not coming or loop.time() >= until:
                return
            await self._tick()

    async def _tick(self) -> None:
        # uvicorn's own, which keeps the date of answers, is asked only while it does not end.
        await self.on_tick(0)
        await asyncio.sleep(_TICK_SECONDS)


def _end_now() -> None:
    logging.flush(_SAYING_SECONDS)
    os._exit(1)


def configuration(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """How uvicorn is to serve this app."""
    seconds = settings.write_timeout_seconds
    return uvicorn.Config(
        app,
        loop="uvloop",
        # Each one for all connections of the process. uvicorn calls it as it would its own.
        http=cast(
            "type[HttpProtocol]",
            partial(
                HttpProtocol,
                outbox=Outbox(),
                turns=Turns(),
                connections=ConnectionLimit(trim=Allocator().collect),
                write_timeout_seconds=seconds,
            ),
        ),
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
        timeout_graceful_shutdown=int(ENDING_SECONDS),
    )


def serve(
    app: Gateway,
    settings: ServerSettings,
    listener: socket.socket,
    open_: Callable[[], Awaitable[None]],
    *,
    is_worker: bool = False,
) -> None:
    """Serve in this process until a signal ends it. Raises what `open_` does."""
    server = GatewayServer(configuration(app, settings), settings, open_, is_worker=is_worker)
    server.run(sockets=[listener])
    if server.failure is not None:
        raise server.failure
