"""One request of a connection and its answer, in ASGI's words. Must not know how requests are told apart."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from app.server.head import Head

Message = MutableMapping[str, Any]

_ASGI = {"version": "3.0", "spec_version": "2.3"}
# A client that sends more before the app takes it has to wait.
_MOST_WAITING_BYTES = 65_536
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})
_CLOSE = b"connection: close\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class Wire(Protocol):
    """The connection, as its requests use it."""

    is_lost: bool
    can_write: bool

    def write(self, data: bytes) -> None:
        """Send this to the client, soon."""

    def close(self) -> None:
        """End the connection once all is sent."""

    def common_headers(self) -> bytes:
        """The lines that every answer has."""

    async def drain(self) -> None:
        """Wait until the client has taken what was written, or is gone."""

    def pause_reading(self) -> None:
        """Take nothing more off the wire."""

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""

    def answered(self) -> None:
        """The answer is complete."""


class Cycle:
    """`receive` and `send` of one request, and what this server adds to them (`relay.client.Connection`).

    The head of an answer leaves with what follows it at once. Invariant: no header of an answer holds a line break.
    """

    __slots__ = (
        "_body",
        "_expects_continue",
        "_gone",
        "_heard",
        "_is_chunked",
        "_is_taken",
        "_is_whole",
        "_left",
        "_unsent",
        "_wire",
        "head",
        "is_answered",
        "is_begun",
        "keeps_alive",
    )

    def __init__(self, wire: Wire, head: Head, body: bytes | None = None, *, expects_continue: bool = False) -> None:
        self.head = head
        self._wire = wire
        self._body: bytes | bytearray = bytearray() if body is None else body
        self._is_whole = body is not None
        self._is_taken = False
        self._expects_continue = expects_continue
        self._heard: asyncio.Future[None] | None = None
        self._gone: Callable[[], None] | None = None
        self._unsent = b""
        self._is_chunked = False
        # Of a length that was told; None where the end of the connection is the end of the body.
        self._left: int | None = 0
        self.is_begun = False
        self.is_answered = False
        self.keeps_alive = head.keeps_alive

    def scope(self, addresses: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        """The request as ASGI has it, from a connection with these addresses. `state` is the app's own."""
        head = self.head
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": head.http_version,
            "method": head.method,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            **addresses,
            "state": {**state},
            "extensions": {"antiphon": {"connection": self, "headers": head.text}},
        }

    # What the connection tells.

    def feed(self, piece: bytes) -> None:
        """More of the body is here."""
        if not self.is_answered:
            # Not a list of what came: a client that sends byte by byte would have each of them weigh forty.
            self._body += piece
            if len(self._body) > _MOST_WAITING_BYTES:
                self._wire.pause_reading()
            self._wake()

    def end(self) -> None:
        """The body is here to its end."""
        self._is_whole = True
        self._wake()

    def lost(self) -> None:
        """The client is gone."""
        self._wake()
        if self._gone is not None:
            self._gone()

    # What the app calls.

    async def receive(self) -> Message:
        """What has come of the body; after its end, the disconnect, once the client is gone or has its answer."""
        wire = self._wire
        if not self._is_taken:
            while not (self._body or self._is_whole or wire.is_lost or self.is_answered):
                if self._expects_continue and not self.is_begun:
                    self._expects_continue = False
                    wire.write(_CONTINUE)
                await self._hear()
            if not (wire.is_lost or self.is_answered):
                body, self._body = bytes(self._body), bytearray()
                self._is_taken = self._is_whole
                wire.resume_reading()
                return {"type": "http.request", "body": body, "more_body": not self._is_taken}
        while not (wire.is_lost or self.is_answered):
            await self._hear()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The answer, part by part; waits while the client has not taken what went before."""
        wire = self._wire
        if not (wire.can_write or wire.is_lost):
            await wire.drain()
        if wire.is_lost:
            return
        if message["type"] != ("http.response.body" if self.is_begun else "http.response.start") or self.is_answered:
            raise RuntimeError(f"This is no time for {message['type']}.")
        if self.is_begun:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._begin(message["status"], message.get("headers", ()))

    def watch(self, gone: Callable[[], None] | None) -> None:
        """Call `gone` when the client's connection is lost; at once if it is."""
        self._gone = gone
        if gone is not None and self._wire.is_lost:
            gone()

    def push(self, body: bytes) -> bool:
        """Write a piece of the streamed answer that is under way, if the client has taken what came before."""
        wire = self._wire
        if not self._is_chunked or self.is_answered or wire.is_lost or not wire.can_write:
            return False
        wire.write(b"%b%x\r\n%b\r\n" % (self._take_unsent(), len(body), body))
        return True

    async def _hear(self) -> None:
        self._heard = asyncio.get_running_loop().create_future()
        await self._heard

    def _wake(self) -> None:
        if self._heard is not None and not self._heard.done():
            self._heard.set_result(None)

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.is_begun = True
        length: int | None = None
        lines = []
        for given, value in headers:
            name = given.lower()
            if name == b"connection":
                self.keeps_alive = self.keeps_alive and b"close" not in value.lower()
                continue
            if name == b"content-length":
                length = int(value)
            lines.append(b"%b: %b\r\n" % (name, value))
        head = b"".join(lines)
        if not head.count(b"\r") == head.count(b"\n") == len(lines) or b"\0" in head:
            raise RuntimeError("A header of the answer holds a line break.")
        if self.head.method == "HEAD" or status in _WITHOUT_BODY:
            length = 0
        elif length is None and self.head.http_version == "1.1":
            self._is_chunked = True
        self._left = length
        # RFC 9112 §6.3: a client of HTTP/1.0 knows no chunks.
        self.keeps_alive = self.keeps_alive and (self._is_chunked or length is not None)
        self._unsent = b"%b%b%b%b%b\r\n" % (
            _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status,
            self._wire.common_headers(),
            head,
            _CHUNKED if self._is_chunked else b"",
            b"" if self.keeps_alive else _CLOSE,
        )
        if length is None:
            # A stream's client learns that it is served, however long the first event takes.
            asyncio.get_running_loop().call_soon(self._flush)

    def _go_on(self, body: bytes, *, more: bool) -> None:
        if self.head.method == "HEAD":
            body = b""
        elif self._is_chunked:
            last = b"" if more else _LAST_CHUNK
            body = b"%x\r\n%b\r\n%b" % (len(body), body, last) if body else last
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or not (more or self._left == 0):
                raise RuntimeError("The answer is not as long as it says.")
        self._wire.write(self._take_unsent() + body)
        if not more:
            self.is_answered = True
            self._wake()
            if not self.keeps_alive:
                self._wire.close()
            self._wire.answered()

    def _flush(self) -> None:
        if self._unsent and not self._wire.is_lost:
            self._wire.write(self._take_unsent())

    def _take_unsent(self) -> bytes:
        unsent, self._unsent = self._unsent, b""
        return unsent
