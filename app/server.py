"""How the app is run: uvicorn and its two protocols, with a shutdown that lets live responses finish."""

import asyncio
import re
import signal
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from app.errors import ApiError, InvalidRequestError
from app.ids import new_request_id
from app.relay.registry import Registry
from app.settings import ServerSettings

# Time to end and commit the responses that did not finish within the budget.
_ENDING_SECONDS = 5.0
_TICK_SECONDS = 0.1
_BACKLOG = 4096
_KEEP_ALIVE_SECONDS = 75
_PING_SECONDS = 20.0
_LINGER_SECONDS = 1.0
_H2C = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n)", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with our errors, and safe from requests that ask for another protocol than WebSocket.

    The parser takes such a request to have no body, and the body for the next request. So the offer of HTTP/2 that
    Java's client makes with its first call is not shown to it, and after any other the connection ends with the answer.
    """

    _between_requests = True
    _refused = False
    _lost = False
    _on_lost: Callable[[], None] | None = None

    def watch(self, gone: Callable[[], None] | None) -> None:
        """Call `gone` when the client's connection is lost; at once if it is."""
        self._on_lost = gone
        if gone is not None and self._lost:
            gone()

    def push(self, body: bytes) -> bool:
        """Write a piece of the streamed answer that is under way, if the client has taken what came before."""
        cycle = self.cycle
        if not cycle.chunked_encoding or cycle.response_complete or self._lost or self.flow.write_paused:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost = True
        if self._on_lost is not None:
            self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._between_requests and b"h2c" in data:
            head, blank, rest = data.partition(b"\r\n\r\n")
            data = _H2C.sub(b"", head + blank) + rest
        super().data_received(data)
        # One whose head could not be read has no cycle, and its connection is closed already.
        if self.parser.should_upgrade() and self.cycle is not None:
            self._refused = True
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the shape that every other error has."""
        self.transport.write(_answer(InvalidRequestError(msg)))
        self.transport.close()

    def _should_upgrade(self) -> bool:
        # Another request's answer may still be on its way over this connection.
        return (self.cycle is None or self.cycle.response_complete) and super()._should_upgrade()

    def on_message_begin(self) -> None:
        self._between_requests = False
        super().on_message_begin()
        self.scope["extensions"] = {"antiphon": {"connection": self}}

    def on_message_complete(self) -> None:
        self._between_requests = True
        super().on_message_complete()


class Handshake(ServerProtocol):
    """The library's side of a WebSocket, with our errors where it refuses to open one."""

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        response = super().reject(status, text)
        error = InvalidRequestError(" ".join(text.split()), status=int(status))
        response.body = error.body()
        response.headers = Headers(_headers(error))
        return response


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol for WebSockets, with our errors, and safe from clients that send much or read nothing."""

    def __init__(self, config: uvicorn.Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        # Nothing is compressed: a small message could become a large one.
        self.conn = Handshake(max_size=config.ws_max_size, logger=self.logger)
        self._heard = 0.0

    def push(self, text: bytes) -> bool:
        """Send a message now, if the client has taken what came before. It has to be UTF-8."""
        if not self.writable.is_set() or self.disconnected or self.close_sent or self.transport.is_closing():
            return False
        self.conn.send_text(text)
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # Its head cannot be read as that of an upgrade: uvicorn waits for one that can.
            self.transport.write(_answer(InvalidRequestError("Invalid WebSocket upgrade request.")))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            # The app's task has been made, and not begun.
            self.scope["extensions"]["antiphon"] = {"connection": self}

    def handle_text(self, event: Frame) -> None:
        self._begin_message(event)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._begin_message(event)
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        # One buffer for all: a client that sends byte by byte would have each of them weigh forty.
        self.frames[0] += event.data
        if event.fin:
            self.send_receive_event_to_app()

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        # One that reads nothing need not be answered, and would have its answers pile up here.
        if self.writable.is_set():
            self.transport.write(pong)

    def keepalive_timeout(self) -> None:
        # A large message may be on its way, with the answer to the ping behind it; or it is us who do not read.
        if self.read_paused or self.loop.time() - self._heard < _PING_SECONDS:
            self.pong_timer = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def handle_parser_exception(self) -> None:
        if not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            # To close now would reset the connection under what the client still sends, and it would not learn why.
            self.transport.resume_reading()
            self.close_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # Its answer is the end of this handshake; uvicorn takes it for one that was forgotten, and logs an error.
            self.handshake_complete = True

    def _begin_message(self, event: Frame) -> None:
        if not event.fin:
            event.data = bytearray(event.data)


def _headers(error: ApiError) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "content-length": str(len(error.body())),
        "connection": "close",
        "x-request-id": new_request_id(),
    }


def _answer(error: ApiError) -> bytes:
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in _headers(error).items()]
    return "\r\n".join([*lines, "", ""]).encode() + error.body()


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
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=HttpProtocol,
        ws=SocketProtocol,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
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
    # A client that reads nothing keeps its connection open for ever, even when we have closed ours: the kernel ends it.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.write_timeout_seconds * 1000))
    listener.bind((settings.host, settings.port))
    listener.set_inheritable(True)
    return listener
