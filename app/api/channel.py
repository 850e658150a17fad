"""The two sides of a WebSocket's writing: the client that all its turns write to, and the channel of one of them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Message, Send

from app.errors import ApiError
from app.wire import messages
from app.wire.sse import FrameSplitter


class SocketConnection(Protocol):
    """What our server adds to ASGI's WebSockets."""

    def push(self, text: bytes) -> bool:
        """Send a message of UTF-8 now; False when that cannot be, as while the client reads slowly."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection ends. What runs may go on for `grace` seconds, None for as long as it takes."""

    code: int
    error: ApiError | None = None
    grace: float | None = None


class Peer:
    """The client at the other end of a socket."""

    def __init__(self, send: Send, connection: SocketConnection) -> None:
        self._send = send
        self._connection = connection
        self._watching: dict[object, Callable[[], None]] = {}
        self.is_gone = False

    def watch(self, who: object, gone: Callable[[], None] | None) -> None:
        """Call `gone` when the client is, at once if it is already; None when `who` need not know any more."""
        if gone is None:
            self._watching.pop(who, None)
        else:
            self._watching[who] = gone
            if self.is_gone:
                gone()

    def leave(self) -> None:
        """The client is gone, or is not listened to any more."""
        self.is_gone = True
        for gone in list(self._watching.values()):
            gone()

    def say_now(self, text: bytes) -> bool:
        """Send a message, if that can be done without waiting."""
        return not self.is_gone and self._connection.push(text)

    async def say(self, text: bytes) -> None:
        """Send a message; waits while the client reads slowly. To one that is gone nothing is sent."""
        if not self.is_gone and not self.say_now(text):
            await self._wait({"type": "websocket.send", "text": text.decode()})

    async def close(self, code: int) -> None:
        """End the connection. What is still under way is interrupted."""
        if not self.is_gone:
            self.leave()
            await self._wait({"type": "websocket.close", "code": code})

    async def _wait(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            # It left, or the server gave it up because it read nothing.
            self.leave()


class Channel:
    """One turn's part of a socket: takes what a relay writes as an answer over HTTP, and sends each event as a message.

    It is the relay's `Send` (by `send`) and its `Connection`.
    """

    def __init__(self, peer: Peer, stream_id: str | None) -> None:
        self._peer = peer
        self._stream_id = stream_id
        # The relay has bounded what it writes.
        self._splitter = FrameSplitter(sys.maxsize)
        self.has_ended = False

    def watch(self, gone: Callable[[], None] | None) -> None:
        self._peer.watch(self, gone)

    def push(self, body: bytes) -> bool:
        text = messages.of_frame(body, self._stream_id)
        return text is None or self._peer.say_now(text)

    async def send(self, message: Message) -> None:
        """Take a part of an answer over HTTP, which is a stream and comes in whole events."""
        if message["type"] == "http.response.body":
            await self.frames(message["body"], more=message["more_body"])

    async def frames(self, body: bytes, *, more: bool = True) -> None:
        """Send these events of a stream."""
        frames = self._splitter.feed(body)
        if not more:
            # Upstream may have forgotten the blank line behind its last event.
            frames.append(self._splitter.rest)
        for frame in frames:
            text = messages.of_frame(frame, self._stream_id)
            if text is not None:
                await self._peer.say(text)
        self.has_ended = not more
