"""Translate one request to ASGI: feed its body to the app as it arrives, write the app's answer as HTTP/1.1."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from app.errors import InvalidRequestError
from app.server.http.request_head import Head

Message = MutableMapping[str, Any]

_ASGI = {"version": "3.0", "spec_version": "2.3"}
# A client is not read on while the app has not taken more than this.
_MOST_WAITING_BYTES = 65_536
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})
_CLOSE = b"connection: close\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class ConnectionIO(Protocol):
    """Describe the connection, as its requests use it."""

    can_write: bool

    def write(self, data: bytes) -> None:
        """Send bytes to the client at the end of this turn of the loop."""

    def common_headers(self) -> bytes:
        """Return the header lines that every answer has."""

    async def drain(self) -> None:
        """Wait until the client has taken what was written, or is gone."""

    def regulate_reading(self) -> None:
        """Pause or resume reading, after the app has taken what had arrived."""

    def answered(self) -> None:
        """Note that the answer is complete, and end the connection if it is not kept alive."""


class Cycle:
    """Implement `receive` and `send` of one request, and what this server adds (`relay.stream.client.Connection`).

    The head of an answer leaves with its first bytes. Invariant: no header of an answer holds a line break.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_expects_continue",
        "_fault",
        "_is_chunked",
        "_is_probed",
        "_is_taken",
        "_left",
        "_on_disconnect",
        "_unsent",
        "_waiter",
        "head",
        "is_answered",
        "is_begun",
        "is_lost",
        "is_whole",
        "keeps_alive",
    )

    def __init__(self, connection: ConnectionIO, head: Head, body: bytes | None = None) -> None:
        self.head = head
        self._connection = connection
        self._body: bytes | bytearray = bytearray() if body is None else body
        # The body is here to its end, or no more of it will come.
        self.is_whole = body is not None
        self._is_taken = False
        self._expects_continue = head.expects_continue
        self._fault: InvalidRequestError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_disconnect: Callable[[], None] | None = None
        self._unsent = b""
        self._is_chunked = False
        # The unsent rest of the declared length; None where the end of the connection ends the body.
        self._left: int | None = 0
        self._is_probed = False
        self.is_lost = False
        self.is_begun = False
        self.is_answered = False
        self.keeps_alive = head.keeps_alive

    def scope(self, addresses: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        """Build the ASGI scope of a request on a connection with these addresses; `state` is the app's own."""
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

    # What the connection calls.

    @property
    def is_full(self) -> bool:
        """Tell whether the app has to take the waiting bytes before more of the body is read."""
        return len(self._body) > _MOST_WAITING_BYTES

    def feed(self, piece: bytes | bytearray) -> None:
        """Add a piece of the body."""
        if not piece:
            return
        self._expects_continue = False
        if not self.is_answered:
            # Not a list of pieces: of a client that sends byte by byte each piece would take forty bytes.
            self._body += piece
            self._wake()

    def end(self) -> None:
        """Mark the body as whole."""
        self.is_whole = True
        self._wake()

    def fail(self, fault: InvalidRequestError) -> None:
        """End a malformed body: `receive` raises `fault` for the app to answer, and no other request follows."""
        # The traceback holds this cycle: if nobody reads the fault, both would be left to the garbage collector.
        self._fault = fault.with_traceback(None)
        self.keeps_alive = False
        self.end()

    def lost(self) -> None:
        """Note that the client has disconnected, and tell the app."""
        self.is_lost = True
        self._wake()
        if self._on_disconnect is not None:
            self._on_disconnect()

    def probe(self) -> bool:
        """Probe whether the client is gone, once, by meaningless bytes that make the kernel of a gone client reset.

        Returns whether bytes were written now.

        Before the answer the bytes are a `100 Continue`, which any client of HTTP/1.1 has to expect (RFC 9110 §15.2);
        in chunks a zero before the digits of the next one's size (RFC 9112 §7.1).
        """
        if self._is_probed or self.is_answered or self._unsent or not self._connection.can_write:
            return False
        if self._is_chunked:
            self._connection.write(b"0")
        elif not self.is_begun and self.head.http_version == "1.1":
            self._connection.write(_CONTINUE)
        else:
            return False
        self._is_probed = True
        return True

    # What the app calls.

    def take_whole(self, most: int) -> bytes | None:
        """Return the body if it is whole and has at most `most` bytes, so that nobody has to wait; else None."""
        body = self._body
        if not self.is_whole or self._is_taken or self._fault is not None or self.is_lost or len(body) > most:
            return None
        self._is_taken = True
        self._body = b""
        return bytes(body)

    async def receive(self) -> Message:
        """Return the next piece of the body; after its end, the disconnect, once the client is gone or answered.

        Raises InvalidRequestError for a malformed body.
        """
        if not self._is_taken:
            while not (self._body or self.is_whole or self.is_lost or self.is_answered):
                if self._expects_continue and not self.is_begun:
                    self._expects_continue = False
                    self._connection.write(_CONTINUE)
                await self._wait()
            if not (self.is_lost or self.is_answered):
                self._is_taken = self.is_whole
                if self._fault is not None:
                    raise self._fault
                body, self._body = bytes(self._body), bytearray()
                if not self._is_taken:
                    self._connection.regulate_reading()
                return {"type": "http.request", "body": body, "more_body": not self._is_taken}
        while not (self.is_lost or self.is_answered):
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Write a part of the answer; waits while the client has not read what went before."""
        connection = self._connection
        if not (connection.can_write or self.is_lost):
            await connection.drain()
        if self.is_lost:
            return
        if message["type"] != ("http.response.body" if self.is_begun else "http.response.start") or self.is_answered:
            raise RuntimeError(f"This is no time for {message['type']}.")
        if self.is_begun:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._begin(message["status"], message.get("headers", ()))
            if "body" in message:
                self._go_on(message["body"], more=False)

    def watch(self, on_disconnect: Callable[[], None] | None) -> None:
        """Call `on_disconnect` when the client disconnects; at once if it already has."""
        self._on_disconnect = on_disconnect
        if on_disconnect is not None and self.is_lost:
            on_disconnect()

    def push(self, body: bytes) -> bool:
        """Write a piece of the streamed answer without waiting; returns False if the client reads slowly."""
        connection = self._connection
        if not self._is_chunked or self.is_answered or self.is_lost or not connection.can_write:
            return False
        unsent = self._take_unsent() if self._unsent else b""
        connection.write(b"%b%x\r\n%b\r\n" % (unsent, len(body), body))
        return True

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.is_begun = True
        # ASGI has them in lower case.
        headers = list(headers)
        known = dict(headers)
        if b"connection" in known:
            self.keeps_alive = self.keeps_alive and b"close" not in known[b"connection"].lower()
            headers = [header for header in headers if header[0] != b"connection"]
        declared = known.get(b"content-length")
        length = None if declared is None else int(declared)
        head = b"".join([b"%b: %b\r\n" % header for header in headers])
        if not head.count(b"\r") == head.count(b"\n") == len(headers) or head.find(b"\0") >= 0:
            raise RuntimeError("A header of the answer holds a line break.")
        if self.head.method == "HEAD" or status in _WITHOUT_BODY:
            length = 0
        elif length is None and self.head.http_version == "1.1":
            self._is_chunked = True
        self._left = length
        # A client of HTTP/1.0 knows no chunks (RFC 9112 §6.3). A client that got no `100 Continue` may send its body
        # now or never (RFC 9110 §10.1.1): its next bytes could be the body or a request.
        self.keeps_alive = (
            self.keeps_alive
            and (self._is_chunked or length is not None)
            and (self.is_whole or not self._expects_continue)
        )
        self._unsent = b"%b%b%b%b%b\r\n" % (
            _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status,
            self._connection.common_headers(),
            head,
            _CHUNKED if self._is_chunked else b"",
            b"" if self.keeps_alive else _CLOSE,
        )
        if length is None:
            # A stream's head is sent at once, however long the first event takes.
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
        self._connection.write(self._take_unsent() + body)
        if not more:
            self.is_answered = True
            self._body = b""
            self._wake()
            self._connection.answered()

    def _flush(self) -> None:
        if self._unsent and not self.is_lost:
            self._connection.write(self._take_unsent())

    def _take_unsent(self) -> bytes:
        unsent, self._unsent = self._unsent, b""
        return unsent
