"""Decode a request's body by its length or its chunks (RFC 9112 §6 and §7), and drop trailers."""

import re

from app.server.http.request_head import malformed, parse_fields, too_large

_SIZE = rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n"
_FIRST_SIZE = re.compile(_SIZE)
# Begins with the line break that ends the chunk before.
_NEXT_SIZE = re.compile(rb"\r\n" + _SIZE)
# A chunk extension has what the size leaves of the line.
_LONGEST_LINE = 256
_MOST_TRAILER_BYTES = 8192
# One read may hold tens of thousands of one-byte chunks, and other connections are to be served as well.
_MOST_CHUNKS = 512


class LengthBody:
    """Cut a body of `length` bytes out of the stream."""

    __slots__ = ("_left",)

    is_interrupted = False

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_whole(self) -> bool:
        return not self._left

    def read(self, data: bytes | bytearray, at: int) -> tuple[bytes | bytearray, int]:
        """Return the body's bytes in `data` from `at` on, and the position behind them."""
        piece = data if not at and len(data) <= self._left else data[at : at + self._left]
        self._left -= len(piece)
        return piece, at + len(piece)


class ChunkedBody:
    """Decode a body in chunks; extensions and trailers are dropped, and never become headers."""

    __slots__ = ("_is_last", "_left", "_size", "is_interrupted", "is_whole")

    def __init__(self) -> None:
        self._size = _FIRST_SIZE
        self._left = 0
        self._is_last = False
        self.is_whole = False
        # Whether `data` held more chunks than one read takes.
        self.is_interrupted = False

    def read(self, data: bytes | bytearray, at: int) -> tuple[bytes, int]:
        """Return the body's bytes in `data` from `at` on, without framing, and the position behind them.

        Bytes behind that position, of an unfinished line, have to be passed again. Raises InvalidRequestError.
        """
        pieces = []
        self.is_interrupted = False
        for _ in range(_MOST_CHUNKS):
            if not (self._left or self._is_last):
                line = self._size.match(data, at)
                if line is None:
                    self._check_line(data[at : at + _LONGEST_LINE])
                    break
                self._size = _NEXT_SIZE
                self._left, at = int(line[1], 16), line.end()
                if not self._left:
                    self._is_last = True
                    # Its line break is also the one before the first trailer or the empty line.
                    at -= 2
            if self._is_last:
                at = self._end(data, at)
                break
            piece = data[at : at + self._left]
            pieces.append(piece)
            at += len(piece)
            self._left -= len(piece)
            if self._left:
                break
        else:
            self.is_interrupted = at < len(data)
        return b"".join(pieces), at

    def _check_line(self, line: bytes | bytearray) -> None:
        """Refuse bytes that can become no line with a chunk's size."""
        is_next = self._size is _NEXT_SIZE
        if len(line) == _LONGEST_LINE or line.count(b"\n") > is_next or (is_next and not b"\r\n".startswith(line[:2])):
            raise malformed("a chunk of its body has no size")

    def _end(self, data: bytes | bytearray, at: int) -> int:
        end = data.find(b"\r\n\r\n", at)
        if (end if end >= 0 else len(data)) - at > _MOST_TRAILER_BYTES:
            raise too_large("trailers")
        if end < 0:
            return at
        parse_fields(data, at, end + 2)
        self.is_whole = True
        return end + 4
