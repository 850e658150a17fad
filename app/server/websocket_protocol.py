"""Serve a WebSocket on a client connection (RFC 6455) by uvicorn's protocol, with our errors and limits."""

from asyncio import BaseTransport, Transport
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from app.errors import InvalidRequestError, OverloadedError
from app.runtime.byte_budget import UNCOUNTED_BYTES, Reservation
from app.server.bad_request import bad_request, headers_of
from app.server.disconnect_watch import WriteTimeout

PING_SECONDS = 20.0
_LINGER_SECONDS = 1.0
_VERSION = "13"
# A message is held as bytes, and as decoded text.
_COPIES = 2


class Handshake(ServerProtocol):
    """Run the websockets library's handshake, with our errors where it refuses an upgrade."""

    def accept(self, request: Request) -> Response:
        """Answer the handshake; the refusal of another version names ours (RFC 6455 §4.4)."""
        versions = request.headers.get_all("Sec-WebSocket-Version")
        if versions == [_VERSION]:
            return super().accept(request)
        response = self.reject(HTTPStatus.UPGRADE_REQUIRED, f"This server speaks version {_VERSION} of WebSocket.")
        response.headers["Upgrade"] = "websocket"
        response.headers["Sec-WebSocket-Version"] = _VERSION
        return response

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        response = super().reject(status, text)
        error = InvalidRequestError(" ".join(text.split()), status=int(status))
        response.body = error.body()
        response.headers = Headers(headers_of(error))
        return response


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Extend uvicorn's WebSocket protocol: our errors, and bounds for clients that send much or read nothing."""

    def __init__(self, config: uvicorn.Config, *arguments: Any, write_timeout_seconds: float, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._write_timeout_seconds = write_timeout_seconds
        # No compression: a small message could become a large one.
        self.conn = Handshake(max_size=config.ws_max_size, logger=self.logger)
        self._last_data_at = 0.0
        self._held: Reservation | None = None
        self._counted = UNCOUNTED_BYTES

    def hold(self, reservation: Reservation) -> None:
        """Count each message that arrives in this reservation, until the app asks for the next one."""
        self._held = reservation

    async def receive(self) -> Any:
        # The app has taken over the last message by now.
        if self._held is not None and self._counted > UNCOUNTED_BYTES:
            self._held.shrink(0)
            self._counted = UNCOUNTED_BYTES
        return await super().receive()

    def push(self, text: bytes) -> bool:
        """Send a message of UTF-8 without waiting; returns False if the client has not read what came before."""
        if not self.writable.is_set() or self.disconnected or self.close_sent or self.transport.is_closing():
            return False
        self.conn.send_text(text)
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._writing = WriteTimeout(self.transport, self._write_timeout_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writing.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writing.stop()

    def data_received(self, data: bytes) -> None:
        self._last_data_at = self.loop.time()
        super().data_received(data)
        waiting = len(self.conn.reader.buffer) + sum(map(len, self.frames))
        if waiting > self._counted:
            self._count(waiting)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # The head is no upgrade's, and uvicorn would wait for one that is.
            self.transport.write(bad_request(InvalidRequestError("Invalid WebSocket upgrade request.")))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            # The app's task exists, and has not begun.
            self.scope["extensions"]["antiphon"] = {"connection": self}
            # The client has to wait for the answer (§4.1); uvicorn reads on once the app has authenticated it.
            self.read_paused = True
            self.transport.pause_reading()

    def handle_text(self, event: Frame) -> None:
        self._begin_message(event)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._begin_message(event)
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        # One buffer: of a client that sends byte by byte each piece would take forty bytes.
        self.frames[0] += event.data
        if event.fin:
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        (data,), self.frames = self.frames, []
        if self.close_sent:
            return
        message: Any = {"type": "websocket.receive"}
        try:
            message[self.curr_msg_data_type] = data.decode() if self.curr_msg_data_type == "text" else bytes(data)
        except UnicodeDecodeError:
            self.conn.fail(CloseCode.INVALID_DATA, "not UTF-8")
            self.handle_parser_exception()
            return
        self.queue.put_nowait(message)
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        # A client that reads nothing gets no pongs: they would pile up here.
        if self.writable.is_set():
            self.transport.write(pong)

    def keepalive_timeout(self) -> None:
        # A large message may be arriving, with the pong behind it; or this side has paused reading.
        if self.read_paused or self.loop.time() - self._last_data_at < PING_SECONDS:
            self.pong_timer = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def handle_parser_exception(self) -> None:
        if not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            # Closing now would reset the connection while the client sends, and it would not learn why.
            self.transport.resume_reading()
            self.close_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # An HTTP answer ends this handshake; uvicorn would log it as unfinished.
            self.handshake_complete = True

    def _count(self, waiting: int) -> None:
        """Reserve as many bytes again as wait already; end the connection where the budget has no room."""
        if self._held is not None:
            with suppress(OverloadedError):
                self._held.add_now(waiting * _COPIES)
                self._counted += waiting
                return
        # Without a reservation the connection is not accepted yet, and a client may send nothing.
        if not self.close_sent:
            self.conn.fail(CloseCode.TRY_AGAIN_LATER)
            self.handle_parser_exception()

    def _begin_message(self, event: Frame) -> None:
        if not event.fin:
            event.data = bytearray(event.data)


def open_websocket(
    transport: Transport,
    upgrade: bytes,
    config: uvicorn.Config,
    server_state: ServerState,
    app_state: dict[str, Any],
) -> None:
    """Hand a connection over to the WebSocket protocol, with the head of its upgrade request."""
    make: Any = config.ws_protocol_class
    protocol = make(config=config, server_state=server_state, app_state=app_state)
    protocol.connection_made(transport)
    protocol.data_received(upgrade)
    transport.set_protocol(protocol)
