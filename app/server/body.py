"""Find the end of a request's body (RFC 9112 §6 and §7), and drop what may come behind it."""

import re

from app.server.head import malformed, parse_fields, too_large

_SIZE = rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n"
_FIRST_SIZE = re.compile(_SIZE)
# The end of the chunk before it is a part of it.
_NEXT_SIZE = re.compile(rb"\r\n" + _SIZE)
# An extension may be as long as the rest of this line.
_LONGEST_LINE = 256
_MOST_TRAILER_BYTES = 8192
# A read may hold tens of thousands of a byte each, and others are to be served as well.
_MOST_CHUNKS = 512


class LengthBody:
    """A body of this many bytes."""

    __slots__ = ("_left",)

    is_interrupted = False

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_whole(self) -> bool:
        return not self._left

    def read(self, data: bytes | bytearray, at: int) -> tuple[bytes | bytearray, int]:
        """What is here of it in `data` from `at` on, and where that ends."""
        piece = data if not at and len(data) <= self._left else data[at : at + self._left]
        self._left -= len(piece)
        return piece, at + len(piece)


class ChunkedBody:
    """A body in chunks. Extensions and trailers are dropped: nobody here knows any, and neither is a header."""

    __slots__ = ("_is_last", "_left", "_size", "is_interrupted", "is_whole")

    def __init__(self) -> None:
        self._size = _FIRST_SIZE
        self._left = 0
        self._is_last = False
        self.is_whole = False
        # More of it is here than was read at once.
        self.is_interrupted = False

    def read(self, data: bytes | bytearray, at: int) -> tuple[bytes, int]:
        """What is here of it in `data` from `at` on, without its framing, and where that ends.

        What is behind, of a line that has not ended, is to be given again. Raises InvalidRequestError.
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
                    # Its line break is that before the first trailer, or that before the empty line.
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
        """Refuse what can become no line that tells a chunk's size."""
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
