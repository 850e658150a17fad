"""HTTP/1.1 on one client connection: the app is called for one request after the other. Must not know what is asked."""

import asyncio
from collections import deque
from typing import Any, cast

import structlog
import uvicorn
from uvicorn.server import ServerState

from app.errors import InvalidRequestError
from app.outbox import Outbox
from app.server.cycle import Cycle
from app.server.head import Head
from app.server.reader import RequestReader
from app.server.refusal import refused

_HEAD_SECONDS = 30.0
# Beside what the system holds. A client that has so much to read is waited for.
_MOST_UNSENT_BYTES = 16 * 1024

_log = structlog.get_logger("antiphon.server")


class HttpProtocol(asyncio.Protocol):
    """One connection, as uvicorn makes them. Requests that come before the answer to the last wait their turn.

    One task calls the app for all of them, from the first request to the connection's end. A connection on which
    nothing comes is closed: between requests after `timeout_keep_alive` seconds, in the midst of a head after thirty.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        outbox: Outbox,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server = server_state
        self._app_state = app_state
        self._outbox = outbox
        self._app = config.loaded_app
        self._loop = _loop or asyncio.get_running_loop()
        self._reader = RequestReader(self._take, lambda: bool(self._line))
        # The first of these is being served.
        self._line: deque[Cycle] = deque()
        self._task: asyncio.Task[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._common: tuple[object, bytes] = (None, b"")
        self._is_paused = False
        self._drained: asyncio.Future[None] | None = None
        self.can_write = True
        self.is_lost = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_MOST_UNSENT_BYTES)
        self._server.connections.add(cast("Any", self))
        self._addresses = {
            "server": _address(transport, "sockname"),
            "client": _address(transport, "peername"),
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        }
        self._rest()

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        was_in_head = reader.is_in_head
        try:
            asked = reader.feed(data)
        except InvalidRequestError as error:
            self._refuse(error)
            return
        if asked is not None:
            self._become_socket(asked)
        elif reader.is_in_head and not was_in_head:
            self._rest(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._server.connections.discard(cast("Any", self))
        if self._timer is not None:
            self._timer.cancel()
        if exc is None:
            self.transport.close()
        self._reader.forget()
        self.resume_writing()
        for cycle in self._line:
            cycle.lost()
        self._wake()

    def pause_writing(self) -> None:
        self.can_write = False

    def resume_writing(self) -> None:
        self.can_write = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # What uvicorn calls.

    def shutdown(self) -> None:
        """End the connection, after the answer that is under way."""
        if self._line:
            self._line[0].keeps_alive = False
        else:
            self.close()

    # What cycles call.

    def write(self, data: bytes) -> None:
        self._outbox.write(self.transport, data)

    def close(self) -> None:
        self._outbox.send()
        self.transport.close()

    def common_headers(self) -> bytes:
        defaults = self._server.default_headers
        if self._common[0] is not defaults:
            # uvicorn makes the date anew each second.
            self._common = defaults, b"".join([b"%b: %b\r\n" % header for header in defaults])
        return self._common[1]

    async def drain(self) -> None:
        while not (self.can_write or self.is_lost):
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            # Others may wait for it, too.
            await asyncio.shield(self._drained)

    def pause_reading(self) -> None:
        if not (self._is_paused or self.is_lost):
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self.is_lost:
            self._is_paused = False
            self.transport.resume_reading()

    def answered(self) -> None:
        self._server.total_requests += 1
        self._line.popleft()
        if not self.transport.is_closing():
            self.resume_reading()
            self._rest()

    # Who serves.

    def _take(self, head: Head, body: bytes | None, expects_continue: bool) -> Cycle:  # noqa: FBT001 - the reader's
        cycle = Cycle(self, head, body, expects_continue=expects_continue)
        self._line.append(cycle)
        if self._task is None:
            self._task = self._loop.create_task(self._serve())
        else:
            self._wake()
        if len(self._line) > 1:
            self.pause_reading()
        return cycle

    def _wake(self) -> None:
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    async def _serve(self) -> None:
        """Call the app for one request after the other, until the connection is lost."""
        is_good = True
        while is_good and not self.is_lost:
            if self._line:
                is_good = await self._answer(self._line[0])
            else:
                self._next = self._loop.create_future()
                await self._next

    async def _answer(self, cycle: Cycle) -> bool:
        """Call the app for one request; False when it leaves that without an answer, which ends the connection."""
        # uvicorn's shutdown waits for those that are in this set.
        serving, task = self._server.tasks, cast("asyncio.Task[None]", self._task)
        serving.add(task)
        try:
            await self._app(cycle.scope(self._addresses, self._app_state), cycle.receive, cycle.send)
        except Exception:  # noqa: BLE001 (whatever it is, the connection ends with it)
            if not cycle.is_begun:
                _log.exception("a request could not be answered")
        finally:
            serving.discard(task)
            if not cycle.is_answered:
                self.close()
        return cycle.is_answered

    def _refuse(self, error: InvalidRequestError) -> None:
        """Answer what is not HTTP in the shape that every other error has."""
        self.write(refused(error))
        self.close()

    def _become_socket(self, head: bytes) -> None:
        """Hand the connection, and the head that was read, to the protocol of WebSockets."""
        self._outbox.send()
        self._server.connections.discard(cast("Any", self))
        if self._timer is not None:
            self._timer.cancel()
        make: Any = self._config.ws_protocol_class
        protocol = make(config=self._config, server_state=self._server, app_state=self._app_state)
        protocol.connection_made(self.transport)
        protocol.data_received(head)
        self.transport.set_protocol(protocol)

    # Connections on which nothing comes.

    def _rest(self, seconds: float | None = None) -> None:
        """Count from now on; within these seconds, where they are given, somebody will look."""
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(seconds or self._config.timeout_keep_alive, self._look)
        elif seconds is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Close the connection if it has been still for too long. One timer, moved only when it fires."""
        reader = self._reader
        patience = _HEAD_SECONDS if reader.is_in_head else float(self._config.timeout_keep_alive)
        # Whoever answers looks after the time that a body and an answer take.
        left = patience if self._line else self._since + patience - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif reader.is_in_head:
            what = f"The request's head did not arrive within {_HEAD_SECONDS:g} seconds."
            self._refuse(InvalidRequestError(what, code="request_timeout", status=408))
        else:
            self.transport.close()


def _address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    """A socket's address; None for one that has none."""
    address = transport.get_extra_info(name)
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
