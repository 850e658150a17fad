"""Split a stream of server-sent events into frames, and read their fields, without decoding or rewriting a frame."""

import re
from collections.abc import Iterator

from app.errors import AntiphonError

# A line ends in CRLF, LF or CR (WHATWG HTML §9.2.5), and a blank line ends a frame. The atomic groups keep the two
# halves of one CRLF from being read as two line ends.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_BLANK = b"\n\n"
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_PARTIAL_BLANK_LINE = len(b"\r\n\r")
_NAME_BEGINS = len(b"event: ")
BOM = b"\xef\xbb\xbf"

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


class FrameTooLargeError(AntiphonError):
    """Report that one frame is larger than the memory a stream may use."""


class FrameSplitter:
    """Cut a byte stream into whole frames, whatever its chunks.

    Invariant: the frames returned, and then `rest`, are together exactly the bytes fed.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._pending = bytearray()
        self._scanned = 0
        self._has_cr = False

    def is_frame(self, chunk: bytes) -> bool:
        """Tell whether this chunk, like most, is one whole frame: feeding it would change nothing."""
        if self._pending or self._has_cr:
            return False
        # `find`, as wherever each event passes: `in` tries bytes as a number first, which costs as much again.
        return chunk.find(b"\n\n") == len(chunk) - 2 > 0 > chunk.find(b"\r")

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that this chunk completes, each with its blank line.

        Raises FrameTooLargeError when the open frame exceeds the limit, once all frames before it are returned.
        """
        if self.is_frame(chunk):
            return [chunk]
        self._has_cr = self._has_cr or b"\r" in chunk
        frames = self._cut(chunk) if self._has_cr else self._split(chunk)
        self._scanned = max(0, len(self._pending) - _LONGEST_PARTIAL_BLANK_LINE)
        if not frames and len(self._pending) > self._max_frame_bytes:
            raise FrameTooLargeError
        return frames

    def _split(self, chunk: bytes) -> list[bytes]:
        """Cut where lines end in LF, as in nearly all streams; the first frame may be open already."""
        frames: list[bytes] = []
        if self._pending:
            self._pending += chunk
            place = self._pending.find(_BLANK, self._scanned)
            if place < 0:
                return frames
            end = place + len(_BLANK)
            frames.append(bytes(self._pending[:end]))
            chunk = bytes(self._pending[end:])
            self._pending.clear()
        *whole, rest = chunk.split(_BLANK)
        self._pending += rest
        return frames + [frame + _BLANK for frame in whole]

    def _cut(self, chunk: bytes) -> list[bytes]:
        """Cut at blank lines, however lines end."""
        self._pending += chunk
        frames: list[bytes] = []
        start = 0
        for blank in _BLANK_LINE.finditer(self._pending, self._scanned):
            end = blank.end()
            # A CR that ends the chunk may be the first half of a CRLF; only a stream of bare CRs is known not to be.
            if end == len(self._pending) and blank.group() in {b"\r\n\r", b"\n\r"}:
                break
            frames.append(bytes(self._pending[start:end]))
            start = end
        del self._pending[:start]
        return frames

    @property
    def size(self) -> int:
        """Return the bytes of the open frame, as a count."""
        return len(self._pending)

    @property
    def rest(self) -> bytes:
        """Return the bytes of the open frame."""
        return bytes(self._pending)


def event_name(frame: bytes) -> bytes:
    """Return the value of the frame's first `event` field; empty when it has none."""
    if frame.startswith(b"event: ") and (end := frame.find(b"\n")) > 0:
        name = frame[_NAME_BEGINS:end]
        if name.find(b"\r") < 0:
            return name
    return next(_field(frame, b"event"), b"")


def event_data(frame: bytes) -> bytes:
    """Return the frame's `data` lines, joined by a newline."""
    first = frame.find(b"\n")
    if frame.startswith(b"event: ") and frame.startswith(b"data: ", first + 1) and b"\r" not in frame:
        end = frame.find(b"\n", first + 1)
        # The usual frame: a name, one line of data, and nothing else.
        if frame[end:] == b"\n\n":
            return frame[first + 1 + len(b"data: ") : end]
    elif first == len(frame) - 2 and frame.startswith(b"data: ") and frame.endswith(_BLANK) and b"\r" not in frame:
        # The usual frame of a chat server: one line of data alone.
        return frame[len(b"data: ") : first]
    return b"\n".join(_field(frame, b"data"))


def _field(frame: bytes, name: bytes) -> Iterator[bytes]:
    for line in _LINE_END.split(frame.removeprefix(BOM)):
        field, _, value = line.partition(b":")
        if field == name:
            yield value.removeprefix(b" ")


def frame(event: str, data: bytes) -> bytes:
    """Make a frame: `event`, one line of JSON, a blank line."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
