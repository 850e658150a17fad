"""One HTTP/1.1 connection, one exchange at a time. Must not know where it leads, nor who asks next."""

import asyncio
from typing import Protocol, cast

import httptools
import httpx

from app.outbox import Outbox
from app.upstream.response_body import ResponseBody
from app.upstream.transport import Answer, RawHeaders, UnansweredError

# Of what is no body: heads, those of 1xx answers included, chunk sizes, trailers.
_MAX_FRAMING_BYTES = 64 * 1024
_MAX_HEADERS = 256
_FIRST_FINAL_STATUS = 200
_LAST_STATUS = 599
# Where a server sends a body all the same, it is what the next answer would begin with.
_WITHOUT_BODY = frozenset({204, 304})
_VERSIONS = frozenset({"1.1", "1.0"})
_TRANSFER_ENCODING = b"transfer-encoding"
_NAME_LENGTH = len(_TRANSFER_ENCODING)
# In the second there is nothing to undo; it ends with its connection.
_TRANSFER_CODINGS = frozenset({b"chunked", b"identity"})
_SWITCHING_PROTOCOLS = 101
_PIECE_BYTES = 64 * 1024


READ_BYTES = 16 * 1024
"""What is read of an answer at once: a stream whose client reads nothing holds several times as much."""


class Keeper(Protocol):
    """Who keeps a connection between exchanges.

    Into its `read_buffer` all its connections read: what has come is parsed before anything else is read.
    """

    read_buffer: memoryview

    def rested(self, connection: "Connection") -> None:
        """The exchange is over, and the connection good for another."""

    def gone(self, connection: "Connection") -> None:
        """The connection is closed. Told once."""


class Connection(asyncio.BufferedProtocol):
    """A connection, once a transport has called `connection_made`.

    Invariant: once it is aborted or lost nothing waits for it, neither a call nor a reader nor a timer.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_can_write",
        "_complete",
        "_ends_with_connection",
        "_framing_bytes",
        "_headers",
        "_heard",
        "_is_kept",
        "_keeper",
        "_loop",
        "_outbox",
        "_parser",
        "_pieces",
        "_reusable",
        "_silence",
        "_unsent",
        "closed",
        "transport",
    )

    def __init__(self, keeper: Keeper, outbox: Outbox) -> None:
        self.transport: asyncio.Transport | None = None
        self._keeper = keeper
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        # What other clients let pass as well. An unsafe value of a header is dropped where headers are chosen.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.closed = False
        self._can_write = True
        self._unsent = memoryview(b"")
        # The exchange. Before the head of its answer `_answer` is set, after it `_body`; between exchanges neither.
        self._answer: asyncio.Future[Answer] | None = None
        self._body: ResponseBody | None = None
        self._headers: RawHeaders = []
        self._pieces: list[bytes] = []
        self._silence: float | None = None
        self._heard = self._complete = self._reusable = self._ends_with_connection = False
        self._is_kept = False
        self._framing_bytes = 0

    async def ask(self, head: bytes, body: bytes, silence: float | None) -> Answer:
        """Send a request; its answer, once the whole head is here. `silence` is for the answer's body.

        Raises UnansweredError, httpx.ReadError or httpx.RemoteProtocolError; cancelled, it closes the connection. An
        answer that comes before the request is sent does not end the sending.
        """
        if self.closed or self.transport is None:
            raise UnansweredError("The connection was closed while it was idle.")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer = answer
        self._silence = silence
        self._heard = self._complete = self._ends_with_connection = False
        self._framing_bytes = 0
        if len(body) <= _PIECE_BYTES:
            self._outbox.write(self.transport, head + body)
        else:
            self.transport.write(head)
            self._unsent = memoryview(body)
            self._send()
        try:
            return await answer
        except asyncio.CancelledError:
            if self._answer is answer:
                self.abort(httpx.ReadError("The request was given up."))
            elif not answer.cancelled() and answer.exception() is None:
                # The answer came at the same time; its connection may have passed into other hands.
                await answer.result().body.aclose()
            raise

    def abort(self, error: httpx.TransportError) -> None:
        """Close at once. What is still awaited of it fails with this error."""
        if self.closed:
            return
        self.closed = True
        # It holds methods of this connection: without this the two would wait for the garbage collector.
        del self._parser
        self._unsent = memoryview(b"")
        if self.transport is not None:
            self.transport.abort()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        if self._body is not None:
            self._body.end(error)
        self._answer = self._body = None
        self._keeper.gone(self)

    def pause_reading(self) -> None:
        """Take nothing more off the wire."""
        if self.transport is not None and not self.closed:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        if self.transport is not None and not self.closed:
            self.transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.closed:
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's signature
        return self._keeper.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._answer is None and self._body is None:
            self.abort(httpx.RemoteProtocolError("Bytes that nobody asked for."))
            return
        self._heard = True
        self._framing_bytes += nbytes
        unread = len(self._pieces)
        try:
            self._parser.feed_data(self._keeper.read_buffer[:nbytes])
            broken = False
        except httptools.HttpParserError:
            broken = True
        if self._body is not None and len(self._pieces) > unread:
            self._framing_bytes = 0
            self._body.arrived(nbytes)
        if self._complete:
            self._finish(reusable=self._reusable and not broken)
        elif broken or self._framing_bytes > _MAX_FRAMING_BYTES:
            # The parser's own words may quote what came.
            self.abort(httpx.RemoteProtocolError("What came is not a valid answer."))

    def eof_received(self) -> None:
        self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(reset=exc is not None)
        self.transport = None

    def pause_writing(self) -> None:
        self._can_write = False

    def resume_writing(self) -> None:
        self._can_write = True
        self._send()

    # What the parser calls. An exception ends the parsing.

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise httpx.RemoteProtocolError("An answer that nobody asked for.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        # What trailers there are go into a list of their own, which is dropped.
        headers, self._headers = self._headers, []
        status = self._parser.get_status_code()
        # Only a read that is larger than all that is allowed can hide a head that is too large.
        too_large = self._framing_bytes > _MAX_FRAMING_BYTES and _size(headers) > _MAX_FRAMING_BYTES
        answer, keeps = self._answer, self._parser.should_keep_alive()
        if (
            answer is None
            or answer.done()
            or too_large
            or len(headers) > _MAX_HEADERS
            or status == _SWITCHING_PROTOCOLS
            or status > _LAST_STATUS
            # No connection of another version is kept.
            or not (keeps or self._parser.get_http_version() in _VERSIONS)
            or _is_encoded(headers)
        ):
            raise httpx.RemoteProtocolError("A head that is too large, or of a protocol that nobody asked for.")
        if status < _FIRST_FINAL_STATUS:
            return
        self._ends_with_connection = not keeps and not _says_how_long(headers)
        self._body = ResponseBody(self, self._silence, self._loop)
        self._pieces = self._body.pieces
        self._answer = None
        answer.set_result(Answer(status, headers, self._body))

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        # A 1xx answer is complete as well, and has no body.
        self._complete = self._body is not None
        self._reusable = self._parser.should_keep_alive() and self._parser.get_status_code() not in _WITHOUT_BODY

    def _finish(self, *, reusable: bool) -> None:
        body, self._body = self._body, None
        self._headers, self._pieces = [], []
        if body is not None:
            body.end()
        if reusable and self._can_write and not self._unsent:
            self._is_kept = True
            self._keeper.rested(self)
        else:
            self.abort(httpx.ReadError("The connection was good for one answer."))

    def _lost(self, *, reset: bool = False) -> None:
        if self._body is not None and self._ends_with_connection and not reset:
            self._finish(reusable=False)
        elif self._heard:
            self.abort(httpx.ReadError("The connection was closed in the midst of an answer."))
        elif self._is_kept:
            self.abort(UnansweredError("The connection was kept, and closed before any byte of another answer."))
        else:
            self.abort(httpx.ReadError("The connection was closed without an answer."))

    def _send(self) -> None:
        while self._unsent and self._can_write and self.transport is not None:
            piece, self._unsent = self._unsent[:_PIECE_BYTES], self._unsent[_PIECE_BYTES:]
            self.transport.write(piece)
        if not self._unsent:
            # Even an empty slice would hold the whole body for as long as the answer takes.
            self._unsent = memoryview(b"")


def _size(headers: RawHeaders) -> int:
    return sum(len(name) + len(value) for name, value in headers)


def _is_encoded(headers: RawHeaders) -> bool:
    """Whether the body was sent in codings that would have to be undone, of which none was asked for (RFC 9112 6.1)."""
    coding: bytes | None = None
    for name, value in headers:
        if len(name) == _NAME_LENGTH and name.lower() == _TRANSFER_ENCODING:
            if coding is not None or value.strip().lower() not in _TRANSFER_CODINGS:
                return True
            coding = value
    return False


def _says_how_long(headers: RawHeaders) -> bool:
    """Whether the body ends before the connection does."""
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"content-length" or (lowered == _TRANSFER_ENCODING and b"chunked" in value.lower()):
            return True
    return False
