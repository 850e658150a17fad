"""Where one request ends and the next begins, in what comes over a connection. Must not know who answers them."""

from collections.abc import Callable

import httptools

from app.errors import InvalidRequestError
from app.server.cycle import Cycle
from app.server.head import Head, Headers, RememberedHead, asks_for_socket, without_h2c

# Of a head that is not complete. One that is has limits of its own (`api.edge`).
_MOST_HEAD_BYTES = 128 * 1024

Begin = Callable[[Head, bytes | None, bool], Cycle]


class RequestReader:
    """Reads requests. Each is begun by `begin(head, body, expects_continue)`, without a body when that may follow.

    `is_busy` tells whether an answer is under way, to a request that came before.
    """

    def __init__(self, begin: Begin, is_busy: Callable[[], bool]) -> None:
        self._begin = begin
        self._is_busy = is_busy
        self._parser = httptools.HttpRequestParser(self)
        # An answer to the first of requests that were sent together, though it ends the connection.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._remembered: RememberedHead | None = None
        # The piece in which the request began that is being read, if it may be all of it.
        self._piece = b""
        self._url = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._expects_continue = False
        self._cycle: Cycle | None = None
        self._is_over = False
        self.is_in_head = False

    def feed(self, data: bytes) -> bytes | None:
        """Read on; returns the head of a request for a WebSocket, after which nothing more is read.

        Raises InvalidRequestError for what is no request; then the connection is of no use any more.
        """
        if self._is_over:
            return None
        if self._cycle is None and not self.is_in_head:
            if self._remembered is not None and not self._is_busy():
                again = self._remembered.again(data)
                if again is not None:
                    self._begin(*again, False)  # noqa: FBT003 - it expects nothing
                    return None
            self._piece = data = without_h2c(data)
            self._head_bytes = 0
        else:
            self._piece = b""
        return self._parse(data)

    def forget(self) -> None:
        """Nothing more will come."""
        # It holds methods of this reader: without this the two would wait for the garbage collector.
        del self._parser

    def _parse(self, data: bytes) -> bytes | None:
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._is_over = True
            raise InvalidRequestError("Invalid HTTP request received.") from None
        except httptools.HttpParserUpgrade:
            self._is_over = True
            if self._is_for_socket():
                lines = [b"%b %b HTTP/1.1\r\n" % (self._parser.get_method(), self._url)]
                lines += [b"%b: %b\r\n" % header for header in self._headers]
                return b"".join([*lines, b"\r\n"])
        if self.is_in_head and self._head_bytes > _MOST_HEAD_BYTES:
            self._is_over = True
            raise InvalidRequestError("The request's headers are too large.", code="headers_too_large", status=431)
        return None

    def _is_for_socket(self) -> bool:
        return self._parser.should_upgrade() and asks_for_socket(self._headers) and not self._is_busy()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.is_in_head = True
        self._url = b""
        self._headers = []
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_in_head = False
        if self._is_for_socket():
            return
        parser = self._parser
        version = parser.get_http_version()
        # The parser takes a request for another protocol to have no body, and the body for the next request.
        keeps_alive = version != "1.0" and parser.should_keep_alive() and not parser.should_upgrade()
        head = Head.read(parser.get_method(), self._url, version, self._headers, keeps_alive=keeps_alive)
        self._cycle = self._begin(head, None, self._expects_continue)

    def on_body(self, body: bytes) -> None:
        if self._cycle is not None:
            self._cycle.feed(body)

    def on_message_complete(self) -> None:
        if self._cycle is not None:
            self._cycle.end()
            self._remembered = RememberedHead.of(self._cycle.head, self._piece)
            self._cycle = None
