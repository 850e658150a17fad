"""Read one request after the other from the bytes of a connection. The next is parsed when it is asked for."""

from app.server.body import ChunkedBody, LengthBody
from app.server.head import Head, check_beginning, parse_head, too_large
from app.server.remembered_head import RememberedHead

# One that is complete has limits of its own as well (`api.edge`).
_MOST_HEAD_BYTES = 128 * 1024
# In a row; then the heads of this connection are taken to differ each time, as those with a trace id do.
_MOST_MISSES = 8


class RequestReader:
    """Holds what was read and not parsed: a part of a head, or what was sent before it was asked for.

    After an error nothing that it says has a meaning.
    """

    __slots__ = ("_at", "_body", "_looked", "_misses", "_remembered", "_unread", "is_in_head")

    def __init__(self) -> None:
        self._unread: bytes | bytearray = b""
        self._at = 0
        # An unfinished head was searched for its end up to here.
        self._looked = 0
        self._body: LengthBody | ChunkedBody | None = None
        self._remembered: RememberedHead | None = None
        self._misses = 0
        self.is_in_head = False

    @property
    def has_unread(self) -> bool:
        """Whether bytes are here that belong to no request so far."""
        return self._at < len(self._unread)

    @property
    def is_whole(self) -> bool:
        """Whether the body of the last request is here to its end."""
        return self._body is None

    @property
    def is_interrupted(self) -> bool:
        """Whether `read_body` can go on without more bytes."""
        return self._body is not None and self._body.is_interrupted

    def recognise(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and body of these bytes if they are a whole request with the last one's head, and all there is."""
        if self._remembered is None or self._at < len(self._unread):
            return None
        recognised = self._remembered.again(data)
        self._misses = 0 if recognised is not None else self._misses + 1
        return recognised

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        if not self.has_unread:
            self._unread, self._at, self._looked = data, 0, 0
            return
        if not isinstance(self._unread, bytearray):
            self._unread = bytearray(self._unread)
        if self._at:
            del self._unread[: self._at]
            self._looked, self._at = max(0, self._looked - self._at), 0
        # One buffer: a client that sends byte by byte would have each of them weigh forty.
        self._unread += data

    def read_head(self) -> Head | None:
        """The next head, once it is complete. Raises InvalidRequestError."""
        data, at = self._unread, self._at
        if not self.is_in_head:
            # One empty line may stand before it (RFC 9112 §2.2).
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
        self._remembered = RememberedHead.of(head, raw) if self._misses < _MOST_MISSES else None
        return head

    def read_body(self) -> bytes | bytearray:
        """What is here of the body of the last request, some of it where it has many chunks.

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
        """Hold nothing any more: what is here is parsed no further."""
        self._take(len(self._unread))

    def _take(self, end: int) -> None:
        """All up to here is read. Nothing of it is kept: a connection may wait for long."""
        self._at = self._looked = end
        if end == len(self._unread):
            self._unread, self._at, self._looked = b"", 0, 0
