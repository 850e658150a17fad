"""Serve one client connection over HTTP/1.1: parse each request when the last is answered."""

import asyncio
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from app.errors import InvalidRequestError
from app.runtime.write_coalescer import WriteCoalescer
from app.server.bad_request import bad_request
from app.server.disconnect_watch import DisconnectWatch, unread_bytes
from app.server.file_descriptors import ConnectionLimit
from app.server.flow_control import FlowControl
from app.server.http import lingering_close
from app.server.http.app_task import AppTask, addresses_of
from app.server.http.common_headers import CommonHeaders
from app.server.http.cycle import Cycle
from app.server.http.loop_fairness import PipelineTurns
from app.server.http.request_head import Head, NoRequestError, malformed
from app.server.http.request_reader import RequestReader
from app.server.idle_timer import IdleTimer
from app.server.websocket_protocol import open_websocket

_HEAD_SECONDS = 30.0
# During a shutdown, a connection is closed as idle after this time without a request.
_STILL_SECONDS = 1.0


class HttpProtocol(FlowControl):
    """Serve one connection as uvicorn's protocol. One task calls the app for all of its requests.

    Invariant: at most one request is begun and not answered. Bytes behind it are held unparsed, at most one read of
    them; while any are held nothing more is read.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        coalescer: WriteCoalescer,
        turns: PipelineTurns,
        connections: ConnectionLimit,
        write_timeout_seconds: float,
    ) -> None:
        super().__init__(write_timeout_seconds)
        if not config.loaded:
            config.load()
        self._config, self._server, self._app_state = config, server_state, app_state
        self._coalescer, self._turns, self._connections = coalescer, turns, connections
        self._app = AppTask(config.loaded_app, app_state, server_state.tasks, self._close)
        self._reader = RequestReader()
        self._cycle: Cycle | None = None  # The request that is being read or answered.
        self._idle = IdleTimer(config.timeout_keep_alive, self._patience, self._give_up)
        self._common = CommonHeaders()
        # Ended: the client sends no more. Over: this side parses no more.
        self._is_scheduled = self._is_paused = self._is_ended = self._is_over = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._disconnect_watch = DisconnectWatch(self.transport, lambda: self._is_paused or self._is_ended, self._probe)
        if not self._connections.admits(len(self._server.connections)):
            self._is_over = True
            self.transport.abort()
            return
        self._server.connections.add(cast("Any", self))
        self._addresses = addresses_of(self.transport)
        self._idle.restart()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            self._advance_later()  # Unwanted bytes are read in turn, too.
            self.regulate_reading()
            return
        cycle, reader = self._cycle, self._reader
        if cycle is None and (recognised := reader.recognise(data)) is not None:
            self._begin(*recognised)
            return
        reader.feed(data)
        if cycle is None or not cycle.is_whole:
            self._advance()
        else:
            self.regulate_reading()

    def eof_received(self) -> bool:
        """Go on serving a whole request: the client may have ended only its sending side (RFC 9112 §9.6)."""
        self._is_ended = True
        if (cycle := self._cycle) is None or cycle.is_answered or not cycle.is_whole:
            return False
        self._disconnect_watch.start()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()
        cycle, self._cycle = self._cycle, None  # Breaks a reference cycle.
        if cycle is not None:
            cycle.lost()

    # What uvicorn calls, and `run.GatewayServer` when it accepts no more connections.

    def shutdown(self) -> None:
        """Close the connection after the answer that is under way."""
        if self._cycle is not None and not self._cycle.is_answered:
            self._cycle.keeps_alive = False
        else:
            self._close()

    def take_leave(self) -> bool:
        """Close the connection behind its answer, or now if idle. Returns False while a request may be coming."""
        if self.transport.is_closing():
            return True
        if self._cycle is not None and not self._cycle.is_answered:
            self._cycle.keeps_alive = False
            return self._cycle.is_begun
        is_coming = self._reader.is_in_head or self._reader.has_unread or unread_bytes(self.transport)
        if is_coming or self._idle.seconds < _STILL_SECONDS:
            return False
        self._close()
        return True

    # What cycles call.

    def write(self, data: bytes) -> None:
        self._coalescer.write(self.transport, data)

    def common_headers(self) -> bytes:
        return self._common.rendered(self._server.default_headers)

    def regulate_reading(self) -> None:
        """Pause reading while a next request waits for the answer, or the body for the app; else resume."""
        cycle, reader = self._cycle, self._reader
        is_ahead = cycle is not None and not self._is_over and (reader.has_unread if cycle.is_whole else cycle.is_full)
        waits = self._is_scheduled or is_ahead
        if waits == self._is_paused or self._is_ended or self.transport.is_closing():
            return
        self._is_paused = waits
        if waits:
            self.transport.pause_reading()
            self._disconnect_watch.start()
        else:
            self.transport.resume_reading()

    def answered(self) -> None:
        self._server.total_requests += 1
        cycle = cast("Cycle", self._cycle)
        if self.transport.is_closing():
            return
        if not cycle.keeps_alive:
            self._end()
        elif cycle.is_whole:
            self._finish()
        else:
            # Read and drop the rest of an unread body.
            self.regulate_reading()
            lingering_close.keep_reading(self._idle)

    # Requests.

    def _advance(self) -> None:
        """Parse the waiting bytes: the next head, or more of a body."""
        was_held, self._is_scheduled = self._is_scheduled, False
        try:
            if self._is_over or self.transport.is_closing():
                return
            cycle = self._cycle or self._read_head()
            if cycle is not None and not cycle.is_whole:
                self._read_body(cycle)
        except NoRequestError as error:
            # Garbage behind an earlier request gets no answer: no client waits for one.
            if was_held:
                self._end()
            else:
                self._refuse(error)
        except InvalidRequestError as error:
            self._refuse(error)
        finally:
            self.regulate_reading()

    def _advance_later(self) -> None:
        # Other connections are served in between, however much was sent at once.
        if not self._is_scheduled:
            self._is_scheduled = True
            self._turns.join(self._advance)

    def _read_head(self) -> Cycle | None:
        reader = self._reader
        was_in_head = reader.is_in_head
        head = reader.read_head()
        if head is None:
            if self._is_ended:
                self._close()
            elif reader.is_in_head and not was_in_head:
                self._idle.restart(_HEAD_SECONDS)
        elif head.asks_for_socket:
            self._become_socket(head)
        else:
            return self._begin(head, b"" if reader.is_whole else None)
        return None

    def _read_body(self, cycle: Cycle) -> None:
        reader = self._reader
        try:
            cycle.feed(reader.read_body())
        except InvalidRequestError as error:
            self._is_over = True
            cycle.fail(error)
            if cycle.is_answered:
                self._end()
            return
        if reader.is_whole:
            cycle.end()
            if cycle.is_answered:
                self._finish()
        elif reader.is_interrupted:
            self._advance_later()

    def _begin(self, head: Head, body: bytes | None) -> Cycle:
        cycle = self._cycle = Cycle(self, head, body)
        self._app.take(cycle, self._addresses)
        return cycle

    def _finish(self) -> None:
        """End the request that is read and answered, and begin the next if it is here already."""
        self._cycle = None
        if self._reader.has_unread:
            self._advance_later()
        elif self._is_ended:
            self._close()
        self._idle.restart()
        if self._is_scheduled != self._is_paused:
            self.regulate_reading()

    def _refuse(self, error: InvalidRequestError) -> None:
        """Send the error as the last answer, and end the connection."""
        self.write(bad_request(error))
        self._end()

    def _become_socket(self, head: Head) -> None:
        """Hand the connection and its upgrade request to the WebSocket protocol."""
        if self._reader.has_unread:
            raise malformed("more was sent before the WebSocket was opened (RFC 6455 §4.1)")
        self._coalescer.send()
        self._leave()
        self.regulate_reading()
        open_websocket(self.transport, head.as_upgrade(), self._config, self._server, self._app_state)

    # The end of a connection, and timeouts.

    def _leave(self) -> None:
        """Stop serving: cancel timers and the app's task, and leave the server's set of connections."""
        self._is_over = True
        self._server.connections.discard(cast("Any", self))
        self._connections.left(len(self._server.connections))
        self._idle.stop()
        self._disconnect_watch.stop()
        self._app.stop()
        # Each holds methods of this connection: the cycle would wait for the garbage collector.
        del self._idle, self._disconnect_watch, self._app

    def _close(self) -> None:
        self._coalescer.send()
        self.transport.close()

    def _end(self) -> None:
        """End this side behind the last answer, and parse no more."""
        self._is_over = True
        self._reader.drop()
        self._coalescer.send()
        lingering_close.close_after_answer(self.transport, self._idle, client_has_ended=self._is_ended)
        self.regulate_reading()

    def _probe(self) -> bool:
        return self._cycle is not None and self._cycle.probe()

    def _patience(self) -> float | None:
        """Return the idle timeout of the connection's present state; None while the app serves a request."""
        if self._cycle is not None and not self._cycle.is_answered:
            return None
        if self._is_over or self._cycle is not None:
            return lingering_close.LINGER_SECONDS
        return _HEAD_SECONDS if self._reader.is_in_head else float(self._config.timeout_keep_alive)

    def _give_up(self) -> None:
        if self._is_over or not self._reader.is_in_head:
            self.transport.close()
        else:
            what = f"The request's head did not arrive within {_HEAD_SECONDS:g} seconds."
            self._refuse(InvalidRequestError(what, code="request_timeout", status=408))
