"""Read one request after the other from the bytes of a connection; the next is parsed when it is asked for."""

from app.server.http.body_framing import ChunkedBody, LengthBody
from app.server.http.head_cache import CachedHead
from app.server.http.request_head import Head, check_beginning, parse_head, too_large

# A complete head has narrower limits as well (`api.middleware`).
_MOST_HEAD_BYTES = 128 * 1024
# After so many in a row no head is cached any more: the heads of this connection differ, as with a trace id.
_MOST_MISSES = 8


class RequestReader:
    """Hold the unparsed bytes of a connection: a part of a head, or requests that were sent ahead.

    After an error no method has a meaning.
    """

    __slots__ = ("_at", "_body", "_cached_head", "_looked", "_misses", "_unread", "is_in_head")

    def __init__(self) -> None:
        self._unread: bytes | bytearray = b""
        self._at = 0
        # Up to here the end of an unfinished head was searched for.
        self._looked = 0
        self._body: LengthBody | ChunkedBody | None = None
        self._cached_head: CachedHead | None = None
        self._misses = 0
        self.is_in_head = False

    @property
    def has_unread(self) -> bool:
        """Tell whether bytes are here that belong to no request yet."""
        return self._at < len(self._unread)

    @property
    def is_whole(self) -> bool:
        """Tell whether the body of the last request has been read to its end."""
        return self._body is None

    @property
    def is_interrupted(self) -> bool:
        """Tell whether `read_body` can go on without more bytes."""
        return self._body is not None and self._body.is_interrupted

    def recognise(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return head and body from the parse cache if these bytes are exactly one request with the last head."""
        if self._cached_head is None or self._at < len(self._unread):
            return None
        recognised = self._cached_head.match(data)
        self._misses = 0 if recognised is not None else self._misses + 1
        return recognised

    def feed(self, data: bytes) -> None:
        """Add bytes that were read from the connection."""
        if not self.has_unread:
            self._unread, self._at, self._looked = data, 0, 0
            return
        if not isinstance(self._unread, bytearray):
            self._unread = bytearray(self._unread)
        if self._at:
            del self._unread[: self._at]
            self._looked, self._at = max(0, self._looked - self._at), 0
        # One buffer: of a client that sends byte by byte each piece would take forty bytes.
        self._unread += data

    def read_head(self) -> Head | None:
        """Parse the next head; None while it is incomplete. Raises InvalidRequestError."""
        data, at = self._unread, self._at
        if not self.is_in_head:
            # One empty line may stand before a head (RFC 9112 §2.2).
            if data[at : at + 2] in (b"\r", b""):
                return None
            self.is_in_head = True
            if data.startswith(b"\r\n", at):
                self._at = at = at + 2
        end = data.find(b"\r\n\r\n", max(at, self._looked - 3))
        if (end if end >= 0 else len(data)) - at > _MOST_HEAD_BYTES:
            raise too_large("headers")
        if end < 0:
            if at < len(data):
                check_beginning(data, at, self._looked)
            self._looked = len(data)
            return None
        raw = bytes(data[at : end + 4])
        head = parse_head(raw)
        self.is_in_head = False
        self._take(end + 4)
        if head.length is None:
            self._body = ChunkedBody()
        elif head.length:
            self._body = LengthBody(head.length)
        self._cached_head = CachedHead.of(head, raw) if self._misses < _MOST_MISSES else None
        return head

    def read_body(self) -> bytes | bytearray:
        """Return the bytes of the last request's body that are here, a part of them if it has many chunks.

        Raises InvalidRequestError.
        """
        body = self._body
        if body is None:
            return b""
        piece, end = body.read(self._unread, self._at)
        self._take(end)
        if body.is_whole:
            self._body = None
        return piece

    def drop(self) -> None:
        """Discard all unparsed bytes."""
        self._take(len(self._unread))

    def _take(self, end: int) -> None:
        """Mark all bytes up to `end` as read, and free them: a connection may be idle for long."""
        self._at = self._looked = end
        if end == len(self._unread):
            self._unread, self._at, self._looked = b"", 0, 0
