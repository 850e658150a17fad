"""Server-sent events as bytes: where a frame ends and what its fields say. Nothing here decodes or rewrites a frame."""

import re
from collections.abc import Iterator

from app.errors import AntiphonError

# A line ends in CRLF, LF or CR (WHATWG HTML §9.2.5), and a blank line ends a frame. The atomic groups keep the two
# halves of one CRLF from being read as two line ends.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_PARTIAL_BLANK_LINE = len(b"\r\n\r")
_BOM = b"\xef\xbb\xbf"

KEEP_ALIVE = b": keep-alive\n\n"


class FrameTooLargeError(AntiphonError):
    """One frame is larger than the memory a stream may use."""


class FrameSplitter:
    """Cuts a byte stream into whole frames, whatever its chunking.

    Invariant: the frames handed out, and then `rest`, are together exactly the bytes fed.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._pending = bytearray()
        self._scanned = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that this chunk completes, each with its blank line.

        Raises FrameTooLargeError when the frame that is still open outgrows the limit, once all before it are out.
        """
        pending = self._pending
        if not pending and chunk.find(b"\n\n") == len(chunk) - 2 > 0 and b"\r" not in chunk:
            # The usual chunk is one whole frame.
            return [chunk]
        pending += chunk
        frames: list[bytes] = []
        start = 0
        for blank in _BLANK_LINE.finditer(pending, self._scanned):
            end = blank.end()
            # A CR that ends the chunk may be the first half of a CRLF; only a stream of bare CRs is known not to be.
            if end == len(pending) and blank.group() in {b"\r\n\r", b"\n\r"}:
                break
            frames.append(bytes(pending[start:end]))
            start = end
        if start:
            del pending[:start]
        self._scanned = max(0, len(pending) - _LONGEST_PARTIAL_BLANK_LINE)
        if not frames and len(pending) > self._max_frame_bytes:
            raise FrameTooLargeError
        return frames

    @property
    def rest(self) -> bytes:
        """The bytes of the frame that is still open."""
        return bytes(self._pending)


def event_name(frame: bytes) -> bytes:
    """The value of the frame's first `event` field; empty when it has none."""
    if frame.startswith(b"event: ") and (end := frame.find(b"\n")) > 0:
        name = frame[len(b"event: ") : end]
        if b"\r" not in name:
            return name
    return next(_field(frame, b"event"), b"")


def event_data(frame: bytes) -> bytes:
    """The frame's `data` lines, joined by a newline."""
    return b"\n".join(_field(frame, b"data"))


def _field(frame: bytes, name: bytes) -> Iterator[bytes]:
    for line in _LINE_END.split(frame.removeprefix(_BOM)):
        field, _, value = line.partition(b":")
        if field == name:
            yield value.removeprefix(b" ")


def frame(event: str, data: bytes) -> bytes:
    """One frame of our own: `event`, one line of JSON, a blank line."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
