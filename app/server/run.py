"""Run the app under uvicorn: open it while the socket listens, and shut down without refusing a call."""

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

from app.api.application import Application
from app.api.services import Services
from app.observability import logging
from app.runtime.memory_limit import Allocator
from app.runtime.write_coalescer import WriteCoalescer
from app.server.file_descriptors import ConnectionLimit
from app.server.http.loop_fairness import PipelineTurns
from app.server.http.protocol import HttpProtocol
from app.server.listener import turn_away
from app.server.websocket_protocol import PING_SECONDS, WebSocketProtocol
from app.settings.server import ServerSettings

# Time to end and commit the responses that did not finish within the budget.
ENDING_SECONDS = 5.0
_TICK_SECONDS = 0.1
# Time that a start may take before probes get an answer; a migration may take longer.
_OPENING_SECONDS = 10.0
# Time to accept the connections that the kernel has made, or is making, when it makes no more.
_ACCEPTING_SECONDS = 0.3
# Time that requests have to arrive on open connections once no more are accepted.
_ARRIVING_SECONDS = 5.0
# After a second signal: time to close the app, and time until the process exits whatever it is doing.
_CLOSING_SECONDS = 0.5
_FORCED_SECONDS = 1.0
# The part of it in which the log is flushed.
_LOG_FLUSH_SECONDS = 0.25
_BACKLOG = 4096
_KEEP_ALIVE_SECONDS = 75


class GatewayServer(uvicorn.Server):
    """Extend uvicorn's server: it listens while its app cannot be opened yet, and a stop refuses no request.

    `open_` makes the app serve calls; while that takes time, probes are answered. An error of it ends the server, and
    becomes `failure`. At the first signal readiness falls, after the grace no connection is accepted any more, each
    request that came gets its answer, then admission closes and live calls have the drain's time. A second signal ends
    it at once. A worker's signals come from its parent and from a supervisor, so for it only SIGINT is a second one.
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
        """Begin the shutdown at the first signal, force it at the second."""
        if self.should_exit and (sig == signal.SIGINT or not self._is_worker):
            self.force_exit = True
            # Exits even if the loop is stuck: what clients were told is committed already.
            timer = threading.Timer(_FORCED_SECONDS - _LOG_FLUSH_SECONDS, _end_now)
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the app, and listen once it serves, or as soon as it is known that opening takes time.

        Not before: a proxy that does not probe readiness goes elsewhere while it is refused. From then on SIGHUP
        reloads the settings.
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
        except Exception as error:  # noqa: BLE001 - `serve` raises it
            self.failure = error
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Make readiness fall, answer the requests that have arrived, drain, and close."""
        services, loop = self._services, asyncio.get_running_loop()
        if services.readiness.obstacle is None:
            services.readiness.leaves()
            if self._captured_signals[:1] != [signal.SIGINT]:
                await self._keep_serving(self._settings.shutdown_grace_seconds)
            if not self._is_worker:
                for listener in sockets or ():
                    turn_away(listener)
            await self._keep_serving(_ACCEPTING_SECONDS)
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        ends_at = loop.time() + self._settings.drain_seconds
        await self._drain_connections(min(ends_at, loop.time() + _ARRIVING_SECONDS))
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
            # uvicorn raises the signals again when it is done: a clean stop would exit with the status of a kill.
            self._captured_signals.clear()

    async def _keep_serving(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until and not self.force_exit:
            await self._tick()

    async def _drain_connections(self, until: float) -> None:
        """Wait for the answers of requests that are arriving, and close each connection behind its answer."""
        loop = asyncio.get_running_loop()
        while not self.force_exit:
            # uvicorn types the set with its own protocols.
            connections = cast("set[Any]", self.server_state.connections)
            coming = [each for each in connections if isinstance(each, HttpProtocol) and not each.take_leave()]
            if not coming or loop.time() >= until:
                return
            await self._tick()

    async def _tick(self) -> None:
        # Updates the date of answers, which uvicorn's main loop does no more during a shutdown.
        await self.on_tick(0)
        await asyncio.sleep(_TICK_SECONDS)


def _end_now() -> None:
    logging.flush(_LOG_FLUSH_SECONDS)
    os._exit(1)


def configuration(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """Configure uvicorn to serve this app by our protocols and limits."""
    seconds = settings.write_timeout_seconds
    return uvicorn.Config(
        app,
        loop="uvloop",
        # The arguments are shared by all connections of the process. uvicorn calls it like its own protocol.
        http=cast(
            "type[HttpProtocol]",
            partial(
                HttpProtocol,
                coalescer=WriteCoalescer(),
                turns=PipelineTurns(),
                connections=ConnectionLimit(trim=Allocator().collect),
                write_timeout_seconds=seconds,
            ),
        ),
        ws=cast("type[WebSocketProtocol]", partial(WebSocketProtocol, write_timeout_seconds=seconds)),
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
    app: Application,
    settings: ServerSettings,
    listener: socket.socket,
    open_: Callable[[], Awaitable[None]],
    *,
    is_worker: bool = False,
) -> None:
    """Serve in this process until a signal ends it. Raises what `open_` raises."""
    server = GatewayServer(configuration(app, settings), settings, open_, is_worker=is_worker)
    server.run(sockets=[listener])
    if server.failure is not None:
        raise server.failure
