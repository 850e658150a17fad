"""Serve one request to the app in ASGI's words: its body as it arrives, its answer as bytes."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from app.errors import InvalidRequestError
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

    can_write: bool

    def write(self, data: bytes) -> None:
        """Send this to the client, soon."""

    def common_headers(self) -> bytes:
        """The lines that every answer has."""

    async def drain(self) -> None:
        """Wait until the client has taken what was written, or is gone."""

    def regulate_reading(self) -> None:
        """The app has taken what was here: read on, if that was what reading waited for."""

    def answered(self) -> None:
        """The answer is complete; where it does not keep the connection alive, end that."""


class Cycle:
    """`receive` and `send` of one request, and what this server adds to them (`relay.client.Connection`).

    The head of an answer leaves with what follows it at once. Invariant: no header of an answer holds a line break.
    """

    __slots__ = (
        "_body",
        "_expects_continue",
        "_fault",
        "_gone",
        "_heard",
        "_is_chunked",
        "_is_probed",
        "_is_taken",
        "_left",
        "_unsent",
        "_wire",
        "head",
        "is_answered",
        "is_begun",
        "is_lost",
        "is_whole",
        "keeps_alive",
    )

    def __init__(self, wire: Wire, head: Head, body: bytes | None = None) -> None:
        self.head = head
        self._wire = wire
        self._body: bytes | bytearray = bytearray() if body is None else body
        # The body is here to its end, or as far as it will come.
        self.is_whole = body is not None
        self._is_taken = False
        self._expects_continue = head.expects_continue
        self._fault: InvalidRequestError | None = None
        self._heard: asyncio.Future[None] | None = None
        self._gone: Callable[[], None] | None = None
        self._unsent = b""
        self._is_chunked = False
        # Of a length that was told; None where the end of the connection is the end of the body.
        self._left: int | None = 0
        self._is_probed = False
        self.is_lost = False
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

    @property
    def is_full(self) -> bool:
        """Whether the app has to take what is here before more of the body is read."""
        return len(self._body) > _MOST_WAITING_BYTES

    def feed(self, piece: bytes | bytearray) -> None:
        """More of the body is here."""
        if not piece:
            return
        self._expects_continue = False
        if not self.is_answered:
            # Not a list of what came: a client that sends byte by byte would have each of them weigh forty.
            self._body += piece
            self._wake()

    def end(self) -> None:
        """The body is here to its end."""
        self.is_whole = True
        self._wake()

    def fail(self, fault: InvalidRequestError) -> None:
        """The body cannot be read on: the app is told so where it reads it, and answers; no other request follows."""
        # Where it was found this is at hand too: unread, it would leave the two to the garbage collector.
        self._fault = fault.with_traceback(None)
        self.keeps_alive = False
        self.end()

    def lost(self) -> None:
        """The client is gone."""
        self.is_lost = True
        self._wake()
        if self._gone is not None:
            self._gone()

    def probe(self) -> bool:
        """Write what means nothing, once: a client that is gone, and has not only ended its side, resets at it.

        Returns whether that was done now.

        Before the answer that is a `100 Continue`, which any client of HTTP/1.1 has to expect (RFC 9110 §15.2); in
        chunks a zero before the digits of the next one's size (RFC 9112 §7.1).
        """
        if self._is_probed or self.is_answered or self._unsent or not self._wire.can_write:
            return False
        if self._is_chunked:
            self._wire.write(b"0")
        elif not self.is_begun and self.head.http_version == "1.1":
            self._wire.write(_CONTINUE)
        else:
            return False
        self._is_probed = True
        return True

    # What the app calls.

    def take_whole(self, most: int) -> bytes | None:
        """The body, where all of it is here and it has at most so many bytes: nobody has to wait for it."""
        body = self._body
        if not self.is_whole or self._is_taken or self._fault is not None or self.is_lost or len(body) > most:
            return None
        self._is_taken = True
        self._body = b""
        return bytes(body)

    async def receive(self) -> Message:
        """What has come of the body; after its end, the disconnect, once the client is gone or has its answer.

        Raises InvalidRequestError where what comes is no body.
        """
        if not self._is_taken:
            while not (self._body or self.is_whole or self.is_lost or self.is_answered):
                if self._expects_continue and not self.is_begun:
                    self._expects_continue = False
                    self._wire.write(_CONTINUE)
                await self._hear()
            if not (self.is_lost or self.is_answered):
                self._is_taken = self.is_whole
                if self._fault is not None:
                    raise self._fault
                body, self._body = bytes(self._body), bytearray()
                if not self._is_taken:
                    self._wire.regulate_reading()
                return {"type": "http.request", "body": body, "more_body": not self._is_taken}
        while not (self.is_lost or self.is_answered):
            await self._hear()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The answer, part by part; waits while the client has not taken what went before."""
        wire = self._wire
        if not (wire.can_write or self.is_lost):
            await wire.drain()
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

    def watch(self, gone: Callable[[], None] | None) -> None:
        """Call `gone` when the client's connection is lost; at once if it is."""
        self._gone = gone
        if gone is not None and self.is_lost:
            gone()

    def push(self, body: bytes) -> bool:
        """Write a piece of the streamed answer that is under way, if the client has taken what came before."""
        wire = self._wire
        if not self._is_chunked or self.is_answered or self.is_lost or not wire.can_write:
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
        # ASGI has them in lower case.
        headers = list(headers)
        known = dict(headers)
        if b"connection" in known:
            self.keeps_alive = self.keeps_alive and b"close" not in known[b"connection"].lower()
            headers = [header for header in headers if header[0] != b"connection"]
        told = known.get(b"content-length")
        length = None if told is None else int(told)
        head = b"".join([b"%b: %b\r\n" % header for header in headers])
        if not head.count(b"\r") == head.count(b"\n") == len(headers) or b"\0" in head:
            raise RuntimeError("A header of the answer holds a line break.")
        if self.head.method == "HEAD" or status in _WITHOUT_BODY:
            length = 0
        elif length is None and self.head.http_version == "1.1":
            self._is_chunked = True
        self._left = length
        # A client of HTTP/1.0 knows no chunks (RFC 9112 §6.3). One that was not told to go on may send its body now or
        # never (RFC 9110 §10.1.1): what it sends next could be either that or a request.
        self.keeps_alive = (
            self.keeps_alive
            and (self._is_chunked or length is not None)
            and (self.is_whole or not self._expects_continue)
        )
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
            self._body = b""
            self._wake()
            self._wire.answered()

    def _flush(self) -> None:
        if self._unsent and not self.is_lost:
            self._wire.write(self._take_unsent())

    def _take_unsent(self) -> bytes:
        unsent, self._unsent = self._unsent, b""
        return unsent
