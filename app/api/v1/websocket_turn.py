"""Write the answers of turns to a WebSocket: the client that all turns share, and the adapter of one turn."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Message, Send

from app.errors import ApiError
from app.wire import websocket_messages
from app.wire.sse import FrameSplitter


class WebSocketTransport(Protocol):
    """Describe what our server adds to ASGI's WebSockets."""

    def push(self, text: bytes) -> bool:
        """Send a message of UTF-8 without waiting; False if it was not sent, as while the client reads slowly."""


@dataclass(frozen=True, slots=True)
class SocketClose:
    """Say how a connection ends: turns that run have `grace` seconds, None for as long as they take."""

    code: int
    error: ApiError | None = None
    grace: float | None = None


class SocketClient:
    """Send messages to the client of a WebSocket, and tell its turns when it is gone."""

    def __init__(self, send: Send, connection: WebSocketTransport) -> None:
        self._send = send
        self._connection = connection
        self._watching: dict[object, Callable[[], None]] = {}
        self.is_gone = False

    def watch(self, who: object, on_disconnect: Callable[[], None] | None) -> None:
        """Call `on_disconnect` when the client is gone, at once if it already is; None ends the watch of `who`."""
        if on_disconnect is None:
            self._watching.pop(who, None)
        else:
            self._watching[who] = on_disconnect
            if self.is_gone:
                on_disconnect()

    def leave(self) -> None:
        """Mark the client as gone, and call everybody who watches."""
        self.is_gone = True
        for on_disconnect in list(self._watching.values()):
            on_disconnect()

    def push_text(self, text: bytes) -> bool:
        """Send a message without waiting; returns whether it was sent."""
        return not self.is_gone and self._connection.push(text)

    async def send_text(self, text: bytes) -> None:
        """Send a message, waiting while the client reads slowly; does nothing once the client is gone."""
        if not self.is_gone and not self.push_text(text):
            await self._wait({"type": "websocket.send", "text": text.decode()})

    async def close(self, code: int) -> None:
        """Close the connection, which interrupts the turns that still run."""
        if not self.is_gone:
            self.leave()
            await self._wait({"type": "websocket.close", "code": code})

    async def _wait(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            # The client left, or the server ended the connection because the client read nothing.
            self.leave()


class WebSocketTurn:
    """Adapt a WebSocket to the relay for one turn: take an HTTP answer, and send each event of it as a message.

    The relay uses `send` as its `Send`, and the object as its `Connection`.
    """

    def __init__(self, peer: SocketClient, stream_id: str | None) -> None:
        self._peer = peer
        self._stream_id = stream_id
        # The relay has bounded the size of events.
        self._splitter = FrameSplitter(sys.maxsize)
        self.has_ended = False

    def watch(self, on_disconnect: Callable[[], None] | None) -> None:
        self._peer.watch(self, on_disconnect)

    def push(self, body: bytes) -> bool:
        text = websocket_messages.of_frame(body, self._stream_id)
        return text is None or self._peer.push_text(text)

    async def send(self, message: Message) -> None:
        """Take a part of a streamed HTTP answer, which comes in whole events."""
        if message["type"] == "http.response.body":
            await self.frames(message["body"], more=message["more_body"])

    async def frames(self, body: bytes, *, more: bool = True) -> None:
        """Send each of these stream events as a message."""
        frames = self._splitter.feed(body)
        if not more:
            # Upstream may have omitted the blank line behind its last event.
            frames.append(self._splitter.rest)
        for frame in frames:
            text = websocket_messages.of_frame(frame, self._stream_id)
            if text is not None:
                await self._peer.send_text(text)
        self.has_ended = not more
