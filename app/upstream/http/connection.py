"""Carry one HTTP/1.1 connection to an upstream: send a request, parse its answer, hand the connection back."""

import asyncio
from typing import Protocol, cast

import httptools
import httpx

from app.runtime.write_coalescer import WriteCoalescer
from app.upstream.http.answer_framing import has_coding, has_framing, size
from app.upstream.http.response_body import ResponseBody
from app.upstream.transport import Answer, RawHeaders, UnansweredError

# Bytes that are no body: heads, those of 1xx answers included, chunk sizes, trailers.
_MAX_FRAMING_BYTES = 64 * 1024
_MAX_HEADERS = 256
_FIRST_FINAL_STATUS = 200
_LAST_STATUS = 599
# A body that a server sends all the same would be read as the beginning of the next answer.
_WITHOUT_BODY = frozenset({204, 304})
_VERSIONS = frozenset({"1.1", "1.0"})
_SWITCHING_PROTOCOLS = 101
_PIECE_BYTES = 64 * 1024


READ_BYTES = 16 * 1024
"""The size of a read: a stream whose client reads nothing holds several times as much."""


class ConnectionOwner(Protocol):
    """Keep connections between exchanges.

    All its connections read into its `read_buffer`: what has come is parsed before anything else is read.
    """

    read_buffer: memoryview

    def released(self, connection: "Connection") -> None:
        """Take back a connection whose exchange is over, and that can carry another."""

    def closed(self, connection: "Connection") -> None:
        """Forget a connection that was closed. Called once."""


class Connection(asyncio.BufferedProtocol):
    """Carry exchanges with an upstream, one at a time, once a transport has called `connection_made`.

    Invariant: once it is aborted or lost nothing waits for it, neither a call nor a reader nor a timer.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_can_write",
        "_coalescer",
        "_complete",
        "_ends_with_connection",
        "_framing_bytes",
        "_headers",
        "_heard",
        "_is_kept",
        "_is_last",
        "_loop",
        "_owner",
        "_parser",
        "_pieces",
        "_reusable",
        "_silence",
        "_unsent",
        "closed",
        "transport",
    )

    def __init__(self, owner: ConnectionOwner, coalescer: WriteCoalescer) -> None:
        self.transport: asyncio.Transport | None = None
        self._owner = owner
        self._coalescer = coalescer
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        # Other clients are as lenient. Headers with an unsafe value are dropped where headers are selected.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.closed = False
        self._can_write = True
        self._unsent = memoryview(b"")
        # The exchange: `_answer` is set until the head of the answer has come, then `_body`; neither between exchanges.
        self._answer: asyncio.Future[Answer] | None = None
        self._body: ResponseBody | None = None
        self._headers: RawHeaders = []
        self._pieces: list[bytes] = []
        self._silence: float | None = None
        self._heard = self._complete = self._reusable = self._ends_with_connection = False
        self._is_kept = self._is_last = False
        self._framing_bytes = 0

    async def ask(self, head: bytes, body: bytes, silence: float | None) -> Answer:
        """Send a request; return its answer once the whole head has come. `silence` is for the answer's body.

        Raises UnansweredError, httpx.ReadError or httpx.RemoteProtocolError; cancelled, it closes the connection. An
        answer that comes before the request is sent does not end the sending.
        """
        if self.closed or self.transport is None:
            raise UnansweredError("The connection was closed while it was idle.")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer = answer
        self._silence = silence
        self._heard = self._complete = self._ends_with_connection = self._is_last = False
        self._framing_bytes = 0
        if len(body) <= _PIECE_BYTES:
            self._coalescer.write(self.transport, head + body)
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
                # The answer came at the same time; its connection may carry another exchange by now.
                await answer.result().body.aclose()
            raise

    def abort(self, error: httpx.TransportError) -> None:
        """Close at once. The pending answer and its body fail with this error."""
        if self.closed:
            return
        self.closed = True
        # The parser holds methods of this connection: the cycle would wait for the garbage collector.
        del self._parser
        self._unsent = memoryview(b"")
        if self.transport is not None:
            self.transport.abort()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        if self._body is not None:
            self._body.end(error)
        self._answer = self._body = None
        self._owner.closed(self)

    def pause_reading(self) -> None:
        """Read nothing more from the socket."""
        if self.transport is not None and not self.closed:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        if self.transport is not None and not self.closed:
            self.transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.closed:
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's signature
        return self._owner.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._answer is None and self._body is None:
            self.abort(httpx.RemoteProtocolError("Bytes that nobody asked for."))
            return
        self._heard = True
        self._framing_bytes += nbytes
        unread = len(self._pieces)
        try:
            self._parser.feed_data(self._owner.read_buffer[:nbytes])
            broken = False
        except httptools.HttpParserError:
            broken = True
        if self._body is not None and len(self._pieces) > unread:
            self._framing_bytes = 0
            self._body.arrived(nbytes)
        if self._complete:
            self._finish(reusable=self._reusable and not broken)
        elif broken or self._framing_bytes > _MAX_FRAMING_BYTES:
            # The parser's own message may quote what came.
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

    # Called by the parser. An exception ends the parsing.

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise httpx.RemoteProtocolError("An answer that nobody asked for.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        # Trailers go into a new list, which is dropped.
        headers, self._headers = self._headers, []
        status = self._parser.get_status_code()
        # Only a read that is larger than the limit can hide a head that is too large.
        too_large = self._framing_bytes > _MAX_FRAMING_BYTES and size(headers) > _MAX_FRAMING_BYTES
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
        ):
            raise httpx.RemoteProtocolError("A head that is too large, or of a protocol that nobody asked for.")
        # HTTP/1.0 has no transfer codings: a server that sends one may frame the next answer wrongly (RFC 9112 6.1).
        self._is_last = has_coding(headers, is_framed=keeps) and self._parser.get_http_version() == "1.0"
        if status < _FIRST_FINAL_STATUS:
            return
        self._ends_with_connection = not keeps and not has_framing(headers)
        self._body = ResponseBody(self, self._silence, self._loop)
        self._pieces = self._body.pieces
        self._answer = None
        answer.set_result(Answer(status, headers, self._body))

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        # A 1xx answer is complete as well, and has no body.
        self._complete = self._body is not None
        self._reusable = (
            self._parser.should_keep_alive()
            and not self._is_last
            and self._parser.get_status_code() not in _WITHOUT_BODY
        )

    def _finish(self, *, reusable: bool) -> None:
        body, self._body = self._body, None
        self._headers, self._pieces = [], []
        if body is not None:
            body.end()
        if reusable and self._can_write and not self._unsent:
            self._is_kept = True
            self._owner.released(self)
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
